"""A recipe small enough to be trained in a test."""

import pytest

from pomato_ros.config import NetworkConfig
from pomato_ros.training.config import ImageShape, Stage, TrainConfig


@pytest.fixture(scope="session")
def recipe(tiny_config: NetworkConfig) -> TrainConfig:
    """Three stages like the real ones, three steps each; a few scenes of two sizes."""
    return TrainConfig(
        network=tiny_config,
        stages=(
            Stage("geometry", 3, 2e-3, 3, (2,), 3, 3, 2, pairwise=True, matching=False, kept_frames=2),
            Stage("matching", 3, 2e-3, 1, (2,), 3, 3, 1, pairwise=True, matching=True),
            Stage("temporal", 3, 2e-3, 1, (2, 4), 4, 3, 0, pairwise=False, matching=True),
        ),
        shapes=(ImageShape((48, 32), 0.7), ImageShape((32, 48), 0.3)),
        warmup_steps=2,
    )
