"""What moves is believed to move, however much of the image it is, and nothing else is."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import ndimage

from pomato_ros.pointmap_scene.moving import (
    AGREE,
    ALL_PARTS,
    AVERAGED,
    BEGINS,
    COARSE,
    CONFIDENCE_PX,
    DOUBT,
    FARTHEST,
    GOES_ON,
    LEAST_SHARE,
    OUTLINE,
    REST,
    Errors,
    MovingMask,
    averaged,
    carried_along,
    doubt,
    enlarged,
    few_of,
    likeness,
    motion_of_pixels,
    pixels_of,
    places_before,
    planes,
    planes_of,
    quantile_of,
    regions,
    squares,
    valued_at,
)
from pomato_ros.pointmap_scene.reference import PairMaps

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


def points_and_steps(shape: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (3, h, w) in front of a camera, and steps of theirs as shares of their distance."""
    draws = np.random.default_rng(seed)
    points = draws.normal(size=(3, *shape)) + np.array([0.0, 0.0, 5.0])[:, None, None]
    return points, draws.normal(size=points.shape)


def motion_by(points: np.ndarray, steps: np.ndarray) -> np.ndarray:
    match = points + steps * np.linalg.norm(points, axis=0)
    return motion_of_pixels(points.astype(np.float32), match.astype(np.float32), ALL_PARTS)


def test_motion_of_pixels_is_what_unit_vectors_say() -> None:
    """Slow twin: three unit vectors of each pixel, from cross products in float64."""
    points, steps = points_and_steps((20, 30), 5)
    told = motion_by(points, steps)
    ray = points / np.linalg.norm(points, axis=0)
    right = np.cross(np.array([0.0, 1.0, 0.0]), ray, axis=0)
    right /= np.linalg.norm(right, axis=0)
    down = np.cross(ray, right, axis=0)
    expected = np.stack([(axis * steps).sum(axis=0) for axis in (ray, right, down)])
    np.testing.assert_allclose(told, expected, atol=2e-5)
    np.testing.assert_allclose(squares(told), (steps**2).sum(axis=0), rtol=1e-4)


def test_without_its_parts_motion_is_a_plain_difference() -> None:
    points, steps = points_and_steps((20, 30), 6)
    distance = np.linalg.norm(points, axis=0)
    few, match = points.astype(np.float32), (points + steps * distance).astype(np.float32)
    along_axes = motion_of_pixels(few, match, dataclasses.replace(ALL_PARTS, rays=False))
    np.testing.assert_allclose(along_axes, steps, atol=2e-5)
    by_one_distance = motion_of_pixels(few, match, dataclasses.replace(ALL_PARTS, distance=False))
    by_each = motion_of_pixels(few, match, ALL_PARTS)
    np.testing.assert_allclose(by_one_distance, by_each * (distance / np.median(distance)), atol=2e-5)


def test_a_turn_of_the_camera_leaves_steps_on_rays_as_they_are() -> None:
    points, steps = points_and_steps((8, 9), 6)
    cos, sin = np.cos(0.3), np.sin(0.3)
    turn = np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])  # about the vertical
    turned = motion_by(np.einsum("ij,jhw->ihw", turn, points), np.einsum("ij,jhw->ihw", turn, steps))
    np.testing.assert_allclose(turned, motion_by(points, steps), atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e20, -1e30])
@pytest.mark.parametrize("which", ["points", "match"])
def test_motion_is_finite_whatever_the_points_are(value: float, which: str) -> None:
    points, steps = points_and_steps((20, 30), 7)
    expected = motion_by(points, steps)
    broken = {"points": points.astype(np.float32), "match": (points + steps * np.linalg.norm(points, axis=0))}
    for channel in range(3):
        broken[which][channel, channel] = value
    broken["points"][:, 5] = 0.0
    motion = motion_of_pixels(broken["points"], broken["match"].astype(np.float32), ALL_PARTS)
    assert np.isfinite(motion).all()
    np.testing.assert_allclose(motion[:, 6:], expected[:, 6:], atol=1e-6)
    if which == "points" or not np.isfinite(value):
        assert not motion[:, :3].any()
    assert not motion[:, 5].any()


def test_points_given_are_left_as_they_are() -> None:
    maps = pair(box(0.3))
    maps.points_2[5, 5] = torch.nan
    across = PairMaps(
        maps.points_2.permute(2, 0, 1).contiguous().permute(1, 2, 0), maps.conf_2, maps.points_match, maps.conf_match
    )
    kept = across.points_2.clone()
    MovingMask().update(IMAGE, across, ALPHA, FLOOR)
    torch.testing.assert_close(across.points_2, kept, equal_nan=True)
    assert np.isfinite(motion_of_pixels(planes(across.points_2), planes(across.points_match), ALL_PARTS)).all()


