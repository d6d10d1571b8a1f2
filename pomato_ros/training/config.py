"""What a training run is made of; presets are the recipes of bundled weights."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

from pomato_ros.config import NANO, NetworkConfig
from pomato_ros.synthetic.world import TRAIN_WORLD, WorldConfig

# Scenes are numbered with 32 bits (torch's generator reads no more). Those from here on are for evaluation only;
# training numbers its scenes from `seed << 30`, and a run's seed is at most 2.
HELD_OUT_SEED = 3 << 30


@dataclass(frozen=True, slots=True)
class ImageShape:
    """A size that batches come in, and how often."""

    size_wh: tuple[int, int]  # px, multiples of the patch size
    weight: float


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of a run with its own heads, data and learning rate.

    ``pairwise``: the motion modules are left out (they are the identity at their start), pairs stand alone and the
    key is not paired with itself.
    ``matching``: the third head learns too; at the first stage that has it, it starts as a copy of the second.
    ``frozen_trunk``: encoder and decoders stay as they are.
    """

    name: str
    steps: int
    learning_rate: float
    windows: int  # windows a step, of the mean number of frames; longer windows come in smaller numbers
    window_frames: tuple[int, ...]  # how many frames a window may have, drawn for every step
    clip_frames: int  # frames of a scene's motion
    clips: int  # scenes drawn from at a time; a scene is seen a few times, in other colours, and then forgotten
    new_clips: int  # by how many they move on at every step
    pairwise: bool
    matching: bool
    kept_frames: int = 0  # of a clip, picked at random, from which windows are drawn; 0 means all
    stride: int = 1  # 2 or 4: pointmaps of every second or fourth pixel, see DptNetwork.finish
    frozen_trunk: bool = False

    def windows_of(self, frames: int) -> int:
        """Windows of ``frames`` frames in a step."""
        mean_frames = sum(self.window_frames) / len(self.window_frames)
        return max(1, round(self.windows * mean_frames / frames))


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """A whole run."""

    network: NetworkConfig
    stages: tuple[Stage, ...]
    shapes: tuple[ImageShape, ...]
    world: WorldConfig = field(default_factory=lambda: TRAIN_WORLD)
    seed: int = 1
    warmup_steps: int = 150
    head_learning_rate_share: float = 0.3  # of the trunk's: wide convolutions without norms take smaller steps
    final_learning_rate_share: float = 0.03
    weight_decay: float = 0.05
    gradient_clip: float = 1.0
    ema_decay: float = 0.998
    confidence_alpha: float = 0.2  # least weight of the logarithm in the confidence loss
    ego_weight: float = 1.0  # of the loss on X^{2,1} - X^{2,2}, the signal that odometry reads
    motion_weight: float = 1.0  # of the loss on X_m - X, the signal that the moving mask reads
    attention_weight: float = 0.1  # of the loss that leads cross-attention to where a patch is in the other view

    def __post_init__(self) -> None:
        """Keep the run's scenes apart from the held-out ones."""
        if not 0 <= self.seed <= 2:
            raise ValueError(f"expected a seed of 0, 1 or 2, got {self.seed}; scenes of others overlap held-out ones")

    @property
    def total_steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    @property
    def fewest_windows(self) -> int:
        """Windows of the recipe's smallest step."""
        return min(stage.windows_of(frames) for stage in self.stages for frames in stage.window_frames)

    def stage_at(self, step: int) -> Stage:
        """The stage that a run's ``step`` belongs to."""
        return self.stages[self.locate(step)[0]]

    def locate(self, step: int) -> tuple[int, int]:
        """Stage number and step within it."""
        for number, stage in enumerate(self.stages):
            if step < stage.steps:
                return number, step
            step -= stage.steps
        raise IndexError(f"the run has {self.total_steps} steps, asked for one {step} beyond its end")


NANO_RECIPE = TrainConfig(
    network=NANO,
    stages=(
        Stage("pairs", 4000, 6e-4, 24, (2,), 16, 1200, 8, pairwise=True, matching=True, kept_frames=2, stride=4),
        Stage("detail", 500, 2.5e-4, 24, (2,), 16, 1200, 8, pairwise=True, matching=True, kept_frames=2),
        Stage("temporal", 120, 1.5e-4, 3, (4, 8, 12), 12, 100, 1, pairwise=False, matching=True, stride=2),
    ),
    shapes=(ImageShape((128, 96), 0.6), ImageShape((128, 80), 0.4)),
)
PRESETS: Mapping[str, TrainConfig] = {"nano": NANO_RECIPE}


def scaled_to(config: TrainConfig, share: float) -> TrainConfig:
    """The same recipe with every stage's steps multiplied by ``share``, at least one step each."""
    stages = tuple(dataclasses.replace(stage, steps=max(1, round(stage.steps * share))) for stage in config.stages)
    return dataclasses.replace(config, stages=stages)
