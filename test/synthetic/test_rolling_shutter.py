"""Rows of a picture are exposed one after the other; the truth is that of the stamp."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from pomato_ros.structures import Intrinsics
from pomato_ros.synthetic.poses import look_at, pose, rotation_about
from pomato_ros.synthetic.renderer import render
from pomato_ros.synthetic.scene import Blur, Light, Part, Rolling, Scene, Sensor
from pomato_ros.synthetic.shapes import Box, Shell
from pomato_ros.synthetic.textures import Plain
from pomato_ros.synthetic.world import RICH_WORLD, TRAIN_WORLD, draw_scene, render_clip

INTRINSICS = Intrinsics(60.0, 60.0, 32.0, 20.0, 65, 41)  # row 20 is the middle one
SAMPLE_PX = 1.0 / 8.0  # between colour samples, which places an edge
TURN_RAD_S = math.radians(60.0)
READOUT_S = 0.05
LOOKS_S = tuple(float(time) for time in np.linspace(-0.5, 0.5, 9) * READOUT_S)
SHARP = Rolling(LOOKS_S, (0.0,), READOUT_S)
SOFT = Rolling(tuple(2.0 * time for time in LOOKS_S), tuple(LOOKS_S[::2]), READOUT_S)
UPRIGHT = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
SIZE_WH = (30, 21)
ROLLING_WORLD = dataclasses.replace(
    RICH_WORLD,
    rolling_shutter_probability=1.0,
    blur_probability=0.5,
    camera_kinds=(0.0, 0.0, 1.0),
    noise_std=(0.0, 0.0),
)


def turned(time_s: float) -> torch.Tensor:
    """Camera pose (4, 4) on a turn at constant rate about the vertical, along x at time zero."""
    ahead = look_at(torch.zeros(3, dtype=torch.float64), torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    spin = rotation_about(UPRIGHT, torch.tensor(TURN_RAD_S * time_s, dtype=torch.float64))
    return pose(spin, torch.zeros(3, dtype=torch.float64)) @ ahead


def post(camera: torch.Tensor, blur: Blur | None = None) -> Scene:
    """One frame of a bright post, as high as the image, before a dark sky; light from everywhere."""
    eye = torch.eye(4, dtype=torch.float64)
    place = eye.clone()
    place[0, 3] = 4.0
    sky = Part(Shell(40.0), Plain(torch.full((3,), 0.02)), 0, eye, casts_shadow=False)
    wood = Part(Box((0.1, 0.5, 6.0)), Plain(torch.full((3,), 0.9)), 1, eye)
    light = Light(torch.tensor([0.0, 0.0, 9.0], dtype=torch.float64), 1.0, torch.ones(3), False)
    table = torch.stack((eye, place))[None]
    return Scene((sky, wood), table, camera[None], INTRINSICS, light, Sensor(torch.ones(1), 0.0, 0), (0,), (), blur)


def rolled(rolling: Rolling) -> Scene:
    """The post seen from the turning camera."""
    cameras = torch.stack([turned(time) for time in rolling.looks_s])
    still = post(turned(0.0))
    table = still.world_from_object[:, None].expand(1, len(cameras), 2, 4, 4)
    return post(turned(0.0), Blur(table, cameras[None], rolling))


def middles(image: torch.Tensor) -> torch.Tensor:
    """(h,) column of the middle of what is bright in each row of an image (h, w, 3)."""
    light = (image[..., 0].double() / 255.0) ** 2 - 0.015
    return (light * torch.arange(image.shape[1])).sum(1) / light.sum(1)


def row_time(row: int) -> float:
    return (row / (INTRINSICS.height_px - 1) - 0.5) * READOUT_S


@pytest.mark.parametrize("rolling", [SHARP, SOFT], ids=["sharp", "soft"])
@pytest.mark.parametrize("height_px", [1, 2, 33, 96])
def test_every_row_is_made_of_looks_around_its_own_time(rolling: Rolling, height_px: int) -> None:
    weights, looks_s = rolling.weights(height_px), np.array(rolling.looks_s)
    assert weights.shape == (len(looks_s), height_px)
    assert weights.min() >= 0.0
    np.testing.assert_allclose(weights.sum(0), 1.0, atol=1e-12)
    rows = np.arange(height_px)
    times = (rows / (height_px - 1) - 0.5) * READOUT_S if height_px > 1 else np.zeros(1)
    np.testing.assert_allclose(looks_s @ weights, times, atol=1e-12)
    reach = 0.5 * (rolling.open_s[-1] - rolling.open_s[0]) + looks_s[1] - looks_s[0]
    assert (np.abs(looks_s[:, None] - times) < reach + 1e-12)[weights > 0.0].all()


def test_rows_that_are_read_at_once_are_the_mean_of_all_looks() -> None:
    np.testing.assert_allclose(Rolling(LOOKS_S, LOOKS_S, 0.0).weights(7), 1.0 / len(LOOKS_S), atol=1e-12)


def test_a_camera_that_turns_shears_an_upright_edge() -> None:
    slanted = middles(render(rolled(SHARP), supersample=8).images[0])
    rows = range(INTRINSICS.height_px)
    expected = [INTRINSICS.cx_px + INTRINSICS.fx_px * math.tan(TURN_RAD_S * row_time(row)) for row in rows]
    torch.testing.assert_close(slanted, torch.tensor(expected, dtype=torch.float64), atol=SAMPLE_PX, rtol=0.0)
    assert float(slanted[-1] - slanted[0]) == pytest.approx(INTRINSICS.fx_px * TURN_RAD_S * READOUT_S, rel=0.03)


def test_every_row_is_what_is_seen_at_its_own_time() -> None:
    picture = render(rolled(SHARP), supersample=8).images[0]
    own = [render(post(turned(row_time(row))), supersample=8).images[0, row] for row in range(INTRINSICS.height_px)]
    assert float((middles(picture) - middles(torch.stack(own))).abs().max()) < SAMPLE_PX
    at_look = slice(None, None, 5)  # a row of these is exposed when there is a look
    error = (picture.int() - torch.stack(own).int()).abs()
    assert int(error[at_look].max()) <= 1
    assert int(error.max()) > 1, "between two looks a row is interpolated"


@pytest.mark.parametrize("rolling", [SHARP, SOFT], ids=["sharp", "soft"])
def test_the_middle_row_and_all_truth_are_those_of_the_stamp(rolling: Rolling) -> None:
    clip, still = render(rolled(rolling)), render(post(turned(0.0)))
    for field in ("depth_m", "instance", "world_from_camera", "world_from_object"):
        assert torch.equal(getattr(clip, field), getattr(still, field)), field
    assert float((middles(clip.images[0]) - middles(still.images[0]))[20].abs()) < 0.02
    if rolling is SHARP:
        assert torch.equal(clip.images[0, 20], still.images[0, 20])


def test_where_nothing_moves_a_rolling_shutter_changes_nothing() -> None:
    scene = draw_scene(5, dataclasses.replace(TRAIN_WORLD, noise_std=(0.0, 0.0)), 2, SIZE_WH)
    looks = len(SOFT.looks_s)
    table, camera = scene.world_from_object[:, None], scene.world_from_camera[:, None]
    frozen = Blur(table.expand(-1, looks, -1, -1, -1), camera.expand(-1, looks, -1, -1), SOFT)
    one, other = render(scene), render(dataclasses.replace(scene, blur=frozen))
    assert int((one.images.int() - other.images.int()).abs().max()) <= 1, "rounding"


@pytest.mark.parametrize("seed", [0, 3])
def test_rendering_only_the_rows_that_are_used_is_rendering_all(seed: int) -> None:
    scene = draw_scene(seed, dataclasses.replace(ROLLING_WORLD, jpeg_probability=0.0), 2, SIZE_WH)
    assert scene.blur is not None
    expected = torch.zeros(2, SIZE_WH[1], SIZE_WH[0], 3, dtype=torch.float64)
    for look, weights in enumerate(scene.blur.weights(SIZE_WH[1])):
        instant = dataclasses.replace(
            scene,
            world_from_object=scene.blur.world_from_object[:, look],
            world_from_camera=scene.blur.world_from_camera[:, look],
            blur=None,
            sensor=dataclasses.replace(scene.sensor, exposure=torch.full((2,), 1.0 / 16.0)),  # nothing is too bright
        )
        seen = (render(instant, supersample=2).images.double() / 255.0) ** 2 * 16.0
        expected += torch.from_numpy(weights)[:, None, None] * seen
    expected = (expected * scene.sensor.exposure.double()[:, None, None, None]).sqrt().clamp(max=1.0) * 255.0
    error = (render(scene, supersample=2).images.double() - expected).abs()
    assert float(error.quantile(0.99)) < 4.0, "the slow way rounds 8-bit values of a sixteenth of the light"
    assert float(error.mean()) < 1.2


@pytest.mark.parametrize("seed", range(4))
def test_a_drawn_rolling_shutter_lasts_at_most_its_share_of_the_frame_time(seed: int) -> None:
    scene = draw_scene(seed, ROLLING_WORLD, 3, SIZE_WH)
    interval_s = 1e-9 * (scene.stamps_ns[1] - scene.stamps_ns[0])
    assert scene.blur is not None
    rolling = scene.blur.rolling
    assert rolling is not None
    shortest, longest = ROLLING_WORLD.readout
    assert shortest * interval_s * 0.999 < rolling.readout_s < longest * interval_s * 1.001
    assert len(rolling.open_s) == 1 or rolling.open_s[-1] - rolling.open_s[0] < interval_s
    assert rolling.looks_s[-1] == pytest.approx(0.5 * rolling.readout_s + rolling.open_s[-1])
    middle = len(rolling.looks_s) // 2
    assert rolling.looks_s[middle] == 0.0
    assert torch.equal(scene.blur.world_from_camera[:, middle], scene.world_from_camera)
    assert torch.equal(scene.blur.world_from_object[:, middle], scene.world_from_object)


def test_the_same_seed_gives_the_same_picture_alone_and_among_others() -> None:
    first, again = (render_clip(2, ROLLING_WORLD, 3, SIZE_WH) for _ in range(2))
    assert torch.equal(first.images, again.images)
    scene = draw_scene(2, ROLLING_WORLD, 3, SIZE_WH)
    for other in (render(scene, chunk=1), render(scene.at([2, 1]))):
        frames = [2, 1] if len(other) == 2 else [0, 1, 2]
        difference = (other.images.int() - first.images[frames].int()).abs()
        assert float((difference <= 2).double().mean()) > 0.999, "rounding, which compression may make larger"


def test_a_world_without_rolling_shutter_draws_what_it_always_did() -> None:
    plain = dataclasses.replace(RICH_WORLD, rolling_shutter_probability=0.0)
    odd = dataclasses.replace(plain, readout=(0.9, 0.95), rolling_samples=3)
    assert torch.equal(render_clip(7, plain, 2, SIZE_WH).images, render_clip(7, odd, 2, SIZE_WH).images)
