"""Depth between pixels, jumps, hidden points, and regions of a mask that depth splits."""

import numpy as np

from pomato_ros.scene.depth_patches import compare_with_surface, depth_jumps, read_inverse_depth
from pomato_ros.scene.regions import STRIDE, label_regions, labels_at
from pomato_ros.scene.seeding import choose_seeds
from pomato_ros.structures import DepthMap

HEIGHT, WIDTH = 60, 80
SIGMA = 0.002


def depth_map(inverse: np.ndarray, noise: float = 0.0, seed: int = 0) -> DepthMap:
    values = inverse + noise * np.random.default_rng(seed).standard_normal(inverse.shape)
    return DepthMap(
        values.astype(np.float32), np.full(inverse.shape, SIGMA, np.float32), np.ones(inverse.shape, bool), metric=True
    )


def slanted() -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return 0.3 + 0.0008 * x - 0.0005 * y


def step() -> np.ndarray:
    inverse = np.full((HEIGHT, WIDTH), 0.25)
    inverse[:, 40:] = 0.5
    return inverse


def places(seed: int = 1, count: int = 200) -> np.ndarray:
    return np.random.default_rng(seed).uniform((5, 5), (WIDTH - 6, HEIGHT - 6), (count, 2))


def test_a_plane_is_read_exactly_between_pixels_with_its_slopes() -> None:
    pixels = places()
    reading = read_inverse_depth(depth_map(slanted()), pixels)
    np.testing.assert_allclose(reading.inverse_depth, 0.3 + 0.0008 * pixels[:, 0] - 0.0005 * pixels[:, 1], atol=2e-5)
    np.testing.assert_allclose(reading.slopes, np.tile((0.0008, -0.0005), (len(pixels), 1)), atol=2e-4)
    assert reading.valid.all()


def test_the_variance_is_that_of_the_error() -> None:
    pixels = places(count=400)
    reading = read_inverse_depth(depth_map(slanted(), noise=SIGMA), pixels)
    error = reading.inverse_depth - (0.3 + 0.0008 * pixels[:, 0] - 0.0005 * pixels[:, 1])
    assert 0.7 < (error**2 / reading.variance).mean() < 1.3
    assert np.sqrt(reading.variance.mean()) < 0.4 * SIGMA


def test_beside_a_jump_the_surface_under_the_point_is_read() -> None:
    pixels = np.array([[38.0, 30.0], [41.0, 30.0]])
    reading = read_inverse_depth(depth_map(step(), noise=SIGMA), pixels)
    np.testing.assert_allclose(reading.inverse_depth, (0.25, 0.5), atol=0.004)


def test_holes_and_the_outside_are_not_read() -> None:
    depth = depth_map(slanted())
    depth.valid[20:30, 20:30] = False
    reading = read_inverse_depth(depth, np.array([[24.5, 24.5], [60.0, 40.0], [-30.0, 10.0]]))
    assert reading.valid.tolist() == [False, True, False]
    some = read_inverse_depth(depth, np.array([[50.0, 40.0], [np.nan, np.nan]]), np.array([True, False]))
    assert some.valid.tolist() == [True, False]


def test_points_are_seen_hidden_or_their_place_is_vacant() -> None:
    depth, sigma = depth_map(step(), noise=SIGMA), np.full(3, 0.001)
    found = compare_with_surface(depth, np.tile((20.0, 30.0), (3, 1)), np.array([0.25, 0.2, 0.4]), sigma, 0.03)
    assert found.seen.tolist() == [True, False, False]
    assert found.hidden.tolist() == [False, True, False]
    assert found.vacant.tolist() == [False, False, True]
    depth.valid[:] = False
    unknown = compare_with_surface(depth, np.array([[20.0, 30.0]]), np.array([0.25]), sigma[:1], 0.03)
    assert not (unknown.seen | unknown.hidden | unknown.vacant).any()


def test_jumps_are_found_and_noise_and_slopes_are_none() -> None:
    assert not depth_jumps(depth_map(slanted(), noise=SIGMA), 5, 0.1).any()
    found = depth_jumps(depth_map(step(), noise=SIGMA), 5, 0.1)
    assert found[:, 38:42].all()
    assert not found[:, :36].any()
    assert not found[:, 44:].any()


def test_regions_split_where_depth_jumps_and_keep_their_edges() -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[20:40, 20:60] = True
    labels = label_regions(mask, depth_map(step(), noise=SIGMA))
    left, right = labels_at(labels, np.array([[28.0, 30.0], [52.0, 30.0]])).tolist()
    assert 0 < left != right > 0
    assert (labels[mask[::STRIDE, ::STRIDE]] > 0).mean() > 0.95
    assert not labels[~mask[::STRIDE, ::STRIDE]].any()
    assert len(np.unique(label_regions(mask, None))) == 2
    assert labels_at(labels, np.array([[np.nan, np.nan], [5.0, 5.0]])).tolist() == [0, 0]


def test_specks_are_no_region() -> None:
    mask = np.zeros((HEIGHT * 4, WIDTH * 4), bool)
    mask[100, 100] = True
    assert not label_regions(mask, None).any()
    assert not label_regions(np.zeros_like(mask), None).any()


def test_seeds_are_the_best_pixels_of_cells_without_tracks() -> None:
    scores = np.zeros((HEIGHT, WIDTH), np.float32)
    scores[12, 14], scores[13, 15], scores[40, 70] = 5.0, 3.0, 9.0
    assert choose_seeds(scores, np.zeros((0, 2)), 20).tolist() == [[70.0, 40.0], [14.0, 12.0]]
    assert choose_seeds(scores, np.array([[3.0, 3.0], [np.nan, np.nan]]), 20).tolist() == [[70.0, 40.0]]
    assert len(choose_seeds(np.zeros_like(scores), np.zeros((0, 2)), 20)) == 0
