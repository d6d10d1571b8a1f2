"""Shapes a ray can meet, each in its own local frame, metres.

A ray is ``origin + s * direction``; ``intersect`` returns the smallest s above ``NEAR`` or infinity. Directions need
not be unit vectors: the renderer scales them to one metre along the optical axis, so that s is the depth.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

NEAR = 1e-3  # ray parameter below which a hit does not count


class Shape(Protocol):
    """What the renderer needs to know of a surface."""

    @property
    def radius_m(self) -> float:
        """Radius of the sphere around the local origin that holds the shape; infinite for a plane."""
        ...

    def intersect(self, origin: Tensor, direction: Tensor) -> Tensor:
        """Ray parameter (t, n) of the first hit, or infinity; ``origin`` (t, 3, 1 or n), ``direction`` (t, 3, n)."""
        ...

    def normal(self, points: Tensor) -> Tensor:
        """Unit normals (m, 3) at surface ``points`` (m, 3)."""
        ...

    def surface_uv(self, points: Tensor) -> Tensor:
        """Coordinates (m, 2) on the surface, in metres, of ``points`` (m, 3)."""
        ...


@dataclass(frozen=True, slots=True)
class Plane:
    """The infinite plane z = 0 with normal +z."""

    radius_m: float = math.inf

    def intersect(self, origin: Tensor, direction: Tensor) -> Tensor:
        """See :class:`Shape`."""
        return _first_valid(-origin[:, 2] / direction[:, 2])

    def normal(self, points: Tensor) -> Tensor:
        """See :class:`Shape`."""
        return points.new_tensor([0.0, 0.0, 1.0]).expand_as(points)

    def surface_uv(self, points: Tensor) -> Tensor:
        """See :class:`Shape`."""
        return points[:, :2]


@dataclass(frozen=True, slots=True)
class Ellipsoid:
    """An ellipsoid around the origin; equal half axes make a sphere."""

    half_axes_m: tuple[float, float, float]

    @property
    def radius_m(self) -> float:
        """See :class:`Shape`."""
        return max(self.half_axes_m)

    def intersect(self, origin: Tensor, direction: Tensor) -> Tensor:
        """See :class:`Shape`."""
        axes = origin.new_tensor(self.half_axes_m)[:, None]
        o, d = origin / axes, direction / axes
        near, far = quadratic((d * d).sum(1), (o * d).sum(1), (o * o).sum(1) - 1.0)
        return _first_of(near, far)

    def normal(self, points: Tensor) -> Tensor:
        """See :class:`Shape`."""
        return torch.nn.functional.normalize(points / points.new_tensor(self.half_axes_m) ** 2, dim=-1)

    def surface_uv(self, points: Tensor) -> Tensor:
        """See :class:`Shape`."""
        return around_axis(points, self.radius_m)


@dataclass(frozen=True, slots=True)
class Shell:
    """A sphere seen from inside: the far end of an open world."""

    radius_m: float

    def intersect(self, origin: Tensor, direction: Tensor) -> Tensor:
        """See :class:`Shape`."""
        _, far = quadratic(
            (direction * direction).sum(1), (origin * direction).sum(1), (origin * origin).sum(1) - self.radius_m**2
        )
        return _first_valid(far)

    def normal(self, points: Tensor) -> Tensor:
        """See :class:`Shape`."""
        return -torch.nn.functional.normalize(points, dim=-1)

    def surface_uv(self, points: Tensor) -> Tensor:
        """See :class:`Shape`."""
        return around_axis(points, self.radius_m)


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned box around the origin."""

    half_extents_m: tuple[float, float, float]

    @property
    def radius_m(self) -> float:
        """See :class:`Shape`."""
        return math.hypot(*self.half_extents_m)

    def intersect(self, origin: Tensor, direction: Tensor) -> Tensor:
        """See :class:`Shape`."""
        half = origin.new_tensor(self.half_extents_m)[:, None]
        inverse = 1.0 / direction
        first, second = (-half - origin) * inverse, (half - origin) * inverse
        near = torch.minimum(first, second).amax(1)
        far = torch.maximum(first, second).amin(1)
        return torch.where(near <= far, _first_of(near, far), torch.inf)

    def normal(self, points: Tensor) -> Tensor:
        """See :class:`Shape`."""
        axis = self._face_axis(points)
        side = torch.sign(points.gather(1, axis))
        return torch.zeros_like(points).scatter_(1, axis, side)

    def surface_uv(self, points: Tensor) -> Tensor:
        """See :class:`Shape`."""
        axis = self._face_axis(points)
        u = torch.where(axis == 0, points[:, 1:2], points[:, 0:1])
        v = torch.where(axis == 2, points[:, 1:2], points[:, 2:3])
        return torch.cat((u, v), dim=1)

    def _face_axis(self, points: Tensor) -> Tensor:
        """Index (m, 1) of the axis whose face holds each point."""
        return (points.abs() - points.new_tensor(self.half_extents_m)).argmax(1, keepdim=True)


