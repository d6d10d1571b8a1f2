"""From predictions to a scene: scale that holds, poses that are refused, and the way back after being lost."""

import dataclasses
import logging
from collections.abc import Callable

import numpy as np
import pytest
import torch

from pomato_ros.config import PomatoConfig
from pomato_ros.evaluation.oracle import OraclePredictor, frame_of
from pomato_ros.geometry.rigid import invert, pose_exp, rotation_angle
from pomato_ros.inference.preprocess import prepare_frame
from pomato_ros.inference.window import RollingWindow
from pomato_ros.scene.estimator import SceneEstimator, grow, in_metres, in_world, typical_depth, unseen_motion
from pomato_ros.structures import PairPrediction, SceneEstimate, TrackingState, Window, WindowPrediction
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip

FRAMES = 22
MODES = ("anchored", "rolling")
POINTS = ("points_1", "points_2", "points_match")
Change = Callable[[int, WindowPrediction], WindowPrediction]


@pytest.fixture(scope="module")
def clip() -> Clip:
    """A camera that travels among movers."""
    world = dataclasses.replace(TRAIN_WORLD, mover_probability=1.0, camera_kinds=(1.0, 0.0, 0.0, 0.0, 0.0))
    return render_clip(6, world, FRAMES, (64, 48))


class Run:
    """An estimator fed frame by frame with the truth, or with what ``change`` makes of it."""

    def __init__(self, clip: Clip, **options: object) -> None:
        self.clip = clip
        values = {"window_size": 6, "overlap": 2, "pose_source": "pointmap", "track_grid_px": 8, **options}
        self.config = PomatoConfig().with_values(values)
        self.estimator = SceneEstimator(self.config)
        self.window = RollingWindow(self.config.window.window_size, self.config.window.overlap, self.config.window.mode)
        self.oracle = OraclePredictor(clip, pair_scale=1.0)

    def step(self, t: int, change: Change | None = None, calibrated: bool = True) -> SceneEstimate:
        frame = frame_of(self.clip, t, calibrated=calibrated)
        window: Window = self.window.push(prepare_frame(frame, max(self.clip.depth_m.shape[1:])))
        prediction = self.oracle.predict(window)
        return self.estimator.update(window, change(t, prediction) if change else prediction)

    def all(self, change: Change | None = None) -> list[SceneEstimate]:
        return [self.step(t, change) for t in range(len(self.clip))]


def both(prediction: WindowPrediction, change: Callable[[PairPrediction], PairPrediction]) -> WindowPrediction:
    return dataclasses.replace(prediction, from_key=change(prediction.from_key), to_key=change(prediction.to_key))


def noise_in_place_of_points(t: int, prediction: WindowPrediction) -> WindowPrediction:
    generator = torch.Generator().manual_seed(t)
    noise = {name: torch.randn(prediction.to_key.points_1.shape, generator=generator) for name in POINTS}
    return both(prediction, lambda half: dataclasses.replace(half, **noise))


def nothing_in_place_of_points(value: float) -> Change:
    def change(_: int, prediction: WindowPrediction) -> WindowPrediction:
        empty = torch.full_like(prediction.to_key.points_1, value)
        return both(prediction, lambda half: dataclasses.replace(half, **dict.fromkeys(POINTS, empty)))

    return change


def during(frames: range, change: Change) -> Change:
    return lambda t, prediction: change(t, prediction) if t in frames else prediction


def every_pair_in_a_scale_of_its_own(t: int, prediction: WindowPrediction) -> WindowPrediction:
    """As a network's scale may wander; the very first frame is left alone, so that its metre is the world's."""
    if t == 0:
        return prediction
    generator = torch.Generator().manual_seed(t)

    def change(half: PairPrediction) -> PairPrediction:
        factors = torch.exp(torch.randn(len(half.points_1), generator=generator))[:, None, None, None]
        return dataclasses.replace(half, **{name: getattr(half, name) * factors for name in POINTS})

    return both(prediction, change)


def true_pose(clip: Clip, t: int) -> np.ndarray:
    return invert(clip.world_from_camera[0].numpy()) @ clip.world_from_camera[t].numpy()


def assert_at(scene: SceneEstimate, truth: np.ndarray, metres: float = 2e-3, radians: float = 2e-3) -> None:
    assert scene.world_from_camera is not None
    np.testing.assert_allclose(scene.world_from_camera[:3, 3], truth[:3, 3], atol=metres)
    assert rotation_angle(scene.world_from_camera[:3, :3].T @ truth[:3, :3]) < radians


