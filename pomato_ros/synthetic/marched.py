"""Shapes without a closed form for a ray: a torus, a hill, open ground with relief.

Each is the zero set of a field that is positive outside and changes by at most ``slope`` per metre. A ray goes forward
by what the field allows, at least by a short step, until the field changes its sign; the root between is then closed in
to rounding. What is thinner along a ray than the short step can be passed over.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pomato_ros.synthetic.draw import Draw
from pomato_ros.synthetic.shapes import NEAR, around_axis, quadratic

STEPS = 320  # most steps along a ray
REFINEMENTS = 20  # of the root, once it is between two steps
GROWTH = 0.008  # of the shortest step over endless ground, metres per metre already gone
Field = Callable[[Tensor], Tensor]  # points (m, 3) to values (m,)


@dataclass(frozen=True, slots=True)
class Torus:
    """A ring around z: a circle of ``tube_m`` whose centre goes round at ``ring_m``, which is larger."""

    ring_m: float
    tube_m: float

    @property
    def radius_m(self) -> float:
        """See :class:`~pomato_ros.synthetic.shapes.Shape`."""
        return self.ring_m + self.tube_m

    def intersect(self, origin: Tensor, direction: Tensor) -> Tensor:
        """See :class:`~pomato_ros.synthetic.shapes.Shape`."""
        near, far = sphere_interval(origin, direction, self.radius_m)
        return first_crossing(origin, direction, near, far, self._field, 1.0, 0.08 * self.tube_m)

    def normal(self, points: Tensor) -> Tensor:
        """See :class:`~pomato_ros.synthetic.shapes.Shape`."""
        level = torch.cat((points[:, :2], torch.zeros_like(points[:, 2:])), dim=1)
        circle = self.ring_m * torch.nn.functional.normalize(level, dim=-1)
        return torch.nn.functional.normalize(points - circle, dim=-1)

    def surface_uv(self, points: Tensor) -> Tensor:
        """See :class:`~pomato_ros.synthetic.shapes.Shape`."""
        around = torch.atan2(points[:, 1], points[:, 0]) * self.ring_m
        across = torch.atan2(points[:, 2], points[:, :2].norm(dim=1) - self.ring_m) * self.tube_m
        return torch.stack((around, across), dim=1)

    def _field(self, points: Tensor) -> Tensor:
        """Distance to the surface (m,)."""
        return torch.hypot(points[:, :2].norm(dim=1) - self.ring_m, points[:, 2]) - self.tube_m


@dataclass(frozen=True, slots=True)
class Relief:
    """A height over (x, y): z = sum over waves of amplitude * (sin(kx x + ky y + phase) - 1) / 2, never above zero."""

    amplitudes_m: tuple[float, ...]
    wave_vectors: tuple[tuple[float, float], ...]  # rad/m
    phases: tuple[float, ...]

    @property
    def depth_m(self) -> float:
        """The height is between minus this and zero."""
        return sum(self.amplitudes_m)

    @property
    def slope(self) -> float:
        """The steepest the height can be."""
        return 0.5 * sum(a * math.hypot(*k) for a, k in zip(self.amplitudes_m, self.wave_vectors, strict=True))

    def height(self, xy: Tensor) -> Tensor:
        """Height (m,) at ``xy`` (m, 2), metres."""
        return 0.5 * (torch.sin(self._angle(xy)) - 1.0) @ xy.new_tensor(self.amplitudes_m)

    def gradient(self, xy: Tensor) -> Tensor:
        """Derivative (m, 2) of the height by x and y."""
        weights = 0.5 * xy.new_tensor(self.amplitudes_m)[:, None] * xy.new_tensor(self.wave_vectors)
        return torch.cos(self._angle(xy)) @ weights

    def _angle(self, xy: Tensor) -> Tensor:
        return xy @ xy.new_tensor(self.wave_vectors).T + xy.new_tensor(self.phases)


@dataclass(frozen=True, slots=True)
class Terrain:
    """Endless ground under a relief, as far as ``reach_m`` from the local origin."""

    relief: Relief
    reach_m: float
    radius_m: float = math.inf

    def intersect(self, origin: Tensor, direction: Tensor) -> Tensor:
        """See :class:`~pomato_ros.synthetic.shapes.Shape`."""
        near, far = sphere_interval(origin, direction, self.reach_m)
        low, high = slab_interval(origin[:, 2], direction[:, 2], -self.relief.depth_m - 1e-3, 1e-3)
        near, far = torch.maximum(near, low), torch.minimum(far, high)
        shortest = min(2.0 * math.pi / math.hypot(*k) for k in self.relief.wave_vectors)
        return first_crossing(origin, direction, near, far, self._field, self._slope, 0.04 * shortest, GROWTH)

    def normal(self, points: Tensor) -> Tensor:
        """See :class:`~pomato_ros.synthetic.shapes.Shape`."""
        return _upward(self.relief.gradient(points[:, :2]))

    def surface_uv(self, points: Tensor) -> Tensor:
        """See :class:`~pomato_ros.synthetic.shapes.Shape`."""
        return points[:, :2]

    @property
    def _slope(self) -> float:
        return math.hypot(1.0, self.relief.slope)

    def _field(self, points: Tensor) -> Tensor:
        """Height (m,) above the ground."""
        return points[:, 2] - self.relief.height(points[:, :2])


@dataclass(frozen=True, slots=True)
class Hill:
    """A solid disc of radius ``disc_m`` about z: its top is a relief below ``half_height_m``, its foot is flat."""

    disc_m: float
    half_height_m: float
    relief: Relief

    @property
    def radius_m(self) -> float:
        """See :class:`~pomato_ros.synthetic.shapes.Shape`."""
        return math.hypot(self.disc_m, self.half_height_m)

    def intersect(self, origin: Tensor, direction: Tensor) -> Tensor:
        """See :class:`~pomato_ros.synthetic.shapes.Shape`."""
        near, far = sphere_interval(origin, direction, self.radius_m)
        slope = math.hypot(1.0, self.relief.slope)
        return first_crossing(origin, direction, near, far, self._field, slope, 0.02 * self.radius_m)

    def normal(self, points: Tensor) -> Tensor:
        """See :class:`~pomato_ros.synthetic.shapes.Shape`."""
        top = _upward(self.relief.gradient(points[:, :2]))
        foot = torch.zeros_like(points)
        foot[:, 2] = -1.0
        side = torch.nn.functional.normalize(torch.cat((points[:, :2], torch.zeros_like(points[:, 2:])), dim=1), dim=-1)
        face = self._faces(points).abs().argmin(1)[:, None]
        return torch.where(face == 0, top, torch.where(face == 1, foot, side))

    def surface_uv(self, points: Tensor) -> Tensor:
        """See :class:`~pomato_ros.synthetic.shapes.Shape`."""
        side = (self._faces(points).abs().argmin(1) == 2)[:, None]
        return torch.where(side, around_axis(points, self.disc_m), points[:, :2])

    def _faces(self, points: Tensor) -> Tensor:
        """(m, 3): height above the top, below the foot, beyond the side; the solid is where all are negative."""
        top = points[:, 2] - self.half_height_m - self.relief.height(points[:, :2])
        return torch.stack((top, -self.half_height_m - points[:, 2], points[:, :2].norm(dim=1) - self.disc_m), dim=1)

    def _field(self, points: Tensor) -> Tensor:
        return self._faces(points).amax(1)


def draw_relief(draw: Draw, depth_m: float, lengths_m: tuple[float, float], count: int) -> Relief:
    """Hills and dips ``depth_m`` deep in all, of wavelengths between ``lengths_m``; the longer, the deeper."""
    lengths = [draw.log_uniform(lengths_m) for _ in range(count)]
    shares = [length * draw.uniform((0.5, 1.0)) for length in lengths]
    vectors = []
    for length in lengths:
        heading = draw.uniform((-math.pi, math.pi))
        vectors.append((2.0 * math.pi / length * math.cos(heading), 2.0 * math.pi / length * math.sin(heading)))
    phases = tuple(draw.uniform((0.0, 2.0 * math.pi)) for _ in lengths)
    return Relief(tuple(depth_m * share / sum(shares) for share in shares), tuple(vectors), phases)


def sphere_interval(origin: Tensor, direction: Tensor, radius_m: float) -> tuple[Tensor, Tensor]:
    """Where rays are inside a sphere around the local origin, (t, n) each; NaN where never."""
    return quadratic(
        (direction * direction).sum(1), (origin * direction).sum(1), (origin * origin).sum(1) - radius_m**2
    )


def slab_interval(origin_z: Tensor, direction_z: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Where rays are between two heights, (t, n) each; the first exceeds the second where never."""
    inverse = 1.0 / direction_z
    one, other = (low - origin_z) * inverse, (high - origin_z) * inverse
    return torch.minimum(one, other), torch.maximum(one, other)


