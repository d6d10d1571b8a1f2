"""What a training run is made of; presets are the recipes of bundled weights."""

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import torch

from pomato_ros.config import FULL_D2UST3R, FULL_FLOW4R, FULL_MAST3R, FULL_TEMPORAL, NANO, TINY, NetworkConfig
from pomato_ros.datasets.mixture import PAPER_MIXTURE
from pomato_ros.synthetic.world import TRAIN_WORLD, WorldConfig

# Scenes are numbered with 32 bits (torch's generator reads no more). Those from here on are for evaluation only;
# training numbers its scenes from `seed << 30`, and a run's seed is at most 2.
HELD_OUT_SEED = 3 << 30
WORLD = "world"  # the source of rendered scenes in a mixture; every other name is a dataset's


HEAD_NAMES = ("downstream_head", "mask_head", "flow_head")  # how parameters of heads begin


class Frozen(Enum):
    """What a stage leaves as it is."""

    NOTHING = "nothing"
    ENCODER = "encoder"
    TRUNK = "trunk"  # encoder and decoders; the heads with their motion modules learn

    def holds(self, parameter: str) -> bool:
        """Whether the parameter of this name stays as it is.

        The released code forgets the encoder's last norm here, and with the trunk ``decoder_embed`` and the decoders'
        last norm; what the paper calls frozen is frozen here.
        """
        encoder = parameter.startswith(("mask_token", "patch_embed.", "enc_blocks.", "enc_norm."))
        in_head = parameter.startswith(HEAD_NAMES)
        return {Frozen.NOTHING: False, Frozen.ENCODER: encoder, Frozen.TRUNK: not in_head}[self]


class Task(Enum):
    """Which frames of a window are paired (:mod:`pomato_ros.training.pairing`)."""

    ENGINE = "engine"  # as our engine does: every frame against one key, in both orders
    TRACKING = "tracking"  # the paper's three
    VIDEO_DEPTH = "video_depth"
    FAST_RECONSTRUCTION = "fast_recon"


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
    ``tasks``: one is drawn for every step, all alike; one that is named twice comes twice as often.
    """

    name: str
    steps: int
    learning_rate: float
    windows: int  # windows a step, of the mean number of frames; longer windows come in smaller numbers
    window_frames: tuple[int, ...]  # how many frames a window may have, drawn for every step
    clip_frames: int  # frames of a scene's motion; of a recorded sequence, those that a window is drawn from
    clips: int  # scenes drawn from at a time; a scene is seen a few times, in other colours, and then forgotten
    new_clips: int  # by how many they move on at every step
    pairwise: bool
    matching: bool
    kept_frames: int = 0  # of a clip, picked at random, from which windows are drawn; 0 means all
    stride: int = 1  # 2 or 4: pointmaps of every second or fourth pixel, see DptNetwork.finish
    frozen: Frozen = Frozen.NOTHING
    tasks: tuple[Task, ...] = (Task.ENGINE,)

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
    mixture: Mapping[str, float] = field(default_factory=lambda: {WORLD: 1.0})  # how often a window is of which source
    data: Mapping[str, Path] = field(default_factory=dict)  # folders of the mixture's datasets
    from_scratch: bool = True  # False: the recipe goes on from given weights
    seed: int = 1
    warmup_steps: int = 150
    head_learning_rate_share: float = 0.3  # of the trunk's: wide convolutions without norms take smaller steps
    final_learning_rate_share: float = 0.03
    weight_decay: float = 0.05
    gradient_clip: float = 1.0
    ema_decay: float = 0.998
    confidence_alpha: float = 0.2  # least weight of the logarithm in the confidence loss
    confidence_weighs_error: bool = False  # the paper's eq. 4 to the letter, see losses.confidence_loss
    pair_scale_share: float = 0.25  # of the loss of a window: each pair in its own scale; the rest: one for the window
    ego_weight: float = 2.0  # of the loss on X^{2,1} - X^{2,2}, the signal that odometry reads
    motion_weight: float = 4.0  # of the loss on X_m - X, the signal that the moving mask reads
    attention_weight: float = 0.1  # of the loss that leads cross-attention to where a patch is in the other view
    flow_weight: float = 0.3  # of the loss that reads the motion of patches from the decoders' tokens
    shard_mib: int = 16  # weights go on in another file where one would exceed this; 0: one file whatever its size
    lanes: int = 16  # step s draws from every 16th scene: that many workers render scenes of their own

    def __post_init__(self) -> None:
        """Keep the run's scenes apart from the held-out ones, and its mixture one that can be drawn from.

        Raises:
            ValueError: the seed, the mixture or a stage cannot be used.
        """
        if not 0 <= self.seed <= 2:
            raise ValueError(f"expected a seed of 0, 1 or 2, got {self.seed}; scenes of others overlap held-out ones")
        if self.network.architecture != "pomato" and any(
            stage.stride != 1 or not stage.pairwise or set(stage.tasks) != {Task.ENGINE} for stage in self.stages
        ):
            raise ValueError(f"a {self.network.architecture} recipe has stages of whole pairs in both orders only")
        if not self.mixture or min(self.mixture.values()) <= 0:
            raise ValueError(f"expected a mixture of positive weights, got {dict(self.mixture)}")

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


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is carried out; nothing here changes what it learns but ``seconds``, which ends it early."""

    folder: Path
    device: torch.device
    seconds: float  # wall time of this call, its start and its last checkpoint included; 0: until the recipe is done
    workers: int  # processes that draw batches, beside this one
    checkpoint_every: int  # steps
    validate_every: int  # steps; 0 means never
    log_every: int  # steps
    tensorboard: bool = False  # events beside the JSON lines, where TensorBoard is installed
    started_s: float = field(default_factory=time.monotonic)  # when the call began, by the monotonic clock


