"""The objective is zero at the truth, blind to the world's frame, and equal to the published one."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pomato_ros.evaluation.parity.engine import check_fixture
from pomato_ros.evaluation.parity.report import Status
from pomato_ros.mapping.objective import (
    EdgePointmaps,
    MeasuredFlow,
    alignment_cost,
    camera_flow,
    consistent_flow,
    flow_cost,
    sequence_flow_cost,
    smoothness_steps,
)
from pomato_ros.mapping.variables import (
    FOCAL_FACTOR,
    MEAN_EDGE_SCALE,
    AlignmentVariables,
    centred_grid,
    decode_poses,
    encode_poses,
    transform_points,
)

IMAGES, HEIGHT, WIDTH = 3, 4, 6


def random_variables(edges: int = 4, seed: int = 0) -> AlignmentVariables:
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    upright = torch.tensor([0.0, 0, 0, 2, 0, 0, 0], dtype=torch.float64)
    return AlignmentVariables(
        log_depth=0.2 * noise(IMAGES, HEIGHT, WIDTH) + 1,
        poses=upright + 0.2 * noise(IMAGES, 7),
        focals=FOCAL_FACTOR * (torch.full((IMAGES, 1), 8.0, dtype=torch.float64).log() + 0.1 * noise(IMAGES, 1)),
        edges=torch.cat((upright + 0.2 * noise(edges, 7), 0.3 * noise(edges, 1)), dim=1),
    )


def exact_pairs(variables: AlignmentVariables) -> EdgePointmaps:
    """Pointmaps that agree with ``variables`` in every pixel."""
    edges = torch.tensor([[0, 1], [1, 0], [1, 2], [2, 0]])
    edge_from_world = torch.linalg.inv(variables.world_from_edge())
    points_world = variables.points_world()
    sides = [transform_points(edge_from_world, points_world[index]) for index in edges.unbind(-1)]
    weights = torch.ones(sides[0].shape[:-1], dtype=torch.float64)
    return EdgePointmaps(edges, sides[0], sides[1], weights, weights)


def test_what_agrees_costs_nothing() -> None:
    variables = random_variables()
    assert alignment_cost(variables, exact_pairs(variables)).item() < 1e-12


def test_the_frame_of_the_world_does_not_matter() -> None:
    variables, other = random_variables(seed=1), random_variables(seed=2)
    pairs = exact_pairs(other)
    rotation = decode_poses(random_variables(seed=3).poses)[0]
    moved = AlignmentVariables(
        variables.log_depth,
        _moved(rotation, variables.poses),
        variables.focals,
        torch.cat((_moved(rotation, _scaled_translation(variables)), variables.edges[:, 7:]), dim=1),
    )
    before, after = alignment_cost(variables, pairs), alignment_cost(moved, pairs)
    # translations of edges are multiplied by their scale, so a shift of the world is one of theirs divided by it
    assert torch.allclose(before, after, rtol=1e-9)


def _scaled_translation(variables: AlignmentVariables) -> Tensor:
    return variables.edges[:, :7]


def _moved(world_from_old: Tensor, encoded: Tensor) -> Tensor:
    """Poses turned about the origin of the world."""
    poses = decode_poses(encoded)
    turned = world_from_old[:3, :3] @ poses[:, :3, :3]
    position = poses[:, :3, 3] @ world_from_old[:3, :3].T
    return encode_poses(_quaternions(turned), position)


def _quaternions(rotations: Tensor) -> Tensor:
    from pomato_ros.geometry.rigid import quaternion_xyzw_from_matrix

    return torch.from_numpy(quaternion_xyzw_from_matrix(rotations.numpy()))


def test_edge_scales_have_the_fixed_geometric_mean() -> None:
    scales = random_variables().edge_scales()
    assert scales.log().mean().exp().item() == pytest.approx(MEAN_EDGE_SCALE)


def test_encoding_poses_is_undone_by_decoding() -> None:
    poses = decode_poses(random_variables(seed=4).poses)
    encoded = encode_poses(_quaternions(poses[:, :3, :3]), poses[:, :3, 3])
    assert torch.allclose(decode_poses(encoded), poses)


def test_gradients_are_those_of_finite_differences() -> None:
    start, truth = random_variables(seed=5), random_variables(seed=6)
    pairs = exact_pairs(truth)

    def cost(*leaves: Tensor) -> Tensor:
        variables = AlignmentVariables(*leaves)
        return alignment_cost(variables, pairs) + smoothness_steps(variables.world_from_camera(), 1.0).sum()

    assert torch.autograd.gradcheck(cost, tuple(start.require_gradients().leaves()), fast_mode=True)


def test_a_camera_at_rest_sees_no_flow_and_turning_back_undoes_it() -> None:
    variables = random_variables(seed=7)
    poses, focals = variables.world_from_camera(), variables.focals_px()
    still = camera_flow(variables.depth(), poses, poses, focals, focals, variables.pixels())
    assert still.abs().max() < 1e-4
    plane = torch.full((1, 24, 32), 2.0, dtype=torch.float64)
    grid = centred_grid(24, 32, plane)
    moved = torch.eye(4, dtype=torch.float64)[None].clone()
    moved[:, 0, 3] = 0.1
    focal = torch.tensor([40.0], dtype=torch.float64)
    there = camera_flow(plane, torch.eye(4, dtype=torch.float64)[None], moved, focal, focal, grid)
    assert there[..., 0] == pytest.approx(-2.0, abs=1e-4)
    back = camera_flow(plane, moved, torch.eye(4, dtype=torch.float64)[None], focal, focal, grid)
    valid = consistent_flow(there, back)
    assert valid[..., 4:-4].all()
    assert not valid[..., :2].any()


def test_flow_counts_still_pixels_and_drops_outliers() -> None:
    flow = torch.zeros(1, 2, 2, 2)
    measured = torch.zeros(1, 2, 2, 2)
    measured[0, 0, 0] = 3.0
    measured[0, 0, 1] = 1000.0
    static = torch.tensor([[[True, True], [True, False]]])
    assert flow_cost(flow, measured, static).item() == pytest.approx(2 * 2.5 / 4)
    assert flow_cost(flow, measured, torch.zeros_like(static)).item() == 0.0


def test_flow_of_the_camera_costs_nothing() -> None:
    variables = random_variables(seed=8)
    edges = torch.tensor([[0, 1], [1, 2]])
    poses, focals, depth = variables.world_from_camera(), variables.focals_px(), variables.depth()
    both = [
        camera_flow(depth[a], poses[a], poses[b], focals[a], focals[b], variables.pixels())
        for a, b in (edges.unbind(-1), edges.flip(-1).unbind(-1))
    ]
    static = torch.ones(len(edges), HEIGHT, WIDTH, dtype=torch.bool)
    assert sequence_flow_cost(variables, MeasuredFlow(edges, both[0], both[1], static, static)).item() < 1e-12


@pytest.mark.parametrize("name", ["ga_objective", "focal_pnp"])
def test_parity_covers_every_array_within_tolerance(fixtures_dir: Path, name: str) -> None:
    file = fixtures_dir / f"{name}.npz"
    if not file.is_file():
        pytest.skip(f"no {file}")
    report = check_fixture(file)
    assert report.not_covered == 0
    assert [row.name for row in report.rows if row.status is Status.OVER] == []
    assert report.checked > 20
