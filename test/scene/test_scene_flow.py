import cv2
import numpy as np
import pytest
import torch

from pomato_ros.config import FLOW_PRESETS, FlowTuning
from pomato_ros.errors import UnusableFrame
from pomato_ros.scene.flow import FlowCache, compose, grid, sample, structure
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip

SIZE_WH = (160, 120)
SEEDS = (71, 72, 73, 74)  # none of them fitted the error model


def texture(size_wh=SIZE_WH, seed=0):
    noise = np.random.default_rng(seed).random((size_wh[1], size_wh[0]))
    blurred = cv2.GaussianBlur(noise, (0, 0), 1.5) + 2.0 * cv2.GaussianBlur(noise, (0, 0), 5.0)
    return np.uint8(255 * (blurred - blurred.min()) / np.ptp(blurred))


def shifted(image, right_px, down_px):
    move = np.array([[1.0, 0.0, right_px], [0.0, 1.0, down_px]])
    return cv2.warpAffine(image, move, image.shape[::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def pushed(images, **settings):
    cache = FlowCache(FlowTuning(**settings))
    for index, image in enumerate(images):
        cache.push(index + 1, image)
    return cache


def inner(array, border=24):
    return array[border:-border, border:-border]


@pytest.fixture(scope="module")
def clips():
    torch.manual_seed(0)
    return [render_clip(seed, TRAIN_WORLD, 9, (320, 240)) for seed in SEEDS]


@pytest.mark.parametrize("preset", FLOW_PRESETS)
def test_equal_images_correspond_to_themselves(preset):
    cache = pushed([texture()] * 5, preset=preset)
    for gap in (1, 4):
        found = cache.correspondence(gap)
        np.testing.assert_allclose(found.pixels, grid(*found.visible.shape), atol=1e-3)
        assert found.visible.all()
        assert (found.sigma_px > 0).all()
        assert found.gap == gap


@pytest.mark.parametrize("preset", FLOW_PRESETS)
@pytest.mark.parametrize("shift", [(1.0, 0.0), (0.5, -1.5), (3.0, 2.0)])
def test_a_shifted_image_is_found_at_every_gap(preset, shift):
    image = texture()
    cache = pushed([shifted(image, -gap * shift[0], -gap * shift[1]) for gap in range(8, -1, -1)], preset=preset)
    for gap in (1, 2, 5, 8):
        found = cache.correspondence(gap)
        error = found.pixels - grid(*found.visible.shape) + gap * np.float32(shift)
        seen = inner(found.visible, 32)
        assert seen.mean() > 0.9
        assert np.median(np.abs(inner(error, 32)[seen])) < 0.1


def test_a_chain_reaches_displacements_that_a_single_search_does_not():
    image = texture((320, 240))
    step_px = 9.0
    images = [shifted(image, -gap * step_px, 0.0) for gap in range(8, -1, -1)]
    chained, direct = pushed(images), pushed([images[0], images[-1]])

    def miss_px(found, total_px):
        return np.median(np.abs(found.pixels - grid(240, 320) + (total_px, 0.0))[80:-80, 100:-100])

    assert miss_px(chained.correspondence(8), 8 * step_px) < 0.1
    assert miss_px(direct.correspondence(1), 8 * step_px) > 5.0


def test_what_was_asked_before_does_not_change_an_answer(clips):
    images = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in clips[0].images.numpy()]
    late = pushed(images)
    eager = FlowCache()
    for index, image in enumerate(images):
        eager.push(index + 1, image)
        for gap in (3, 1, 2):
            eager.correspondence(gap)
    for gap in (4, 1, 8):
        one, other = late.correspondence(gap), eager.correspondence(gap)
        np.testing.assert_allclose(one.pixels, other.pixels, rtol=1e-5)
        np.testing.assert_allclose(one.sigma_px, other.sigma_px, rtol=1e-5)
        assert (one.visible != other.visible).mean() < 1e-4


def test_after_a_reset_the_answer_is_the_same(clips):
    images = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in clips[0].images.numpy()]
    cache = pushed(images)
    before = cache.correspondence(4)
    cache.reset()
    assert cache.frame_count == 0
    assert cache.correspondence(1) is None
    for index, image in enumerate(images):
        cache.push(index + 1, image)
    np.testing.assert_allclose(cache.correspondence(4).pixels, before.pixels, rtol=1e-5)


def test_an_answer_is_computed_once_and_kept_until_the_next_frame():
    cache = pushed([texture(seed=1), texture(seed=1)])
    first = cache.correspondence(1)
    assert cache.correspondence(1) is first
    cache.push(3, shifted(texture(seed=1), 1.0, 0.0))
    assert cache.correspondence(1) is not first


def test_memory_is_bounded():
    cache = FlowCache(FlowTuning(max_gap=3))
    for index in range(12):
        cache.push(index, shifted(texture(), float(index), 0.0))
        for gap in (1, 2, 3):
            cache.correspondence(gap)
    assert cache.frame_count == 4
    assert cache.correspondence(4) is None
    assert [cache.stamp_ns(gap) for gap in range(4)] == [11, 10, 9, 8]
    assert len(cache._chains) <= 6
    assert len(cache._flows) <= 6


