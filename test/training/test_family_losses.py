"""Losses of D²USt3R and Flow4R: what each term asks, who gets its gradient, and batches that are learned."""

import dataclasses

import pytest
import torch
from torch import Tensor

from pomato_ros.sources.dust3r.scene_flow import apply_rigid, rigid_of_maps
from pomato_ros.training.d2ust3r_losses import (
    AlignedLosses,
    AlignedOutputs,
    AlignedTruth,
    aligned_losses,
    aligned_points,
    mask_loss,
)
from pomato_ros.training.flow4r_losses import FlowOutputs, FlowTruth, FlowWeights, flow_losses, normalised

HEIGHT, WIDTH = 6, 8


def cloud(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, HEIGHT, WIDTH, 3, generator=generator, dtype=torch.float64)
    return noise + torch.tensor([0.0, 0.0, 5.0])


def mask(value: bool) -> Tensor:
    return torch.full((1, HEIGHT, WIDTH), value)


def ones() -> Tensor:
    return torch.ones(1, HEIGHT, WIDTH, dtype=torch.float64)


# --- D²USt3R


def aligned_truth() -> AlignedTruth:
    moving, flow = mask(False), torch.zeros(1, HEIGHT, WIDTH, 2, dtype=torch.float64)
    moving[:, 2:4, 2:4] = True
    flow[:, 2:4, 2:4, 0] = 2.0
    points_1 = cloud(0)
    points_2 = points_1.clone()
    points_2[:, 2:4, 2:4] += 1.0
    return AlignedTruth(points_1, points_2, mask(True), mask(True), moving, mask(False), flow)


def aligned_answer(truth: AlignedTruth) -> Tensor:
    return torch.where(truth.moving_2[..., None], aligned_points(truth)[0], truth.points_2)


def losses_of(points_1: Tensor, points_2: Tensor, truth: AlignedTruth, conf: Tensor | None = None) -> AlignedLosses:
    conf = ones() if conf is None else conf
    return aligned_losses(AlignedOutputs(points_1, conf, points_2, conf), truth)


def test_the_right_answer_shows_movers_where_they_were() -> None:
    truth = aligned_truth()
    points, known = aligned_points(truth)
    assert torch.equal(points[0, 2, 3], truth.points_1[0, 2, 5])
    assert known.all()
    aligned = losses_of(truth.points_1, aligned_answer(truth), truth)
    unaligned = losses_of(truth.points_1, truth.points_2, truth)
    assert aligned.dynamic < 0.1 * unaligned.dynamic


def test_scale_is_free_and_resting_points_count_in_the_static_term_only() -> None:
    truth = aligned_truth()
    answer = aligned_answer(truth)
    torch.testing.assert_close(
        losses_of(3 * truth.points_1, 3 * answer, truth).total, losses_of(truth.points_1, answer, truth).total
    )
    points_2 = answer.clone().requires_grad_()
    dynamic = losses_of(truth.points_1, points_2, dataclasses.replace(truth, occluded_2=mask(True))).dynamic
    assert dynamic == 0  # nothing is asked of movers that image 1 does not see
    beyond = dataclasses.replace(truth, flow_2=truth.flow_2 + 100)
    assert losses_of(truth.points_1, points_2, beyond).dynamic == 0


def test_aligned_gradients_are_those_of_differences() -> None:
    truth = aligned_truth()
    inputs = (cloud(3).requires_grad_(), cloud(4).requires_grad_(), (ones() + 0.5).requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b, c: losses_of(a, b, truth, c).total, inputs)
    logits = torch.randn(1, HEIGHT, WIDTH, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: mask_loss(x, truth.moving_2), (logits,))


