"""Smooth rigid paths of movers: where an object is at any time, from a few drawn numbers.

A path starts from an anchor at time zero: one of KINDS moves it away from there, a constant spin turns it.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pomato_ros.synthetic.draw import Draw, Range
from pomato_ros.synthetic.poses import pose, rotation_about


@dataclass(frozen=True, slots=True, eq=False)
class MoverPath:
    """One way to travel, with a constant spin on top. All times in seconds, relative to the anchor's."""

    kind: str  # one of KINDS
    velocity_world: Tensor  # (3,) m/s
    period_s: float  # of turning, stopping and bouncing
    height_m: float  # of a bounce
    spin_axis: Tensor  # (3,) unit vector, in the object's frame
    spin_rad_s: float

    def poses(self, anchor_world: Tensor, rotation: Tensor, times_s: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """``world_from_object`` (t, 4, 4) at ``times_s`` (t,), reflected back into the space from ``low`` to ``high``.

        Args:
            anchor_world: (3,) position at time zero.
            rotation: (3, 3) orientation at time zero.
            times_s: (t,) seconds.
            low: (3,) smallest coordinates the origin may take.
            high: (3,) largest.
        """
        position = _reflect(anchor_world + KINDS[self.kind](self, times_s), low, high)
        return pose(rotation @ rotation_about(self.spin_axis, self.spin_rad_s * times_s), position)


def draw_path(draw: Draw, speed_m_s: Range, spin_deg_s: Range, floating: bool) -> MoverPath:
    """A random path; a ``floating`` mover may also climb and turn about any axis."""
    kind = draw.choice(list(KINDS))
    heading = draw.uniform((-math.pi, math.pi))
    climb = draw.uniform((-0.5, 0.5)) if floating else 0.0
    direction = torch.tensor([math.cos(heading), math.sin(heading), climb], dtype=torch.float64)
    upright = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    spin = math.radians(draw.log_uniform(spin_deg_s)) * draw.choice((-1.0, 1.0))
    return MoverPath(
        kind=kind,
        velocity_world=direction * draw.log_uniform(speed_m_s),
        period_s=draw.log_uniform((1.0, 4.0)),
        height_m=draw.uniform((0.15, 0.9)),
        spin_axis=draw.direction() if floating else upright,
        spin_rad_s=spin if kind == "spin" or draw.chance(0.5) else 0.0,
    )


def _glide(path: MoverPath, times_s: Tensor) -> Tensor:
    """Straight on at constant speed."""
    return times_s[:, None] * path.velocity_world


def _sway(path: MoverPath, times_s: Tensor) -> Tensor:
    """To and fro along a line, fastest at the anchor."""
    rate = 2.0 * math.pi / path.period_s
    return (torch.sin(rate * times_s) / rate)[:, None] * path.velocity_world


def _circle(path: MoverPath, times_s: Tensor) -> Tensor:
    """Round a horizontal circle."""
    rate = 2.0 * math.pi / (2.0 * path.period_s)
    angle = rate * times_s[:, None]
    side = torch.stack((-path.velocity_world[1], path.velocity_world[0], path.velocity_world[2] * 0.0))
    return (torch.sin(angle) * path.velocity_world + (1.0 - torch.cos(angle)) * side) / rate


def _bounce(path: MoverPath, times_s: Tensor) -> Tensor:
    """Straight on in parabolic hops, on the ground at the anchor."""
    phase = torch.remainder(times_s / (0.5 * path.period_s), 1.0)
    offset = times_s[:, None] * path.velocity_world
    offset[:, 2] = 4.0 * path.height_m * phase * (1.0 - phase)
    return offset


def _stop_and_go(path: MoverPath, times_s: Tensor) -> Tensor:
    """Speed up and slow down for half of each period, rest for the other half."""
    cycles = torch.floor(times_s / path.period_s)
    phase = torch.clamp(2.0 * (times_s / path.period_s - cycles), max=1.0)
    travelled = phase - torch.sin(2.0 * math.pi * phase) / (2.0 * math.pi)
    return ((cycles + travelled) * 0.5 * path.period_s)[:, None] * path.velocity_world


def _spin(path: MoverPath, times_s: Tensor) -> Tensor:
    """Stay and turn."""
    return torch.zeros(len(times_s), 3, dtype=torch.float64)


KINDS = {
    "glide": _glide,
    "sway": _sway,
    "circle": _circle,
    "bounce": _bounce,
    "stop_and_go": _stop_and_go,
    "spin": _spin,
}


def _reflect(position: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Fold ``position`` (t, 3) back between ``low`` and ``high``, as by elastic walls; where they meet, stay there."""
    span = torch.clamp(high - low, min=1e-9)
    return low + span - (torch.remainder(position - low, 2.0 * span) - span).abs()
