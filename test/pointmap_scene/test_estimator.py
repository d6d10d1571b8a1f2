"""From predictions to a scene: scale that holds, poses that are refused, and the way back after being lost."""

import dataclasses
import itertools
import logging
from collections.abc import Callable

import numpy as np
import pytest
import torch

from pomato_ros.config import PomatoConfig
from pomato_ros.evaluation.oracle import OraclePredictor, frame_of
from pomato_ros.evaluation.oracle_trial import normalised_errors
from pomato_ros.geometry.rigid import invert, pose_exp, rotation_angle, rotation_exp
from pomato_ros.pointmap_scene.estimator import (
    FrameMemory,
    Placement,
    SceneEstimator,
    against,
    between,
    carried,
    fused,
    grow,
    in_metres,
    in_world,
    smoothed,
    squared_distance,
    typical_depth,
    unseen_motion,
)
from pomato_ros.pointmap_scene.landmarks import LandmarkPose
from pomato_ros.pointmap_scene.odometry import RelativePose
from pomato_ros.sources.dust3r.prediction import PairPrediction, WindowPrediction
from pomato_ros.sources.dust3r.preprocess import prepare_frame
from pomato_ros.structures import SceneEstimate, TrackingState, Window
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip
from pomato_ros.window import RollingWindow

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

    def step(
        self, t: int, change: Change | None = None, calibrated: bool = True, **sensed: np.ndarray | None
    ) -> SceneEstimate:
        frame = dataclasses.replace(frame_of(self.clip, t, calibrated=calibrated), **sensed)
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


SENSED_METRES = 3.0  # what the sensor calls one metre of the clip
TRUSTED_STD = 0.03
TF_SOURCE = (MODES[0], {"scale_source": "tf", "prior_frame": "odom_wheel"})  # the same to the engine


def sensed_depth(clip: Clip, t: int) -> np.ndarray:
    depth = SENSED_METRES * clip.depth_m[t].numpy()
    depth[::3] = np.nan
    return depth


def prior_pose(clip: Clip, t: int) -> np.ndarray:
    """Of another odometry, which began elsewhere and in other axes."""
    start = pose_exp([5.0, -2.0, 0.3, 0.4, 1.0, -0.2])
    return in_metres(start @ true_pose(clip, t), SENSED_METRES)


def steps_of(poses: list[np.ndarray]) -> np.ndarray:
    return np.array([(invert(one) @ other)[:3, 3] for one, other in itertools.pairwise(poses)])


@pytest.mark.parametrize("pose_source", ["pointmap", "best"])
@pytest.mark.parametrize("mode", MODES)
def test_a_depth_image_gives_metres_from_the_first_frame_on(clip: Clip, mode: str, pose_source: str) -> None:
    run = Run(clip, mode=mode, scale_source="depth", pose_source=pose_source)
    slack = 5e-3 if pose_source == "pointmap" else 5e-2
    for t in range(FRAMES):
        scene = run.step(t, every_pair_in_a_scale_of_its_own, depth_m=sensed_depth(clip, t))
        assert_at(scene, in_metres(true_pose(clip, t), SENSED_METRES), slack * SENSED_METRES, slack)
        ratio = scene.depth / clip.depth_m[t].numpy()
        np.testing.assert_allclose(np.nanmedian(ratio), SENSED_METRES, rtol=1e-2)
        assert 0 < scene.scale_std < TRUSTED_STD


@pytest.mark.parametrize("pose_source", ["pointmap", "best"])
def test_a_depth_image_that_comes_late_lengthens_ways_but_moves_no_pose(clip: Clip, pose_source: str) -> None:
    late = 9
    run = Run(clip, scale_source="depth", pose_source=pose_source, max_speed=1e6)
    poses, doubts = [], []
    for t in range(FRAMES):
        sensed = sensed_depth(clip, t) if t >= late else None
        scene = run.step(t, every_pair_in_a_scale_of_its_own, depth_m=sensed)
        assert scene.world_from_camera is not None
        poses.append(scene.world_from_camera)
        doubts.append(scene.scale_std)
    truth = [true_pose(clip, t) for t in range(FRAMES)]
    slack = 5e-3 if pose_source == "pointmap" else 5e-2
    np.testing.assert_allclose(steps_of(poses)[:late], steps_of(truth)[:late], atol=slack)  # up to the first one
    np.testing.assert_allclose(steps_of(poses)[late:], SENSED_METRES * steps_of(truth)[late:], atol=slack)
    assert min(doubts[:late]) > 0.9
    assert max(doubts[late:]) < TRUSTED_STD