@pytest.mark.parametrize("preset", FLOW_PRESETS)
def test_normalised_errors_on_rendered_clips_have_unit_spread(clips, preset):
    normalised, late = [], []
    for clip in clips:
        cache = pushed([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in clip.images.numpy()], preset=preset)
        for gap in (1, 2, 4, 8):
            found = cache.correspondence(gap)
            source, target = len(clip) - 1, len(clip) - 1 - gap
            true = clip.pixels_matched(source, target).numpy()
            good = found.visible & clip.visible(source, target).numpy()
            errors = np.abs((found.pixels - true) / found.sigma_px[..., None])[good]
            (late if gap == 8 else normalised).append(errors)
    spread = 1.4826 * np.median(np.concatenate(normalised + late))
    assert 0.7 < spread < 1.3


def test_what_is_hidden_or_has_left_the_image_is_seldom_visible(clips):
    hidden = called = 0
    for clip in clips:
        found = pushed([cv2.cvtColor(i, cv2.COLOR_RGB2GRAY) for i in clip.images.numpy()]).correspondence(4)
        truth = clip.visible(8, 4).numpy()
        hidden += (~truth).sum()
        called += (found.visible & ~truth).sum()
    assert hidden > 500
    assert called / hidden < 0.2


@pytest.mark.parametrize("size_wh", [(16, 12), (33, 47), (64, 64), (101, 75), (640, 480), (1300, 40)])
def test_images_of_any_size(size_wh):
    image = cv2.resize(texture((max(size_wh), max(size_wh))), size_wh)
    cache = pushed([image, image, image])
    for gap in (1, 2):
        found = cache.correspondence(gap)
        assert found.pixels.shape == (size_wh[1], size_wh[0], 2)
        assert found.sigma_px.shape == found.visible.shape == (size_wh[1], size_wh[0])
        np.testing.assert_allclose(found.pixels, grid(size_wh[1], size_wh[0]), atol=1e-2)


def test_halved_images_give_flow_in_pixels_of_the_images_that_came():
    image = texture((320, 240))
    images = [shifted(image, -4.0, -2.0), image]
    whole, halved = pushed(images).correspondence(1), pushed(images, max_side_px=200).correspondence(1)
    for found in (whole, halved):
        assert np.median(np.abs(found.pixels - grid(240, 320) + (4.0, 2.0))[30:-30, 30:-30]) < 0.15
    assert np.median(halved.sigma_px) > np.median(whole.sigma_px)


def test_pixels_that_show_no_scene_correspond_to_nothing():
    image = texture()
    valid = np.ones(image.shape, bool)
    valid[:, :40] = False
    cache = FlowCache()
    cache.push(1, shifted(image, -5.0, 0.0), valid)
    cache.push(2, image, valid)
    found = cache.correspondence(1)
    assert not found.visible[:, :44].any()
    assert inner(found.visible[:, 46:]).mean() > 0.9


def test_a_frame_that_does_not_continue_the_stream_is_refused():
    cache = pushed([texture(), texture()])
    with pytest.raises(UnusableFrame, match="after 2 ns"):
        cache.push(2, texture())
    with pytest.raises(UnusableFrame, match="160x120"):
        cache.push(3, texture((80, 60)))
    with pytest.raises(UnusableFrame, match="gray"):
        cache.push(3, np.zeros((120, 160, 3), np.uint8))
    assert cache.frame_count == 2
    cache.push(3, texture())
    with pytest.raises(ValueError, match="at least 1"):
        cache.correspondence(0)


def test_flows_compose_like_the_maps_they_are():
    ones = np.ones((20, 30, 2), np.float32)
    np.testing.assert_allclose(compose([ones, 2 * ones, -ones]), 2 * ones)
    values = grid(20, 30)
    zoom = 0.1 * (values - (15.0, 10.0)).astype(np.float32)
    there_and_back = compose([zoom, (-zoom / np.float32(1.1))])
    assert np.abs(there_and_back[4:-4, 4:-4]).max() < 2e-3
    np.testing.assert_allclose(sample(values, values), values, atol=1e-4)


def test_structure_is_the_smaller_eigenvalue_of_the_mean_gradient_tensor():
    image = texture()
    right, down = (cv2.Sobel(image, cv2.CV_64F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
    products = (right * right, down * down, right * down)
    xx, yy, xy = (cv2.boxFilter(product, -1, (7, 7)) for product in products)
    tensors = np.stack((np.stack((xx, xy), -1), np.stack((xy, yy), -1)), -1)
    smaller = np.linalg.eigvalsh(tensors)[..., 0]
    np.testing.assert_allclose(inner(structure(image)), inner(smaller), rtol=1e-2, atol=1e-2)
    assert structure(np.full((20, 30), 90, np.uint8)).max() == 0.0
