"""What moves is believed to move, however much of the image it is, and nothing else is."""

import numpy as np
import pytest
import torch

from pomato_ros.scene.moving import LEAST_SHARE, MovingMask, regions
from pomato_ros.scene.reference import PairMaps

HEIGHT, WIDTH = 48, 64
ALPHA, FLOOR = 3.0, 0.08
IMAGE = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)


def pair(moved: np.ndarray, step: float = 0.2, noise: float = 0.0, seed: int = 0) -> PairMaps:
    """A wall at 2 m, whose pixels ``moved`` (h, w) went ``step`` of their distance, with white noise on both maps."""
    draws = torch.Generator().manual_seed(seed)
    points = torch.full((HEIGHT, WIDTH, 3), 0.1)
    points[..., 2] = 2.0
    match = points.clone()
    match[torch.from_numpy(moved)] += 2.0 * step * torch.tensor([1.0, 0.0, 0.0])
    points = points + 2.0 * noise * torch.randn(points.shape, generator=draws)
    match = match + 2.0 * noise * torch.randn(points.shape, generator=draws)
    confidence = torch.full((HEIGHT, WIDTH), 3.0)
    return PairMaps(points, confidence, match, confidence)


def box(share: float) -> np.ndarray:
    """A mover that fills about ``share`` of the image, from its left."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[:, : round(share * WIDTH)] = True
    return mask


def believed(moved: np.ndarray, frames: int = 4, **options: float) -> np.ndarray:
    mask = MovingMask()
    for t in range(frames):
        found = mask.update(IMAGE, pair(moved, seed=t, **options), ALPHA, FLOOR)
    return found


@pytest.mark.parametrize("share", [0.1, 0.4, 0.7, 0.9])
def test_a_mover_is_found_however_much_of_the_image_it_is(share: float) -> None:
    moved = box(share)
    found = believed(moved)
    assert (found & moved).sum() / (found | moved).sum() > 0.9


def test_nothing_moves_in_a_noisy_still_scene() -> None:
    assert not believed(box(0.0), frames=8, noise=0.015).any()


def test_a_mover_is_found_in_noise() -> None:
    moved = box(0.3)
    found = believed(moved, noise=0.015)
    assert (found & moved).sum() / (found | moved).sum() > 0.85


def test_outliers_of_single_pixels_do_not_move() -> None:
    moved = np.random.default_rng(1).random((HEIGHT, WIDTH)) < 0.05
    assert not believed(moved, step=0.8).any()


def test_what_moved_is_believed_for_a_while_and_then_rests() -> None:
    mask, moved = MovingMask(), box(0.3)
    for _ in range(4):
        mask.update(IMAGE, pair(moved), ALPHA, FLOOR)
    assert (mask.update(IMAGE, None, ALPHA, FLOOR) & moved).sum() > 0.8 * moved.sum()
    for _ in range(6):
        found = mask.update(IMAGE, pair(box(0.0)), ALPHA, FLOOR)
    assert not found.any()


def test_nothing_is_believed_after_forgetting() -> None:
    mask = MovingMask()
    for _ in range(4):
        mask.update(IMAGE, pair(box(0.3)), ALPHA, FLOOR)
    mask.forget()
    assert not mask.update(IMAGE, None, ALPHA, FLOOR).any()


def test_points_that_are_no_numbers_do_not_move() -> None:
    maps = pair(box(0.0))
    maps.points_match[:20] = torch.nan
    maps.points_2[30:] = torch.inf
    assert not MovingMask().update(IMAGE, maps, ALPHA, FLOOR).any()


def test_regions_need_a_core_and_a_size() -> None:
    belief = np.zeros((HEIGHT, WIDTH), np.float32)
    belief[5:15, 5:15] = 0.5
    assert not regions(belief).any()
    belief[10, 10] = 1.5
    np.testing.assert_array_equal(regions(belief), belief > 0)
    small = np.zeros((100, 100), np.float32)
    small[0, : int(LEAST_SHARE * small.size) - 1] = 3.0
    assert not regions(small).any()