@pytest.mark.parametrize("ratio", [1.0, 1.6, 2.7])
def test_the_shape_of_errors_is_learned_from_what_rests(ratio: float) -> None:
    draws, errors = np.random.default_rng(7), Errors()
    rest = ~box(0.4)
    for _ in range(30):
        motion = draws.normal(size=(3, HEIGHT, WIDTH)).astype(np.float32)
        motion[0] *= ratio
        motion[:, ~rest] += 50.0
        learned = errors.learn_shape(few_of(motion)[:, few_of(rest)])
    assert learned == pytest.approx(ratio, rel=0.12)


@pytest.mark.parametrize("power", [0.6, 1.0, 2.0])
def test_what_confidence_tells_is_learned_from_what_rests(power: float) -> None:
    draws, errors = np.random.default_rng(8), Errors()
    doubted = np.exp(0.4 * draws.normal(size=(HEIGHT, WIDTH))).astype(np.float32)
    for _ in range(40):
        motion = (doubted**power * draws.normal(size=(3, HEIGHT, WIDTH))).astype(np.float32)
        learned = errors.learn_power(few_of(doubted), few_of(motion))
    assert learned == pytest.approx(power, abs=0.15)


def test_steps_that_agree_add_up_and_others_are_forgotten() -> None:
    shape = (3, 4, 5)
    steps, usual = np.full(shape, 0.5, np.float32), np.ones(shape[1:], np.float32)
    together = None
    for _ in range(6):
        together = averaged(together, steps, usual)
    assert together is not None
    assert (together[3] > 4.0).all()
    np.testing.assert_allclose(together[:3] / together[3], 0.5, rtol=1e-5)
    turned = averaged(together, -steps, usual)
    assert (turned[3] < 1.5).all()
    assert (turned[:3] < 0).all()


@pytest.mark.parametrize("size", [1, 2, 3, 10, 1001, 4096])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 1.0])
def test_quantiles_are_those_of_numpy(size: int, share: float) -> None:
    values = np.random.default_rng(size).normal(size=size).astype(np.float32)
    assert quantile_of(values, share) == pytest.approx(np.quantile(values.astype(float), share), rel=1e-5, abs=1e-6)


