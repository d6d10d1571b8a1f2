"""The engine over a predictor that knows the truth: any error left is the engine's own."""

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
import torch

from pomato_ros.config import PomatoConfig
from pomato_ros.engine import Engine
from pomato_ros.errors import ConfigError
from pomato_ros.evaluation.bench.twins import next_hop, random_frames
from pomato_ros.evaluation.oracle import OraclePredictor, frame_of, pointmap_engine
from pomato_ros.geometry.rigid import invert, rotation_angle
from pomato_ros.sources.dust3r.checkpoint import Checkpoint, save_weights
from pomato_ros.sources.dust3r.cuda_graphs import record_eagerly
from pomato_ros.sources.dust3r.prediction import Wanted, WindowPrediction
from pomato_ros.sources.dust3r.predictor import Predictor
from pomato_ros.structures import BudgetReport, BudgetState, TrackingState, Window
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip
from pomato_ros.window import RollingWindow

FRAMES = 30
MODES = ("anchored", "rolling")


@pytest.fixture(scope="module")
def moving_clip() -> Clip:
    """A clip whose camera travels among movers."""
    world = dataclasses.replace(TRAIN_WORLD, mover_probability=1.0, camera_kinds=(1.0, 0.0, 0.0, 0.0, 0.0))
    return render_clip(6, world, FRAMES, (96, 64))


@functools.cache
def run(clip: Clip, config: PomatoConfig, **oracle):
    engine = pointmap_engine(config, OraclePredictor(clip, **oracle))
    return [engine.step(frame_of(clip, t)) for t in range(len(clip))]


def true_pose(clip: Clip, t: int) -> np.ndarray:
    """Pose of camera ``t`` in the first camera, the engine's world."""
    return invert(clip.world_from_camera[0].numpy()) @ clip.world_from_camera[t].numpy()


@pytest.mark.parametrize("mode", MODES)
def test_true_pointmaps_give_the_true_trajectory_up_to_one_scale(moving_clip, mode):
    scenes = run(moving_clip, PomatoConfig().with_values({"mode": mode}), pair_scale=0.7)
    for t, scene in enumerate(scenes):
        truth = true_pose(moving_clip, t)
        np.testing.assert_allclose(scene.world_from_camera[:3, 3], 0.7 * truth[:3, 3], atol=2e-3)
        assert rotation_angle(scene.world_from_camera[:3, :3].T @ truth[:3, :3]) < 1e-3


