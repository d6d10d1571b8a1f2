import dataclasses

import pytest

from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import TRAIN_WORLD, WorldConfig, render_clip

SIZE_WH = (72, 48)  # not square: a swap of axes shows


@pytest.fixture(scope="session")
def even_light() -> WorldConfig:
    """Worlds whose colours depend on the surface alone: light from everywhere, no noise, coarse patterns."""
    return dataclasses.replace(
        TRAIN_WORLD,
        mover_probability=1.0,
        movers=(2, 3),
        mover_image_share=(0.05, 0.2),
        floating_probability=0.0,
        static_size_m=(0.3, 0.9),
        ambient=(1.0, 1.0),
        exposure_drift=0.0,
        noise_std=(0.0, 0.0),
        room_texture_m=(0.8, 1.6),
        object_texture=(0.7, 1.2),
        frame_interval_s=(0.06, 0.1),
    )


@pytest.fixture(scope="session", params=[6, 8, 14])
def clip(request: pytest.FixtureRequest, even_light: WorldConfig) -> Clip:
    return render_clip(request.param, even_light, 5, SIZE_WH, supersample=2)
