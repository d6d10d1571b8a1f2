import dataclasses
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.renderer import render
from pomato_ros.synthetic.scene import Scene
from pomato_ros.synthetic.shapes import Box, Cone
from pomato_ros.synthetic.world import (
    DRIVING_WORLD,
    LOOKS_WORLD,
    MAJORITY_WORLD,
    RICH_WORLD,
    TRAIN_WORLD,
    WORLDS,
    WorldConfig,
    draw_scene,
    moving_share,
    render_clip,
)

SIZE_WH = (36, 24)
NAMES = [name for name in WORLDS if name != "train"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(3))
def test_every_ray_ends_and_the_camera_is_inside_nothing(name: str, seed: int) -> None:
    clip = render_clip(seed, WORLDS[name], 3, SIZE_WH)
    assert bool(torch.isfinite(clip.depth_m).all())
    assert float(clip.depth_m.min()) > 0.03
    assert int(clip.instance.max()) < clip.world_from_object.shape[1]
    rotation = clip.world_from_object[..., :3, :3]
    eye = torch.eye(3, dtype=torch.float64).expand_as(rotation)
    torch.testing.assert_close(rotation @ rotation.transpose(-1, -2), eye, atol=1e-12, rtol=0.0)


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_is_made_again_from_its_seed_alone(name: str) -> None:
    first = render_clip(4, WORLDS[name], 2, SIZE_WH)
    torch.rand(5)
    again = render_clip(4, WORLDS[name], 2, SIZE_WH)
    for field in ("images", "depth_m", "instance", "world_from_camera", "world_from_object"):
        assert torch.equal(getattr(first, field), getattr(again, field)), field


@pytest.mark.parametrize("name", NAMES)
def test_passing_rays_by_changes_nothing_but_rounding(name: str) -> None:
    scene = draw_scene(6, WORLDS[name], 3, SIZE_WH)
    scene = dataclasses.replace(scene, blur=None)
    some, every = (render(dataclasses.replace(scene, only_what_meets=only)) for only in (True, False))
    same = some.instance == every.instance
    assert float(same.double().mean()) > 0.998
    torch.testing.assert_close(some.depth_m[same], every.depth_m[same], rtol=1e-4, atol=1e-4)
    assert float(((some.images.int() - every.images.int()).abs().amax(-1) <= 2).double().mean()) > 0.99


def test_a_rich_world_is_crowded_and_deep_and_wide() -> None:
    scenes = [draw_scene(seed, RICH_WORLD, 2, SIZE_WH) for seed in range(12)]
    focal = [scene.intrinsics.fx_px for scene in scenes]
    assert max(focal) > 2.0 * min(focal)
    objects = [scene.world_from_object.shape[1] - 1 for scene in scenes]
    assert sum(objects) / len(objects) >= 10
    depths = torch.cat([render(scene).depth_m.flatten() for scene in scenes[:8]])
    assert float(depths.quantile(0.995) / depths.quantile(0.005)) > 50.0, "wider than a factor of a hundred at its ends"


@pytest.mark.parametrize("seed", range(4))
def test_more_than_half_of_the_image_moves_in_the_majority_world(seed: int) -> None:
    scene = draw_scene(seed, MAJORITY_WORLD, 6, SIZE_WH)
    share = moving_share(scene)
    assert share >= 0.5
    clip = render(scene)
    seen = sum(float(clip.moving(t).double().mean()) for t in (0, 2, 5)) / 3.0
    assert seen == pytest.approx(share, abs=0.12)


def test_the_driving_world_goes_along_a_street() -> None:
    scenes = [draw_scene(seed, DRIVING_WORLD, 8, SIZE_WH) for seed in range(6)]
    for scene in scenes:
        way = scene.world_from_camera[:, :3, 3]
        assert float(way[:, 2].max()) < 3.0
        forward = scene.world_from_camera[:, :3, 2]
        assert float(forward[:, 0].min()) > 0.5, "it looks along x"
    travelled = [float((s.world_from_camera[-1, :3, 3] - s.world_from_camera[0, :3, 3]).norm()) for s in scenes]
    assert sorted(travelled)[3] > 1.0
    assert sum(bool((s.world_from_object[0] != s.world_from_object[-1]).any()) for s in scenes) >= 5


