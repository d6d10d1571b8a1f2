import dataclasses

import pytest
import torch

from pomato_ros.synthetic.draw import Draw
from pomato_ros.synthetic.placing import paused
from pomato_ros.synthetic.world import RICH_WORLD, draw_scene

TIMES_S = torch.linspace(-1.0, 1.0, 201, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(12))
def test_a_pause_holds_a_mover_for_a_while_and_lets_time_run_otherwise(seed: int) -> None:
    clock = paused(Draw(seed), TIMES_S)
    rate = (clock[1:] - clock[:-1]) / 0.01
    assert float(rate.min()) >= -1e-9
    assert float(rate.max()) <= 1.0 + 1e-9
    assert bool((rate < 1e-6).any()), "at rest"
    assert bool((rate > 0.999).any()), "at full speed"
    assert float((rate[1:] - rate[:-1]).abs().max()) < 0.15, "it speeds up and slows down"


def test_visitors_leave_the_view_and_come_back() -> None:
    config = dataclasses.replace(
        RICH_WORLD,
        open_ground_probability=1.0,
        outdoor_half_size_m=(25.0, 28.0),
        camera_kinds=(0.0, 0.0, 0.0, 0.0, 1.0),
        mover_probability=1.0,
        movers=(1, 1),
        walker_probability=0.0,
        sheet_probability=0.0,
        visit_probability=1.0,
        pause_probability=0.0,
        mover_distance=(0.1, 0.3),
        blur_probability=0.0,
        frame_interval_s=(0.25, 0.25),
        static_objects=(0, 0),
    )
    left = returned = 0
    for seed in range(12):
        scene = draw_scene(seed, config, 40, (24, 16))
        if scene.world_from_object.shape[1] != 2:
            continue
        world = scene.world_from_object[:, 1, :3, 3:]
        camera = torch.linalg.inv(scene.world_from_camera)
        local = (camera[:, :3, :3] @ world + camera[:, :3, 3:])[..., 0]
        inside = (local[:, 0] / local[:, 2]).abs() < 12.0 / scene.intrinsics.fx_px
        changes = (inside[1:] != inside[:-1]).nonzero()[:, 0]
        left += not bool(inside.all())
        returned += len(changes) >= 2 and bool(inside[changes[1] + 1] | inside[changes[0] + 1])
    assert left >= 6
    assert returned >= 4


def test_objects_stand_on_the_hills() -> None:
    config = dataclasses.replace(
        RICH_WORLD, open_ground_probability=1.0, relief_probability=1.0, floating_probability=0.0, mover_probability=0.0
    )
    for seed in range(3):
        scene = draw_scene(seed, config, 2, (24, 16))
        ground = scene.parts[0].shape
        places = scene.world_from_object[0, 1:, :3, 3]
        above = places[:, 2] - ground.relief.height(places[:, :2])  # type: ignore[attr-defined]
        assert float(above.min()) > 0.0
        assert float(above.max()) < 12.0
        eye = scene.world_from_camera[:, :3, 3]
        assert bool((eye[:, 2] > ground.relief.height(eye[:, :2]) + 0.2).all())  # type: ignore[attr-defined]