def test_without_further_depth_images_the_scale_holds_and_the_doubt_grows(clip: Clip) -> None:
    run = Run(clip, scale_source="depth")
    scenes = [
        run.step(t, every_pair_in_a_scale_of_its_own, depth_m=sensed_depth(clip, t) if t < 4 else None)
        for t in range(FRAMES)
    ]
    assert_at(scenes[-1], in_metres(true_pose(clip, FRAMES - 1), SENSED_METRES), 1e-2 * SENSED_METRES)
    assert (np.diff([scene.scale_std for scene in scenes[3:]]) > 0).all()


def test_doubt_of_the_scale_is_in_the_covariance_along_the_way(clip: Clip) -> None:
    blind_run, seeing_run = Run(clip, scale_source="depth"), Run(clip, scale_source="depth")
    for t in range(12):
        blind = blind_run.step(t)
        seeing = seeing_run.step(t, depth_m=clip.depth_m[t].numpy())
    along = true_pose(clip, 11)[:3, 3]
    length = np.linalg.norm(along)
    along /= length
    assert along @ blind.pose_covariance[:3, :3] @ along > (0.9 * length) ** 2
    assert along @ seeing.pose_covariance[:3, :3] @ along < (0.1 * length) ** 2


def test_depth_of_movers_does_not_spoil_the_scale(clip: Clip) -> None:
    run = Run(clip, scale_source="depth")
    for t in range(8):
        sensed = clip.depth_m[t].numpy().copy()
        sensed[clip.moving(t).numpy()] *= 5.0
        scene = run.step(t, depth_m=sensed)
        np.testing.assert_allclose(np.nanmedian(scene.depth / clip.depth_m[t].numpy()), 1.0, rtol=1e-2)


@pytest.mark.parametrize(("mode", "source"), [*((mode, {"scale_source": "odometry"}) for mode in MODES), TF_SOURCE])
def test_ways_of_another_odometry_give_metres(clip: Clip, mode: str, source: dict[str, str]) -> None:
    run = Run(clip, mode=mode, max_speed=1e6, **source)
    scenes = [
        run.step(t, every_pair_in_a_scale_of_its_own, prior_from_camera=prior_pose(clip, t)) for t in range(FRAMES)
    ]
    truth = [true_pose(clip, t) for t in range(FRAMES)]
    found = steps_of([scene.world_from_camera for scene in scenes])
    half = FRAMES // 2
    np.testing.assert_allclose(found[half:], SENSED_METRES * steps_of(truth)[half:], atol=1e-2)
    np.testing.assert_allclose(np.nanmedian(scenes[-1].depth / clip.depth_m[-1].numpy()), SENSED_METRES, rtol=2e-2)
    assert scenes[0].scale_std > 0.9
    assert scenes[-1].scale_std < 0.1


@pytest.mark.parametrize("source", ["model", "fixed"])
def test_sensors_that_nobody_asked_change_nothing(clip: Clip, source: str) -> None:
    plain, sensing = Run(clip, scale_source=source), Run(clip, scale_source=source)
    for t in range(8):
        expected = plain.step(t)
        found = sensing.step(t, depth_m=sensed_depth(clip, t), prior_from_camera=prior_pose(clip, t))
        np.testing.assert_array_equal(found.world_from_camera, expected.world_from_camera)
        np.testing.assert_array_equal(found.points_camera, expected.points_camera)


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


