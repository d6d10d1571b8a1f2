"""Patch alignment against images shifted, scaled and turned by known amounts."""

import cv2
import numpy as np

from pomato_ros.config import AlignmentTuning
from pomato_ros.scene.klt import align, capture, follow, soften

SHAPE = (120, 160)
TUNING = AlignmentTuning()


def picture(seed: int = 0, sigma: float = 2.5) -> np.ndarray:
    values = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal(SHAPE), (0, 0), sigma)
    return (128 + 45 * values / values.std()).clip(0, 255).astype(np.float32)


def warped(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return cv2.warpAffine(image, matrix, (SHAPE[1], SHAPE[0]), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def gray(image: np.ndarray, noise: float = 0.0, seed: int = 1) -> np.ndarray:
    draws = np.random.default_rng(seed).standard_normal(SHAPE)
    return (image + noise * draws).clip(0, 255).round().astype(np.uint8)


def grid() -> np.ndarray:
    x, y = np.meshgrid(np.arange(20.0, 141.0, 10.0), np.arange(20.0, 101.0, 10.0))
    return np.stack((x.ravel(), y.ravel()), axis=-1)


def still(count: int) -> np.ndarray:
    return np.tile(np.eye(2), (count, 1, 1))


def test_a_shift_is_found_to_a_fraction_of_a_pixel() -> None:
    image, pixels = picture(), grid()
    templates = capture(soften(gray(image)), pixels, TUNING.patch_px)
    now = gray(warped(image, np.array([[1.0, 0.0, 1.3], [0.0, 1.0, -0.6]])))
    found = align(soften(now), templates, pixels, still(len(pixels)), TUNING)
    error = np.linalg.norm(found.pixels - pixels - (1.3, -0.6), axis=-1)
    assert found.converged.mean() > 0.98
    assert np.median(error) < 0.06
    assert np.median(found.correlation) > 0.99


def test_gain_and_offset_of_the_brightness_do_not_matter() -> None:
    image, pixels = picture(), grid()
    templates = capture(soften(gray(image)), pixels, TUNING.patch_px)
    found = align(soften(gray(0.7 * image + 40.0)), templates, pixels + 0.7, still(len(pixels)), TUNING)
    assert np.median(np.linalg.norm(found.pixels - pixels, axis=-1)) < 0.03


def test_a_known_warp_makes_turned_and_scaled_patches_alike() -> None:
    image, pixels = picture(), grid()
    matrix = cv2.getRotationMatrix2D((80.0, 60.0), 25.0, 1.2)
    now, truth = soften(gray(warped(image, matrix))), pixels @ matrix[:, :2].T + matrix[:, 2]
    inside = ((truth > 12) & (truth < (147, 107))).all(-1)
    templates = capture(soften(gray(image)), pixels[inside], TUNING.patch_px)
    warp = np.tile(matrix[:, :2], (np.count_nonzero(inside), 1, 1))
    with_warp = align(now, templates, truth[inside] + 0.5, warp, TUNING)
    without = align(now, templates, truth[inside] + 0.5, still(len(warp)), TUNING)
    assert np.median(np.linalg.norm(with_warp.pixels - truth[inside], axis=-1)) < 0.05
    assert np.median(with_warp.correlation) > 0.98 > np.median(without.correlation)


def test_covariance_is_that_of_the_error_under_noise() -> None:
    image, pixels = picture(sigma=3.0), grid()
    distances = []
    for trial in range(8):
        templates = capture(soften(gray(image, 8.0, 10 + trial)), pixels, TUNING.patch_px)
        found = align(soften(gray(image, 8.0, 50 + trial)), templates, pixels, still(len(pixels)), TUNING)
        error = (found.pixels - pixels)[..., None]
        distances.append((error * np.linalg.solve(found.covariance_px, error)).sum(axis=(1, 2)))
    assert 0.5 < np.median(distances) / 1.386 < 2.0  # chi square with 2 degrees of freedom


def test_along_an_edge_a_place_is_uncertain() -> None:
    stripes = np.tile(128 + 60 * np.sin(np.arange(SHAPE[1]) / 3.0), (SHAPE[0], 1))
    pixels = np.array([[80.0, 60.0]])
    templates = capture(soften(gray(stripes, 4.0, 1)), pixels, TUNING.patch_px)
    found = align(soften(gray(stripes, 4.0, 2)), templates, pixels, still(1), TUNING)
    x, y = np.diagonal(found.covariance_px[0])
    assert y > 4 * x


def test_what_is_not_there_correlates_badly() -> None:
    pixels = grid()
    templates = capture(soften(gray(picture(0))), pixels, TUNING.patch_px)
    found = align(soften(gray(picture(9))), templates, pixels, still(len(pixels)), TUNING)
    assert np.mean(found.converged & (found.correlation > 0.75)) < 0.05


def test_no_patches_are_no_trouble() -> None:
    image = soften(gray(picture()))
    templates = capture(image, np.zeros((0, 2)), TUNING.patch_px)
    assert align(image, templates, np.zeros((0, 2)), np.zeros((0, 2, 2)), TUNING).pixels.shape == (0, 2)
    assert follow(gray(picture()), gray(picture()), np.zeros((0, 2)), np.zeros((0, 2)), 9).shape == (0, 2)


def test_patches_are_followed_over_large_steps() -> None:
    image, pixels = picture(sigma=3.0), grid()
    now = gray(warped(image, np.array([[1.0, 0.0, 9.0], [0.0, 1.0, 5.0]])))
    places = follow(gray(image), now, pixels, pixels, TUNING.patch_px)
    inside = (pixels < (130, 95)).all(-1)
    assert np.nanmedian(np.linalg.norm(places[inside] - pixels[inside] - (9.0, 5.0), axis=-1)) < 0.1