def test_where_pointmaps_are_noise_the_image_still_gives_the_rotation():
    clip = render_clip(3, dataclasses.replace(TRAIN_WORLD, mover_probability=0.0), 14, (96, 64))
    pixel_angle = 1 / clip.intrinsics.fx_px
    for t, scene in enumerate(run(clip, PomatoConfig(), noise=0.1)):
        error = scene.world_from_camera[:3, :3].T @ true_pose(clip, t)[:3, :3]
        assert rotation_angle(error) < 2 * pixel_angle * (1 + t // 8)


@pytest.mark.parametrize("mode", MODES)
def test_depth_and_pose_share_one_scale_that_a_fixed_scale_sets(moving_clip, mode):
    options = {"mode": mode, "scale_source": "fixed", "scale": 1 / 0.7}
    for t, scene in enumerate(run(moving_clip, PomatoConfig().with_values(options), pair_scale=0.7)):
        np.testing.assert_allclose(scene.depth, moving_clip.depth_m[t].numpy(), rtol=5e-3)
        np.testing.assert_allclose(scene.world_from_camera[:3, 3], true_pose(moving_clip, t)[:3, 3], atol=5e-3)


@pytest.mark.parametrize("mode", MODES)
def test_the_mask_holds_only_pixels_that_moved_and_most_that_moved_far(moving_clip, mode):
    found = missed = 0
    scenes = run(moving_clip, PomatoConfig().with_values({"mode": mode}))
    anchor = 0
    for t, scene in enumerate(scenes):
        anchor = {"anchored": max(0, (t - 4) // 8 * 8), "rolling": max(0, t - 11)}[mode]
        moved = moving_clip.moving_mask(t, anchor).numpy()
        assert not (scene.dynamic_mask & ~moved).any()
        distance = (moving_clip.points_matched(t, anchor) - moving_clip.points_transferred(t, anchor)).norm(dim=-1)
        far = (distance / moving_clip.points_transferred(t, anchor).norm(dim=-1)).numpy() > 0.15
        found += int((scene.dynamic_mask & far).sum())
        missed += int((~scene.dynamic_mask & far).sum())
    assert found > 9 * missed


def test_a_still_scene_has_an_empty_mask_though_pointmaps_are_noisy():
    world = dataclasses.replace(TRAIN_WORLD, mover_probability=0.0)
    clip = render_clip(3, world, 14, (96, 64))
    for scene in run(clip, PomatoConfig(), noise=0.005):
        assert scene.dynamic_mask.mean() < 1e-3


@pytest.mark.parametrize("mode", MODES)
def test_tracks_keep_their_ids_across_windows_and_follow_their_points(moving_clip, mode):
    options = {"mode": mode, "scale_source": "fixed", "scale": 1 / 0.7}
    scenes = run(moving_clip, PomatoConfig().with_values(options), pair_scale=0.7)
    ids = [set(scene.tracks.ids.tolist()) for scene in scenes]
    assert len(ids[0] & ids[24]) > 0.3 * len(ids[0])  # three windows later
    retired: set[int] = set()
    for earlier, later in zip(ids, ids[1:], strict=False):
        retired |= earlier - later
        assert not retired & later
    last = scenes[20].tracks
    still = last.visible & ~last.dynamic
    pixels = np.rint(last.pixels[still]).astype(int)
    seen = scenes[20].points_camera[pixels[:, 1], pixels[:, 0]]
    in_camera = (last.positions_world[still] - scenes[20].world_from_camera[:3, 3]) @ scenes[20].world_from_camera[
        :3, :3
    ]
    assert np.median(np.abs(in_camera[:, 2] - seen[:, 2]) / seen[:, 2]) < 0.02


def test_every_published_number_is_finite_where_it_is_valid(moving_clip):
    for scene in run(moving_clip, PomatoConfig(), noise=0.05):
        assert np.isfinite(scene.world_from_camera).all()
        assert np.isfinite(scene.tracks.positions_world).all()
        assert np.linalg.eigvalsh(scene.pose_covariance).min() > 0


def test_the_state_is_warming_until_the_window_is_full(moving_clip):
    scenes = run(moving_clip, PomatoConfig())
    assert [scene.state for scene in scenes[:11]] == [TrackingState.WARMING] * 11
    assert {scene.state for scene in scenes[11:]} == {TrackingState.TRACKING}
    assert [scene.frames_in_window for scene in scenes[:13]] == [*range(1, 13), 12]


def test_reset_starts_a_new_world_but_never_reuses_a_track_id(moving_clip):
    engine = pointmap_engine(PomatoConfig(), OraclePredictor(moving_clip))
    before = engine.step(frame_of(moving_clip, 5))
    engine.reset()
    after = engine.step(frame_of(moving_clip, 0))
    np.testing.assert_array_equal(after.world_from_camera, np.eye(4))
    assert not set(before.tracks.ids.tolist()) & set(after.tracks.ids.tolist())


class Blinded(OraclePredictor):
    """Answers with nonsense while ``blind`` is set."""

    blind = False

    def predict(self, window: Window, wanted: Wanted | None = None) -> WindowPrediction:
        """Truth, or noise in place of where the newest frame's pixels are."""
        prediction = super().predict(window, wanted)
        if not self.blind:
            return prediction
        generator = torch.Generator().manual_seed(len(window.frames))
        noise = torch.randn(prediction.to_key.points_2.shape, generator=generator)
        return dataclasses.replace(
            prediction, to_key=dataclasses.replace(prediction.to_key, points_2=noise, points_match=noise)
        )


def test_noise_images_are_lost_without_a_pose_and_tracking_comes_back(moving_clip):
    predictor = Blinded(moving_clip)
    engine = pointmap_engine(PomatoConfig(), predictor)
    scenes = []
    for t in range(FRAMES):
        predictor.blind = 13 <= t < 17
        frame = frame_of(moving_clip, t)
        if predictor.blind:
            noise = np.random.default_rng(t).integers(0, 256, frame.image_rgb.shape, dtype=np.uint8)
            frame = dataclasses.replace(frame, image_rgb=noise)
        scenes.append(engine.step(frame))
    assert all(scene.state is TrackingState.LOST and scene.world_from_camera is None for scene in scenes[13:17])
    assert all(scene.state is TrackingState.TRACKING and scene.world_from_camera is not None for scene in scenes[25:])


def test_an_uncalibrated_camera_gets_its_focal_length_from_the_pointmap(moving_clip):
    engine = pointmap_engine(PomatoConfig(), OraclePredictor(moving_clip))
    scene = engine.step(frame_of(moving_clip, 0, calibrated=False))
    assert not scene.intrinsics_known
    assert scene.intrinsics.fx_px == pytest.approx(moving_clip.intrinsics.fx_px, rel=1e-2)


def test_time_that_does_not_advance_is_refused(moving_clip):
    engine = pointmap_engine(PomatoConfig(), OraclePredictor(moving_clip))
    engine.step(frame_of(moving_clip, 3))
    with pytest.raises(ValueError, match="expected a frame after"):
        engine.step(frame_of(moving_clip, 3))


def test_every_nth_frame_is_used_and_a_refused_one_leaves_its_place(moving_clip):
    engine = pointmap_engine(PomatoConfig().with_values({"window_stride": 3}), OraclePredictor(moving_clip))
    scenes = [engine.step(frame_of(moving_clip, t)) for t in range(6)]
    assert [scene is not None for scene in scenes] == [True, False, False, True, False, False]
    assert scenes[3].frames_in_window == 2
    with pytest.raises(ValueError, match="expected a frame after"):
        engine.step(frame_of(moving_clip, 0))
    assert engine.step(frame_of(moving_clip, 6)).frames_in_window == 3
    assert engine.step(frame_of(moving_clip, 7)) is None
    engine.reset()
    assert engine.step(frame_of(moving_clip, 0)).frames_in_window == 1


def test_an_image_too_small_for_the_network_is_refused_and_forgotten(moving_clip):
    engine = pointmap_engine(PomatoConfig().with_values({"image_size": 15}), OraclePredictor(moving_clip))
    with pytest.raises(ValueError, match="smaller than one patch"):
        engine.step(frame_of(moving_clip, 0))


@pytest.mark.parametrize(("window_size", "length"), [(12, 6), (7, 6)])
def test_a_window_longer_than_the_weights_reach_is_refused_at_once(moving_clip, window_size, length):
    class Short(OraclePredictor):
        def describe(self):
            return {**super().describe(), "temporal_length": length}

    config = PomatoConfig().with_values({"window_size": window_size})
    with pytest.raises(
        ConfigError, match=f"window_size must be at most {length} with these weights, got {window_size}"
    ):
        pointmap_engine(config, Short(moving_clip))
    pointmap_engine(config.with_values({"window_size": length}), Short(moving_clip))


def test_dynamic_options_count_from_the_next_step_on(moving_clip):
    engine = pointmap_engine(PomatoConfig(), OraclePredictor(moving_clip))
    assert np.isfinite(engine.step(frame_of(moving_clip, 0)).depth).all()
    engine.update_config(PomatoConfig().with_values({"conf_threshold": 9.0}))
    assert np.isnan(engine.step(frame_of(moving_clip, 1)).depth).all()


def test_a_scene_carries_its_frame_and_where_its_time_went(moving_clip):
    engine = pointmap_engine(PomatoConfig(), OraclePredictor(moving_clip))
    scene = engine.step(frame_of(moving_clip, 2))
    assert scene.stamp_ns == moving_clip.stamps_ns[2]
    np.testing.assert_array_equal(scene.image_rgb, moving_clip.images[2].numpy())
    assert scene.source_size_wh == (96, 64)
    assert scene.intrinsics == moving_clip.intrinsics
    assert scene.stage_seconds.keys() == {"preprocess", "model", "scene"}
    assert all(seconds >= 0 for seconds in scene.stage_seconds.values())
    assert engine.describe()["image_size_px"] == engine.image_size_px == 96


@pytest.mark.parametrize("mode", MODES)
def test_what_is_kept_of_earlier_frames_changes_no_pointmap(mode, moving_clip, tiny_config, make_network, tmp_path):
    weights = tmp_path / "tiny.safetensors"
    save_weights(weights, make_network(tiny_config), 96, {}, torch.float32)
    options = {"checkpoint": str(weights), "device": "cpu", "precision": "fp32", "mode": mode, "num_threads": 1}
    options |= {"window_size": 6, "overlap": 2, "conf_threshold": 0.0, "range_min": 0.0}
    twins = [Engine(PomatoConfig().with_values({**options, "reuse": reuse})) for reuse in (True, False)]
    for t in range(15):
        fast, slow = (engine.step(frame_of(moving_clip, t)) for engine in twins)
        assert (fast is None) == (slow is None)
        np.testing.assert_allclose(fast.confidence, slow.confidence, rtol=1e-4)
        rays = [scene.points_camera / scene.metres_per_unit for scene in (fast, slow)]
        np.testing.assert_allclose(*rays, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("allowed_ms", "longest", "said"),
    [(0.0, 12, ""), (130.0, 12, "window 12 of 12"), (105.0, 10, "window 10 of 12"), (50.0, 8, "over: window 8 of 12")],
)
def test_the_window_is_shortened_to_keep_a_step_within_its_time(moving_clip, monkeypatch, allowed_ms, longest, said):
    now_s = 0.0

    class Slow(OraclePredictor):
        """10 ms for each frame of the window, on a clock of its own."""

        def predict(self, window: Window, wanted: Wanted | None = None) -> WindowPrediction:
            nonlocal now_s
            now_s += 0.01 * len(window.frames)
            lengths.append(len(window.frames))
            return super().predict(window, wanted)

    lengths: list[int] = []
    monkeypatch.setattr("pomato_ros.engine.time.perf_counter", lambda: now_s)
    engine = pointmap_engine(
        PomatoConfig().with_values({"max_latency_ms": allowed_ms}), Slow(moving_clip, pair_scale=0.7)
    )
    scenes = [engine.step(frame_of(moving_clip, t)) for t in range(len(moving_clip))]
    assert max(lengths[20:]) == longest
    assert scenes[-1].budget.summary.partition(",")[0] == said
    for t, scene in enumerate(scenes):  # and whatever its length, what it says is right
        np.testing.assert_allclose(scene.world_from_camera[:3, 3], 0.7 * true_pose(moving_clip, t)[:3, 3], atol=2e-3)


class Listening(OraclePredictor):
    """Hands out the maps that were asked for only, and remembers which these were."""

    def predict(self, window: Window, wanted: Wanted | None = None) -> WindowPrediction:
        prediction = super().predict(window, wanted)
        self.asked = wanted
        orders = {"from_key": wanted.from_key_heads, "to_key": wanted.to_key_heads}
        return dataclasses.replace(
            prediction, **{name: only_heads(getattr(prediction, name), heads) for name, heads in orders.items()}
        )


def only_heads(pairs, heads):
    maps = (("points_1", "conf_1"), ("points_2", "conf_2"), ("points_match", "conf_match"))
    left_out = [name for number, names in enumerate(maps, 1) if number not in heads for name in names]
    return dataclasses.replace(pairs, **{name: getattr(pairs, name)[:0] for name in left_out})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("blind", [(), (8, 9)])  # frames after which a key has to be placed by others
def test_where_nobody_reads_tracks_one_map_is_not_asked_for_and_all_else_is_said_as_before(moving_clip, mode, blind):
    config = PomatoConfig().with_values({"mode": mode})
    engines = [pointmap_engine(config, Listening(moving_clip)) for _ in range(2)]
    engines[1].set_track_output_enabled(False)
    for t in range(len(moving_clip)):
        frame = frame_of(moving_clip, t)
        if t in blind:
            frame = dataclasses.replace(frame, image_rgb=np.full_like(frame.image_rgb, 9))
        whole, less = (engine.step(frame) for engine in engines)
        asked = engines[1]._pipeline.predictor.asked
        own, in_reference = asked.from_key_heads, asked.to_key_heads
        own, in_reference = (own, in_reference) if mode == "anchored" or t == 0 else (in_reference, own)
        assert own == (1,)
        assert set(in_reference) >= {2, 3}
        assert (whole.left_out, less.left_out) == ("", "matching pointmap of tracks: nobody reads tracks")
        objects = {"tracks": whole.tracks, "objects": whole.objects, "left_out": ""}
        assert_scenes_equal(dataclasses.replace(less, **objects), whole)


@pytest.mark.parametrize("mode", MODES)
def test_tracks_that_nobody_read_for_a_while_are_there_when_somebody_does(moving_clip, mode):
    options = {"mode": mode, "scale_source": "fixed", "scale": 1 / 0.7}
    engine = pointmap_engine(PomatoConfig().with_values(options), Listening(moving_clip))
    ids, errors = [], []
    for t in range(len(moving_clip)):
        engine.set_track_output_enabled(not 6 <= t < 20)
        scene = engine.step(frame_of(moving_clip, t))
        assert bool(scene.left_out) == (6 <= t < 20)
        tracks = scene.tracks
        ids.append(set(tracks.ids.tolist()))
        still = tracks.visible & ~tracks.dynamic
        pixels = np.rint(tracks.pixels[still]).astype(int)
        pose = scene.world_from_camera
        in_camera = (tracks.positions_world[still] - pose[:3, 3]) @ pose[:3, :3]
        truth = moving_clip.depth_m[t].numpy()[pixels[:, 1], pixels[:, 0]]
        errors.append(np.median(np.abs(in_camera[:, 2] - truth) / truth))
    assert max(errors) < 0.02
    assert len(ids[5] & ids[20]) > 0.5 * len(ids[5])
    retired: set[int] = set()
    for earlier, later in zip(ids, ids[1:], strict=False):
        retired |= earlier - later
        assert not retired & later


def test_an_engine_without_tracks_does_not_ask_for_them(moving_clip):
    engine = pointmap_engine(PomatoConfig().with_values({"max_tracks": 0}), Listening(moving_clip))
    for t in range(4):
        scene = engine.step(frame_of(moving_clip, t))
        assert (engine._pipeline.predictor.asked.from_key_heads, len(scene.tracks.ids)) == ((1,), 0)
        assert scene.left_out == "matching pointmap of tracks: max_tracks is 0"


@pytest.mark.parametrize(
    ("allowed_ms", "matched", "stride"), [(0.0, True, 1), (165.0, True, 1), (140.0, False, 1), (110.0, False, 2)]
)
def test_a_map_that_tracks_alone_read_is_left_out_to_keep_a_step_within_its_time(
    moving_clip, monkeypatch, allowed_ms, matched, stride
):
    now_s = 0.0

    class Slow(Listening):
        """5 ms for each frame of the window and map, coarse ones three quarters, on a clock of its own."""

        def predict(self, window: Window, wanted: Wanted | None = None) -> WindowPrediction:
            nonlocal now_s
            maps = len(wanted.from_key_heads) + len(wanted.to_key_heads)
            now_s += 0.005 * len(window.frames) * maps * (1.0 if wanted.stride == 1 else 0.75)
            return super().predict(window, wanted)

    monkeypatch.setattr("pomato_ros.engine.time.perf_counter", lambda: now_s)
    options = {"max_latency_ms": allowed_ms, "window_size": 8}  # which cannot be shortened
    engine = pointmap_engine(PomatoConfig().with_values(options), Slow(moving_clip, pair_scale=0.7))
    for t in range(len(moving_clip)):
        scene = engine.step(frame_of(moving_clip, t))
        np.testing.assert_allclose(scene.world_from_camera[:3, 3], 0.7 * true_pose(moving_clip, t)[:3, 3], atol=2e-3)
        if t >= 20:
            asked = engine._pipeline.predictor.asked
            assert (asked.from_key_heads, asked.to_key_heads) == ((1, 3) if matched else (1,), (2, 3))
            assert asked.stride == stride
            assert scene.left_out == ("" if matched else "matching pointmap of tracks: to keep max_latency_ms")
    assert ("tracks found in the image alone" in scene.budget.summary) == (not matched)
    assert scene.budget.state is not BudgetState.EXCEEDED


def test_without_the_tracks_map_the_stream_says_what_its_slow_twin_says(moving_clip, tiny_config, make_network):
    checkpoint = Checkpoint(make_network(tiny_config), 96, Path("tiny"), "", {})
    options = {"window_size": 6, "overlap": 2, "conf_threshold": 0.0, "range_min": 0.0}
    twins = [
        pointmap_engine(PomatoConfig().with_values(options), Predictor(checkpoint, torch.device("cpu"), "fp32", reuse))
        for reuse in (True, False)
    ]
    for t in range(15):
        for engine in twins:
            engine.set_track_output_enabled(t in (4, 5, 11))
        fast, slow = (engine.step(frame_of(moving_clip, t)) for engine in twins)
        assert fast.left_out == slow.left_out
        np.testing.assert_allclose(fast.confidence, slow.confidence, rtol=1e-4)
        rays = [scene.points_camera / scene.metres_per_unit for scene in (fast, slow)]
        np.testing.assert_allclose(*rays, rtol=1e-3, atol=1e-4)


def test_the_time_that_recording_takes_is_not_held_against_a_setting(
    tiny_config, make_network, moving_clip, monkeypatch
):
    now_s = 0.0

    def record_slowly(run):
        nonlocal now_s
        now_s += 10.0
        return record_eagerly(run)

    class Slow(Predictor):
        """10 ms for each frame of the window, and 10 s for each piece that is recorded, on a clock of its own."""

        def predict(self, window: Window, wanted: Wanted | None = None) -> WindowPrediction:
            nonlocal now_s
            now_s += 0.01 * len(window.frames)
            return super().predict(window, wanted)

    monkeypatch.setattr("pomato_ros.engine.time.perf_counter", lambda: now_s)
    checkpoint = Checkpoint(make_network(tiny_config), 96, Path("tiny"), "", {})
    options = {"window_size": 6, "overlap": 2, "max_latency_ms": 55.0}
    network = Slow(checkpoint, torch.device("cpu"), "fp32", recorder=record_slowly)
    engine, lengths = pointmap_engine(PomatoConfig().with_values(options), network), []
    for t in range(len(moving_clip)):
        scene = engine.step(frame_of(moving_clip, t))
        lengths.append(int(scene.budget.summary.split()[1]) if scene.budget.summary else 6)
    # nothing was recorded before; windows of 6 take 60 ms, those of 5 keep within 55, and no other is tried
    assert lengths[0] == 6
    assert lengths[-1] == 5
    assert set(lengths) == {5, 6}


@pytest.mark.parametrize("hop", [1, 2])
def test_warming_up_records_every_piece_of_a_stream_and_leaves_no_frame_behind(
    tiny_config, make_network, moving_clip, hop
):
    network = make_network(tiny_config)
    config = PomatoConfig().with_values({"window_size": 4, "overlap": 2, "image_size": 64, "window_hop": hop})
    checkpoint = Checkpoint(network, 64, Path("tiny"), "", {})
    recording, plain = (
        pointmap_engine(config, Predictor(checkpoint, torch.device("cpu"), "fp32", recorder=how))
        for how in (record_eagerly, None)
    )
    replays = recording._pipeline.predictor.replays
    plain.warm_up((96, 64))  # nothing to record
    recording.warm_up((96, 64))
    known = replays.count
    assert known > 0
    filling, frames = RollingWindow(4, 2, "anchored"), random_frames((64, 32))
    for number in range(24):
        for window, wanted in next_hop(filling, frames, hop):
            less = dataclasses.replace(wanted, from_key_heads=(1,))  # from the beginning of a window on
            recording._pipeline.predictor.predict(window, wanted if number < 12 else less)
    assert replays.count == known
    for t in range(10):
        both = (engine.advance(frame_of(moving_clip, t)) for engine in (recording, plain))
        for found, expected in zip(*both, strict=True):
            np.testing.assert_array_equal(found.points_camera, expected.points_camera)
    known = replays.count
    recording.reset()
    assert replays.count == known


def assert_scenes_equal(found, expected):
    """All that two scenes say, but for where the time went."""
    timeless = {"stage_seconds": {}, "budget": BudgetReport()}
    one, other = (dataclasses.asdict(dataclasses.replace(scene, **timeless)) for scene in (found, expected))
    np.testing.assert_equal(one, other)


@pytest.mark.parametrize("hop", [2, 3, 5])
def test_frames_taken_together_have_each_the_scene_that_it_would_have_alone(moving_clip, hop):
    """Of a predictor whose answer for a frame does not depend on the others; windows change in the midst of a hop."""
    alone = run(moving_clip, PomatoConfig(), pair_scale=0.7)
    engine = pointmap_engine(
        PomatoConfig().with_values({"window_hop": hop}), OraclePredictor(moving_clip, pair_scale=0.7)
    )
    found = []
    for t in range(len(moving_clip)):
        scenes = engine.advance(frame_of(moving_clip, t))
        assert len(scenes) == (hop if t % hop == hop - 1 else 0)
        found.extend(scenes)
    for scene, expected in zip(found, alone, strict=False):
        assert_scenes_equal(scene, expected)
    assert len(found) == len(moving_clip) // hop * hop


def test_who_waited_how_long_is_said(moving_clip, monkeypatch):
    now_s = 0.0
    monkeypatch.setattr("pomato_ros.engine.time.perf_counter", lambda: now_s)
    engine = pointmap_engine(PomatoConfig().with_values({"window_hop": 3}), OraclePredictor(moving_clip))
    for t in range(6):
        now_s = 0.25 * t
        scenes = engine.advance(frame_of(moving_clip, t))
    assert [scene.stage_seconds["waiting"] for scene in scenes] == [0.5, 0.25, 0.0]
    assert [scene.stamp_ns for scene in scenes] == [moving_clip.stamps_ns[t] for t in (3, 4, 5)]
    assert engine.step(frame_of(moving_clip, 6)) is None


def test_a_reset_and_a_failure_leave_nobody_waiting(moving_clip):
    class Failing(OraclePredictor):
        fails = False

        def predict(self, window: Window, wanted: Wanted | None = None) -> WindowPrediction:
            if self.fails:
                raise RuntimeError("out of memory")
            return super().predict(window, wanted)

    predictor = Failing(moving_clip)
    engine = pointmap_engine(PomatoConfig().with_values({"window_hop": 2}), predictor)
    assert engine.advance(frame_of(moving_clip, 0)) == ()
    engine.reset()
    assert engine.advance(frame_of(moving_clip, 0)) == ()
    assert len(engine.advance(frame_of(moving_clip, 1))) == 2
    engine.advance(frame_of(moving_clip, 2))
    predictor.fails = True
    with pytest.raises(RuntimeError, match="out of memory"):
        engine.advance(frame_of(moving_clip, 3))
    predictor.fails = False
    assert engine.advance(frame_of(moving_clip, 4)) == ()
    scenes = engine.advance(frame_of(moving_clip, 5))
    assert [scene.stamp_ns for scene in scenes] == [moving_clip.stamps_ns[t] for t in (4, 5)]


def test_waiting_counts_against_the_time_allowed_and_is_given_up_first(moving_clip, monkeypatch):
    now_s = 0.0
    monkeypatch.setattr("pomato_ros.engine.time.perf_counter", lambda: now_s)
    options = {"window_hop": 4, "max_latency_ms": 150.0}
    engine = pointmap_engine(PomatoConfig().with_values(options), OraclePredictor(moving_clip))
    counts = []
    for t in range(len(moving_clip)):
        now_s += 0.1  # a camera of 10 Hz, and an engine that takes no time
        scenes = engine.advance(frame_of(moving_clip, t))
        counts += [len(scenes)] if scenes else []
    # 0.3 s of waiting, then 0.1 s
    assert counts[:2] == [4, 4]
    assert set(counts[2:]) == {2}
    assert "window 12 of 12, 2 of 4 frames at once" in scenes[-1].budget.summary or not scenes


def test_frames_are_not_taken_together_in_rolling_mode():
    with pytest.raises(ConfigError, match="needs mode anchored"):
        PomatoConfig().with_values({"mode": "rolling", "window_hop": 2})


def test_a_hop_of_the_real_network_says_what_its_slow_twin_says(moving_clip, tiny_config, make_network):
    checkpoint = Checkpoint(make_network(tiny_config), 96, Path("tiny"), "", {})
    options = {"window_size": 6, "overlap": 2, "conf_threshold": 0.0, "range_min": 0.0, "window_hop": 3}
    fast, slow = (
        pointmap_engine(
            PomatoConfig().with_values(options), Predictor(checkpoint, torch.device("cpu"), "fp32", reuse, recorder)
        )
        for reuse, recorder in ((True, record_eagerly), (False, None))
    )
    for t in range(15):
        pairs = list(zip(*(engine.advance(frame_of(moving_clip, t)) for engine in (fast, slow)), strict=True))
        assert len(pairs) == (3 if t % 3 == 2 else 0)
        for found, expected in pairs:
            np.testing.assert_allclose(found.confidence, expected.confidence, rtol=1e-4)
            rays = [scene.points_camera / scene.metres_per_unit for scene in (found, expected)]
            np.testing.assert_allclose(*rays, rtol=1e-3, atol=1e-4)