def test_one_aligned_batch_is_learned() -> None:
    truth = aligned_truth()
    points = [cloud(5).requires_grad_(), cloud(6).requires_grad_()]
    optimiser = torch.optim.Adam(points, lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        losses_of(points[0], points[1], truth).total.backward()
        optimiser.step()
    error = points[1] / points[0].norm(dim=-1).mean() - aligned_answer(truth) / truth.points_1.norm(dim=-1).mean()
    assert error.norm(dim=-1).mean() < 0.05


# --- Flow4R


def flow_truth(dynamic: bool = True) -> FlowTruth:
    motion = torch.eye(4, dtype=torch.float64)[None].clone()
    motion[:, :3, 3] = torch.tensor([0.2, -0.1, 0.3])
    points = cloud(0)
    moved = apply_rigid(motion, points)
    moved[:, 2:4, 2:4] += 0.5
    focal = torch.tensor([10.0], dtype=torch.float64)
    return FlowTruth(points, moved, motion, focal, mask(True), mask(True), mask(True), dynamic)


def uniform() -> Tensor:
    return ones() / (HEIGHT * WIDTH)


def test_the_truth_itself_costs_nothing_but_the_movers_share_of_the_camera_term() -> None:
    truth = flow_truth()
    weights = uniform()
    weights[:, 2:4, 2:4] = 0
    losses = flow_losses(FlowOutputs(truth.points, truth.moved, weights / weights.sum(), ones()), truth, FlowWeights())
    for term in (losses.points, losses.flow, losses.image_flow, losses.weights, losses.camera_flow):
        assert abs(term.item()) < 1e-9
    still = flow_losses(FlowOutputs(truth.points, truth.moved, uniform(), ones()), flow_truth(False), FlowWeights())
    assert still.camera_flow > 0.01


def test_the_pose_term_reaches_the_weights_alone() -> None:
    truth = flow_truth()
    leaves = [x.clone().requires_grad_() for x in (cloud(1), cloud(2), uniform(), ones() + 0.5)]
    losses = flow_losses(FlowOutputs(*leaves), truth, FlowWeights())
    found = torch.autograd.grad(losses.weights, leaves, allow_unused=True, retain_graph=True)
    assert [gradient is not None for gradient in found] == [False, False, True, False]
    others = flow_losses(FlowOutputs(*leaves), truth, FlowWeights(weights=0.0)).total
    assert torch.equal(torch.autograd.grad(others, leaves)[2], torch.zeros_like(leaves[2]))


@pytest.mark.parametrize("dynamic", [True, False])
def test_flow_gradients_are_those_of_differences(dynamic: bool) -> None:
    truth = flow_truth(dynamic)
    still = (uniform(), cloud(1), cloud(2))

    def on_maps(points: Tensor, moved: Tensor, conf: Tensor) -> Tensor:
        losses = flow_losses(FlowOutputs(points, moved, still[0], conf), truth, FlowWeights())
        return losses.total - FlowWeights().weights * losses.weights

    inputs = (cloud(1).requires_grad_(), cloud(2).requires_grad_(), (ones() + 0.5).requires_grad_())
    assert torch.autograd.gradcheck(on_maps, inputs)
    assert torch.autograd.gradcheck(
        lambda w: flow_losses(FlowOutputs(still[1], still[2], w, ones()), truth, FlowWeights()).weights,
        (uniform().requires_grad_(),),
    )


def test_normalised_outputs_do_not_depend_on_their_unit() -> None:
    truth, outputs = flow_truth(), FlowOutputs(cloud(1), cloud(2), uniform(), ones())
    larger = dataclasses.replace(outputs, points=4 * outputs.points, moved=4 * outputs.moved)
    one, other = (flow_losses(*normalised(given, truth), FlowWeights()).total for given in (outputs, larger))
    torch.testing.assert_close(one, other)
    seen = apply_rigid(normalised(outputs, truth)[1].other_from_own, normalised(outputs, truth)[1].points)
    size = truth.points.norm(dim=-1).mean()
    torch.testing.assert_close(seen, apply_rigid(truth.other_from_own, truth.points) / size)


def test_one_flow_batch_is_learned_and_its_weights_leave_the_movers() -> None:
    truth = flow_truth()
    points, moved = cloud(1).requires_grad_(), cloud(2).requires_grad_()
    logits = torch.zeros(1, HEIGHT * WIDTH, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([points, moved, logits], lr=0.05)
    for _ in range(300):
        weights = logits.softmax(-1).view(1, HEIGHT, WIDTH)
        optimiser.zero_grad()
        flow_losses(FlowOutputs(points, moved, weights, ones()), truth, FlowWeights(camera_flow=0.0)).total.backward()
        optimiser.step()
    weights = logits.softmax(-1).view(1, HEIGHT, WIDTH).detach()
    assert (points - truth.points).norm(dim=-1).mean() < 0.1
    assert weights[:, 2:4, 2:4].mean() < 0.5 * weights.mean()
    found = rigid_of_maps(points.detach(), moved.detach(), weights)
    torch.testing.assert_close(found, truth.other_from_own, atol=0.06, rtol=0)
