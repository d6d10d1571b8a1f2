"""Time-aligned pointmaps and masks from flow, on scenes whose motion is known."""

import torch
from torch import Tensor

from pomato_ros.sources.dust3r.time_aligned import (
    camera_flow,
    flow_by_projection,
    inside_image,
    moving_mask,
    occlusion_mask,
    pass_scale,
    pixel_places,
    scene_flow_of,
)

HEIGHT, WIDTH, FOCAL = 12, 16, 20.0
K = torch.tensor([[FOCAL, 0.0, 8.0], [0.0, FOCAL, 6.0], [0.0, 0.0, 1.0]], dtype=torch.float64)


def scene(depth: float = 4.0) -> Tensor:
    pixels = pixel_places(HEIGHT, WIDTH, K)
    rays = torch.cat((pixels, torch.ones_like(pixels[..., :1])), -1) @ torch.linalg.inv(K).T
    return depth * rays


def shifted(dx: float) -> Tensor:
    motion = torch.eye(4, dtype=torch.float64)
    motion[0, 3] = dx
    return motion


def test_projection_of_aligned_points_is_the_flow_of_what_moves_as_well() -> None:
    points_at_time_1 = scene() + torch.tensor([0.4, 0.0, 0.0])  # all were 0.4 to the right, which is 2 px
    flow = flow_by_projection(points_at_time_1, K)
    torch.testing.assert_close(flow, torch.tensor([2.0, 0.0], dtype=torch.float64).expand_as(flow))


def test_scene_flow_is_zero_at_rest_and_the_motion_elsewhere() -> None:
    in_2, one_from_two = scene(), shifted(0.3)
    in_1 = in_2 + torch.tensor([0.3, 0.0, 0.0])
    in_1[3:5, 6:9] -= torch.tensor([0.0, 0.2, 0.0])  # where they were at time 1
    scale = torch.tensor(2.0, dtype=torch.float64)
    found = scene_flow_of(in_2 / 2, in_1, one_from_two, scale)
    torch.testing.assert_close(found[4, 7], torch.tensor([0.0, 0.2, 0.0], dtype=torch.float64))
    assert found[:3].abs().max() < 1e-7


def test_the_scale_between_passes_is_that_of_resting_points() -> None:
    points, still = scene(), torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    other = points / 3
    other[5:] = 7.0
    still[5:] = False
    torch.testing.assert_close(pass_scale(points, other, still), torch.tensor(3.0, dtype=torch.float64))


def test_what_does_not_return_or_leaves_the_image_is_occluded() -> None:
    forth = torch.zeros(1, HEIGHT, WIDTH, 2)
    forth[..., 0] = 3.0
    back = -forth
    back[:, 4:6, 8:10, 0] = 5.0
    found = occlusion_mask(forth, back)[0]
    assert found[:, -3:].all()  # beyond the right border
    assert found[4:6, 5:7].all()
    assert not found[7:, : WIDTH - 4].any()


def test_resting_points_have_the_cameras_flow_and_movers_another() -> None:
    depth = torch.full((1, HEIGHT, WIDTH), 4.0, dtype=torch.float64)
    of_camera = camera_flow(depth, K[None], shifted(-0.4)[None])
    torch.testing.assert_close(of_camera, torch.tensor([-2.0, 0.0], dtype=torch.float64).expand_as(of_camera))
    flow = of_camera.clone()
    flow[:, 2:4, 2:4] += 3.0
    mask = moving_mask(of_camera, flow)
    assert mask[:, 2:4, 2:4].all()
    assert int(mask.sum()) == 4
    behind = camera_flow(depth, K[None], torch.diag(torch.tensor([1.0, 1.0, -1.0, 1.0], dtype=torch.float64))[None])
    assert behind.isnan().all()
    assert not moving_mask(behind, flow).any()


def test_pixel_edges_are_inside_and_nan_is_not() -> None:
    pixels = torch.tensor([[-0.5, 0.0], [-0.6, 0.0], [15.5, 11.5], [15.6, 3.0], [torch.nan, 3.0]])
    assert inside_image(pixels, HEIGHT, WIDTH).tolist() == [True, False, True, False, False]
