"""Metres for a source without them: truth in another unit comes back in metres."""

import math
from dataclasses import replace

import numpy as np
import pytest

from pomato_ros.config import ScaleOptions
from pomato_ros.evaluation.oracle import frame_of
from pomato_ros.evaluation.truth_source import TruthSource
from pomato_ros.sources.base import PredictionRequest
from pomato_ros.sources.metric_scale import MetricSource, ScaleFilter, ScaleMeasurement, rescaled, scale_from_path
from pomato_ros.structures import Observation, PosePrior, PreparedFrame, Window
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip
from pomato_ros.window import RollingWindow

UNIT = 0.37  # units per metre


class OtherUnit(TruthSource):
    """The truth in another unit."""

    def predict(self, window: Window, request: PredictionRequest) -> Observation:
        return rescaled(super().predict(window, request), UNIT, metric=False)


@pytest.fixture(scope="module")
def clip() -> Clip:
    world = replace(TRAIN_WORLD, mover_probability=0.0, camera_kinds=(1.0, 0.0, 0.0, 0.0, 0.0))
    return render_clip(6, world, 12, (96, 64))


def observe(clip: Clip, source: MetricSource, given: str) -> list[Observation]:
    window, seen = RollingWindow(12, 4, "anchored"), []
    for t in range(len(clip)):
        frame = source.prepare(frame_of(clip, t))
        if given == "depth":
            frame = replace(frame, depth_m=clip.depth_m[t].numpy())
        seen.append(source.predict(window.push(frame), PredictionRequest()))
    return seen


@pytest.mark.parametrize(
    ("options", "given", "tolerance"),
    [
        (ScaleOptions(scale_source="fixed", scale=1 / UNIT), "", 1e-3),
        (ScaleOptions(scale_source="depth"), "depth", 5e-3),
    ],
    ids=["fixed", "depth"],
)
def test_depth_comes_back_in_metres(clip: Clip, options: ScaleOptions, given: str, tolerance: float) -> None:
    source = MetricSource(OtherUnit(clip), options)
    last = observe(clip, source, given)[-1]
    true = clip.depth_m[len(clip) - 1].numpy()
    ratio = (last.depth.inverse_depth * true)[last.depth.valid]
    assert np.median(ratio) == pytest.approx(1.0, abs=tolerance)
    assert last.depth.metric


def test_without_a_measurement_the_unit_stays_the_sources_own(clip: Clip) -> None:
    own = observe(clip, MetricSource(OtherUnit(clip), ScaleOptions()), "")
    asked = observe(clip, MetricSource(OtherUnit(clip), ScaleOptions(scale_source="fixed")), "")
    for found, expected in zip(asked, own, strict=True):
        np.testing.assert_array_equal(found.depth.inverse_depth, expected.depth.inverse_depth)
        assert not expected.depth.metric


@pytest.mark.parametrize("length_m", [0.01, 0.5])
def test_a_path_of_another_odometry_gives_metres_if_it_is_long_enough(length_m: float) -> None:
    image, moved = np.zeros((16, 16, 3), np.uint8), np.eye(4)
    moved[0, 3] = length_m
    frames = tuple(
        PreparedFrame(t, image, None, np.eye(3), (16, 16), prior_from_camera=pose)
        for t, pose in enumerate((np.eye(4), moved))
    )
    seen = moved.copy()
    seen[0, 3] *= UNIT
    measured = scale_from_path(PosePrior(1, seen, np.diag([1e-6] * 6)), Window(frames, key=0))
    if length_m < 0.05:
        assert measured is None
    else:
        assert measured.log_scale == pytest.approx(-math.log(UNIT))
        assert 0 < measured.variance < 0.01


def test_lengths_scale_and_angles_and_pixels_do_not(clip: Clip) -> None:
    window = RollingWindow(12, 4, "anchored")
    source = TruthSource(clip)
    for t in range(3):
        seen = source.predict(window.push(source.prepare(frame_of(clip, t))), PredictionRequest())
    grown = rescaled(seen, 3.0, metric=True)
    (one,), (other,) = seen.pose_priors, grown.pose_priors
    np.testing.assert_allclose(other.earlier_from_newest[:3, 3], 3 * one.earlier_from_newest[:3, 3])
    np.testing.assert_array_equal(other.earlier_from_newest[:3, :3], one.earlier_from_newest[:3, :3])
    np.testing.assert_allclose(np.diag(other.covariance) / np.diag(one.covariance), [9, 9, 9, 1, 1, 1])
    np.testing.assert_array_equal(grown.correspondence(1).pixels, seen.correspondence(1).pixels)
    match, own = grown.correspondence(1), seen.correspondence(1)
    np.testing.assert_allclose(match.points_earlier, 3 * own.points_earlier, rtol=1e-6)
    np.testing.assert_allclose(
        grown.depth.sigma / grown.depth.inverse_depth, seen.depth.sigma / seen.depth.inverse_depth, rtol=1e-5
    )


def test_one_outlier_is_rejected_and_a_change_that_persists_is_followed() -> None:
    scale = ScaleFilter(0.0, 1.0)
    for _ in range(50):
        scale.predict()
        scale.update(ScaleMeasurement(math.log(2.0), 1e-4))
    assert scale.log_scale == pytest.approx(math.log(2.0), abs=1e-3)
    scale.update(ScaleMeasurement(math.log(5.0), 1e-4))
    assert scale.log_scale == pytest.approx(math.log(2.0), abs=1e-3)
    for _ in range(6):
        scale.predict()
        scale.update(ScaleMeasurement(math.log(5.0), 1e-4))
    assert scale.log_scale == pytest.approx(math.log(5.0), abs=0.05)