NANO_RECIPE = TrainConfig(
    network=NANO,
    stages=(
        Stage("pairs", 4000, 6e-4, 24, (2,), 16, 1200, 8, pairwise=True, matching=True, kept_frames=2, stride=4),
        Stage("detail", 500, 2.5e-4, 24, (2,), 16, 1200, 8, pairwise=True, matching=True, kept_frames=2),
        Stage("temporal", 120, 1.5e-4, 3, (4, 8, 12), 12, 100, 1, pairwise=False, matching=True, stride=2),
    ),
    shapes=(ImageShape((128, 96), 0.6), ImageShape((128, 80), 0.4)),
)
TINY_RECIPE = TrainConfig(
    network=TINY,
    stages=(
        Stage("pairs", 12000, 5e-4, 32, (2,), 16, 2400, 12, pairwise=True, matching=True, kept_frames=2, stride=4),
        Stage("detail", 3000, 2.5e-4, 32, (2,), 16, 2400, 12, pairwise=True, matching=True, kept_frames=2),
        Stage(
            "temporal",
            3000,
            1.5e-4,
            6,
            (2, 4, 8, 12),
            12,
            400,
            3,
            pairwise=False,
            matching=True,
            stride=2,
            tasks=(Task.ENGINE, Task.ENGINE, Task.ENGINE, Task.TRACKING, Task.VIDEO_DEPTH, Task.FAST_RECONSTRUCTION),
        ),
    ),
    shapes=(ImageShape((224, 160), 0.6), ImageShape((224, 128), 0.4)),
    warmup_steps=500,
)

# The paper gives 10 epochs a stage, a rate of 1e-4 and batches of 16 pairs and 4 windows. Not published, so our
# choice: 35,000 draws an epoch (1,000 times the ratios), one epoch of warm-up, and the image sizes.
PAPER_EPOCH = 35_000
PAPER_RECIPE = TrainConfig(
    network=FULL_TEMPORAL,
    stages=(
        Stage(
            "pairwise",
            10 * PAPER_EPOCH // 16,
            1e-4,
            16,
            (2,),
            16,
            1,
            1,
            pairwise=True,
            matching=True,
            frozen=Frozen.ENCODER,
        ),
        Stage(
            "temporal",
            10 * PAPER_EPOCH // 4,
            1e-4,
            4,
            (12,),
            24,
            1,
            1,
            pairwise=False,
            matching=True,
            frozen=Frozen.TRUNK,
            tasks=(Task.TRACKING, Task.VIDEO_DEPTH, Task.FAST_RECONSTRUCTION),
        ),
    ),
    shapes=(ImageShape((512, 288), 1.0), ImageShape((512, 384), 1.0), ImageShape((512, 336), 1.0)),
    mixture=dict(PAPER_MIXTURE),
    from_scratch=False,
    warmup_steps=PAPER_EPOCH // 16,
    head_learning_rate_share=1.0,
    final_learning_rate_share=0.01,
    confidence_weighs_error=True,
    ego_weight=0.0,
    motion_weight=0.0,
    attention_weight=0.0,
    flow_weight=0.0,
    shard_mib=0,
)