def test_sums_of_steps_are_those_of_the_formula() -> None:
    """Slow twin: as it is written down, in float64, of steps in floors."""
    draws = np.random.default_rng(11)
    before = np.concatenate((draws.normal(size=(3, 20, 30)), draws.uniform(0.0, 8.0, (1, 20, 30)))).astype(np.float32)
    before[3, 0] = 0.0
    usual = draws.uniform(0.01, 0.1, (20, 30)).astype(np.float32)
    motion = (usual * draws.normal(0.0, 2.0, (3, 20, 30))).astype(np.float32)
    steps = motion.astype(float) / usual
    newest = steps * np.minimum(1.0, FARTHEST / np.linalg.norm(steps, axis=0))
    count = np.maximum(before[3].astype(float), 1e-6)
    variance = AGREE**2 * (1.0 + 1.0 / (AVERAGED * count))
    against = ((newest - before[:3] / count) ** 2).sum(axis=0) / variance
    expected = np.concatenate((newest, np.ones((1, 20, 30)))) + before * AVERAGED / (1.0 + against**2)
    np.testing.assert_allclose(averaged(before, motion, usual), expected, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(averaged(None, motion, usual)[:3], newest, atol=1e-5)


def test_doubt_is_the_usual_confidence_over_the_mean_around() -> None:
    draws = np.random.default_rng(12)
    confidences = [1.0 + draws.exponential(2.0, (HEIGHT, WIDTH)).astype(np.float32) for _ in range(2)]
    confidences[0][3, 4], confidences[1][20, 30] = np.nan, np.inf
    points = torch.zeros((HEIGHT, WIDTH, 3))
    told = doubt(PairMaps(points, torch.from_numpy(confidences[0]), points, torch.from_numpy(confidences[1])))
    least = np.minimum(*confidences) - 1.0
    squares_of = np.where(np.isfinite(least), least, 0.0).astype(float).reshape(HEIGHT // COARSE, COARSE, -1, COARSE)
    around = ndimage.uniform_filter(squares_of.mean(axis=(1, 3)), CONFIDENCE_PX, mode="mirror")
    np.testing.assert_allclose(told, np.clip(np.median(around) / around, *DOUBT), rtol=1e-4)


@pytest.mark.parametrize("hysteresis", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_regions_are_those_of_labels_looked_at_one_by_one(seed: int, hysteresis: bool) -> None:
    draws = np.random.default_rng(seed)
    belief = (8.0 * ndimage.gaussian_filter(draws.normal(size=(90, 120)), 2.0)).astype(np.float32)
    parts = dataclasses.replace(ALL_PARTS, hysteresis=hysteresis)
    labels, count = ndimage.label(belief > (GOES_ON if hysteresis else BEGINS))
    expected = np.zeros(belief.shape, bool)
    for number in range(1, count + 1):
        region = labels == number
        if (belief[region] > BEGINS).any() and region.sum() >= LEAST_SHARE * belief.size:
            expected |= region
    assert expected.any()
    np.testing.assert_array_equal(regions(belief, parts), expected)


@pytest.mark.parametrize("stride", [2, 3, 4])
@pytest.mark.parametrize("cut_off", [(0, 0), (1, 1)])
def test_what_is_enlarged_is_interpolated_pixel_by_pixel(stride: int, cut_off: tuple[int, int]) -> None:
    draws = np.random.default_rng(stride)
    belief = ndimage.gaussian_filter(draws.normal(size=(24, 31)), 1.5).astype(np.float32) * 4.0
    found = (belief > GOES_ON) & (draws.random(belief.shape) < 0.8)
    height, width = (stride * side - cut for side, cut in zip(belief.shape, cut_off, strict=True))
    known = np.where(found, np.maximum(belief, BEGINS), np.minimum(belief, REST)).astype(float)
    places = np.mgrid[:height, :width] / stride
    between = ndimage.map_coordinates(known, places, order=1, mode="nearest")
    told = enlarged(found, belief, (width, height), stride)
    assert told.shape == (height, width)
    sure = np.abs(between - OUTLINE) > 1e-5
    np.testing.assert_array_equal(told[sure], between[sure] > OUTLINE)
    np.testing.assert_array_equal(told[::stride, ::stride], found)  # what was found stays


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_planes_hold_every_few_pixels_and_go_back(stride: int) -> None:
    points = torch.from_numpy(np.random.default_rng(13).normal(size=(13, 17, 3)).astype(np.float32))
    told = planes(points, stride)
    np.testing.assert_array_equal(told, np.moveaxis(points.numpy()[::stride, ::stride], -1, 0))
    assert not np.shares_memory(told, points.numpy())
    np.testing.assert_array_equal(planes_of(pixels_of(told)), told)


def test_images_are_alike_where_flow_leads_to_the_same() -> None:
    before = np.random.default_rng(9).integers(0, 255, (HEIGHT, WIDTH)).astype(np.float32)
    flow = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    flow[..., 0] = 3.0
    newest = np.roll(before, -3, axis=1)
    newest[10:20, 10:20] = 255 - before[10:20, 13:23]
    alike = likeness(newest, valued_at(places_before(flow), before))
    assert (alike[25:, :-5] > 0.999).all()
    assert alike[11:19, 11:19].mean() < 0.2


def test_values_are_carried_along_by_half_a_pixel() -> None:
    """Of a ramp, which neither interpolation nor a mean of neighbours changes, where all of them are within it."""
    x, y = np.meshgrid(np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32))
    flow = np.stack((np.full_like(x, 2.5), np.full_like(y, -1.25)), axis=-1)
    told = carried_along(x + 10.0 * y, flow)
    np.testing.assert_allclose(told[4:-4, 4:-4], (x + 2.5 + 10.0 * (y - 1.25))[4:-4, 4:-4], rtol=1e-4)


@pytest.mark.parametrize("size", [(90, 120), (288, 512), (300, 700)])
def test_flow_is_as_far_as_the_image_went_in_pixels_of_any_size(size: tuple[int, int]) -> None:
    """A smooth pattern moved by 2 % of the width and 3 % of the height."""
    height, width = size
    smooth = ndimage.gaussian_filter(np.random.default_rng(14).normal(size=(height + 80, width + 80)), width / 24)
    pattern = (127 + 50 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)
    right, down = round(0.02 * width), round(0.03 * height)
    mask = MovingMask()
    for top, left in ((0, 0), (down, right)):
        view = pattern[40 + top : 40 + top + height, 40 + left : 40 + left + width]
        mask.update(np.repeat(view[..., None], 3, axis=-1), None, ALPHA, FLOOR)
    assert mask.flow_to_before is not None
    assert mask.flow_to_before.shape == (*size, 2)
    middle = mask.flow_to_before[height // 4 : -height // 4, width // 4 : -width // 4].reshape(-1, 2)
    np.testing.assert_allclose(np.median(middle, axis=0), (right, down), atol=0.003 * width)
    small = mask.flow_in((64, 48))
    assert small is not None
    middle = small[12:-12, 16:-16].reshape(-1, 2)
    np.testing.assert_allclose(np.median(middle, axis=0), (64 * right / width, 48 * down / height), atol=0.2)
    mask.forget()
    assert mask.flow_to_before is None


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


@pytest.mark.parametrize("shape", [(16, 2048), (2048, 16), (1, 1), (1, 500)])
def test_some_pixels_are_left_of_the_narrowest_images(shape: tuple[int, int]) -> None:
    assert few_of(np.zeros((3, *shape), np.float32)).shape[1] > 0


@pytest.mark.parametrize("least", [1.0, 1.0001])
def test_where_confidence_tells_nothing_nothing_is_doubted_or_trusted_more(least: float) -> None:
    conf = torch.full((12, 16), least)
    maps = PairMaps(torch.zeros(12, 16, 3), conf, torch.zeros(12, 16, 3), conf)
    np.testing.assert_allclose(doubt(maps), 1.0, rtol=1e-5)
