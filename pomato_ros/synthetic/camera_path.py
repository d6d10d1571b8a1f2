"""Camera paths: dolly, orbit, pan, wander or stand by hand, drive, fly; all with some shake."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pomato_ros.synthetic.draw import Draw
from pomato_ros.synthetic.poses import look_at, pose, rotation_about


@dataclass(frozen=True, slots=True)
class Handling:
    """How the camera is carried."""

    speed_m_s: float
    turn_deg_s: float
    shake_m: float  # standard deviation of the hand's position
    shake_deg: float  # standard deviation of the hand's direction
    roll_deg: float  # constant lean about the optical axis


def draw_camera_path(
    draw: Draw, kind: str, handling: Handling, times_s: Tensor, start: Tensor, target: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    """``world_from_camera`` (t, 4, 4) of a camera that starts at ``start`` and faces ``target``.

    Args:
        draw: source of the path's phases and directions.
        kind: one of KINDS.
        handling: speed and shake.
        times_s: (t,) seconds.
        start: (3,) position at time zero, between low and high.
        target: (3,) what the camera faces at time zero.
        low: (3,) smallest coordinates the camera may take.
        high: (3,) largest.
    """
    position, facing = KINDS[kind](draw, handling, times_s, start, target)
    hand = _wobble(draw, times_s, 3) * handling.shake_m
    position = _shrink(start, position + hand, low, high)
    lean = _wobble(draw, times_s, 3) * math.radians(handling.shake_deg)
    lean[:, 2] += math.radians(handling.roll_deg)
    return look_at(position, facing) @ _small_rotation(lean)


def _dolly(draw: Draw, handling: Handling, times_s: Tensor, start: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """To and fro along a line, mostly level; the gaze stays on the target or goes along."""
    heading = draw.uniform((-math.pi, math.pi))
    direction = torch.tensor([math.cos(heading), math.sin(heading), draw.uniform((-0.3, 0.3))], dtype=torch.float64)
    travel = _swing(draw, times_s, handling.speed_m_s, draw.uniform((0.6, 1.6)))[:, None] * direction
    follow = draw.choice((0.0, 1.0, draw.unit()))
    return start + travel, target + follow * travel


def _orbit(draw: Draw, handling: Handling, times_s: Tensor, start: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Around the target at constant distance, with it in view."""
    arm = start - target
    radius = float(arm[:2].norm())
    angle = _swing(draw, times_s, handling.speed_m_s, min(0.7 * radius, 2.0)) / radius
    rise = _swing(draw, times_s, 0.3 * handling.speed_m_s, 0.25)
    upright = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    position = target + (rotation_about(upright, angle) @ arm)
    return position + rise[:, None] * upright, target.expand_as(position)


