import dataclasses
import math

import pytest
import torch

from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import TRAIN_WORLD, another_seed, draw_scene, render_clip

TENSORS = [field.name for field in dataclasses.fields(Clip) if field.type is torch.Tensor]
SEEDS = range(20)


@pytest.mark.parametrize("seed", [0, 12345678901])
def test_a_clip_depends_on_its_seed_alone(seed: int) -> None:
    first = render_clip(seed, TRAIN_WORLD, 3, (40, 28))
    torch.rand(7)
    again = render_clip(seed, TRAIN_WORLD, 3, (40, 28))
    for name in TENSORS:
        assert torch.equal(getattr(first, name), getattr(again, name)), name
    assert (first.stamps_ns, first.intrinsics) == (again.stamps_ns, again.intrinsics)


def test_the_global_random_state_is_left_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    render_clip(1, TRAIN_WORLD, 2, (24, 16))
    assert torch.equal(torch.rand(3), expected)


def test_different_seeds_give_different_clips() -> None:
    one, other = (render_clip(seed, TRAIN_WORLD, 2, (40, 28)) for seed in (1, 2))
    assert not torch.equal(one.depth_m, other.depth_m)


def test_image_size_changes_the_picture_but_not_the_scene() -> None:
    small, large = (draw_scene(5, TRAIN_WORLD, 4, size) for size in ((40, 28), (80, 56)))
    assert torch.equal(small.world_from_camera, large.world_from_camera)
    assert torch.equal(small.world_from_object, large.world_from_object)
    assert large.intrinsics.fx_px == pytest.approx(2.0 * small.intrinsics.fx_px)


@pytest.mark.parametrize("size_wh", [(24, 40), (40, 24), (32, 32), (1, 1)])
def test_every_shape_of_image_is_rendered(size_wh: tuple[int, int]) -> None:
    clip = render_clip(2, TRAIN_WORLD, 1, size_wh)
    assert clip.images.shape == (1, size_wh[1], size_wh[0], 3)
    assert not bool(clip.moving(0).any()), "a single frame has no neighbours to move against"


@pytest.mark.parametrize("seed", SEEDS)
def test_every_ray_ends_and_the_camera_is_never_inside_anything(seed: int) -> None:
    clip = render_clip(seed, TRAIN_WORLD, 3, (40, 28))
    assert bool(torch.isfinite(clip.depth_m).all())
    assert float(clip.depth_m.min()) > 0.03
    assert not torch.signbit(clip.depth_m).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_camera_stays_in_the_room_and_clear_of_every_object(seed: int) -> None:
    scene = draw_scene(seed, TRAIN_WORLD, 40, (40, 28))
    camera = scene.world_from_camera[:, :3, 3]
    for part in scene.parts:
        world_from_part = scene.world_from_object[:, part.instance] @ part.object_from_part
        if part.instance:
            gap = (camera - world_from_part[:, :3, 3]).norm(dim=-1)
            assert bool((gap > part.shape.radius_m).all())
        elif math.isinf(part.shape.radius_m):
            height = ((camera - world_from_part[:, :3, 3]) * world_from_part[:, :3, 2]).sum(-1)
            assert bool((height > 0.2).all())


@pytest.mark.parametrize("seed", SEEDS)
def test_objects_stay_above_the_ground(seed: int) -> None:
    scene = draw_scene(seed, TRAIN_WORLD, 40, (40, 28))
    assert bool((scene.world_from_object[:, 1:, 2, 3] > 0.0).all())


def test_poses_are_rigid() -> None:
    scene = draw_scene(3, TRAIN_WORLD, 10, (40, 28))
    for poses in (scene.world_from_camera, scene.world_from_object):
        rotation = poses[..., :3, :3]
        eye = torch.eye(3, dtype=torch.float64).expand_as(rotation)
        torch.testing.assert_close(rotation @ rotation.transpose(-1, -2), eye, atol=1e-12, rtol=0.0)
        torch.testing.assert_close(torch.linalg.det(rotation), torch.ones_like(rotation[..., 0, 0]))


def test_motion_scale_of_zero_stops_the_world_but_not_the_clock() -> None:
    scene = draw_scene(3, dataclasses.replace(TRAIN_WORLD, motion_scale=0.0, mover_probability=1.0), 4, (40, 28))
    assert torch.equal(scene.world_from_camera, scene.world_from_camera[:1].expand_as(scene.world_from_camera))
    assert torch.equal(scene.world_from_object, scene.world_from_object[:1].expand_as(scene.world_from_object))
    assert len(set(scene.stamps_ns)) == 4


def test_motion_scale_makes_motion_smaller() -> None:
    def travelled(scale: float) -> float:
        config = dataclasses.replace(TRAIN_WORLD, motion_scale=scale)
        positions = [draw_scene(seed, config, 6, (40, 28)).world_from_camera[:, :3, 3] for seed in SEEDS]
        return sum(float((path[1:] - path[:-1]).norm(dim=-1).sum()) for path in positions)

    assert travelled(0.3) < 0.6 * travelled(1.0)


def test_mover_probability_decides_whether_clips_have_movers() -> None:
    def share(probability: float) -> float:
        config = dataclasses.replace(TRAIN_WORLD, mover_probability=probability)
        poses = [draw_scene(seed, config, 8, (40, 28)).world_from_object for seed in SEEDS]
        return sum(bool((pose != pose[:1]).any()) for pose in poses) / len(poses)

    assert share(0.0) == 0.0
    assert share(1.0) > 0.8


def test_frame_intervals_are_even_and_within_their_range() -> None:
    low, high = TRAIN_WORLD.frame_interval_s
    for seed in SEEDS:
        stamps = torch.tensor(draw_scene(seed, TRAIN_WORLD, 5, (40, 28)).stamps_ns)
        gaps = stamps[1:] - stamps[:-1]
        assert bool((gaps == gaps[0]).all())
        assert low - 1e-6 <= 1e-9 * float(gaps[0]) <= high + 1e-6


def test_an_empty_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 frame, got 0"):
        render_clip(0, TRAIN_WORLD, 0, (16, 16))


@pytest.mark.parametrize("seed", [0, (1 << 30) - 1, (1 << 30) + 5, (3 << 30) + 7, (4 << 30) - 1])
def test_another_try_at_a_scene_keeps_held_out_scenes_held_out(seed: int) -> None:
    tries = [another_seed(seed, attempt) for attempt in range(24)]
    assert tries[0] == seed
    assert {other >> 30 for other in tries} == {seed >> 30}
    assert len(set(tries)) == len(tries)