def pair_stage(name: str, steps: int, learning_rate: float, pairs: int, frozen: Frozen = Frozen.NOTHING) -> Stage:
    """A stage of the family's papers: so many pairs a step, drawn from recordings or scenes of their own."""
    return Stage(name, steps, learning_rate, pairs, (2,), 16, 1, 1, pairwise=True, matching=True, frozen=frozen)


# What the papers of the family and their released code give; datasets that have no reader here are left out, so that
# mixtures are ours. MASt3R: 50 epochs of 650,000 pairs, 64 a step, 1e-4 to 1e-6 after 8 epochs of warm-up.
# D2USt3R: from DUSt3R with its encoder frozen, 50 epochs of 20,000 pairs, 32 a step, 5e-5 (warm-up ours: 3 epochs).
# Flow4R: 100 epochs of 900,000 pairs, 256 a step, at 224 px with a linear head, then 100 of 84,000, 64 a step, at
# 512 px with a DPT head, both 1e-4 to 1e-6 after 10 and 20 epochs of warm-up, gradients cut at a norm of 10.
SHAPES_512 = tuple(ImageShape(size_wh, 1.0) for size_wh in ((512, 384), (512, 336), (512, 288), (512, 256), (512, 160)))
FAMILY_PAPER = TrainConfig(
    network=FULL_D2UST3R,
    stages=(pair_stage("pairs", 50 * 20_000 // 32, 5e-5, 32, Frozen.ENCODER),),
    shapes=SHAPES_512,
    mixture={"point_odyssey": 1.0, "tartanair": 1.0},
    from_scratch=False,
    warmup_steps=3 * 20_000 // 32,
    head_learning_rate_share=1.0,
    final_learning_rate_share=0.01,
    shard_mib=0,
)
FLOW4R_STAGE_1 = dataclasses.replace(
    FAMILY_PAPER,
    network=dataclasses.replace(FULL_FLOW4R, head_type="linear"),
    stages=(pair_stage("linear, 224 px", 100 * 900_000 // 256, 1e-4, 256),),
    shapes=(ImageShape((224, 224), 1.0),),
    from_scratch=True,
    warmup_steps=10 * 900_000 // 256,
    weight_decay=0.0,
    gradient_clip=10.0,
)
FAMILY_NANO = dataclasses.replace(
    NANO_RECIPE,
    network=dataclasses.replace(NANO, temporal_length=0),
    stages=(Stage("pairs", 4000, 6e-4, 12, (2,), 16, 1200, 8, pairwise=True, matching=True, kept_frames=2),),
)
PRESETS: Mapping[str, TrainConfig] = {
    "nano": NANO_RECIPE,
    "tiny": TINY_RECIPE,
    "paper": PAPER_RECIPE,
    "mast3r": dataclasses.replace(
        FAMILY_PAPER,
        network=FULL_MAST3R,
        stages=(pair_stage("pairs", 50 * 650_000 // 64, 1e-4, 64),),
        warmup_steps=8 * 650_000 // 64,
    ),
    "d2ust3r": FAMILY_PAPER,
    "flow4r-224": FLOW4R_STAGE_1,
    "flow4r-512": dataclasses.replace(
        FLOW4R_STAGE_1,
        network=FULL_FLOW4R,
        stages=(pair_stage("DPT, 512 px", 100 * 84_000 // 64, 1e-4, 64),),
        shapes=SHAPES_512,
        from_scratch=False,
        warmup_steps=20 * 84_000 // 64,
    ),
    **{
        f"{architecture}-nano": dataclasses.replace(
            FAMILY_NANO, network=dataclasses.replace(FAMILY_NANO.network, architecture=architecture)
        )
        for architecture in ("mast3r", "d2ust3r", "flow4r")
    },
}


def scaled_to(config: TrainConfig, share: float) -> TrainConfig:
    """The same recipe with every stage's steps multiplied by ``share``, at least one step each."""
    stages = tuple(dataclasses.replace(stage, steps=max(1, round(stage.steps * share))) for stage in config.stages)
    return dataclasses.replace(config, stages=stages)
