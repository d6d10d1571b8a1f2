"""What global alignment solves for, in DUSt3R's encoding, and what the encodings stand for.

| variable | stored as |
|---|---|
| depth of each pixel | its natural logarithm |
| pose, world from camera or world from edge | quaternion (x, y, z, w) of any length, then ``sign(t) * log(1 + |t|)`` |
| focal length | 20 times the natural logarithm of pixels |
| scale of an edge | its natural logarithm; all together are shifted so that their geometric mean is 0.5 |
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

FOCAL_FACTOR = 20.0
MEAN_EDGE_SCALE = 0.5


@dataclass
class AlignmentVariables:
    """The unknowns of one alignment of N images of one size and E edges, as leaves for autograd.

    Attributes:
        log_depth: (n, h, w), log of the unit of the world.
        poses: (n, 7), world from camera.
        focals: (n, 1), or (1, 1) where all images share one.
        edges: (e, 8), world from the edge's reference camera, then the log of its scale.
        grid: (h, w, 2) pixels (x, y) of the maps relative to the principal point; None: all pixels of an image whose
            principal point is at half its size. No unknown.
    """

    log_depth: Tensor
    poses: Tensor
    focals: Tensor
    edges: Tensor
    grid: Tensor | None = None

    def leaves(self) -> list[Tensor]:
        """All unknowns, in the order of the fields."""
        return [self.log_depth, self.poses, self.focals, self.edges]

    def require_gradients(self) -> "AlignmentVariables":
        """The same values as fresh leaves that collect gradients."""
        depth, poses, focals, edges = (leaf.detach().clone().requires_grad_() for leaf in self.leaves())
        return AlignmentVariables(depth, poses, focals, edges, self.grid)

    def pixels(self) -> Tensor:
        """(h, w, 2): :attr:`grid`, made where it is None."""
        height, width = self.log_depth.shape[1:]
        return centred_grid(height, width, self.log_depth) if self.grid is None else self.grid

    def depth(self) -> Tensor:
        """(n, h, w) along the optical axis, unit of the world."""
        return self.log_depth.exp()

    def world_from_camera(self) -> Tensor:
        """(n, 4, 4)."""
        return decode_poses(self.poses)

    def focals_px(self) -> Tensor:
        """(n,) focal length of each image."""
        return (self.focals / FOCAL_FACTOR).exp().expand(len(self.poses), 1)[:, 0]

    def edge_scales(self) -> Tensor:
        """(e,) scale of each edge; their geometric mean is :data:`MEAN_EDGE_SCALE`."""
        log_scale = self.edges[:, 7]
        return (log_scale + (math.log(MEAN_EDGE_SCALE) - log_scale.mean())).exp()

    def world_from_edge(self) -> Tensor:
        """(e, 4, 4) similarities, rotation and translation both multiplied by the edge's scale."""
        rigid = decode_poses(self.edges)
        scaled = rigid[:, :3] * self.edge_scales()[:, None, None]
        return torch.cat((scaled, rigid[:, 3:]), dim=1)

    def points_world(self) -> Tensor:
        """(n, h, w, 3): the point of each pixel."""
        return unproject_to_world(self.depth(), self.world_from_camera(), self.focals_px(), self.pixels())


def decode_poses(encoded: Tensor) -> Tensor:
    """Poses (n, 4, 4) of rows (n, 7 or more): quaternion x y z w, then signed log translation."""
    translation = encoded[:, 4:7]
    translation = translation.sign() * torch.expm1(translation.abs())
    top = torch.cat((rotation_matrices(encoded[:, :4]), translation[..., None]), dim=-1)
    bottom = encoded.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(encoded), 1, 4)
    return torch.cat((top, bottom), dim=1)


def encode_poses(quaternion_xyzw: Tensor, translation: Tensor) -> Tensor:
    """Rows (n, 7) of quaternions (n, 4) and translations (n, 3); inverse of :func:`decode_poses`."""
    return torch.cat((quaternion_xyzw, translation.sign() * torch.log1p(translation.abs())), dim=-1)


def rotation_matrices(quaternion_xyzw: Tensor) -> Tensor:
    """(n, 3, 3) of quaternions (n, 4) of any length above zero."""
    x, y, z, w = (quaternion_xyzw / quaternion_xyzw.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def unproject_to_world(depth: Tensor, world_from_camera: Tensor, focals_px: Tensor, grid: Tensor) -> Tensor:
    """Points (n, h, w, 3) of depth (n, h, w), poses (n, 4, 4), focal lengths (n,) and centred pixels (h, w, 2)."""
    uv = grid / focals_px[:, None, None, None]
    camera = torch.cat((uv, torch.ones_like(uv[..., :1])), dim=-1) * depth[..., None]
    return transform_points(world_from_camera, camera)


def transform_points(a_from_b: Tensor, points_b: Tensor) -> Tensor:
    """Points (n, ..., 3) moved by the pose or similarity (n, 4, 4) of their row."""
    flat = points_b.flatten(1, -2) @ a_from_b[:, :3, :3].transpose(1, 2) + a_from_b[:, None, :3, 3]
    return flat.view(points_b.shape)


def centred_grid(height: int, width: int, like: Tensor) -> Tensor:
    """(h, w, 2) integer pixel coordinates (x, y) relative to the principal point (w / 2, h / 2)."""
    y, x = torch.meshgrid(
        torch.arange(height, device=like.device, dtype=like.dtype) - height / 2,
        torch.arange(width, device=like.device, dtype=like.dtype) - width / 2,
        indexing="ij",
    )
    return torch.stack((x, y), dim=-1)
