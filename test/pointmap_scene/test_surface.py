"""What a depth map says between its pixels, at jumps, and of what is hidden behind it."""

from collections.abc import Callable

import numpy as np
import pytest

from pomato_ros.pointmap_scene.surface import (
    OCCLUSION_SHARE,
    depth_at,
    inside,
    jumps,
    jumps_at,
    nearest_pixels,
    sample,
    visible_at,
)

HEIGHT, WIDTH = 24, 32


def slanted(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Depth of a plane, whose inverse is linear in the image."""
    return 1.0 / (0.3 + 0.004 * x - 0.003 * y)


def plane_map() -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return slanted(x, y).astype(np.float32)


def two_walls() -> np.ndarray:
    """2 m on the left, 5 m from column 16 on."""
    depth = np.full((HEIGHT, WIDTH), 2.0, np.float32)
    depth[:, 16:] = 5.0
    return depth


def test_a_plane_is_read_between_its_pixels_as_it_is() -> None:
    pixels = np.random.default_rng(0).uniform(0, (WIDTH - 1, HEIGHT - 1), (200, 2))
    np.testing.assert_allclose(depth_at(plane_map(), pixels), slanted(*pixels.T), rtol=1e-6)


def test_no_depth_between_two_surfaces_is_made_up() -> None:
    pixels = np.stack((np.linspace(14.0, 17.0, 61), np.full(61, 7.3)), axis=-1)
    told = depth_at(two_walls(), pixels)
    np.testing.assert_array_equal(told, np.where(np.rint(pixels[:, 0]) < 16, 2.0, 5.0))


def test_holes_stay_holes_and_do_not_spread() -> None:
    depth = plane_map()
    depth[5, 5] = np.nan
    assert np.isnan(depth_at(depth, np.array([[5.2, 4.8]]))).all()
    np.testing.assert_array_equal(depth_at(depth, np.array([[5.8, 5.0]])), depth[5, 6])


@pytest.mark.parametrize("shape", [(1, 8), (8, 1), (1, 1)])
def test_the_narrowest_maps_are_read_too(shape: tuple[int, int]) -> None:
    assert depth_at(np.full(shape, 3.0, np.float32), np.array([[0.0, 0.0], [0.4, -0.2]])).tolist() == [3.0, 3.0]


def test_what_is_no_number_falls_on_no_pixel() -> None:
    pixels = np.array([[np.nan, 3.0], [np.inf, 3.0], [-0.4, 3.0], [-0.6, 3.0], [WIDTH - 0.6, 3.0], [WIDTH - 0.4, 3.0]])
    assert inside(pixels, (HEIGHT, WIDTH)).tolist() == [False, False, True, False, True, False]
    rows, columns = nearest_pixels(pixels, (HEIGHT, WIDTH))
    assert ((rows >= 0) & (rows < HEIGHT) & (columns >= 0) & (columns < WIDTH)).all()


@pytest.mark.parametrize("side_px", [3, 5, 7])
def test_jumps_are_within_half_a_square_of_an_edge_and_of_holes(side_px: int) -> None:
    depth, reach = two_walls(), side_px // 2
    expected = np.zeros(depth.shape, bool)
    expected[:, 16 - reach : 16 + reach] = True
    np.testing.assert_array_equal(jumps(depth, side_px, 1.1), expected)
    hole = np.full((HEIGHT, WIDTH), 2.0, np.float32)
    hole[10, 10] = np.nan
    expected = np.zeros(depth.shape, bool)
    expected[10 - reach : 11 + reach, 10 - reach : 11 + reach] = True
    np.testing.assert_array_equal(jumps(hole, side_px, 1.1), expected)


def test_a_slope_is_no_jump() -> None:
    assert not jumps(plane_map(), 3, 1.1).any()


@pytest.mark.parametrize("side_px", [3, 5, 7])
def test_jumps_at_a_few_pixels_are_those_of_the_whole_map(side_px: int) -> None:
    draws = np.random.default_rng(side_px)
    depth = np.where(draws.random((HEIGHT, WIDTH)) < 0.03, 5.0, plane_map()).astype(np.float32)
    depth[draws.random(depth.shape) < 0.01] = np.nan
    rows, columns = (cells.ravel() for cells in np.indices(depth.shape))
    slow = jumps(depth, side_px, 1.1)
    assert 0 < slow.sum() < slow.size
    np.testing.assert_array_equal(jumps_at(depth, rows, columns, side_px, 1.1), slow.ravel())


def test_depth_between_pixels_is_that_of_each_alone() -> None:
    """The slow twin reads one place after the other, by the four pixels around it."""
    draws = np.random.default_rng(7)
    depth = plane_map() * draws.uniform(0.97, 1.03, (HEIGHT, WIDTH)).astype(np.float32)
    depth[draws.random(depth.shape) < 0.05] = np.nan
    pixels = draws.uniform(-0.5, (WIDTH - 0.5, HEIGHT - 0.5), (400, 2))
    pixels[:100] = np.rint(2.0 * pixels[:100]) / 2.0  # on pixels and halfway between
    told = depth_at(depth, pixels)
    for place, value in zip(pixels.clip(0, (WIDTH - 1, HEIGHT - 1)), told, strict=True):
        x, y = np.minimum(place.astype(int), (WIDTH - 2, HEIGHT - 2))
        right, down = place - (x, y)
        around = depth[y : y + 2, x : x + 2].astype(np.float64)
        expected = depth[tuple(np.rint(place[::-1]).astype(int))]
        if around.max() < 1.05 * around.min():
            expected = 1.0 / (np.array([1 - down, down]) @ (1.0 / around) @ np.array([1 - right, right]))
        np.testing.assert_allclose(value, expected, rtol=1e-9)


def test_what_lies_behind_is_hidden_and_what_lies_on_the_surface_is_uncovered() -> None:
    pixels = np.full((5, 2), 4.0)
    depth = 2.0 * np.array([0.5, 1 - 0.9 * OCCLUSION_SHARE, 1.0, 1 + 0.9 * OCCLUSION_SHARE, 1 + 1.1 * OCCLUSION_SHARE])
    assert visible_at(pixels, depth, two_walls()).tolist() == [True, True, True, True, False]
    touching = np.ones(5, bool)
    assert visible_at(pixels, depth, two_walls(), touching).tolist() == [False, True, True, True, False]
    touching[0] = False  # this one may hang before it
    assert visible_at(pixels, depth, two_walls(), touching).tolist() == [True, True, True, True, False]
    outside = np.array([[-1.0, 4.0], [np.nan, 4.0], [4.0, HEIGHT]])
    assert not visible_at(outside, np.ones(3), two_walls()).any()
    assert not visible_at(outside, np.full(3, 2.0), two_walls(), np.ones(3, bool)).any()


@pytest.mark.parametrize(
    "ask",
    [
        lambda depth, nowhere: inside(nowhere, depth.shape),
        lambda depth, nowhere: depth_at(depth, nowhere),
        lambda depth, nowhere: jumps_at(depth, *nearest_pixels(nowhere, depth.shape), 5, 1.1),
        lambda depth, nowhere: visible_at(nowhere, nowhere[:, 0], depth),
        lambda depth, nowhere: visible_at(nowhere, nowhere[:, 0], depth, nowhere[:, 0] > 0),
        lambda depth, nowhere: sample(depth[..., None], nowhere),
        lambda depth, nowhere: sample(depth[..., None], nowhere, 5),
    ],
)
def test_who_asks_nowhere_is_told_nothing(ask: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    assert len(ask(two_walls(), np.empty((0, 2)))) == 0
