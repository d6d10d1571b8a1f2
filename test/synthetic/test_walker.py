import math

import pytest
import torch

from pomato_ros.synthetic.draw import Draw
from pomato_ros.synthetic.sheet import draw_sheet
from pomato_ros.synthetic.textures import Plain
from pomato_ros.synthetic.walker import draw_gait, walker

TIMES_S = torch.linspace(-2.0, 2.0, 81, dtype=torch.float64)
STANDING = torch.eye(4, dtype=torch.float64).expand(81, 4, 4)
LOOK = Plain(torch.ones(3))


@pytest.mark.parametrize("seed", range(4))
def test_limbs_hang_together_within_the_body_and_above_its_soles(seed: int) -> None:
    person = walker(1.8, draw_gait(Draw(seed), 1.4, 1.8), STANDING, TIMES_S, (LOOK, LOOK, LOOK))
    assert len(person.members) == 10
    for limb in person.members:
        reach = limb.centres_world.norm(dim=-1) + 0.9 * limb.model.radius_m
        assert float(reach.max()) < 1.15 * person.model.radius_m
        assert float(limb.centres_world[:, 2].min()) > -0.9
    shins = [person.members[2 + 4 * side + 1].world_from_object for side in (0, 1)]
    thighs = [person.members[2 + 4 * side].world_from_object for side in (0, 1)]
    for thigh, shin in zip(thighs, shins, strict=True):
        below_thigh = thigh @ torch.tensor([0.0, 0.0, -0.13 * 1.8, 1.0], dtype=torch.float64)
        above_shin = shin @ torch.tensor([0.0, 0.0, 0.12 * 1.8, 1.0], dtype=torch.float64)
        torch.testing.assert_close(below_thigh, above_shin)


def test_the_stride_swings_both_legs_in_turn() -> None:
    person = walker(1.8, draw_gait(Draw(0), 1.4, 1.8), STANDING, TIMES_S, (LOOK, LOOK, LOOK))
    ahead = [person.members[2 + 4 * side].centres_world[:, 0] for side in (0, 1)]
    torch.testing.assert_close(ahead[0], -ahead[1])
    assert float(ahead[0].max()) > 0.05


def test_limbs_turn_smoothly() -> None:
    person = walker(1.8, draw_gait(Draw(1), 2.0, 1.8), STANDING, TIMES_S, (LOOK, LOOK, LOOK))
    for limb in person.members:
        steps = (limb.centres_world[1:] - limb.centres_world[:-1]).norm(dim=-1) / 0.05
        assert float(steps.max()) < 8.0


@pytest.mark.parametrize("seed", range(4))
def test_strips_of_a_sheet_meet_at_their_ends_and_it_keeps_its_length(seed: int) -> None:
    sheet = draw_sheet(Draw(seed), 0.7)
    poses = sheet.strip_poses(TIMES_S)
    half = 0.5 * sheet.length_m / sheet.strips
    end = poses @ torch.tensor([half, 0.0, 0.0, 1.0], dtype=torch.float64)
    begin = poses @ torch.tensor([-half, 0.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(end[:, :-1], begin[:, 1:])
    torch.testing.assert_close(poses[..., :3, 3].mean(1), torch.zeros(81, 3, dtype=torch.float64))
    reach = torch.cat((begin, end), dim=1)[..., :2].norm(dim=-1)
    assert float(torch.hypot(reach, torch.tensor(sheet.half_width_m)).max()) <= 1.35 * sheet.bound().radius_m
    assert float((poses[0] - poses[40]).abs().max()) > 0.01, "it bends"


def test_one_pattern_runs_across_all_strips() -> None:
    sheet = draw_sheet(Draw(2), 0.7)

    class Along:
        """Colour that tells the place along the pattern."""

        def colour(self, points: torch.Tensor, uv: torch.Tensor, footprint: torch.Tensor) -> torch.Tensor:
            return uv[:, :1].expand(-1, 3)

    pieces = sheet.placed(STANDING, TIMES_S, Along()).members
    half = 0.5 * sheet.length_m / sheet.strips
    edge = torch.tensor([[half, 0.0, 0.1], [-half, 0.0, 0.1]])
    for one, other in zip(pieces[:-1], pieces[1:], strict=True):
        end = one.looks[0].colour(edge[:1], edge[:1, [0, 2]], torch.zeros(1))
        begin = other.looks[0].colour(edge[1:], edge[1:, [0, 2]], torch.zeros(1))
        torch.testing.assert_close(end, begin)
    assert math.isclose(float(end[0, 0]), sheet.length_m * (0.5 - 1.0 / sheet.strips), abs_tol=1e-6)
