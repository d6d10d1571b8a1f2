"""Less work from a good start, against all of it: the same places."""

import cv2
import numpy as np
import pytest

from pomato_ros.pointmap_scene.features import follow_features, softened
from pomato_ros.pointmap_scene.follow import ROUND_TRIP_PX, dense_flow, follow_from
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip

SIZE_WH = (160, 112)
PATCH_PX = 11


@pytest.fixture(scope="module")
def clip() -> Clip:
    return render_clip(6, TRAIN_WORLD, 3, SIZE_WH)


def grid() -> np.ndarray:
    y, x = np.mgrid[12 : SIZE_WH[1] - 12 : 6, 12 : SIZE_WH[0] - 12 : 6]
    return np.stack((x.ravel(), y.ravel()), axis=-1).astype(np.float64)


@pytest.mark.parametrize("newest", [1, 2])
def test_from_a_good_start_the_places_are_those_of_all_levels_and_steps(clip: Clip, newest: int) -> None:
    before, after = (softened(clip.images[t].numpy()) for t in (0, newest))
    slow, found_slow = follow_features(before, after, grid(), grid(), PATCH_PX)
    start = slow + np.random.default_rng(newest).uniform(-1.0, 1.0, slow.shape)
    fast, found = follow_from(before, after, grid(), start, PATCH_PX, levels=1, steps=10)
    assert found_slow.sum() > 100
    assert found[found_slow].mean() > 0.9
    both = found & found_slow
    away = np.linalg.norm(fast - slow, axis=-1)[both]
    assert np.median(away) < 0.02
    assert np.quantile(away, 0.9) < 0.2


def test_with_all_levels_there_and_back_it_is_opencvs_own(clip: Clip) -> None:
    before, after = (softened(clip.images[t].numpy()) for t in (0, 1))
    start = grid().astype(np.float32)[:, None]
    settings = {"winSize": (PATCH_PX, PATCH_PX), "maxLevel": 3, "criteria": (3, 30, 0.01), "flags": 4}
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, start, start.copy(), **settings)
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(after, before, there, start.copy(), **settings)
    inside = ((there >= 0) & (there <= (SIZE_WH[0] - 1, SIZE_WH[1] - 1))).all((1, 2))
    returns = np.linalg.norm(back - start, axis=-1)[:, 0] < ROUND_TRIP_PX
    places, good = follow_features(before, after, grid(), grid(), PATCH_PX)
    np.testing.assert_array_equal(places, there[:, 0])
    np.testing.assert_array_equal(good, (found & found_back).ravel().astype(bool) & inside & returns)


def test_what_does_not_come_back_is_not_found_unless_nobody_asks(clip: Clip) -> None:
    before, other = softened(clip.images[0].numpy()), softened(clip.images[0].numpy()[::-1, ::-1].copy())
    _, checked = follow_from(before, other, grid(), grid(), PATCH_PX, levels=1, steps=10)
    _, unchecked = follow_from(before, other, grid(), grid(), PATCH_PX, levels=1, steps=10, checked=False)
    assert checked.sum() < 0.5 * unchecked.sum()
    assert not (checked & ~unchecked).any()


def test_a_place_outside_the_image_is_not_found(clip: Clip) -> None:
    image = softened(clip.images[0].numpy())
    outside = np.array([(-30.0, 20.0), (300.0, 20.0), (20.0, -30.0), (20.0, 300.0)])
    assert not follow_from(image, image, grid()[:4], outside, PATCH_PX, levels=0, steps=10)[1].any()


def test_nothing_is_followed_to_nowhere(clip: Clip) -> None:
    image = softened(clip.images[0].numpy())
    places, found = follow_from(image, image, np.zeros((0, 2)), np.zeros((0, 2)), PATCH_PX, levels=3, steps=10)
    assert places.shape == (0, 2)
    assert found.shape == (0,)


@pytest.mark.parametrize("size_wh", [(256, 16), (256, 31), (200, 12), (16, 256), (128, 96)])
def test_dense_flow_of_any_shape_of_image_is_the_shift(size_wh: tuple[int, int]) -> None:
    # with few rows OpenCV's own ends the process
    width, height = size_wh
    draws = np.random.default_rng(0).integers(0, 255, (height, width + 2), dtype=np.uint8)
    wide = cv2.GaussianBlur(draws, (0, 0), 2.0)
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    flow = dense_flow(method, np.ascontiguousarray(wide[:, :width]), np.ascontiguousarray(wide[:, 1 : width + 1]))
    assert flow.shape == (height, width, 2)
    if min(size_wh) > 14:
        assert abs(np.median(flow[..., 0]) + 1.0) < 0.3
    assert np.isfinite(flow).all()
