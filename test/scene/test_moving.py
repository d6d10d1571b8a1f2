"""What moves is believed to move, however much of the image it is, and nothing else is."""

import numpy as np
import pytest
import torch

from pomato_ros.scene.moving import (
    ALL_PARTS,
    LEAST_SHARE,
    Errors,
    MovingMask,
    along_and_across,
    averaged,
    likeness,
    planes,
    regions,
    squares,
    steps_of_pixels,
)
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


def enlarged_twice(values: torch.Tensor) -> torch.Tensor:
    """Each pixel (h, w, ...) four times."""
    return values.repeat_interleave(2, dim=0).repeat_interleave(2, dim=1)


def test_every_second_pixel_of_a_large_image_tells_what_all_of_a_small_one_do() -> None:
    shape = (96, 160)
    moved = np.zeros(shape, bool)
    moved[20:70, 30:90] = True
    draws = torch.Generator().manual_seed(3)
    small_image = np.random.default_rng(3).integers(0, 255, (*shape, 3)).astype(np.uint8)
    small, large = MovingMask(), MovingMask()
    for _ in range(4):
        points = torch.tensor([0.1, 0.2, 2.0]) + 0.02 * torch.randn((*shape, 3), generator=draws)
        match = points + 0.02 * torch.randn((*shape, 3), generator=draws)
        match[torch.from_numpy(moved)] += torch.tensor([0.4, 0.0, 0.0])
        confidence = torch.full(shape, 3.0)
        maps = PairMaps(points, confidence, match, confidence)
        twice = PairMaps(*(enlarged_twice(item) for item in (points, confidence, match, confidence)))
        found_small = small.update(small_image, maps, ALPHA, FLOOR)
        found = large.update(small_image.repeat(2, axis=0).repeat(2, axis=1), twice, ALPHA, FLOOR)
    assert found.shape == (192, 320)
    assert large.flow_to_before is not None
    assert large.flow_to_before.shape == (192, 320, 2)
    expected = found_small.repeat(2, axis=0).repeat(2, axis=1)
    assert (found & expected).sum() / (found | expected).sum() > 0.95


