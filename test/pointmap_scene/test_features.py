"""Features followed through rendered frames, whose true motion is known."""

import cv2
import numpy as np
import pytest

from pomato_ros.pointmap_scene.features import MAX_FEATURES, MIN_DISTANCE_PX, FeatureMatches, free_of, match_features
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip

FRAMES = 6
EMPTY = FeatureMatches(np.zeros((0, 2)), np.zeros((0, 2)))


@pytest.fixture(scope="module")
def clip() -> Clip:
    return render_clip(6, TRAIN_WORLD, FRAMES, (160, 112))


def images(clip: Clip) -> list[np.ndarray]:
    return [image.numpy() for image in clip.images]


def errors_px(clip: Clip, matches: FeatureMatches, newest: int) -> np.ndarray:
    place = np.rint(matches.reference_pixels).astype(int)
    flow = clip.optical_flow(0, newest).numpy()[place[:, 1], place[:, 0]]
    return np.linalg.norm(matches.newest_pixels - matches.reference_pixels - flow, axis=-1)


def assert_inside(matches: FeatureMatches) -> None:
    for pixels in (matches.reference_pixels, matches.newest_pixels):
        assert pixels.dtype == np.float64
        assert (pixels >= 0).all()
        assert (pixels <= (159, 111)).all()


def test_features_go_where_their_points_go(clip: Clip) -> None:
    matches = match_features(images(clip)[0], images(clip)[1])
    assert 50 < len(matches.reference_pixels) == len(matches.newest_pixels) <= MAX_FEATURES
    assert_inside(matches)
    assert np.median(errors_px(clip, matches, 1)) < 0.3


def test_followed_from_frame_to_frame_they_are_still_where_their_points_are(clip: Clip) -> None:
    matches = None
    for newest in range(1, FRAMES):
        matches = match_features(images(clip)[0], images(clip)[newest], matches)
        assert_inside(matches)
        assert len(matches.reference_pixels) <= MAX_FEATURES
        assert np.median(errors_px(clip, matches, newest)) < 0.6


def test_an_image_matches_itself_in_place(clip: Clip) -> None:
    matches = match_features(images(clip)[0], images(clip)[0])
    np.testing.assert_allclose(matches.newest_pixels, matches.reference_pixels, atol=0.05)


def test_images_without_anything_in_common_have_few_features(clip: Clip) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (112, 160, 3)).astype(np.uint8)
    usual = len(match_features(images(clip)[0], images(clip)[1]).reference_pixels)
    assert len(match_features(images(clip)[0], noise).reference_pixels) < 0.2 * usual


@pytest.mark.parametrize("guess", [None, EMPTY])
def test_an_image_without_content_has_no_features(guess: FeatureMatches | None) -> None:
    grey = np.full((112, 160, 3), 90, np.uint8)
    matches = match_features(grey, grey, guess)
    assert matches.reference_pixels.shape == matches.newest_pixels.shape == (0, 2)


def test_what_is_free_lies_outside_circles_about_what_is_taken() -> None:
    taken = np.random.default_rng(0).uniform((0, 0), (159, 111), (60, 2))
    circles = np.full((112, 160), 255, np.uint8)
    for x, y in np.rint(taken).astype(int).tolist():
        cv2.circle(circles, (x, y), int(MIN_DISTANCE_PX), 0, -1)
    np.testing.assert_array_equal(free_of(taken, circles.shape), circles)
    assert free_of(np.zeros((0, 2)), circles.shape).all()