@pytest.mark.parametrize("calibrated", [True, False])
def test_points_are_valid_where_confident_and_in_range(clip: Clip, calibrated: bool) -> None:
    depth = clip.depth_m[0].numpy()
    near, far = np.quantile(depth, (0.3, 0.7)).tolist()

    def doubtful_left_half(_: int, prediction: WindowPrediction) -> WindowPrediction:
        conf = prediction.from_key.conf_1.clone()
        conf[..., :32] = 1.5
        return both(prediction, lambda half: dataclasses.replace(half, conf_1=conf))

    run = Run(clip, range_min=near, range_max=far, conf_threshold=1.5)
    scene = run.step(0, doubtful_left_half, calibrated=calibrated)
    expected = (depth >= near) & (depth <= far)
    expected[:, :32] = False
    np.testing.assert_array_equal(np.isfinite(scene.points_camera).all(-1), expected)
    np.testing.assert_array_equal(np.isnan(scene.points_camera).all(-1), ~expected)
    np.testing.assert_allclose(scene.points_camera[expected], clip.points_camera(0).numpy()[expected], atol=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("calibrated", [True, False])
def test_points_that_are_no_numbers_are_not_valid(clip: Clip, value: float, calibrated: bool) -> None:
    def broken(_: int, prediction: WindowPrediction) -> WindowPrediction:
        points = prediction.from_key.points_1.clone()
        points[..., :10, :, 2] = value
        points[..., 20:25, :, 0] = value
        return both(prediction, lambda half: dataclasses.replace(half, points_1=points))

    points = Run(clip).step(0, broken, calibrated=calibrated).points_camera
    assert np.isnan(points[:10]).all()
    assert np.isnan(points[20:25]).all() == (not calibrated)  # those of a calibrated camera lie on its rays
    assert np.isfinite(points[10:20]).all()
    assert np.isfinite(points[25:]).all()


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
            usual = TrackingState.TRACKING if t >= 5 else TrackingState.WARMING
            recovering = blind.stop <= t < blind.stop + run.config.robustness.recover_frames
            assert scene.state is (TrackingState.RECOVERING if recovering else usual)


@pytest.mark.parametrize("frames", [0, 1, 4])
def test_a_camera_that_was_lost_is_recovering_for_as_many_poses_as_asked(clip: Clip, frames: int) -> None:
    run = Run(clip, recover_frames=frames)
    blind = (7, 10)  # lost again before it is believed
    scenes = run.all(lambda t, prediction: noise_in_place_of_points(t, prediction) if t in blind else prediction)
    for lost_at, until in ((7, 10), (10, FRAMES)):
        assert scenes[lost_at].state is TrackingState.LOST
        found = [scene.state for scene in scenes[lost_at + 1 : until]]
        assert found[:frames] == [TrackingState.RECOVERING] * min(frames, len(found))
        assert set(found[frames:]) <= {TrackingState.TRACKING}


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


def test_a_window_that_begins_blind_is_gone_through_on_landmarks() -> None:
    world = dataclasses.replace(
        TRAIN_WORLD, mover_probability=0.0, camera_kinds=(1.0, 0.0, 0.0, 0.0, 0.0), frame_interval_s=(0.03, 0.03)
    )
    clip = render_clip(6, world, 12, (96, 64))
    blind, through = range(4, 6), range(6, 10)  # of which the window of key 4 consists

    def change(t: int, prediction: WindowPrediction) -> WindowPrediction:
        if t not in blind and t not in through:
            return prediction
        noisy = noise_in_place_of_points(t, prediction)
        if t in blind:
            return noisy
        own = dataclasses.replace(noisy.from_key, points_1=prediction.from_key.points_1)
        return dataclasses.replace(noisy, from_key=own)

    run = Run(clip, pose_source="best")
    draws = np.random.default_rng(0)
    for t in range(len(clip)):
        image = draws.integers(0, 256, (64, 96, 3), dtype=np.uint8) if t in blind else clip.images[t].numpy()
        scene = run.step(t, change, image_rgb=image)
        if t in blind:
            assert (scene.state, scene.world_from_camera) == (TrackingState.LOST, None)
            continue
        assert_at(scene, true_pose(clip, t), metres=3e-2, radians=2e-2)
        assert scene.state is not TrackingState.LOST
        assert np.sqrt(np.trace(scene.pose_covariance[:3, :3])) < 0.1
        assert np.nanmedian(scene.depth / clip.depth_m[t].numpy()) == pytest.approx(1.0, abs=2e-2)


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


def test_a_pose_that_the_pointmap_contradicts_is_doubted_by_that_much(clip: Clip) -> None:
    shift = 0.3

    def beside(t: int, prediction: WindowPrediction) -> WindowPrediction:
        if t != 3:
            return prediction
        away = torch.tensor([shift, 0.0, 0.0])
        points, match = prediction.to_key.points_2 + away, prediction.to_key.points_match + away
        moved = dataclasses.replace(prediction.to_key, points_2=points, points_match=match)
        return dataclasses.replace(prediction, to_key=moved)

    run = Run(clip, pose_source="best")
    run.oracle = OraclePredictor(clip, pair_scale=1.0, noise=0.02)
    scenes = [run.step(t, beside) for t in range(4)]
    missed = scenes[3].world_from_camera[:3, 3] - true_pose(clip, 3)[:3, 3]
    assert np.linalg.norm(missed) < 0.3 * shift
    spread = [np.sqrt(np.trace(scene.pose_covariance[:3, :3])) for scene in scenes]
    assert spread[2] < 0.3 * shift
    assert spread[3] > 0.8 * shift


def of_a_weak_network(seed: int) -> Change:
    """Depths that are wrong by one factor, and by more here and there, of pairs that err in the pose."""
    phase = torch.tensor(np.random.default_rng(seed).uniform(0.0, 2.0 * np.pi, 2), dtype=torch.float32)

    def change(t: int, prediction: WindowPrediction) -> WindowPrediction:
        height, width = prediction.to_key.points_1.shape[1:3]
        down = torch.sin(6.0 * torch.arange(height) / height + phase[0] + 0.3 * t)[:, None]
        across = torch.sin(6.0 * torch.arange(width) / width + phase[1] - 0.2 * t)
        factor = 0.6 * torch.exp(0.5 * down * across)[..., None]
        bent = both(
            prediction,
            lambda half: dataclasses.replace(half, **{name: getattr(half, name) * factor for name in POINTS}),
        )
        away = pose_exp(0.03 * np.random.default_rng([seed, t]).normal(size=6))
        turn, shift = (torch.tensor(part, dtype=torch.float32) for part in (away[:3, :3], away[:3, 3]))
        moved = {name: getattr(bent.to_key, name) @ turn.T + shift for name in POINTS[1:]}
        return dataclasses.replace(bent, to_key=dataclasses.replace(bent.to_key, **moved)) if t else bent

    return change


@pytest.fixture(scope="module")
def empty_clip() -> Clip:
    """A camera that travels where nothing moves."""
    world = dataclasses.replace(
        TRAIN_WORLD, mover_probability=0.0, camera_kinds=(1.0, 0.0, 0.0, 0.0, 0.0), frame_interval_s=(0.03, 0.03)
    )
    return render_clip(6, world, FRAMES, (96, 64))


@pytest.mark.parametrize("seed", range(3))
def test_of_a_weak_network_the_covariance_covers_how_far_the_path_goes_astray(empty_clip: Clip, seed: int) -> None:
    # the depths of all landmarks are too small by one factor, so that no number of them makes the path right
    run = Run(empty_clip, pose_source="best")
    scenes = run.all(of_a_weak_network(seed))
    poses = np.stack([scene.world_from_camera for scene in scenes])
    covariances = np.stack([scene.pose_covariance for scene in scenes])
    truth = np.stack([true_pose(empty_clip, t) for t in range(FRAMES)])
    # 6 is honest on average; of the first two frames nothing is known yet
    assert normalised_errors(poses, covariances, truth)[2:].max() < 6.0


@pytest.mark.parametrize("is_weak", [True, False])
def test_that_some_pixels_agree_is_a_pose_only_of_a_network_that_is_not_weak(empty_clip: Clip, is_weak: bool) -> None:
    blind, agreeing = range(10, 13), 0.3

    def partly_true(t: int, prediction: WindowPrediction) -> WindowPrediction:
        generator = torch.Generator().manual_seed(t)
        wrong = torch.rand(prediction.to_key.points_1.shape[:-1], generator=generator)[..., None] > agreeing
        noise = torch.randn(prediction.to_key.points_1.shape, generator=generator)

        def change(half: PairPrediction) -> PairPrediction:
            told = {name: torch.where(wrong, noise, getattr(half, name)) for name in POINTS}
            return dataclasses.replace(half, **told)

        return both(prediction, change)

    run = Run(empty_clip, pose_source="best")
    draws = np.random.default_rng(0)
    scenes = []
    for t in range(16):
        image = empty_clip.images[t].numpy()
        if t in blind:
            image = draws.integers(0, 256, image.shape, dtype=np.uint8)
        change = partly_true if t in blind else of_a_weak_network(0) if is_weak else None
        scenes.append(run.step(t, change, image_rgb=image))
    assert [scene.world_from_camera is None for scene in scenes] == [is_weak and t in blind for t in range(16)]
    assert [scene.state is TrackingState.LOST for scene in scenes] == [is_weak and t in blind for t in range(16)]


def test_how_far_a_path_goes_astray_is_no_error_of_the_sensor_that_tells_it() -> None:
    draws = np.random.default_rng(3)
    shared, since = (0.01 * factor @ factor.T for factor in draws.normal(size=(2, 6, 6)))
    before_m, after_m = 0.4, 0.5
    astray = np.diag([1.0] * 3 + [0.0] * 3)
    depth, static = np.ones((4, 4), np.float32), np.ones((4, 4), bool)
    base = FrameMemory(depth, static, np.eye(4), shared + before_m**2 * astray, astray_m=before_m)
    covariance = shared + since + after_m**2 * astray
    place = Placement(TrackingState.TRACKING, np.eye(4), covariance, None, 1.0, astray_m=after_m)
    np.testing.assert_allclose(between(base, place), since[:3, :3], atol=1e-12)


def test_an_error_of_rotation_becomes_one_of_position_on_the_way() -> None:
    draws = np.random.default_rng(1)
    factor, way = 0.01 * draws.normal(size=(6, 6)), np.array([2.0, -1.0, 3.0])
    errors = draws.normal(size=(20000, 6)) @ factor.T
    moved = np.concatenate((errors[:, :3] + np.cross(errors[:, 3:], way), errors[:, 3:]), axis=-1)
    found = carried(factor @ factor.T, way)
    np.testing.assert_allclose(found, np.cov(moved.T), atol=0.05 * np.abs(found).max())


def test_two_poses_together_are_what_their_covariances_make_of_them() -> None:
    """Means of many draws: nearer to the truth than either, by as much as the covariance of both says."""
    draws = np.random.default_rng(5)
    truth = pose_exp([0.4, -0.2, 0.3, 0.1, 0.2, -0.1])
    factors = [draws.normal(size=(6, 6)) * size for size in (0.01, 0.004)]
    factors = [factor + size * np.eye(6) for factor, size in zip(factors, (0.03, 0.02), strict=True)]
    covariances = [factor @ factor.T for factor in factors]
    distances = []
    for _ in range(300):
        given = []
        for factor in factors:
            error = factor @ draws.normal(size=6)
            pose = truth.copy()
            pose[:3, :3] = rotation_exp(error[3:]) @ truth[:3, :3]
            pose[:3, 3] += error[:3]
            given.append(pose)
        pose, covariance = fused(given[0], covariances[0], given[1], covariances[1])
        distances.append(squared_distance(pose, truth, covariance))
        expected = np.linalg.inv(sum(np.linalg.inv(item) for item in covariances))
        np.testing.assert_allclose(covariance, expected, atol=0.02 * np.abs(expected).max())
    assert np.mean(distances) == pytest.approx(6.0, rel=0.2)


def test_a_pose_against_the_reference_is_the_same_in_the_world_again() -> None:
    draws = np.random.default_rng(8)
    factor, scale = draws.normal(size=(6, 6)), 2.5
    placed = LandmarkPose(pose_exp(draws.normal(size=6)), factor @ factor.T, 0.7, 70, 0.3)
    depth_m = np.ones((2, 2), np.float32)
    reference = FrameMemory(depth_m, depth_m > 0, pose_exp(draws.normal(size=6)), 1e-6 * np.eye(6))
    relative = against(reference, placed, RelativePose(np.eye(4), np.eye(6), 0.9, 90, 0.2), scale)
    found = reference.world_from_camera @ in_metres(relative.reference_from_newest, scale)
    np.testing.assert_allclose(found, placed.world_from_camera, atol=1e-12)
    covariance = in_world(reference.world_from_camera, relative.covariance, scale)
    np.testing.assert_allclose(covariance, placed.covariance, atol=1e-12)
    assert (relative.inlier_ratio, relative.inliers) == (0.9, 90)  # of the pointmap, which is judged by them


def test_with_one_that_is_sure_the_other_counts_for_nothing() -> None:
    one, other = pose_exp([0.4, -0.2, 0.3, 0.1, 0.2, -0.1]), pose_exp([0.5, 0.2, 0.1, 0.0, 0.3, -0.2])
    doubtful, sure = 1e-3 * np.eye(6), np.zeros((6, 6))
    np.testing.assert_allclose(fused(one, doubtful, other, sure)[0], other, atol=1e-6)
    np.testing.assert_allclose(fused(one, sure, other, doubtful)[0], one, atol=1e-6)
    assert np.linalg.eigvalsh(fused(one, sure, other, sure)[1]).min() > 0


def test_the_distance_of_poses_is_six_on_average_where_they_differ_as_told() -> None:
    draws = np.random.default_rng(2)
    factor = np.tril(0.01 * draws.normal(size=(6, 6))) + 0.02 * np.eye(6)
    pose, distances = pose_exp([1.0, 2.0, -1.0, 0.5, 0.1, -0.8]), []
    for error in draws.normal(size=(2000, 6)) @ factor.T:
        other = pose.copy()
        other[:3, :3] = pose_exp(np.concatenate((np.zeros(3), error[3:])))[:3, :3] @ pose[:3, :3]
        other[:3, 3] += error[:3]
        distances.append(squared_distance(other, pose, factor @ factor.T))
    assert np.mean(distances) == pytest.approx(6.0, rel=0.1)
    assert squared_distance(pose, pose, np.eye(6)) == 0.0


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


def test_smoothed_depth_has_no_strays_and_keeps_edges() -> None:
    draws = np.random.default_rng(9)
    truth = np.where(np.arange(64) < 30, 2.0, 3.0).astype(np.float32) * np.ones((48, 1), np.float32)
    noisy = (truth * np.exp(0.02 * draws.normal(size=truth.shape))).astype(np.float32)
    noisy[::6, ::6] *= 3.0
    told = smoothed(noisy)
    assert np.std(np.log(told / truth)) < 0.5 * 0.02
    assert np.abs(np.log(told / truth)).max() < 0.1
    noisy[5, 5] = np.nan
    np.testing.assert_array_equal(smoothed(noisy), noisy)


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


def test_a_good_frame_whose_own_map_says_nothing_does_not_keep_a_blinded_camera_lost(clip: Clip) -> None:
    def change(t: int, prediction: WindowPrediction) -> WindowPrediction:
        if t in range(5, 14):
            return noise_in_place_of_points(t, prediction)
        if t != 4:
            return prediction
        nothing = torch.full_like(prediction.from_key.points_1, torch.nan)  # X^{n,n}; X^{n,r} is there
        return dataclasses.replace(prediction, from_key=dataclasses.replace(prediction.from_key, points_1=nothing))

    scenes = Run(clip).all(change)
    assert scenes[4].world_from_camera is not None
    assert scenes[-1].world_from_camera is not None
    assert np.isfinite(scenes[-1].pose_covariance).all()
