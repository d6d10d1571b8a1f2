"""The stereo pair as a source: metric depth with honest sigma on rendered pairs, and unsound pairs named."""

import dataclasses

import numpy as np
import pytest

from pomato_ros.config import PomatoConfig, StereoTuning
from pomato_ros.errors import UnusableFrame
from pomato_ros.sources.base import PredictionRequest
from pomato_ros.sources.resize import long_side_for
from pomato_ros.sources.stereo import StereoSource, checked_baseline, depth_from_disparity
from pomato_ros.sources.stereo_matching import Disparity, disparities_for, refine
from pomato_ros.structures import FloatArray, Frame, Intrinsics, Observation, Window
from pomato_ros.synthetic.renderer import render
from pomato_ros.synthetic.sensors import render_right_images
from pomato_ros.synthetic.world import TRAIN_WORLD, draw_scene

BASELINE_M = 0.1
WORLD = dataclasses.replace(
    TRAIN_WORLD, open_ground_probability=0.0, room_size_m=(4.0, 6.0), plain_probability=0.0, noise_std=(1.0, 1.0)
)


@pytest.fixture(scope="module")
def pair() -> tuple[Frame, FloatArray]:
    """A pair in a textured room, and the true depth of its left image."""
    scene = draw_scene(21, WORLD, 3, (320, 240))
    clip = render(scene)
    right = render_right_images(scene, BASELINE_M)
    frame = Frame(1, clip.images[1].numpy(), clip.intrinsics, right_rgb=right[1], baseline_m=BASELINE_M)
    return frame, clip.depth_m[1].numpy()


def observe(frame: Frame, source: StereoSource | None = None) -> Observation:
    source = source or StereoSource(PomatoConfig())
    return source.predict(Window((source.prepare(frame),), key=0), PredictionRequest())


def named(frame: Frame) -> set[str]:
    names = ("stereo_swapped", "stereo_unrectified", "stereo_unsynchronised")
    facts = observe(frame).facts
    return {name for name in names if facts[name]}


def test_depth_is_metric_and_near_the_truth(pair: tuple[Frame, FloatArray]) -> None:
    frame, truth = pair
    depth = observe(frame).depth
    assert depth is not None
    assert depth.metric
    error = np.abs(1.0 / depth.inverse_depth[depth.valid] - truth[depth.valid]) / truth[depth.valid]
    assert depth.valid.mean() > 0.6
    assert np.median(error) < 0.03
    assert error.mean() < 0.08


def test_residuals_have_the_size_of_sigma(pair: tuple[Frame, FloatArray]) -> None:
    frame, truth = pair
    depth = observe(frame).depth
    assert depth is not None
    residual = ((depth.inverse_depth - 1.0 / truth) / depth.sigma)[depth.valid]
    assert (depth.sigma[depth.valid] > 0).all()
    assert 0.6 < 1.4826 * np.median(np.abs(residual)) < 1.6
    order = np.argsort(depth.sigma[depth.valid])
    error = np.abs(residual * depth.sigma[depth.valid])[order]
    quarter = len(error) // 4
    assert np.median(error[:quarter]) < 0.5 * np.median(error[-quarter:])


def test_a_sound_pair_has_no_fault_and_its_rows_are_epipolar_lines(pair: tuple[Frame, FloatArray]) -> None:
    assert named(pair[0]) == set()
    assert abs(observe(pair[0]).facts["stereo_vertical_offset_px"]) < 0.05


def test_exchanged_images_are_named_and_give_no_depth(pair: tuple[Frame, FloatArray]) -> None:
    frame, _ = pair
    assert frame.right_rgb is not None
    swapped = dataclasses.replace(frame, image_rgb=frame.right_rgb, right_rgb=frame.image_rgb)
    depth = observe(swapped).depth
    assert "stereo_swapped" in named(swapped)
    assert depth is not None
    assert not depth.valid.any()


def test_a_rectification_error_of_a_pixel_is_named(pair: tuple[Frame, FloatArray]) -> None:
    frame, _ = pair
    assert frame.right_rgb is not None
    for rows in (1, -1):
        lowered = dataclasses.replace(frame, right_rgb=np.roll(frame.right_rgb, rows, axis=0))
        assert "stereo_unrectified" in named(lowered)
        assert np.sign(observe(lowered).facts["stereo_vertical_offset_px"]) == rows


