"""The noisy oracle errs by as much, and in the way, that it says."""

import dataclasses

import numpy as np
import pytest
import torch

from pomato_ros.evaluation.oracle import OraclePredictor, frame_of
from pomato_ros.evaluation.oracle_noise import (
    ISSUE_NOISE,
    ISSUE_SENSOR,
    DepthSensor,
    NoiseModel,
    NoisyOracle,
    neighbourly,
    sensed_depth,
    smooth_weights,
)
from pomato_ros.sources.dust3r.prediction import PairPrediction, WindowPrediction
from pomato_ros.sources.dust3r.preprocess import prepare_frame
from pomato_ros.structures import Window
from pomato_ros.synthetic.clip import Clip

NO_OUTLIERS = dataclasses.replace(ISSUE_NOISE, outlier_share=0.0)


def window_of(clip: Clip, numbers: range, key: int = 0) -> Window:
    return Window(tuple(prepare_frame(frame_of(clip, t), clip.intrinsics.width_px) for t in numbers), key)


def errors(clip: Clip, oracle: NoisyOracle, numbers: range) -> np.ndarray:
    """(p, h, w, 3) of X^{2,1} of the key's pairs with all frames, in shares of the depth of the pixels' own camera."""
    window = window_of(clip, numbers)
    found = oracle.predict(window).to_key.points_2 / oracle.units_per_metre(numbers[0])
    truth = OraclePredictor(clip, pair_scale=1.0).predict(window).to_key.points_2
    return ((found - truth) / clip.depth_m[list(numbers)][..., None]).numpy()


def test_without_noise_the_oracle_is_the_truth_in_the_windows_unit(clip: Clip) -> None:
    quiet = NoiseModel(relative_error=0.0, outlier_share=0.0, scale_wander=0.0)
    window = window_of(clip, range(4))
    found = NoisyOracle(clip, quiet, units_per_metre=0.7).predict(window)
    truth = OraclePredictor(clip, pair_scale=0.7).predict(window)
    for half in ("from_key", "to_key"):
        for name in ("points_1", "points_2", "points_match"):
            torch.testing.assert_close(getattr(getattr(found, half), name), getattr(getattr(truth, half), name))


def test_errors_have_the_size_that_is_asked_for(clip: Clip) -> None:
    size = np.mean([(errors(clip, NoisyOracle(clip, NO_OUTLIERS, seed), range(12)) ** 2).sum(-1) for seed in range(3)])
    assert np.sqrt(size) == pytest.approx(ISSUE_NOISE.relative_error, rel=0.15)


def test_half_of_the_variance_is_white_and_the_rest_smooth(clip: Clip) -> None:
    even = dataclasses.replace(NO_OUTLIERS, unevenness=0.0)
    found = np.concatenate([errors(clip, NoisyOracle(clip, even, seed), range(12)) for seed in range(4)])
    variance = (found**2).sum(-1).mean()
    neighbours = (found[:, :, 1:] * found[:, :, :-1]).sum(-1).mean() / variance
    quarter = (found[:, :, 16:] * found[:, :, :-16]).sum(-1).mean() / variance
    assert neighbours == pytest.approx(0.5, abs=0.1)
    assert quarter == pytest.approx(0.5 / np.e, abs=0.1)


def test_neighbouring_frames_err_more_alike_than_distant_ones(clip: Clip) -> None:
    smooth = dataclasses.replace(NO_OUTLIERS, smooth_share=1.0, unevenness=0.0)
    found = [errors(clip, NoisyOracle(clip, smooth, seed), range(1, 13)) for seed in range(6)]
    variance = np.mean([(item**2).sum(-1).mean() for item in found])

    def alike(apart: int) -> float:
        return float(np.mean([(item[apart:] * item[:-apart]).sum(-1).mean() for item in found]) / variance)

    assert alike(1) == pytest.approx(0.5 * 0.8, abs=0.2)
    assert alike(1) > alike(8) + 0.1


def test_the_share_of_outliers_is_that_asked_for(clip: Clip) -> None:
    wild = NoiseModel(relative_error=1e-6, outlier_share=0.05)
    length = np.linalg.norm(errors(clip, NoisyOracle(clip, wild), range(12)), axis=-1)
    assert (length > 0.1).mean() == pytest.approx(0.05, abs=0.005)
    assert length.max() <= wild.outlier_depths[1] * 1.01


