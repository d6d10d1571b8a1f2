"""Held-out splits: the training's own world under seeds that it never draws, and three worlds that it never draws from.

``same``: what the bundled weights were trained on. ``looks``: shapes and textures that are kept back from training.
``driving``: a street with cars and people. ``majority``: more than half of the image moves.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from pomato_ros.errors import ConfigError
from pomato_ros.evaluation.sequences import FRAMES, SEQUENCES, SequencePlan, plan_sequences
from pomato_ros.synthetic.world import DRIVING_WORLD, LOOKS_WORLD, MAJORITY_WORLD, TRAIN_WORLD, WorldConfig

SPLIT_STRIDE = 10_000_000  # between the first seeds of two splits
SPLITS: Mapping[str, WorldConfig] = MappingProxyType(
    {"same": TRAIN_WORLD, "looks": LOOKS_WORLD, "driving": DRIVING_WORLD, "majority": MAJORITY_WORLD}
)
EVERY_SPLIT = "all"


def split_names(choice: str) -> tuple[str, ...]:
    """The splits that a name stands for: its own, or every one.

    Raises:
        ConfigError: there is no such split.
    """
    if choice == EVERY_SPLIT:
        return tuple(SPLITS)
    if choice not in SPLITS:
        known = ", ".join((*SPLITS, EVERY_SPLIT))
        raise ConfigError(f"expected a split among {known}, got '{choice}'")
    return (choice,)


def plan_split(
    name: str, held_out_seed: int, long_side_px: int, patch_px: int, sequences: int = SEQUENCES, frames: int = FRAMES
) -> SequencePlan:
    """The plan of one split; arguments as in :func:`plan_sequences`, whose plan is that of ``same``.

    Raises:
        KeyError: there is no such split; :func:`split_names` checks.
        ConfigError: no whole patch fits.
    """
    world = SPLITS[name]
    plan = plan_sequences(held_out_seed, long_side_px, patch_px, sequences, frames)
    first_seed = plan.first_seed + SPLIT_STRIDE * list(SPLITS).index(name)
    return dataclasses.replace(plan, first_seed=first_seed, world=world, split=name)
