"""Depth of every pixel once cameras and edges are known, and the confidence that other views leave of it."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pomato_ros.mapping.variables import transform_points

IN_FRONT = 0.999  # of another view's depth


def median_depth(world_points: list[Tensor], weights: list[Tensor], world_from_camera: Tensor) -> Tensor:
    """(h, w) weighted median of the depths that several edges have for the pixels of one image.

    Args:
        world_points: k maps (h, w, 3) in the world.
        weights: k maps (h, w), not negative.
        world_from_camera: (4, 4) of the image.
    """
    axis, position = world_from_camera[:3, 2], world_from_camera[:3, 3]
    depth = torch.stack([(points - position) @ axis for points in world_points])
    order = depth.argsort(dim=0)
    sorted_depth, share = depth.gather(0, order), torch.stack(weights).gather(0, order).cumsum(dim=0)
    middle = (share >= 0.5 * share[-1:]).int().argmax(dim=0)
    return sorted_depth.gather(0, middle[None])[0]


def clean_confidence(
    depth: Tensor, confidence: Tensor, world_from_camera: Tensor, camera_matrix: Tensor
) -> NDArray[np.float32]:
    """(n, h, w) confidence, 0 where a point hides a surface that another view is more confident of (DUSt3R).

    Args:
        depth: (n, h, w).
        confidence: (n, h, w).
        world_from_camera: (n, 4, 4).
        camera_matrix: (3, 3) of all.
    """
    count, height, width = depth.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    rays = torch.stack((x, y, torch.ones_like(x)), dim=-1).to(depth) @ torch.linalg.inv(camera_matrix).T
    points = transform_points(world_from_camera, rays * depth[..., None])
    camera_from_world = torch.linalg.inv(world_from_camera)
    cleaned = confidence.clone()
    for view in range(count):
        seen = transform_points(camera_from_world[view].expand(count, 4, 4), points)
        pixels = torch.round((seen @ camera_matrix.T)[..., :2] / seen[..., 2:]).nan_to_num(-1).clamp(-1, 1e6).long()
        inside = (seen[..., 2] > 0) & (pixels >= 0).all(-1) & (pixels[..., 0] < width) & (pixels[..., 1] < height)
        column, row = pixels[..., 0].clamp(0, width - 1), pixels[..., 1].clamp(0, height - 1)
        hides = inside & (seen[..., 2] < IN_FRONT * depth[view][row, column])
        hides[view] = False
        cleaned[hides & (confidence < confidence[view][row, column])] = 0.0
    return np.asarray(cleaned, np.float32)
