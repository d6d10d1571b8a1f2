import math

import pytest
import torch

from pomato_ros.synthetic.camera_path import KINDS, Handling, draw_camera_path
from pomato_ros.synthetic.draw import Draw
from pomato_ros.synthetic.poses import look_at

TIMES_S = torch.arange(-60, 61, dtype=torch.float64) / 30.0
START = torch.tensor([-1.0, 0.5, 1.2], dtype=torch.float64)
TARGET = torch.tensor([1.5, 0.0, 0.6], dtype=torch.float64)
LOW = torch.tensor([-1.5, -1.5, 0.3], dtype=torch.float64)
HIGH = torch.tensor([1.5, 1.5, 2.2], dtype=torch.float64)


def path(kind: str, shake: float = 1.0, seed: int = 0) -> torch.Tensor:
    handling = Handling(speed_m_s=0.6, turn_deg_s=20.0, shake_m=0.008 * shake, shake_deg=0.5 * shake, roll_deg=0.0)
    return draw_camera_path(Draw(seed), kind, handling, TIMES_S, START, TARGET, LOW, HIGH)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_path_stays_in_its_space_and_moves_smoothly(kind: str, seed: int) -> None:
    poses = path(kind, seed=seed)
    position = poses[:, :3, 3]
    assert bool(((position >= LOW - 1e-9) & (position <= HIGH + 1e-9)).all())
    speed = (position[1:] - position[:-1]).norm(dim=-1) * 30.0
    assert float(speed.max()) < 2.0
    turn = poses[:-1, :3, :3].transpose(-1, -2) @ poses[1:, :3, :3]
    angle = torch.acos(((turn.diagonal(dim1=-2, dim2=-1).sum(-1) - 1.0) / 2.0).clamp(-1.0, 1.0))
    assert math.degrees(float(angle.max())) < 6.0


@pytest.mark.parametrize("kind", list(KINDS))
def test_without_shake_the_camera_faces_its_target_at_time_zero(kind: str) -> None:
    pose = path(kind, shake=0.0)[60]
    torch.testing.assert_close(pose, look_at(START, TARGET))


def test_an_orbit_keeps_its_target_in_the_middle() -> None:
    poses = path("orbit", shake=0.0)
    target = torch.linalg.inv(poses) @ torch.cat((TARGET, torch.ones(1, dtype=torch.float64)))
    assert float((target[:, :2] / target[:, 2:3]).abs().max()) < 1e-9


def test_standing_still_leaves_only_the_shake() -> None:
    still = path("stand", shake=0.0)
    torch.testing.assert_close(still, still[:1].expand_as(still))
    assert not torch.equal(path("stand")[0], path("stand")[1])


def test_cameras_are_upright_and_optical() -> None:
    pose = look_at(START, TARGET)
    right, down, forward = pose[:3, :3].T
    torch.testing.assert_close(forward, (TARGET - START) / (TARGET - START).norm())
    assert float(down[2]) < 0.0
    assert float(right[2]) == pytest.approx(0.0)
    torch.testing.assert_close(torch.linalg.cross(right, down), forward)