# --- scale


@pytest.mark.parametrize("mode", MODES)
def test_one_scale_is_kept_though_every_pair_has_another(clip: Clip, mode: str) -> None:
    run = Run(clip, mode=mode)
    for t, scene in enumerate(run.all(every_pair_in_a_scale_of_its_own)):
        assert_at(scene, true_pose(clip, t))
        valid = np.isfinite(scene.depth)
        assert valid.mean() > 0.9
        np.testing.assert_allclose(scene.depth[valid], clip.depth_m[t].numpy()[valid], rtol=5e-3)


@pytest.mark.parametrize("scale", [0.1, 25.0])
def test_a_fixed_scale_multiplies_the_first_frames_unit(clip: Clip, scale: float) -> None:
    run = Run(clip, scale_source="fixed", scale=scale, range_max=1e6, range_min=0.0, max_speed=1e6)
    for t in range(9):
        scene = run.step(t, every_pair_in_a_scale_of_its_own)
        assert_at(scene, in_metres(true_pose(clip, t), scale), metres=2e-3 * scale)
        np.testing.assert_allclose(np.nanmedian(scene.depth / clip.depth_m[t].numpy()), scale, rtol=5e-3)


@pytest.mark.parametrize(
    "options", [{"conf_threshold": 50.0}, {"range_max": 0.06}, {"range_min": 99.0}, {"mask_dilate_px": 5}]
)
def test_what_is_published_of_the_points_does_not_change_the_odometry(clip: Clip, options: dict[str, float]) -> None:
    published = Run(clip, **options).all(every_pair_in_a_scale_of_its_own)
    usual = Run(clip).all(every_pair_in_a_scale_of_its_own)
    for one, other in zip(published, usual, strict=True):
        assert one.world_from_camera is not None
        np.testing.assert_array_equal(one.world_from_camera, other.world_from_camera)
        assert one.metres_per_unit == other.metres_per_unit


def test_points_are_valid_where_confident_and_in_range(clip: Clip) -> None:
    depth = clip.depth_m[0].numpy()
    near, far = np.quantile(depth, (0.3, 0.7)).tolist()

    def doubtful_left_half(_: int, prediction: WindowPrediction) -> WindowPrediction:
        conf = prediction.from_key.conf_1.clone()
        conf[..., :32] = 1.5
        return both(prediction, lambda half: dataclasses.replace(half, conf_1=conf))

    scene = Run(clip, range_min=near, range_max=far, conf_threshold=1.5).step(0, doubtful_left_half)
    expected = (depth >= near) & (depth <= far)
    expected[:, :32] = False
    np.testing.assert_array_equal(np.isfinite(scene.points_camera).all(-1), expected)
    np.testing.assert_array_equal(np.isnan(scene.points_camera).all(-1), ~expected)


def test_points_of_a_calibrated_camera_lie_on_its_rays(clip: Clip) -> None:
    def bent(_: int, prediction: WindowPrediction) -> WindowPrediction:
        stretch = torch.tensor([1.3, 0.8, 1.0])
        return both(prediction, lambda half: dataclasses.replace(half, points_1=half.points_1 * stretch))

    scene = Run(clip).step(0, bent)
    np.testing.assert_allclose(scene.points_camera, clip.points_camera(0).numpy(), atol=1e-4)
    loose = Run(clip).step(0, bent, calibrated=False)
    assert np.abs(loose.points_camera - scene.points_camera).max() > 0.1


# --- being lost


@pytest.mark.parametrize("option", ["max_speed", "max_angular_speed"])
def test_a_camera_that_is_too_fast_is_lost_and_found_again_where_it_is(clip: Clip, option: str) -> None:
    run = Run(clip)
    for t in range(3):
        run.step(t)
    run.estimator.config = run.config.with_values({option: 1e-6})
    lost = run.step(3)
    assert (lost.state, lost.world_from_camera, lost.pose_covariance) == (TrackingState.LOST, None, None)
    assert lost.pose_inlier_ratio == 0.0
    assert len(lost.tracks.ids) == 0
    run.estimator.config = run.config
    assert_at(run.step(4), true_pose(clip, 4))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("blind", [range(5, 6), range(2, 4), range(4, 5), range(7, 9), range(1, 5)])