def test_a_covered_camera_gives_no_depth_and_no_false_fault(pair: tuple[Frame, FloatArray]) -> None:
    frame, _ = pair
    covered = dataclasses.replace(frame, right_rgb=np.zeros_like(frame.image_rgb))
    depth = observe(covered).depth
    assert depth is not None
    assert depth.valid.mean() < 0.01
    assert named(covered) == set()


def test_a_frame_without_a_right_image_is_used_without_depth(pair: tuple[Frame, FloatArray]) -> None:
    assert observe(dataclasses.replace(pair[0], right_rgb=None)).depth is None


@pytest.mark.parametrize(("baseline_m", "word"), [(None, "camera_info"), (-0.1, "exchange"), (120.0, "px m")])
def test_a_baseline_that_cannot_be_is_refused(baseline_m: float | None, word: str) -> None:
    with pytest.raises(UnusableFrame, match=word):
        checked_baseline(baseline_m)


def test_right_images_of_another_size_are_refused(pair: tuple[Frame, FloatArray]) -> None:
    with pytest.raises(UnusableFrame, match="right image"):
        StereoSource(PomatoConfig()).prepare(dataclasses.replace(pair[0], right_rgb=np.zeros((10, 10, 3), np.uint8)))


def test_after_a_reset_the_same_pair_gives_the_same_answer(pair: tuple[Frame, FloatArray]) -> None:
    source = StereoSource(PomatoConfig())
    first = observe(pair[0], source).depth
    source.reset()
    again = observe(pair[0], source).depth
    assert first is not None
    assert again is not None
    np.testing.assert_array_equal(first.inverse_depth, again.inverse_depth)
    np.testing.assert_array_equal(first.valid, again.valid)


def test_refinement_finds_the_fraction_of_a_pixel() -> None:
    columns, rows = np.meshgrid(np.arange(96.0), np.arange(64.0))

    def image(shift_px: float) -> np.ndarray:
        return (120 + 60 * np.sin((columns + shift_px) / 3.0) * np.cos(rows / 5.0)).astype(np.uint8)

    start = np.full((64, 96), 8.0, np.float32)
    refined, _, _ = refine(image(0.0), image(8.3), start, np.ones(start.shape, bool), StereoTuning())
    assert np.median(refined[8:-8, 24:-8]) == pytest.approx(8.3, abs=0.03)


def test_inverse_depth_is_disparity_over_focal_length_and_baseline() -> None:
    ones = np.ones((2, 2), np.float32)
    depth = depth_from_disparity(Disparity(6.0 * ones, 0.3 * ones, ones > 0, ones > 0), focal_baseline=30.0)
    np.testing.assert_allclose(depth.inverse_depth, 0.2)
    np.testing.assert_allclose(depth.sigma, 0.01)


def test_disparities_reach_the_nearest_depth_but_not_across_the_image() -> None:
    tuning = StereoTuning()
    assert disparities_for(200.0, 0.1, 320, tuning) == 64  # 50 px to 0.4 m
    assert disparities_for(300.0, 0.5, 320, tuning) == 80  # a quarter of the width


def test_wide_images_keep_as_many_pixels_as_usual_ones() -> None:
    config = PomatoConfig()
    assert long_side_for(config, (640, 480)) == 320
    side = long_side_for(config, (1241, 376))
    assert side * side * 376 / 1241 == pytest.approx(320 * 240, rel=0.01)
    assert long_side_for(config.with_values({"image_size": 512}), (1241, 376)) == 512


def test_a_camera_without_calibration_is_refused(pair: tuple[Frame, FloatArray]) -> None:
    with pytest.raises(UnusableFrame, match="camera_info"):
        StereoSource(PomatoConfig()).prepare(dataclasses.replace(pair[0], intrinsics=None))


def test_working_images_are_smaller_with_the_disparity_that_belongs_to_them(pair: tuple[Frame, FloatArray]) -> None:
    frame, truth = pair
    half = observe(frame, StereoSource(PomatoConfig().with_values({"image_size": 160}))).depth
    assert half is not None
    assert half.valid.shape == (120, 160)
    middle = truth[1::2, 1::2]
    ratio = half.inverse_depth[half.valid] * middle[half.valid]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.02)


def test_intrinsics_follow_the_working_size(pair: tuple[Frame, FloatArray]) -> None:
    prepared = StereoSource(PomatoConfig().with_values({"image_size": 160})).prepare(pair[0])
    camera = prepared.intrinsics
    assert isinstance(camera, Intrinsics)
    assert pair[0].intrinsics is not None
    assert camera.fx_px == pytest.approx(0.5 * pair[0].intrinsics.fx_px)
