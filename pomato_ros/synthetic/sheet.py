"""Bending sheets, flags and carpets: a chain of thin rigid strips along which a wave runs.

The sheet's frame has x along the chain, z along the strips, and its origin at the chain's mean. Strip i is at the angle
a_i(t) = bend * sin(waves * 2 pi * i / n - rate * t + phase) + curl * (i / n - 1/2) * sin(0.6 * rate * t)
about z, and begins where strip i - 1 ends. Each strip is an instance of its own, so its points' truth is exact; the
material of a sheet is that of all its strips, and neither stretches nor shears.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pomato_ros.synthetic.draw import Draw
from pomato_ros.synthetic.models import Model
from pomato_ros.synthetic.poses import pose, rotation_about
from pomato_ros.synthetic.shapes import Box, Ellipsoid
from pomato_ros.synthetic.stage import Placed
from pomato_ros.synthetic.texture_kinds import Shifted
from pomato_ros.synthetic.textures import Texture

THICKNESS = 0.012  # half of it, share of the sheet's size
ALONG_STRIPS = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)


@dataclass(frozen=True, slots=True)
class Sheet:
    """Size and wave of a bending sheet."""

    length_m: float  # along the chain
    half_width_m: float  # along a strip
    strips: int
    bend_rad: float
    waves: float  # along the whole chain
    rate_rad_s: float
    phase: float
    curl_rad: float

    def bound(self) -> Model:
        """What holds the sheet at any time."""
        radius = math.hypot(0.5 * self.length_m, self.half_width_m)
        return Model(((Ellipsoid((radius, radius, radius)), 0.0),), self.half_width_m)

    def strip_poses(self, times_s: Tensor) -> Tensor:
        """``sheet_from_strip`` (t, strips, 4, 4) float64 at ``times_s`` (t,)."""
        number = torch.arange(self.strips, dtype=torch.float64)
        along = number / self.strips
        wave = torch.sin(2.0 * math.pi * self.waves * along - self.rate_rad_s * times_s[:, None] + self.phase)
        curl = (along - 0.5) * torch.sin(0.6 * self.rate_rad_s * times_s)[:, None]
        angle = self.bend_rad * wave + self.curl_rad * curl
        step = self.length_m / self.strips * torch.stack((angle.cos(), angle.sin(), torch.zeros_like(angle)), dim=-1)
        middle = step.cumsum(1) - 0.5 * step
        return pose(rotation_about(ALONG_STRIPS, angle), middle - middle.mean(1, keepdim=True))

    def placed(self, world_from_sheet: Tensor, times_s: Tensor, look: Texture) -> Placed:
        """The strips of a sheet that goes along ``world_from_sheet`` (t, 4, 4), with one pattern across them all."""
        half = 0.5 * self.length_m / self.strips
        strip = Model(((Box((half, THICKNESS * self.length_m, self.half_width_m)), 0.0),), self.half_width_m)
        poses = world_from_sheet[:, None] @ self.strip_poses(times_s)
        pieces = []
        for number in range(self.strips):
            offset = (2.0 * number + 1.0 - self.strips) * half
            texture = Shifted(look, torch.tensor([offset, 0.0, 0.0]), torch.tensor([offset, 0.0]))
            pieces.append(Placed(strip, poses[:, number], looks=(texture,)))
        return Placed(self.bound(), world_from_sheet, tuple(pieces))


def draw_sheet(draw: Draw, size_m: float) -> Sheet:
    """A sheet of about ``size_m`` from its middle to its ends."""
    return Sheet(
        length_m=2.0 * size_m,
        half_width_m=size_m * draw.uniform((0.4, 0.9)),
        strips=draw.integer((7, 12)),
        bend_rad=draw.uniform((0.3, 0.9)),
        waves=draw.uniform((0.4, 1.3)),
        rate_rad_s=draw.log_uniform((1.5, 9.0)),
        phase=draw.uniform((0.0, 2.0 * math.pi)),
        curl_rad=draw.uniform((0.0, 1.0)),
    )
