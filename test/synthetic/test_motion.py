import pytest
import torch

from pomato_ros.synthetic.draw import Draw
from pomato_ros.synthetic.motion import KINDS, MoverPath, draw_path

TIMES_S = torch.arange(-400, 401, dtype=torch.float64) * 0.01
ANCHOR = torch.tensor([0.4, -0.3, 0.5], dtype=torch.float64)
LOW = torch.tensor([-1.0, -1.5, 0.5], dtype=torch.float64)
HIGH = torch.tensor([1.5, 1.2, 2.5], dtype=torch.float64)
UPRIGHT = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)


def path(kind: str) -> MoverPath:
    return MoverPath(kind, torch.tensor([0.6, 0.8, 0.0], dtype=torch.float64), 2.0, 0.5, UPRIGHT, 0.7)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_path_is_at_its_anchor_at_time_zero(kind: str) -> None:
    poses = path(kind).poses(ANCHOR, torch.eye(3, dtype=torch.float64), torch.zeros(1, dtype=torch.float64), LOW, HIGH)
    torch.testing.assert_close(poses[0, :3, 3], ANCHOR)
    torch.testing.assert_close(poses[0, :3, :3], torch.eye(3, dtype=torch.float64))


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_path_stays_in_its_space_and_never_jumps(kind: str) -> None:
    position = path(kind).poses(ANCHOR, torch.eye(3, dtype=torch.float64), TIMES_S, LOW, HIGH)[:, :3, 3]
    assert bool(((position >= LOW - 1e-9) & (position <= HIGH + 1e-9)).all())
    speed = (position[1:] - position[:-1]).norm(dim=-1) / 0.01
    assert float(speed.max()) < 3.0


def test_stop_and_go_rests_half_of_the_time() -> None:
    position = path("stop_and_go").poses(ANCHOR, torch.eye(3, dtype=torch.float64), TIMES_S, LOW, HIGH)[:, :3, 3]
    resting = (position[1:] - position[:-1]).norm(dim=-1) < 1e-9
    assert float(resting.double().mean()) == pytest.approx(0.5, abs=0.02)


def test_a_glide_keeps_its_speed_between_walls() -> None:
    position = path("glide").poses(ANCHOR, torch.eye(3, dtype=torch.float64), TIMES_S[395:410], LOW, HIGH)[:, :3, 3]
    steps = (position[1:] - position[:-1]).norm(dim=-1)
    torch.testing.assert_close(steps, torch.full((14,), 0.01, dtype=torch.float64))


def test_spin_turns_at_its_rate() -> None:
    poses = path("spin").poses(ANCHOR, torch.eye(3, dtype=torch.float64), TIMES_S[400:402], LOW, HIGH)
    torch.testing.assert_close(poses[:, :3, 3], ANCHOR.expand(2, 3))
    turn = poses[0, :3, :3].T @ poses[1, :3, :3]
    assert float(torch.atan2(turn[1, 0], turn[0, 0])) == pytest.approx(0.007)


def test_only_a_floating_mover_climbs() -> None:
    drawn = [draw_path(Draw(seed), (0.3, 1.0), (10.0, 90.0), floating=False) for seed in range(30)]
    assert all(float(item.velocity_world[2]) == 0.0 for item in drawn)
    assert all(torch.equal(item.spin_axis, UPRIGHT) for item in drawn)
    assert {item.kind for item in drawn} == set(KINDS)
