"""Image motion against scenes whose every pixel is known: what goes with the camera rests, whatever its depth."""

import numpy as np
import pytest

from pomato_ros.geometry.rigid import invert, pose_from, rotation_exp
from pomato_ros.pointmap_scene.image_motion import (
    FRAMES_BACK,
    ImageMotion,
    ImageParts,
    ahead_of,
    closed,
    matrix_of,
    nearest_at_rest,
)
from pomato_ros.pointmap_scene.moving import MovingMask
from pomato_ros.structures import Intrinsics

HEIGHT, WIDTH = 96, 128
CAMERA = Intrinsics(fx_px=110.0, fy_px=110.0, cx_px=63.5, cy_px=47.5, width_px=WIDTH, height_px=HEIGHT)
WALL_M, CARD_M = 6.0, 4.0
FRAMES = 14
WALL, CARD = (np.random.default_rng(seed).integers(40, 215, (200, 200, 3)).astype(np.float32) for seed in (1, 2))
PER_M = 10.0  # squares of the texture
BOX = (-0.6, 0.6, -0.5, 0.5)  # m, the card's sides


def painted(texture: np.ndarray, x_m: np.ndarray, y_m: np.ndarray) -> np.ndarray:
    """(h, w, 3) the texture, smooth between its squares, at places on a plane."""
    column, row = PER_M * x_m + 100.0, PER_M * y_m + 100.0
    left, top = np.floor(column).astype(int) % 199, np.floor(row).astype(int) % 199
    to_right, down = (column % 1.0)[..., None], (row % 1.0)[..., None]
    above = texture[top, left] * (1 - to_right) + texture[top, left + 1] * to_right
    below = texture[top + 1, left] * (1 - to_right) + texture[top + 1, left + 1] * to_right
    return above * (1 - down) + below * down


def on_plane(world_from_camera: np.ndarray, depth_m: float, camera: Intrinsics) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) x and y in the world where the pixels' rays meet the plane z = ``depth_m``."""
    x, y = np.meshgrid(np.arange(camera.width_px), np.arange(camera.height_px))
    rays = np.stack(((x - camera.cx_px) / camera.fx_px, (y - camera.cy_px) / camera.fy_px, np.ones(x.shape)), -1)
    rays = rays @ world_from_camera[:3, :3].T
    reach = (depth_m - world_from_camera[2, 3]) / rays[..., 2]
    return world_from_camera[0, 3] + reach * rays[..., 0], world_from_camera[1, 3] + reach * rays[..., 1]