@pytest.mark.parametrize("size", [(97, 130), (289, 513), (300, 700)])
def test_masks_are_as_large_as_images_of_odd_sizes(size: tuple[int, int]) -> None:
    image = np.random.default_rng(4).integers(0, 255, (*size, 3)).astype(np.uint8)
    points = torch.tensor([0.0, 0.0, 2.0]).expand(*size, 3).clone()
    match = points.clone()
    match[:, : size[1] // 2, 0] += 0.4
    confidence = torch.full(size, 3.0)
    mask = MovingMask()
    for _ in range(3):
        found = mask.update(image, PairMaps(points, confidence, match, confidence), ALPHA, FLOOR)
        assert found.shape == size
    assert found[:, : size[1] // 2 - 4].mean() > 0.99
    assert not found[:, size[1] // 2 + 4 :].any()
    assert mask.update(image, None, ALPHA, FLOOR).shape == size


def test_steps_along_rays_and_across_them_are_a_turn() -> None:
    draws = np.random.default_rng(5)
    points = draws.normal(size=(3, 20, 30)).astype(np.float32) + np.array([0, 0, 4], np.float32)[:, None, None]
    steps = draws.normal(size=points.shape).astype(np.float32)
    told = along_and_across(steps, points)
    np.testing.assert_allclose(squares(told), squares(steps), rtol=1e-4)
    rays = points / np.linalg.norm(points, axis=0)
    np.testing.assert_allclose(told[0], (rays * steps).sum(axis=0), atol=1e-5)
    np.testing.assert_allclose(along_and_across(rays, points)[1:], 0.0, atol=1e-5)


def test_a_turn_of_the_camera_leaves_steps_on_rays_as_they_are() -> None:
    draws = np.random.default_rng(6)
    points = draws.normal(size=(3, 8, 9)) + np.array([0.0, 0.0, 5.0])[:, None, None]
    steps = draws.normal(size=points.shape)
    cos, sin = np.cos(0.3), np.sin(0.3)
    turn = np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])  # about the vertical
    turned = along_and_across(np.einsum("ij,jhw->ihw", turn, steps), np.einsum("ij,jhw->ihw", turn, points))
    np.testing.assert_allclose(turned, along_and_across(steps, points), atol=1e-6)


def test_points_given_are_left_as_they_are() -> None:
    maps = pair(box(0.3))
    maps.points_2[5, 5] = torch.nan
    across = PairMaps(
        maps.points_2.permute(2, 0, 1).contiguous().permute(1, 2, 0), maps.conf_2, maps.points_match, maps.conf_match
    )
    kept = across.points_2.clone()
    MovingMask().update(IMAGE, across, ALPHA, FLOOR)
    torch.testing.assert_close(across.points_2, kept, equal_nan=True)
    steps = steps_of_pixels(planes(across.points_2), planes(across.points_match), ALL_PARTS)
    assert np.isfinite(steps).all()


@pytest.mark.parametrize("ratio", [1.0, 1.6, 2.7])
def test_the_shape_of_errors_is_learned_from_what_rests(ratio: float) -> None:
    draws, errors = np.random.default_rng(7), Errors()
    rest = ~box(0.4)
    for _ in range(30):
        motion = draws.normal(size=(3, HEIGHT, WIDTH)).astype(np.float32)
        motion[0] *= ratio
        motion[:, ~rest] += 50.0
        learned = errors.learn_shape(motion, rest)
    assert learned == pytest.approx(ratio, rel=0.12)


@pytest.mark.parametrize("power", [0.6, 1.0, 2.0])
def test_what_confidence_tells_is_learned_from_what_rests(power: float) -> None:
    draws, errors = np.random.default_rng(8), Errors()
    doubted = np.exp(0.4 * draws.normal(size=(HEIGHT, WIDTH))).astype(np.float32)
    for _ in range(40):
        motion = (doubted**power * draws.normal(size=(3, HEIGHT, WIDTH))).astype(np.float32)
        learned = errors.learn_power(doubted, motion, None)
    assert learned == pytest.approx(power, abs=0.15)


def test_steps_that_agree_add_up_and_others_are_forgotten() -> None:
    shape = (3, 4, 5)
    steps = np.full(shape, 0.5, np.float32)
    together = None
    for _ in range(6):
        together = averaged(together, steps)
    assert together is not None
    assert (together[3] > 4.0).all()
    np.testing.assert_allclose(together[:3] / together[3], 0.5, rtol=1e-5)
    turned = averaged(together, -steps)
    assert (turned[3] < 1.5).all()
    assert (turned[:3] < 0).all()


def test_images_are_alike_where_flow_leads_to_the_same() -> None:
    before = np.random.default_rng(9).integers(0, 255, (HEIGHT, WIDTH)).astype(np.uint8)
    flow = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    flow[..., 0] = 3.0
    newest = np.roll(before, -3, axis=1)
    newest[10:20, 10:20] = 255 - before[10:20, 13:23]
    alike = likeness(newest, before, flow)
    assert (alike[25:, :-5] > 0.999).all()
    assert alike[11:19, 11:19].mean() < 0.2


def test_a_slow_mover_across_rays_is_found_where_errors_lie_along_them() -> None:
    moved, draws = box(0.3), torch.Generator().manual_seed(10)
    found_by: dict[int, float] = {}
    for axis in (0, 2):
        mask = MovingMask()
        for _ in range(8):
            points = torch.zeros((HEIGHT, WIDTH, 3))
            points[..., 2] = 2.0
            match = points + 2.0 * torch.tensor([0.005, 0.005, 0.02]) * torch.randn(points.shape, generator=draws)
            match[torch.from_numpy(moved), axis] += 2.0 * 0.018
            confidence = torch.full((HEIGHT, WIDTH), 3.0)
            found = mask.update(IMAGE, PairMaps(points, confidence, match, confidence), ALPHA, FLOOR)
        assert not (found & ~moved)[:, -20:].any()
        found_by[axis] = float(found[moved].mean())
    assert found_by[0] > 0.9
    assert found_by[2] < 0.1


def test_a_point_too_far_to_be_squared_is_as_good_as_none() -> None:
    mask = MovingMask()
    still = np.zeros((HEIGHT, WIDTH), bool)
    broken = pair(still)
    broken.points_2[:20, :20] = 1e20
    for maps in (pair(still), broken, pair(still)):
        mask.update(IMAGE, maps, ALPHA, FLOOR)
    moved = box(0.2)
    for _ in range(4):
        found = mask.update(IMAGE, pair(moved, step=0.5), ALPHA, FLOOR)
    assert found[moved].mean() > 0.8
    assert found[~moved].mean() < 0.05