def test_after_blindness_the_camera_is_where_it_really_is(clip: Clip, mode: str, blind: range) -> None:
    # every window has a frame whose pose is known, so nothing has to be guessed
    run = Run(clip, mode=mode, max_tracks=50)
    scenes = run.all(during(blind, noise_in_place_of_points))
    for t, scene in enumerate(scenes):
        if t in blind:
            assert (scene.state, scene.world_from_camera) == (TrackingState.LOST, None)
            assert len(scene.tracks.ids) == 0
            assert scene.metres_per_unit == scenes[t - 1].metres_per_unit
        else:
            assert_at(scene, true_pose(clip, t))
            assert scene.state is (TrackingState.TRACKING if t >= 5 else TrackingState.WARMING)


@pytest.mark.parametrize("mode", MODES)
def test_after_a_blind_window_the_camera_starts_from_the_last_good_pose_and_doubts_it(clip: Clip, mode: str) -> None:
    run = Run(clip, mode=mode)
    scenes = run.all(during(range(5, 14), noise_in_place_of_points))
    found = next(t for t in range(14, FRAMES) if scenes[t].world_from_camera is not None)
    assert found <= 18
    travelled = np.linalg.norm(true_pose(clip, found)[:3, 3] - true_pose(clip, 4)[:3, 3])
    away = scenes[found].world_from_camera[:3, 3] - scenes[4].world_from_camera[:3, 3]
    assert np.linalg.norm(away) < 1.5 * travelled
    spread = np.sqrt(np.diag(scenes[found].pose_covariance))
    missed = scenes[found].world_from_camera[:3, 3] - true_pose(clip, found)[:3, 3]
    assert np.linalg.norm(missed) < 3 * np.linalg.norm(spread[:3])
    assert (spread > 10 * np.sqrt(np.diag(scenes[4].pose_covariance))).all()
    ratio = scenes[found].metres_per_unit  # the unit is taken from the depth, which is about as before
    assert 0.5 < ratio < 2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
def test_a_network_that_says_nothing_is_lost_without_a_warning(clip: Clip, mode: str, value: float) -> None:
    run = Run(clip, mode=mode)
    scenes = run.all(during(range(3, 5), nothing_in_place_of_points(value)))
    for scene in scenes[3:5]:
        assert (scene.state, scene.world_from_camera) == (TrackingState.LOST, None)
        assert np.isnan(scene.points_camera).all()
        assert not scene.dynamic_mask.any()
    for t in range(5, FRAMES):
        assert_at(scenes[t], true_pose(clip, t))


def test_a_first_frame_that_says_nothing_is_survived(clip: Clip) -> None:
    run = Run(clip)
    scenes = run.all(during(range(2), nothing_in_place_of_points(np.nan)))
    assert all(scene.world_from_camera is not None for scene in scenes[8:])


def test_few_agreeing_pixels_are_not_trusted(clip: Clip) -> None:
    def mostly_wrong(t: int, prediction: WindowPrediction) -> WindowPrediction:
        points = prediction.to_key.points_2.clone()
        points[..., :32, :] += torch.randn(points[..., :32, :].shape, generator=torch.Generator().manual_seed(t))
        still = dataclasses.replace(prediction.to_key, points_2=points, points_match=points)
        return dataclasses.replace(prediction, to_key=still)

    def second_scene(least: float, **options: object) -> SceneEstimate:
        run = Run(clip, min_inlier_ratio=least, **options)
        run.step(0)
        return run.step(1, mostly_wrong)

    lenient = second_scene(0.0)
    assert lenient.world_from_camera is not None
    assert 0.4 < lenient.pose_inlier_ratio < 0.6
    assert second_scene(0.7).state is TrackingState.LOST
    on_features = second_scene(0.7, pose_source="best")  # nor do they keep those out that agree
    assert on_features.pose_inlier_ratio > 0.7
    assert_at(on_features, true_pose(clip, 1), metres=2e-2, radians=2e-2)


def test_the_log_says_once_why_the_camera_is_lost(clip: Clip, caplog: pytest.LogCaptureFixture) -> None:
    run = Run(clip)
    with caplog.at_level(logging.WARNING):
        for t in range(8):
            run.step(t, during(range(3, 6), noise_in_place_of_points))
    (record,) = caplog.records
    assert f"lost at {clip.stamps_ns[3]} ns: " in record.getMessage()


