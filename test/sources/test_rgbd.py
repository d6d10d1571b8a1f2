"""The depth camera as a source: metric depth of the newest frame, and bad depth images named."""

import dataclasses

import numpy as np
import pytest

from pomato_ros.config import PomatoConfig
from pomato_ros.errors import UnusableFrame
from pomato_ros.sources.base import PredictionRequest
from pomato_ros.sources.rgbd import RgbdSource
from pomato_ros.structures import Frame, Intrinsics, Observation, Window

CAMERA = Intrinsics(500.0, 500.0, 319.5, 239.5, 640, 480)


def frame_with(depth_m: np.ndarray | None, stamp_ns: int = 1) -> Frame:
    image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    return Frame(stamp_ns, image, CAMERA, depth_m=depth_m)


def plane(depth_m: float) -> np.ndarray:
    return np.full((480, 640), depth_m, np.float32)


def observe(source: RgbdSource, frame: Frame) -> Observation:
    return source.predict(Window((source.prepare(frame),), key=0), PredictionRequest())


def test_depth_is_metric_at_the_working_size_with_the_camera_that_belongs_to_it() -> None:
    source = RgbdSource(PomatoConfig())
    prepared = source.prepare(frame_with(plane(2.0)))
    depth = observe(source, frame_with(plane(2.0))).depth
    assert depth is not None
    assert depth.metric
    assert prepared.size_hw == depth.valid.shape == (240, 320)
    assert prepared.intrinsics is not None
    assert prepared.intrinsics.fx_px == pytest.approx(250.0)
    assert prepared.intrinsics.cx_px == pytest.approx(159.5)
    np.testing.assert_allclose(depth.inverse_depth[depth.valid], 0.5)


def test_image_size_sets_the_working_size() -> None:
    source = RgbdSource(PomatoConfig().with_values({"image_size": 640}))
    assert source.prepare(frame_with(plane(2.0))).size_hw == (480, 640)


def test_a_frame_without_depth_is_used_without_it() -> None:
    observation = observe(RgbdSource(PomatoConfig()), frame_with(None))
    assert observation.depth is None
    assert observation.facts["depth_valid_share"] == 0.0


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -1.0])
def test_depth_images_without_any_depth_are_valid_nowhere(value: float) -> None:
    depth = observe(RgbdSource(PomatoConfig()), frame_with(plane(value))).depth
    assert depth is not None
    assert not depth.valid.any()


@pytest.mark.parametrize(("value", "word"), [(2000.0, "too large"), (0.002, "too small")])
def test_a_unit_that_is_a_thousand_times_off_is_named(value: float, word: str) -> None:
    with pytest.raises(UnusableFrame, match=f"1000 times {word}"):
        RgbdSource(PomatoConfig()).prepare(frame_with(plane(value)))


def test_depth_of_another_size_and_cameras_without_calibration_are_refused() -> None:
    source = RgbdSource(PomatoConfig())
    with pytest.raises(UnusableFrame, match="register"):
        source.prepare(frame_with(np.ones((240, 320), np.float32)))
    with pytest.raises(UnusableFrame, match="camera_info"):
        source.prepare(dataclasses.replace(frame_with(plane(1.0)), intrinsics=None))


def test_a_far_scene_beyond_a_short_range_is_no_wrong_unit() -> None:
    source = RgbdSource(PomatoConfig().with_values({"depth_range_max": 0.2}))
    far = observe(source, frame_with(plane(7.0))).depth
    assert far is not None
    assert not far.valid.any()


def test_a_shorter_range_can_be_asked_for() -> None:
    source = RgbdSource(PomatoConfig().with_values({"depth_range_max": 3.0}))
    far = observe(source, frame_with(plane(4.0))).depth
    assert far is not None
    assert not far.valid.any()


def test_after_a_reset_the_same_frame_gives_the_same_answer() -> None:
    source = RgbdSource(PomatoConfig())
    first = observe(source, frame_with(plane(1.5)))
    source.reset()
    again = observe(source, frame_with(plane(1.5)))
    assert first.depth is not None
    assert again.depth is not None
    np.testing.assert_array_equal(first.depth.inverse_depth, again.depth.inverse_depth)
    np.testing.assert_array_equal(first.depth.sigma, again.depth.sigma)


def test_pixels_beyond_a_rectified_image_are_marked() -> None:
    valid = np.ones((480, 640), bool)
    valid[:, :20] = False
    prepared = RgbdSource(PomatoConfig()).prepare(dataclasses.replace(frame_with(plane(2.0)), valid=valid))
    assert prepared.valid is not None
    assert not prepared.valid[:, :10].any()
    assert prepared.valid[:, 10:].all()
