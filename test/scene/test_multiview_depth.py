"""Triangulated depth is near the truth by its own standard deviation, and silent without parallax and on movers."""

import dataclasses

import numpy as np
import pytest

from pomato_ros.config import MultiviewTuning
from pomato_ros.geometry.rigid import pose_exp
from pomato_ros.scene.multiview_depth import ViewPair, fill_depth, triangulate, useful_gap
from pomato_ros.structures import Correspondence, DepthMap, Intrinsics, PosePrior
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip

FLOW_SIGMA_PX = 0.2
POSE_SIGMA = np.array([0.002] * 3 + [0.0005] * 3)  # m, rad
NEWEST = 6
TUNING = MultiviewTuning(flow_floor_px=0.0)  # the flow here errs as its sigma says


@pytest.fixture(scope="module")
def clip() -> Clip:
    world = dataclasses.replace(
        TRAIN_WORLD, mover_probability=1.0, camera_kinds=(0.0, 1.0, 0.0, 0.0, 0.0), open_ground_probability=0.0
    )
    return render_clip(12, world, NEWEST + 1, (160, 120))


def pair(clip: Clip, gap: int, draws: np.random.Generator, pose_sigma: np.ndarray = POSE_SIGMA) -> ViewPair:
    earlier = NEWEST - gap
    matched = clip.pixels_matched(NEWEST, earlier).numpy()
    visible = clip.visible(NEWEST, earlier).numpy()
    pixels = matched + FLOW_SIGMA_PX * draws.standard_normal(matched.shape)
    poses = clip.world_from_camera.numpy()
    true = np.linalg.inv(poses[earlier]) @ poses[NEWEST]
    error = pose_sigma * draws.standard_normal(6)
    noisy = true.copy()
    noisy[:3, :3] = pose_exp(np.concatenate((np.zeros(3), error[3:])))[:3, :3] @ true[:3, :3]
    noisy[:3, 3] += error[:3]
    sigma = np.full(visible.shape, FLOW_SIGMA_PX, np.float32)
    match = Correspondence(gap, np.nan_to_num(pixels).astype(np.float32), sigma, visible)
    return ViewPair(match, noisy, np.diag(pose_sigma**2))


def observed(clip: Clip, seed: int = 0, static: np.ndarray | None = None) -> DepthMap:
    draws = np.random.default_rng(seed)
    found = triangulate([pair(clip, gap, draws) for gap in (2, 4, 6)], clip.intrinsics, static, TUNING)
    assert found is not None
    return found


def test_residuals_have_the_size_of_sigma_over_errors_of_flow_and_pose(clip: Clip) -> None:
    squares, shares = [], []
    rest = ~clip.moving(NEWEST).numpy()
    for seed in range(12):
        depth = observed(clip, seed, rest)
        residual = (depth.inverse_depth - 1.0 / clip.depth_m[NEWEST].numpy()) / depth.sigma
        squares.append(np.mean(residual[depth.valid] ** 2))
        shares.append(depth.valid.mean())
    assert np.mean(shares) > 0.2
    assert 0.4 < np.mean(squares) < 2.0


def test_relative_errors_are_within_what_validity_promises(clip: Clip) -> None:
    depth = observed(clip, static=~clip.moving(NEWEST).numpy())
    error = np.abs(depth.inverse_depth * clip.depth_m[NEWEST].numpy() - 1.0)[depth.valid]
    assert np.median(error) < TUNING.relative_sigma
    assert (depth.sigma[depth.valid] <= TUNING.relative_sigma * depth.inverse_depth[depth.valid] * 1.001).all()


def test_a_camera_that_only_turns_gives_no_depth(clip: Clip) -> None:
    draws = np.random.default_rng(1)
    turned = pose_exp([0.0, 0.0, 0.0, 0.0, 0.05, 0.0])
    still = dataclasses.replace(pair(clip, 2, draws), earlier_from_newest=turned)
    found = triangulate([still], clip.intrinsics, None, TUNING)
    assert found is not None
    assert not found.valid.any()


def test_pose_errors_make_depth_less_certain(clip: Clip) -> None:
    sure, unsure = (
        triangulate([pair(clip, 4, np.random.default_rng(2), scale * POSE_SIGMA)], clip.intrinsics, None, TUNING)
        for scale in (0.01, 10.0)
    )
    assert sure is not None
    assert unsure is not None
    seen = np.isfinite(sure.sigma) & sure.valid
    assert (unsure.sigma[seen] > 2.0 * sure.sigma[seen]).mean() > 0.95


def test_what_is_not_at_rest_or_not_visible_is_not_valid(clip: Clip) -> None:
    static = np.zeros(clip.depth_m.shape[1:], bool)
    assert not observed(clip, static=static).valid.any()
    hidden = pair(clip, 4, np.random.default_rng(3))
    match = dataclasses.replace(hidden.correspondence, visible=static)
    found = triangulate([dataclasses.replace(hidden, correspondence=match)], clip.intrinsics, None, TUNING)
    assert found is not None
    assert not found.valid.any()


@pytest.mark.parametrize(
    ("shifts_px", "expected"),
    [({4: 1.0, 8: 1.9}, None), ({4: 1.0, 8: 2.1}, 8), ({4: 4.0, 8: 7.0}, 8), ({8: 20.0, 4: 9.0}, 4), ({4: 5.0}, 4)],
)
def test_the_shortest_gap_with_ample_parallax_is_used(shifts_px, expected) -> None:  # noqa: ANN001
    camera = Intrinsics(fx_px=300.0, fy_px=300.0, cx_px=160.0, cy_px=120.0, width_px=320, height_px=240)
    poses: dict[int, PosePrior | None] = {2: None}
    for gap, shift_px in shifts_px.items():
        turned = pose_exp(np.array([0.0, 0.0, 0.0, 0.3, 0.1, 0.0]))
        turned[:3, 3] = (0.0, shift_px * TUNING.useful_depth_m / camera.fx_px, 0.0)
        poses[gap] = PosePrior(gap, turned, np.eye(6))
    assert useful_gap(poses, camera, TUNING) == expected


def test_the_sensor_comes_first_and_gaps_are_filled() -> None:
    ones = np.ones((2, 2), np.float32)
    sensor = DepthMap(0.5 * ones, 0.01 * ones, np.array([[True, False], [True, False]]), metric=True)
    other = DepthMap(0.2 * ones, 0.02 * ones, np.array([[True, True], [False, False]]), metric=True)
    filled = fill_depth(sensor, other)
    assert filled is not None
    np.testing.assert_array_equal(filled.valid, [[True, True], [True, False]])
    np.testing.assert_allclose(filled.inverse_depth[0], [0.5, 0.2])
    np.testing.assert_allclose(filled.sigma[0], [0.01, 0.02])
    assert fill_depth(None, None) is None
    assert fill_depth(sensor, None) is sensor
    assert triangulate([], pair_camera(), None, TUNING) is None


def pair_camera():  # noqa: ANN201
    from pomato_ros.structures import Intrinsics

    return Intrinsics(1.0, 1.0, 0.0, 0.0, 2, 2)