def _pan(draw: Draw, handling: Handling, times_s: Tensor, start: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Turn nearly on the spot."""
    yaw = _swing(draw, times_s, math.radians(handling.turn_deg_s), math.radians(draw.uniform((15.0, 50.0))))
    drift = torch.stack([_swing(draw, times_s, 0.3 * handling.speed_m_s, 0.3) for _ in range(3)], dim=1)
    upright = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    position = start + drift
    return position, position + rotation_about(upright, yaw) @ (target - start)


def _wander(draw: Draw, handling: Handling, times_s: Tensor, start: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Position and gaze each roam on their own."""
    step = [_swing(draw, times_s, 0.6 * handling.speed_m_s, draw.uniform((0.3, 1.2))) for _ in range(3)]
    gaze_speed = float((target - start).norm()) * math.radians(handling.turn_deg_s)
    gaze = [_swing(draw, times_s, 0.5 * gaze_speed, draw.uniform((0.3, 1.0))) for _ in range(3)]
    calm = torch.tensor([1.0, 1.0, 0.4], dtype=torch.float64)
    return start + torch.stack(step, dim=1) * calm, target + torch.stack(gaze, dim=1) * calm


def _stand(draw: Draw, handling: Handling, times_s: Tensor, start: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Stay, but for the shake."""
    return start.expand(len(times_s), 3), target.expand(len(times_s), 3)


def _drive(draw: Draw, handling: Handling, times_s: Tensor, start: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Forwards on the level along a gentle bend, faster and slower, looking ahead."""
    ahead = target - start
    heading = math.atan2(float(ahead[1]), float(ahead[0]))
    rate, phase = draw.uniform((0.3, 1.2)), draw.uniform((-math.pi, math.pi))
    surge = draw.uniform((0.0, 0.9)) / rate
    travelled = handling.speed_m_s * (times_s + surge * (torch.sin(rate * times_s + phase) - math.sin(phase)))
    bend = draw.uniform((-1.0, 1.0)) * math.radians(handling.turn_deg_s) / handling.speed_m_s
    bend = math.copysign(max(abs(bend), 1e-6), bend)  # rad/m
    yaw = heading + bend * travelled
    across = torch.stack(
        (torch.sin(yaw) - math.sin(heading), math.cos(heading) - torch.cos(yaw), torch.zeros_like(yaw)), dim=1
    )
    upright = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    position = start + across / bend
    return position, position + rotation_about(upright, bend * travelled) @ ahead


def _drone(draw: Draw, handling: Handling, times_s: Tensor, start: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Climb, sink, come near and circle at once, gaze about the target."""
    arm = start - target
    reach = float(arm.norm())
    upright = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    angle = _swing(draw, times_s, 0.7 * handling.speed_m_s, draw.uniform((0.2, 0.8)) * reach) / reach
    approach = _swing(draw, times_s, 0.5 * handling.speed_m_s, draw.uniform((0.1, 0.35)) * reach) / reach
    rise = _swing(draw, times_s, 0.4 * handling.speed_m_s, draw.uniform((0.1, 0.4)) * reach)
    position = target + (rotation_about(upright, angle) @ arm) * (1.0 + approach)[:, None] + rise[:, None] * upright
    gaze = [_swing(draw, times_s, 0.3 * handling.speed_m_s, 0.1 * reach) for _ in range(2)]
    drift = torch.stack((*gaze, torch.zeros_like(angle)), dim=1)
    return position, target + drift


KINDS = {
    "dolly": _dolly,
    "orbit": _orbit,
    "pan": _pan,
    "wander": _wander,
    "stand": _stand,
    "drive": _drive,
    "drone": _drone,
}


def _swing(draw: Draw, times_s: Tensor, speed: float, amplitude: float) -> Tensor:
    """A smooth to and fro (t,) from zero at time zero, at ``speed`` through its middle, within twice ``amplitude``."""
    phase = draw.uniform((-0.6, 0.6)) + draw.choice((0.0, math.pi))
    return amplitude * (torch.sin(times_s * (speed / amplitude) + phase) - math.sin(phase))


def _wobble(draw: Draw, times_s: Tensor, count: int) -> Tensor:
    """Smooth noise (t, count) of standard deviation about 1 and a hand's frequencies, 0.4 to 5 Hz."""
    rates = torch.tensor([[draw.log_uniform((0.4, 5.0)) for _ in range(count)] for _ in range(4)], dtype=torch.float64)
    phases = 2.0 * math.pi * draw.values(4, count).double()
    weights = 1.0 / torch.sqrt(rates)
    waves = weights * torch.sin(2.0 * math.pi * rates * times_s[:, None, None] + phases)
    return waves.sum(1) / (0.5 * (weights**2).sum(0)).sqrt()


def _shrink(start: Tensor, position: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Scale the whole excursion (t, 3) from ``start`` so that it stays between ``low`` and ``high``."""
    excursion = position - start
    room = torch.where(excursion > 0.0, high - start, start - low)
    ratio = room / excursion.abs().clamp(min=1e-9)
    return start + excursion * float(ratio.min().clamp(max=1.0))


def _small_rotation(angles_rad: Tensor) -> Tensor:
    """(t, 4, 4) rotations by ``angles_rad`` (t, 3) about x, then y, then z."""
    axes = torch.eye(3, dtype=torch.float64)
    rotation = rotation_about(axes[0], angles_rad[:, 0])
    for axis in (1, 2):
        rotation = rotation @ rotation_about(axes[axis], angles_rad[:, axis])
    return pose(rotation, torch.zeros(len(angles_rad), 3, dtype=torch.float64))
