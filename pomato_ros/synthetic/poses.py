"""Builds rigid poses for scenes: (..., 4, 4) float64 matrices ``a_from_b``."""

import torch
from torch import Tensor


def pose(rotation: Tensor, position: Tensor) -> Tensor:
    """Join rotations (..., 3, 3) and positions (..., 3), with the same leading axes, to (..., 4, 4) poses."""
    bottom = rotation.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*position.shape[:-1], 1, 4)
    return torch.cat((torch.cat((rotation, position[..., None]), dim=-1), bottom), dim=-2)


def invert(a_from_b: Tensor) -> Tensor:
    """The inverse ``b_from_a`` of rigid poses (..., 4, 4)."""
    rotation = a_from_b[..., :3, :3].transpose(-1, -2)
    return pose(rotation, -(rotation @ a_from_b[..., :3, 3:])[..., 0])


def rotation_about(axis: Tensor, angle_rad: Tensor) -> Tensor:
    """Rotations (..., 3, 3) by ``angle_rad`` (...) about the unit vector ``axis`` (3,)."""
    x, y, z = (float(value) for value in axis)
    cross = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]], dtype=torch.float64)
    angle = angle_rad.to(torch.float64)[..., None, None]
    return torch.eye(3, dtype=torch.float64) + torch.sin(angle) * cross + (1.0 - torch.cos(angle)) * (cross @ cross)


def look_at(position: Tensor, target: Tensor) -> Tensor:
    """``world_from_camera`` (..., 4, 4) of optical cameras at ``position`` facing ``target``, (..., 3), world z up.

    The line of sight must not be vertical.
    """
    forward = torch.nn.functional.normalize(target - position, dim=-1)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand_as(forward)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up), dim=-1)
    down = torch.linalg.cross(forward, right)
    return pose(torch.stack((right, down, forward), dim=-1), position)
