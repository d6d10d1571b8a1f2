"""Flow4R's equations on motions that are known, and the gradient of the fit where singular values are equal."""

import pytest
import torch
from torch import Tensor

from pomato_ros.sources.dust3r.scene_flow import (
    NearestRotation,
    anchor_factors,
    apply_rigid,
    centred_pixels,
    focal_of,
    image_flow,
    inverse_rigid,
    rigid_of_maps,
    split_flow,
    weighted_rigid,
)


def motion(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    skew = 0.4 * torch.randn(3, 3, generator=generator, dtype=torch.float64)
    full = torch.eye(4, dtype=torch.float64)
    full[:3, :3] = torch.linalg.matrix_exp(skew - skew.T)
    full[:3, 3] = torch.randn(3, generator=generator, dtype=torch.float64)
    return full


def cloud(*shape: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, 3, generator=generator, dtype=torch.float64) + torch.tensor([0.0, 0.0, 5.0])


def test_a_rigid_motion_is_found_whatever_the_weights_are() -> None:
    points = cloud(2, 30)
    true = torch.stack((motion(0), motion(3)))
    moved = (true[:, None, :3, :3] @ points[..., None])[..., 0] + true[:, None, :3, 3]
    weights = torch.rand(2, 30, dtype=torch.float64) + 0.1
    torch.testing.assert_close(weighted_rigid(points, moved, weights), true)


def test_the_fit_minimises_the_weighted_squares() -> None:
    points, weights = cloud(40), torch.rand(40, dtype=torch.float64)
    moved = cloud(40, seed=2)
    best = weighted_rigid(points, moved, weights)

    def cost(full: Tensor) -> Tensor:
        return (weights * (apply_rigid(full, points[None]) - moved).square().sum(-1)).sum()

    for seed in range(20):
        nearby = torch.linalg.matrix_exp(0.02 * torch.randn(3, 3, generator=torch.Generator().manual_seed(seed)))
        turned = best.clone()
        turned[:3, :3] = torch.linalg.qr(best[:3, :3] @ nearby.double()).Q
        turned[:3, :3] *= torch.sign(torch.diagonal(best[:3, :3].T @ turned[:3, :3]))[None]
        assert cost(best) <= cost(turned) + 1e-9
    assert torch.linalg.det(best[:3, :3]) > 0.99


def test_a_mirror_image_still_gives_a_rotation() -> None:
    points = cloud(30)
    found = weighted_rigid(points, points * torch.tensor([1.0, 1.0, -1.0]), torch.ones(30, dtype=torch.float64))
    torch.testing.assert_close(torch.linalg.det(found[:3, :3]), torch.ones((), dtype=torch.float64))


def test_gradients_are_those_of_differences() -> None:
    inputs = cloud(8).requires_grad_(), cloud(8, seed=2).requires_grad_(), torch.rand(8).double().requires_grad_()
    assert torch.autograd.gradcheck(weighted_rigid, inputs)


@pytest.mark.parametrize("values", [(2.0, 2.0, 2.0), (3.0, 1.0, 1.0), (1.0, 1.0, 0.0)])
def test_equal_singular_values_leave_the_gradient_finite_and_right(values: tuple[float, float, float]) -> None:
    products = (motion(1)[:3, :3] @ torch.diag(torch.tensor(values, dtype=torch.float64))).requires_grad_()
    assert torch.autograd.gradcheck(NearestRotation.apply, (products,))


def test_where_the_rotation_is_not_determined_the_gradient_is_zero_not_nan() -> None:
    products = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    NearestRotation.apply(products).sum().backward()
    assert products.grad is not None
    assert torch.equal(products.grad, torch.zeros_like(products))


def test_flow_splits_into_the_cameras_part_and_the_objects() -> None:
    points, full = cloud(12, 16), motion()
    moved = apply_rigid(full, points)
    moved[3:6, 4:8] += torch.tensor([0.5, 0.0, 0.1])
    weights = torch.ones(12, 16, dtype=torch.float64)
    weights[3:6, 4:8] = 0
    parts = split_flow(points, moved, weights)
    torch.testing.assert_close(parts.other_from_own, full)
    torch.testing.assert_close(parts.camera_flow + parts.object_flow, parts.flow)
    torch.testing.assert_close(parts.object_flow[4, 5], torch.tensor([0.5, 0.0, 0.1], dtype=torch.float64))
    assert parts.object_flow[0].abs().max() < 1e-12
    torch.testing.assert_close(parts.tracked[0], points[0])
    torch.testing.assert_close(parts.tracked[4, 5] - points[4, 5], full[:3, :3].T @ parts.object_flow[4, 5])


def test_a_mask_in_place_of_the_weights_gives_an_objects_own_motion() -> None:
    points, camera, thing = cloud(12, 16), motion(0), motion(5)
    moved = apply_rigid(camera, points)
    mask = torch.zeros(12, 16, dtype=torch.bool)
    mask[2:8, 3:9] = True
    moved[mask] = apply_rigid(thing, points)[mask]
    torch.testing.assert_close(rigid_of_maps(points, moved, mask.double()), thing)
    torch.testing.assert_close(rigid_of_maps(points, moved, (~mask).double()), camera)
    torch.testing.assert_close(inverse_rigid(thing) @ thing, torch.eye(4, dtype=torch.float64))


def test_the_focal_length_and_image_flow_are_those_of_the_pinhole() -> None:
    pixels = centred_pixels(12, 16, cloud(1))
    depth = torch.rand(12, 16, dtype=torch.float64) + 2
    points = torch.cat((pixels / 20 * depth[..., None], depth[..., None]), dim=-1)
    torch.testing.assert_close(focal_of(points), torch.tensor(20.0, dtype=torch.float64))
    moved = points + torch.tensor([0.1, 0.0, 0.0])
    flow = image_flow(points, moved, focal_of(points))
    torch.testing.assert_close(flow[..., 0], 20 * 0.1 / depth)
    assert flow[..., 1].abs().max() < 1e-12


def test_anchored_pairs_are_brought_to_the_first_ones_unit() -> None:
    points = cloud(6, 8)
    torch.testing.assert_close(
        anchor_factors(torch.stack((points, 2 * points, points / 4))),
        torch.tensor([1.0, 0.5, 4.0], dtype=torch.float64),
    )