def first_crossing(
    origin: Tensor,
    direction: Tensor,
    near: Tensor,
    far: Tensor,
    field: Field,
    slope: float,
    least_step_m: float,
    growth: float = 0.0,
) -> Tensor:
    """Ray parameter (t, n) at which ``field`` first changes its sign between ``near`` and ``far``, or infinity.

    Args:
        origin: (t, 3, 1 or n).
        direction: (t, 3, n).
        near: (t, n) where to begin; NaN leaves a ray out.
        far: (t, n) where to end.
        field: points (m, 3) to values (m,).
        slope: most that the field changes per metre.
        least_step_m: shortest step at the ray's origin.
        growth: what a metre that the ray has gone adds to it, in metres.
    """
    found = torch.full_like(near, torch.inf)
    where = torch.nonzero((far > NEAR) & (near < far))
    frame, ray = where[:, 0], where[:, 1]
    o, d = origin.expand_as(direction).transpose(1, 2)[frame, ray], direction.transpose(1, 2)[frame, ray]
    end = far[frame, ray]
    low = near[frame, ray].clamp(min=NEAR)
    high = torch.full_like(low, torch.inf)
    value = field(o + low[:, None] * d)
    outside = value > 0.0
    per_metre = 1.0 / d.norm(dim=1)
    going = torch.arange(len(low), device=low.device)
    for _ in range(STEPS):
        if len(going) == 0:
            break
        here = low[going]
        least = least_step_m + growth * here / per_metre[going]
        ahead = here + torch.maximum(value.abs() / slope, least) * per_metre[going]
        value = field(o[going] + ahead[:, None] * d[going])
        crossed = (value > 0.0) != outside[going]
        high[going[crossed]] = ahead[crossed]
        on = ~crossed & (ahead < end[going])
        low[going[on]] = ahead[on]
        going, value = going[on], value[on]
    between = torch.nonzero(torch.isfinite(high))[:, 0]
    root = _close_in(o[between], d[between], low[between], high[between], outside[between], field)
    found[frame[between], ray[between]] = torch.where(root <= end[between], root, torch.inf)
    return found


def _close_in(o: Tensor, d: Tensor, low: Tensor, high: Tensor, outside: Tensor, field: Field) -> Tensor:
    """The root (m,) between ``low`` and ``high``, by the false position with halved weight on the end that stays."""
    sign = torch.where(outside, 1.0, -1.0)
    low_value, high_value = (sign * field(o + s[:, None] * d) for s in (low, high))
    root = high
    for _ in range(REFINEMENTS):
        share = low_value / (low_value - high_value).clamp(min=1e-30)
        root = low + share.clamp(0.0, 1.0) * (high - low)
        value = sign * field(o + root[:, None] * d)
        before = value > 0.0
        low_value, high_value = (
            torch.where(before, value, 0.5 * low_value),
            torch.where(before, 0.5 * high_value, value),
        )
        low, high = torch.where(before, root, low), torch.where(before, high, root)
    return root


def _upward(gradient: Tensor) -> Tensor:
    """Unit normals (m, 3) of a height with this ``gradient`` (m, 2)."""
    return torch.nn.functional.normalize(torch.cat((-gradient, torch.ones_like(gradient[:, :1])), dim=1), dim=-1)