def seen(
    world_from_camera: np.ndarray, card_at_m: tuple[float, float] | None, wall: np.ndarray, camera: Intrinsics = CAMERA
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image (h, w, 3), depth (h, w) and the card's mask (h, w) of a card before a wall."""
    image = painted(wall, *on_plane(world_from_camera, WALL_M, camera))
    mask = np.zeros(image.shape[:2], bool)
    if card_at_m is not None:
        x, y = on_plane(world_from_camera, CARD_M, camera)
        x, y = x - card_at_m[0], y - card_at_m[1]
        mask = (x > BOX[0]) & (x < BOX[1]) & (y > BOX[2]) & (y < BOX[3])
        image[mask] = painted(CARD, x, y)[mask]
    depth = np.where(mask, CARD_M, WALL_M) - world_from_camera[2, 3]
    return image.astype(np.uint8), depth.astype(np.float32), mask


class Watch:
    """Image motion, with the flow from image to image that the estimator gives it."""

    def __init__(self, parts: ImageParts | None = None) -> None:
        self.motion, self._mask = ImageMotion(parts or ImageParts()), MovingMask()

    def see(self, image: np.ndarray, depth: np.ndarray, pose: np.ndarray, camera: Intrinsics = CAMERA) -> np.ndarray:
        self._mask.update(image, None, 3.0, 0.08)
        return self.motion.update(image, depth, pose, camera, self._mask.flow_to_before)


def sideways(t: int) -> np.ndarray:
    return pose_from(np.eye(3), np.array([0.05 * t, 0.0, 0.0]))


def turning(t: int) -> np.ndarray:
    return pose_from(rotation_exp(np.array([0.0, 0.02 * t, 0.0])), np.zeros(3))


def onwards(t: int) -> np.ndarray:
    return pose_from(rotation_exp(np.array([0.004 * t, 0.0, 0.003 * t])), np.array([0.01 * t, 0.0, 0.08 * t]))


def standing(t: int) -> np.ndarray:
    return np.eye(4)


WAYS = [sideways, turning, onwards, standing]


def believed(
    way: object = standing,
    card_m: float | None = 0.05,
    *,
    depth_times: float = 1.0,
    unit: float = 1.0,
    wall: np.ndarray = WALL,
    parts: ImageParts | None = None,
    rescaled_at: int = -1,
) -> tuple[np.ndarray, np.ndarray]:
    """What is believed to move after FRAMES frames, and what did: a card, ``card_m`` downwards a frame; None: no card.

    The network's depth is ``depth_times`` the true one, and a metre ``unit`` long, from frame ``rescaled_at`` on.
    """
    watch = Watch(parts)
    length = 1.0 if rescaled_at >= 0 else unit
    for t in range(FRAMES):
        pose = way(t)  # type: ignore[operator]
        image, depth, card = seen(pose, None if card_m is None else (0.3, card_m * (t - FRAMES / 2)), wall)
        if t == rescaled_at:
            length = unit
            watch.motion.rescale(unit, np.zeros(3))
        pose = pose.copy()
        pose[:3, 3] *= length
        found = watch.see(image, depth * np.float32(length * depth_times), pose)
    return found, card


def overlap(found: np.ndarray, moved: np.ndarray) -> float:
    return float((found & moved).sum() / (found | moved).sum())


@pytest.mark.parametrize("way", WAYS)
def test_a_mover_is_found_however_the_camera_moves(way: object) -> None:
    assert overlap(*believed(way)) > 0.6


@pytest.mark.parametrize("depth_times", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("way", WAYS)
def test_what_rests_does_not_move_though_its_depth_is_wrong(way: object, depth_times: float) -> None:
    found, _ = believed(way, card_m=0.0, depth_times=depth_times)
    assert not found.any()


def test_before_an_even_wall_only_the_mover_moves() -> None:
    even = np.full_like(WALL, 128.0)
    with_looks, card = believed(standing, wall=even)
    without, _ = believed(standing, wall=even, parts=ImageParts(looks=False))
    assert (with_looks & ~card).sum() < 0.5 * (without & ~card).sum()
    assert overlap(with_looks, card) > 0.6


@pytest.mark.parametrize("unit", [0.1, 7.0])
def test_the_unit_of_the_world_does_not_count(unit: float) -> None:
    in_metres, _ = believed(onwards)
    assert overlap(believed(onwards, unit=unit)[0], in_metres) > 0.99
    assert overlap(believed(onwards, unit=unit, rescaled_at=FRAMES - 2)[0], in_metres) > 0.99


def test_nothing_moves_before_there_are_frames_to_compare_and_after_forgetting() -> None:
    watch = Watch()
    for t in range(3 * FRAMES):
        if t == 2 * FRAMES:
            watch.motion.forget()
        image, depth, _ = seen(np.eye(4), (0.3, 0.06 * (t % FRAMES) - 0.4), WALL)
        found = watch.see(image, depth, np.eye(4))
        if t in (*range(min(FRAMES_BACK)), *range(2 * FRAMES, 2 * FRAMES + min(FRAMES_BACK))):
            assert not found.any()
    assert found.any()


@pytest.mark.parametrize("size_wh", [(256, 192), (300, 201), (64, 48)])
def test_masks_are_as_large_as_the_images_and_find_the_same(size_wh: tuple[int, int]) -> None:
    width, height = size_wh
    camera = Intrinsics(110.0 * width / 128, 110.0 * width / 128, (width - 1) / 2, (height - 1) / 2, width, height)
    watch = Watch()
    for t in range(FRAMES):
        image, depth, card = seen(sideways(t), (0.3, 0.05 * (t - FRAMES / 2)), WALL, camera)
        found = watch.see(image, depth, sideways(t), camera)
    assert found.shape == card.shape
    assert overlap(found, card) > 0.55


def test_depth_that_is_none_tells_nothing() -> None:
    watch = Watch()
    for t in range(FRAMES):
        image, depth, _ = seen(sideways(t), None, WALL)
        depth[:] = np.nan
        assert not watch.see(image, depth, sideways(t)).any()
    assert ahead_of(np.zeros((4, 4), np.float32), (4, 4)) is None
    holed = np.full((4, 4), 2.0, np.float32)
    holed[0, 0], holed[1, 1] = np.inf, -1.0
    ahead = ahead_of(holed, (4, 4))
    assert ahead is not None
    np.testing.assert_allclose(ahead, 0.5)


@pytest.mark.parametrize("way", [sideways, turning, onwards])
def test_the_nearest_place_at_rest_is_that_of_a_search(way: object) -> None:
    draws = np.random.default_rng(0)
    earlier_from_newest = invert(way(0)) @ way(6)  # type: ignore[operator]
    matrix = CAMERA.matrix()
    at_infinity = matrix @ earlier_from_newest[:3, :3] @ np.linalg.inv(matrix)
    epipole = matrix @ earlier_from_newest[:3, 3]
    shape = (12, 16)
    x, y = (draws.uniform(-5.0, 25.0, shape).astype(np.float32) for _ in range(2))
    most = draws.uniform(0.1, 1.0, shape).astype(np.float32)
    rest_x, rest_y = nearest_at_rest(x, y, at_infinity, epipole, most)
    for row, column in np.ndindex(shape):
        ahead = np.linspace(0.0, most[row, column], 4001)
        places = at_infinity @ (column, row, 1.0) + ahead[:, None] * epipole
        places = places[:, :2] / places[:, 2:]
        searched = np.hypot(*(places - (x[row, column], y[row, column])).T).min()
        found = np.hypot(rest_x[row, column] - x[row, column], rest_y[row, column] - y[row, column])
        assert found == pytest.approx(searched, abs=2e-3)


def test_a_resized_camera_sees_the_same_rays() -> None:
    smaller = matrix_of(CAMERA, (64, 48))
    corners = np.array([[-0.5, -0.5, 1.0], [127.5, 95.5, 1.0]])
    corners_small = np.array([[-0.5, -0.5, 1.0], [63.5, 47.5, 1.0]])
    np.testing.assert_allclose(
        np.linalg.solve(CAMERA.matrix(), corners.T), np.linalg.solve(smaller, corners_small.T), atol=1e-9
    )


def test_holes_are_closed_and_nothing_else_is() -> None:
    mask = np.zeros((40, 40), bool)
    mask[10:30, 10:30] = True
    holed = mask.copy()
    holed[18:22, 18:22] = False
    assert (closed(holed) == mask).all()
    assert (closed(mask) == mask).all()
