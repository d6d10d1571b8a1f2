"""Held-out sequences: rendered scenes that training never draws, with their exact truth."""

from collections.abc import Iterator
from dataclasses import dataclass

from pomato_ros.errors import ConfigError
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import TRAIN_WORLD, WorldConfig, render_clip

SEED_OFFSET = 1000  # the first held-out seeds belong to the quick looks during training
SEQUENCES = 16
FRAMES = 24
HEIGHT_OVER_WIDTH = 0.7


@dataclass(frozen=True, slots=True)
class SequencePlan:
    """Which scenes are rendered, and how.

    Colours are sampled once a pixel, as in training. The images have the network's own size, so that truth and answer
    belong to the same pixels.
    """

    first_seed: int
    size_wh: tuple[int, int]
    sequences: int = SEQUENCES
    frames: int = FRAMES
    world: WorldConfig = TRAIN_WORLD
    split: str = "same"  # one of pomato_ros.evaluation.splits


def plan_sequences(
    held_out_seed: int, long_side_px: int, patch_px: int, sequences: int = SEQUENCES, frames: int = FRAMES
) -> SequencePlan:
    """The plan for a network that takes images of ``long_side_px``; ``held_out_seed`` begins what training never draws.

    Raises:
        ConfigError: no whole patch fits.
    """
    size_wh = (_whole_patches(long_side_px, patch_px), _whole_patches(HEIGHT_OVER_WIDTH * long_side_px, patch_px))
    if min(size_wh) < patch_px:
        raise ConfigError(f"expected a long side of at least two patches of {patch_px} px, got {long_side_px} px")
    return SequencePlan(held_out_seed + SEED_OFFSET, size_wh, sequences, frames)


def _whole_patches(side_px: float, patch_px: int) -> int:
    """The nearest multiple of the patch that is not larger by half a patch or more."""
    return round(side_px / patch_px) * patch_px


def render_sequences(plan: SequencePlan) -> Iterator[tuple[int, Clip]]:
    """Seed and clip of each sequence, rendered when it is asked for."""
    for seed in range(plan.first_seed, plan.first_seed + plan.sequences):
        yield seed, render_clip(seed, plan.world, plan.frames, plan.size_wh)