def test_traffic_is_seen_in_the_driving_world() -> None:
    shares = sorted(moving_share(draw_scene(seed, DRIVING_WORLD, 12, SIZE_WH)) for seed in range(24))
    assert 0.03 <= sum(shares) / len(shares) <= 0.08
    assert shares[len(shares) // 4] > 0.02, "in three streets of four"
    assert shares[-1] < 0.5, "most of a street stands still"


def test_cars_that_go_along_a_street_keep_off_those_that_are_parked() -> None:
    going = run_through = 0
    for seed in range(12):
        scene = draw_scene(seed, DRIVING_WORLD, 12, SIZE_WH)
        cars = list(cars_of(scene))
        parked = [(way, body) for way, body in cars if torch.equal(way[0], way[-1])]
        for way, body in cars:
            if torch.equal(way[0], way[-1]) or abs(float(way[0, 1, 0])) > 0.5:
                continue  # those across have no lane
            going += 1
            for place, other in parked:
                apart = (way[:, :2, 3] - place[:, :2, 3]).abs()
                room = torch.tensor([body[axis] + other[axis] for axis in (0, 1)], dtype=torch.float64)
                run_through += bool((apart < room).all(1).any())
    assert going >= 15
    assert run_through <= 0.1 * going, "where there is no room at all they do"


def cars_of(scene: Scene) -> Iterator[tuple[Tensor, tuple[float, float, float]]]:
    """Poses (t, 4, 4) and half extents of the body of each car."""
    for instance in range(1, scene.world_from_object.shape[1]):
        shapes = [part.shape for part in scene.parts if part.instance == instance]
        if len(shapes) == 6 and isinstance(shapes[0], Box) and isinstance(shapes[-1], Cone):
            yield scene.world_from_object[:, instance], shapes[0].half_extents_m


def test_held_out_looks_are_never_those_of_training() -> None:
    assert not set(LOOKS_WORLD.models) & set(RICH_WORLD.models)
    assert not set(LOOKS_WORLD.textures) & set(RICH_WORLD.textures)
    assert TRAIN_WORLD.models == TRAIN_WORLD.textures == ()


# The truth of whatever moves, bends or lies on hills, against itself


def sample(image: Tensor, pixels: Tensor) -> Tensor:
    """Bilinear values (n, c) of ``image`` (h, w, c) at ``pixels`` (n, 2)."""
    height, width = image.shape[:2]
    grid = 2.0 * pixels / torch.tensor([width - 1.0, height - 1.0]) - 1.0
    planes = image.permute(2, 0, 1)[None].float()
    return torch.nn.functional.grid_sample(planes, grid[None, None], align_corners=True)[0, :, 0].T


def lively(**changes: object) -> WorldConfig:
    """A rich world whose colours depend on the surface alone."""
    even: dict[str, object] = {
        "ambient": (1.0, 1.0),
        "exposure_drift": 0.0,
        "noise_std": (0.0, 0.0),
        "exposure_step_probability": 0.0,
        "vignette": None,
        "jpeg_probability": 0.0,
        "blur_probability": 0.0,
        "rolling_shutter_probability": 0.0,
        "gloss_probability": 0.0,
        "lamps": (0, 0),
        "mover_probability": 1.0,
        "movers": (3, 4),
        "frame_interval_s": (0.04, 0.06),
        "room_texture_m": (0.8, 2.0),
        "object_texture": (0.7, 1.2),
        "static_objects": (4, 6),
        "mover_image_share": (0.1, 0.3),
    }
    return dataclasses.replace(RICH_WORLD, **(even | changes))  # type: ignore[arg-type]


LIVELY = {
    "walkers": lively(walker_probability=1.0),
    "sheets": lively(walker_probability=0.0, sheet_probability=1.0),
    "hills": lively(open_ground_probability=1.0, relief_probability=1.0, visit_probability=0.6, pause_probability=0.8),
}


@pytest.fixture(scope="module", params=list(LIVELY))
def lively_clip(request: pytest.FixtureRequest) -> Clip:
    return render_clip(11, LIVELY[request.param], 4, (84, 56), supersample=2)


def test_points_of_pieces_that_move_come_back(lively_clip: Clip) -> None:
    clip = lively_clip
    assert float(clip.moving(1).double().mean()) > 0.01
    pixels, seen = clip.pixels_matched(0, 3), clip.visible(0, 3)
    nearest = pixels[seen].round().long()
    same = clip.instance[3][nearest[:, 1], nearest[:, 0]] == clip.instance[0][seen]
    back = sample(clip.pixels_matched(3, 0), pixels[seen])[same]
    height, width = clip.depth_m.shape[1:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    error = (back - torch.stack((x, y), dim=-1).float()[seen][same]).norm(dim=-1)
    assert float(error.median()) < 5e-3
    assert float((error < 0.3).float().mean()) > 0.85, "all but pixels at the edge of a surface"


def test_points_of_pieces_that_move_keep_their_colour(lively_clip: Clip) -> None:
    clip = lively_clip
    seen = clip.visible(0, 3)
    colour = clip.images[0][seen].float()
    planes = clip.images[3].permute(2, 0, 1)[None].float()
    brightest = torch.nn.functional.max_pool2d(planes, 3, 1, 1)[0].permute(1, 2, 0)
    darkest = -torch.nn.functional.max_pool2d(-planes, 3, 1, 1)[0].permute(1, 2, 0)
    x, y = clip.pixels_matched(0, 3)[seen].round().long().unbind(-1)
    explained = ((colour > darkest[y, x] - 8.0) & (colour < brightest[y, x] + 8.0)).all(-1).float().mean()
    assert float(explained) > 0.93
