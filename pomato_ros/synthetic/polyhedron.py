"""Convex solids with flat faces: gems, prisms, pyramids."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pomato_ros.synthetic.shapes import NEAR


@dataclass(frozen=True, slots=True)
class Polyhedron:
    """The points p with normal . p <= offset for every face; it must be bounded and hold the local origin."""

    normals: tuple[tuple[float, float, float], ...]  # unit, outward
    offsets_m: tuple[float, ...]  # positive
    radius_m: float  # of a sphere around the local origin that holds it

    def intersect(self, origin: Tensor, direction: Tensor) -> Tensor:
        """See :class:`~pomato_ros.synthetic.shapes.Shape`."""
        normals = origin.new_tensor(self.normals)
        rate = normals @ direction  # (t, f, n)
        gap = origin.new_tensor(self.offsets_m)[:, None] - normals @ origin
        bound = gap / rate
        near = torch.where(rate < 0.0, bound, -torch.inf)
        near = torch.where((rate == 0.0) & (gap < 0.0), torch.inf, near).amax(1)  # along a face, outside of it
        far = torch.where(rate > 0.0, bound, torch.inf).amin(1)
        first = torch.where(near > NEAR, near, torch.where(far > NEAR, far, torch.inf))
        return torch.where(near <= far, first, torch.inf)

    def normal(self, points: Tensor) -> Tensor:
        """See :class:`~pomato_ros.synthetic.shapes.Shape`."""
        return points.new_tensor(self.normals)[self._face(points)]

    def surface_uv(self, points: Tensor) -> Tensor:
        """See :class:`~pomato_ros.synthetic.shapes.Shape`."""
        normal = self.normal(points)
        level = normal[:, 2:].abs() > 0.9
        axis = torch.where(level, points.new_tensor([0.0, 1.0, 0.0]), points.new_tensor([0.0, 0.0, 1.0]))
        u = torch.nn.functional.normalize(torch.linalg.cross(axis, normal), dim=-1)
        v = torch.linalg.cross(normal, u)
        return torch.stack(((u * points).sum(1), (v * points).sum(1)), dim=1)

    def _face(self, points: Tensor) -> Tensor:
        """Index (m,) of the face each point lies on."""
        return (points @ points.new_tensor(self.normals).T - points.new_tensor(self.offsets_m)).argmax(1)


def prism(sides: int, radius_m: float, half_height_m: float) -> Polyhedron:
    """An upright prism over a regular polygon whose corners are ``radius_m`` from the axis."""
    inner = radius_m * math.cos(math.pi / sides)
    angles = [2.0 * math.pi * side / sides for side in range(sides)]
    around = [(math.cos(angle), math.sin(angle), 0.0) for angle in angles]
    normals = (*around, (0.0, 0.0, 1.0), (0.0, 0.0, -1.0))
    return Polyhedron(normals, (inner,) * sides + (half_height_m,) * 2, math.hypot(radius_m, half_height_m))


def pyramid(sides: int, radius_m: float, half_height_m: float) -> Polyhedron:
    """An upright pyramid over a regular polygon, its foot and tip as far below and above the origin."""
    inner = radius_m * math.cos(math.pi / sides)
    length = math.hypot(2.0 * half_height_m, inner)
    level, up = 2.0 * half_height_m / length, inner / length
    angles = [2.0 * math.pi * side / sides for side in range(sides)]
    around = [(level * math.cos(angle), level * math.sin(angle), up) for angle in angles]
    normals = (*around, (0.0, 0.0, -1.0))
    return Polyhedron(normals, (up * half_height_m,) * sides + (half_height_m,), math.hypot(radius_m, half_height_m))


def gem(normals: Tensor, offsets_m: Tensor) -> Polyhedron:
    """The solid between faces with unit ``normals`` (f, 3) at ``offsets_m`` (f,) and eight cuts that bound it."""
    corners = [(x, y, z) for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)]
    length = math.sqrt(3.0)
    unit = [(x / length, y / length, z / length) for x, y, z in corners]
    far = float(offsets_m.max())
    faces = tuple((float(x), float(y), float(z)) for x, y, z in normals.tolist())
    return Polyhedron((*faces, *unit), tuple(offsets_m.tolist()) + (far,) * 8, length * far)