def test_confidence_tells_where_errors_are_but_not_how_large(clip: Clip) -> None:
    oracle = NoisyOracle(clip)
    length = np.linalg.norm(errors(clip, oracle, range(12)), axis=-1)
    confidence = oracle.predict(window_of(clip, range(12))).to_key.conf_2.numpy()
    assert confidence.min() > 1.0
    sure = confidence > np.median(confidence)
    assert np.median(length[~sure]) > 1.15 * np.median(length[sure])
    other = NoisyOracle(clip, seed=1).predict(window_of(clip, range(12))).to_key.conf_2.numpy()
    assert abs(np.log(np.median(other - 1.0) / np.median(confidence - 1.0))) > 0.1  # equal errors, another level


def test_a_windows_unit_wanders_within_its_limits_and_stays_for_its_key(clip: Clip) -> None:
    units = [
        NoisyOracle(clip, seed=seed, units_per_metre=1.0).units_per_metre(key) for seed in range(8) for key in (0, 8)
    ]
    assert 0.8 <= min(units) < 0.9
    assert 1.1 < max(units) <= 1.2
    oracle = NoisyOracle(clip)
    assert oracle.units_per_metre(3) == oracle.units_per_metre(3) != oracle.units_per_metre(4)


def test_a_pair_that_is_evaluated_again_gives_the_same_answer(clip: Clip) -> None:
    first = NoisyOracle(clip).predict(window_of(clip, range(3)))
    later = NoisyOracle(clip).predict(window_of(clip, range(6)))
    torch.testing.assert_close(first.to_key.points_match, later.to_key.points_match[:3], rtol=0, atol=0)
    other = NoisyOracle(clip, seed=1).predict(window_of(clip, range(3)))
    assert not torch.equal(first.to_key.points_match, other.to_key.points_match)


def test_of_blind_frames_nothing_can_be_told_but_seen_ones_keep_their_own_points(clip: Clip) -> None:
    quiet = NoiseModel(relative_error=0.0, outlier_share=0.0, scale_wander=0.0)
    window = window_of(clip, range(4))
    seen: WindowPrediction = NoisyOracle(clip, quiet).predict(window)
    blind: WindowPrediction = NoisyOracle(clip, quiet, blind={2}).predict(window)
    half: PairPrediction = blind.to_key
    torch.testing.assert_close(half.points_1[2], seen.to_key.points_1[2])
    assert (half.points_2[2] - seen.to_key.points_2[2]).norm(dim=-1).median() > 0.05
    assert float(half.conf_2[2].max()) < float(half.conf_2[1].median())
    torch.testing.assert_close(half.points_2[1], seen.to_key.points_2[1])


def test_smooth_fields_have_one_variance_everywhere() -> None:
    for weights in smooth_weights((48, 64), 16.0):
        np.testing.assert_allclose((weights**2).sum(axis=1), 1.0, rtol=1e-5)


def test_a_chain_keeps_its_variance_and_its_correlation() -> None:
    chain = neighbourly(np.random.default_rng(0), 20, (5000,), 0.8)
    assert chain[-1].std() == pytest.approx(1.0, abs=0.05)
    assert np.mean(chain[-1] * chain[-2]) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("depth_m", [0.7, 3.0, 8.0])
def test_a_depth_sensor_errs_with_the_square_of_the_depth_and_has_holes(depth_m: float) -> None:
    truth = np.full((200, 300), depth_m, np.float32)
    seen = sensed_depth(truth, ISSUE_SENSOR, np.random.default_rng(1))
    told = np.isfinite(seen)
    assert told.mean() == pytest.approx(1.0 - ISSUE_SENSOR.hole_share, abs=0.01)
    assert seen[told].std() == pytest.approx(0.005 * depth_m + 0.002 * depth_m**2, rel=0.03)
    assert seen[told].mean() == pytest.approx(depth_m, rel=1e-3)


def test_a_depth_sensor_sees_no_farther_than_its_range() -> None:
    truth = np.array([[1.0, 4.9, 5.1]], np.float32)
    seen = sensed_depth(truth, DepthSensor(hole_share=0.0, range_m=5.0), np.random.default_rng(0))
    np.testing.assert_array_equal(np.isfinite(seen), [[True, True, False]])
