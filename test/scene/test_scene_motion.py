import dataclasses

import cv2
import numpy as np
import pytest

from pomato_ros.config import MotionTuning
from pomato_ros.geometry.rigid import compose, invert, pose_exp
from pomato_ros.scene.flow import FlowCache
from pomato_ros.scene.motion import MotionSegmenter
from pomato_ros.scene.motion_regions import completed, guided, regions
from pomato_ros.structures import DepthMap, MotionEvidence, PosePrior
from pomato_ros.synthetic.sensors import KINECT, sense_depth
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip

FRAMES = 10
POSE_STD = np.array([0.002] * 3 + [0.0017] * 3)  # m, rad


@pytest.fixture(scope="module")
def moving_clip():
    return render_clip(3221226002, TRAIN_WORLD, FRAMES, (320, 240))


@pytest.fixture(scope="module")
def static_clip():
    world = dataclasses.replace(TRAIN_WORLD, mover_probability=0.0)
    return render_clip(3221227002, world, FRAMES, (320, 240))


def depth_map(clip, t):
    depth_m = sense_depth(clip, t)
    valid = np.isfinite(depth_m)
    inverse = np.where(valid, 1.0 / np.where(valid, depth_m, 1.0), 0.0).astype(np.float32)
    sigma_m = KINECT.sigma_a_m + KINECT.sigma_b_per_m * (np.nan_to_num(depth_m, nan=1.0) - KINECT.sigma_c_m) ** 2
    return DepthMap(inverse, (sigma_m * inverse**2 + 0.001).astype(np.float32), valid, metric=True)


def run(clip, segmenter, *, depth=True, posed=True, evidence=None, valid=None):
    """The states of each frame."""
    flow, states, world_from_camera = FlowCache(), [], clip.world_from_camera.numpy()
    draws = np.random.default_rng(0)
    for t in range(len(clip)):
        gray = cv2.cvtColor(clip.images[t].numpy(), cv2.COLOR_RGB2GRAY)
        flow.push(t, gray, valid)

        def pose(gap, t=t):
            true = compose(invert(world_from_camera[t - gap]), world_from_camera[t])
            error = pose_exp(POSE_STD * draws.standard_normal(6))
            return PosePrior(gap, compose(error, true), np.diag(POSE_STD**2))

        states.append(
            segmenter.update(
                gray,
                clip.intrinsics,
                flow.correspondence,
                depth=depth_map(clip, t) if depth else None,
                pose=pose if posed else None,
                evidence=evidence,
                valid=valid,
            )
        )
    return states


@pytest.mark.parametrize(("seed", "depth", "least"), [(3221226002, True, 0.4), (3221226006, False, 0.2)])
def test_a_mover_is_found(seed, depth, least):
    moving_clip = render_clip(seed, TRAIN_WORLD, FRAMES, (320, 240))
    states = run(moving_clip, MotionSegmenter(), depth=depth)
    both = either = 0
    for t in range(3, FRAMES):
        truth, mask = moving_clip.moving(t).numpy(), states[t].mask
        both, either = both + (truth & mask).sum(), either + (truth | mask).sum()
    assert both / either > least


@pytest.mark.parametrize(("depth", "posed"), [(True, True), (False, True)])
def test_where_nothing_moves_nothing_is_found(static_clip, depth, posed):
    states = run(static_clip, MotionSegmenter(), depth=depth, posed=posed)
    assert np.mean([state.mask.mean() for state in states]) < 0.005


def test_the_same_frames_after_a_reset_give_the_same(moving_clip):
    segmenter = MotionSegmenter()
    first = run(moving_clip, segmenter)[-1]
    segmenter.reset()
    again = run(moving_clip, segmenter)[-1]
    assert (first.mask != again.mask).mean() < 1e-3


def test_a_still_image_does_not_move():
    image = np.uint8(255 * np.random.default_rng(0).random((120, 160)))
    flow, segmenter = FlowCache(), MotionSegmenter()
    clip = render_clip(5, TRAIN_WORLD, 1, (160, 120))
    for t in range(6):
        flow.push(t, image)
        state = segmenter.update(image, clip.intrinsics, flow.correspondence)
    assert not state.mask.any()
    assert (state.log_odds[8:-8, 8:-8] < 0).mean() > 0.9


def test_evidence_of_the_source_counts_and_pixels_without_scene_do_not(static_clip):
    log_odds = np.full((240, 320), -1.0, np.float32)
    log_odds[60:140, 80:200] = 6.0
    valid = np.ones((240, 320), bool)
    valid[:, :120] = False
    state = run(static_clip, MotionSegmenter(), evidence=MotionEvidence(log_odds), valid=valid)[-1]
    assert state.mask[80:120, 140:180].mean() > 0.9
    assert not state.mask[:, :120].any()


def test_log_odds_stay_within_their_limit_and_maps_have_the_images_size(moving_clip):
    for side_px in (100, 640):
        tuning = MotionTuning(work_side_px=side_px)
        for state in run(moving_clip, MotionSegmenter(tuning)):
            assert state.log_odds.shape == state.mask.shape == (240, 320)
            assert np.isfinite(state.log_odds).all()
            assert state.log_odds.dtype == np.float32


def test_the_guided_filter_keeps_constants_and_edges():
    gray = np.zeros((40, 60), np.uint8)
    gray[:, 30:] = 200
    np.testing.assert_allclose(guided(np.full((40, 60), 1.5, np.float32), gray, 4, 8.0), 1.5, atol=1e-4)
    values = np.where(gray > 0, 2.0, -2.0).astype(np.float32)
    np.testing.assert_allclose(guided(values, gray, 4, 8.0), values, atol=0.02)


def test_segments_are_completed_from_what_is_known_of_them():
    gray = np.zeros((60, 80), np.uint8)
    gray[20:40, 20:60] = 200
    log_odds = np.zeros((60, 80), np.float32)
    log_odds[24:36, 24:46] = 3.0
    whole = completed(log_odds, gray, None, MotionTuning())
    assert (whole[23:37, 23:57] > 2.9).all()
    assert not whole[:18].any()


def test_regions_begin_high_and_end_low():
    tuning = MotionTuning()
    log_odds = np.full((100, 100), -1.0, np.float32)
    log_odds[10:40, 10:40] = 0.5 * (tuning.begin + tuning.go_on)
    log_odds[60:90, 10:40] = log_odds[10, 10]
    log_odds[65:80, 15:30] = 2.0 * tuning.begin
    log_odds[5, 90] = 4.0
    mask = regions(log_odds, tuning)
    assert mask[60:90, 10:40].all()
    assert mask.sum() == 900