def test_a_reset_starts_a_new_world(clip: Clip) -> None:
    run = Run(clip)
    before = [run.step(t) for t in range(4)]
    run.estimator.reset()
    run.window.clear()
    after = run.step(4)
    np.testing.assert_array_equal(after.world_from_camera, np.eye(4))
    assert after.state is TrackingState.WARMING
    assert after.frames_in_window == 1
    assert not set(before[-1].tracks.ids.tolist()) & set(after.tracks.ids.tolist())


# --- covariance


@pytest.mark.parametrize("mode", MODES)
def test_a_covariance_is_positive_definite_and_grows_with_the_chain_of_windows(clip: Clip, mode: str) -> None:
    run = Run(clip, mode=mode)
    run.oracle = OraclePredictor(clip, pair_scale=1.0, noise=0.02)
    scenes = run.all()
    for scene in scenes:
        np.testing.assert_allclose(scene.pose_covariance, scene.pose_covariance.T, atol=1e-15)
        assert np.linalg.eigvalsh(scene.pose_covariance).min() > 0
    assert np.trace(scenes[-1].pose_covariance[:3, :3]) > np.trace(scenes[1].pose_covariance[:3, :3])


def test_a_covariance_in_the_world_is_that_of_turned_and_scaled_errors() -> None:
    world_from_reference = pose_exp([3.0, -1.0, 2.0, 0.4, -0.9, 1.3])
    draws = np.random.default_rng(0)
    factor = draws.normal(size=(6, 6)) * 0.01
    errors = draws.normal(size=(20000, 6)) @ factor.T
    turn = world_from_reference[:3, :3]
    in_the_world = np.concatenate((2.5 * errors[:, :3] @ turn.T, errors[:, 3:] @ turn.T), axis=-1)
    found = in_world(world_from_reference, factor @ factor.T, 2.5)
    np.testing.assert_allclose(found, np.cov(in_the_world.T), atol=0.05 * np.abs(found).max())


def test_doubt_about_unseen_motion_grows_with_the_time_either_way() -> None:
    assert (unseen_motion(0.0) == 0).all()
    np.testing.assert_allclose(unseen_motion(-2.0), unseen_motion(2.0))
    np.testing.assert_allclose(unseen_motion(2.0), 4 * unseen_motion(1.0))


# --- the rest


def test_memory_holds_the_window_and_no_more(clip: Clip) -> None:
    for mode in MODES:
        run = Run(clip, mode=mode)
        for t in range(FRAMES):
            run.step(t)
            assert len(run.estimator._frames) <= run.config.window.window_size


def test_a_grown_mask_holds_all_pixels_within_a_distance(clip: Clip) -> None:
    mask = np.zeros((9, 9), dtype=bool)
    mask[4, 4] = True
    y, x = np.mgrid[:9, :9]
    for pixels in range(4):
        np.testing.assert_array_equal(grow(mask, pixels), np.abs(y - 4) + np.abs(x - 4) <= pixels)
    plain, grown = Run(clip), Run(clip, mask_dilate_px=2)
    for t in range(6):
        np.testing.assert_array_equal(grown.step(t).dynamic_mask, grow(plain.step(t).dynamic_mask, 2))


def test_depth_is_typical_of_what_is_in_front() -> None:
    assert typical_depth(np.array([[1.0, 2.0, 9.0], [np.nan, -5.0, np.inf]])) == 2.0
    assert np.isnan(typical_depth(np.array([[np.nan, -1.0]])))


def test_a_portrait_image_is_perceived_like_any_other() -> None:
    portrait = render_clip(6, TRAIN_WORLD, 8, (48, 64))
    for t, scene in enumerate(Run(portrait).all()):
        assert scene.points_camera.shape == (64, 48, 3)
        assert_at(scene, true_pose(portrait, t))


def test_an_uncalibrated_camera_finds_its_way_with_the_focal_length_of_its_pointmaps(clip: Clip) -> None:
    run = Run(clip)
    for t in range(8):
        scene = run.step(t, calibrated=False)
        assert not scene.intrinsics_known
        assert scene.intrinsics.fx_px == pytest.approx(clip.intrinsics.fx_px, rel=1e-3)
        assert_at(scene, true_pose(clip, t), metres=5e-3)