@dataclass(frozen=True, slots=True)
class Cone:
    """A closed frustum along z, centred at the origin; equal radii make a cylinder, a zero top a cone."""

    bottom_radius_m: float
    top_radius_m: float
    half_height_m: float

    @property
    def radius_m(self) -> float:
        """See :class:`Shape`."""
        return math.hypot(max(self.bottom_radius_m, self.top_radius_m), self.half_height_m)

    @property
    def _slope(self) -> float:
        return (self.top_radius_m - self.bottom_radius_m) / (2.0 * self.half_height_m)

    @property
    def _middle_radius_m(self) -> float:
        return 0.5 * (self.top_radius_m + self.bottom_radius_m)

    def intersect(self, origin: Tensor, direction: Tensor) -> Tensor:
        """See :class:`Shape`."""
        ox, oy, oz = origin.unbind(1)
        dx, dy, dz = direction.unbind(1)
        hit = torch.full_like(dz, torch.inf)
        for root in self._side(ox, oy, oz, dx, dy, dz):
            inside = (root > NEAR) & ((oz + root * dz).abs() <= self.half_height_m)
            hit = torch.where(inside & (root < hit), root, hit)
        for height, radius in ((-self.half_height_m, self.bottom_radius_m), (self.half_height_m, self.top_radius_m)):
            root = (height - oz) / dz
            inside = (root > NEAR) & ((ox + root * dx) ** 2 + (oy + root * dy) ** 2 <= radius**2)
            hit = torch.where(inside & (root < hit), root, hit)
        return hit

    def _side(self, ox: Tensor, oy: Tensor, oz: Tensor, dx: Tensor, dy: Tensor, dz: Tensor) -> tuple[Tensor, Tensor]:
        """Both roots on the infinite mantle; NaN for a miss (no comparison with NaN holds)."""
        slope = self._slope
        radius, growth = self._middle_radius_m + slope * oz, slope * dz
        a = dx * dx + dy * dy - growth * growth
        b = ox * dx + oy * dy - radius * growth
        c = ox * ox + oy * oy - radius * radius
        return quadratic(a, b, c)

    def normal(self, points: Tensor) -> Tensor:
        """See :class:`Shape`."""
        around = torch.nn.functional.normalize(points[:, :2], dim=-1)
        mantle = torch.cat((around, torch.full_like(points[:, 2:], -self._slope)), dim=1)
        mantle = torch.nn.functional.normalize(mantle, dim=-1)
        cap = torch.zeros_like(points)
        cap[:, 2] = torch.sign(points[:, 2])
        return torch.where(self._on_cap(points), cap, mantle)

    def surface_uv(self, points: Tensor) -> Tensor:
        """See :class:`Shape`."""
        mantle = around_axis(points, max(self.bottom_radius_m, self.top_radius_m))
        return torch.where(self._on_cap(points), points[:, :2], mantle)

    def _on_cap(self, points: Tensor) -> Tensor:
        """(m, 1) bool: the point lies on the bottom or top disc."""
        height = points[:, 2:]
        beside_cap = self.half_height_m - height.abs()
        beside_mantle = (points[:, :2].norm(dim=1, keepdim=True) - self._middle_radius_m - self._slope * height).abs()
        return beside_cap < beside_mantle


def quadratic(a: Tensor, half_b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Both roots of a s^2 + 2 half_b s + c = 0, in order where a > 0; NaN where there is none."""
    discriminant = half_b * half_b - a * c
    root = torch.sqrt(discriminant.abs()).masked_fill_(discriminant < 0.0, torch.nan)  # sqrt is slow below zero
    return (-half_b - root) / a, (-half_b + root) / a


def _first_valid(distance: Tensor) -> Tensor:
    """``distance`` where it is beyond NEAR, else infinity."""
    return torch.where(distance > NEAR, distance, torch.inf)


def _first_of(near: Tensor, far: Tensor) -> Tensor:
    """``near`` where it is beyond NEAR, else ``far`` where that is, else infinity."""
    return torch.where(near > NEAR, near, _first_valid(far))


def around_axis(points: Tensor, radius_m: float) -> Tensor:
    """Arc length around z at ``radius_m`` and height, (m, 2) metres, of ``points`` (m, 3)."""
    return torch.stack((torch.atan2(points[:, 1], points[:, 0]) * radius_m, points[:, 2]), dim=1)
