import pytest
import torch

from pomato_ros.synthetic.draw import Draw
from pomato_ros.synthetic.textures import Checker, Noise, Plain, Stripes, draw_texture

POINTS = 2.0 * torch.rand(2000, 3, generator=torch.Generator().manual_seed(0)) - 1.0
FINE = torch.full((2000,), 1e-3)


@pytest.mark.parametrize("seed", range(30))
def test_colours_are_colours(seed: int) -> None:
    colour = draw_texture(Draw(seed), (0.1, 1.0), 0.1).colour(POINTS, POINTS[:, :2], FINE)
    assert colour.shape == (2000, 3)
    assert float(colour.min()) >= 0.0
    assert float(colour.max()) <= 1.0


@pytest.mark.parametrize("seed", range(30))
def test_detail_finer_than_a_pixel_fades(seed: int) -> None:
    texture = draw_texture(Draw(seed), (0.05, 0.1), 0.0)
    near = texture.colour(POINTS, POINTS[:, :2], FINE).std(0)
    far = texture.colour(POINTS, POINTS[:, :2], FINE + 5.0).std(0)
    assert float(near.max()) > 0.01
    assert float(far.max()) < 0.02 + 0.15 * float(near.max())


def test_a_checker_alternates_along_both_axes() -> None:
    texture = Checker(torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]), cell_m=0.5)
    uv = torch.tensor([[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75], [-0.25, 0.25]])
    value = texture.colour(torch.zeros(5, 3), uv, FINE[:5])[:, 0]
    assert float(value[0]) == float(value[3])
    assert float(value[1]) == float(value[2]) == float(value[4]) == 1.0 - float(value[0])


def test_stripes_repeat_with_their_period() -> None:
    texture = Stripes(torch.rand(2, 3, generator=torch.Generator().manual_seed(1)), period_m=0.25, angle_rad=0.0)
    uv = POINTS[:, :2]
    one = texture.colour(POINTS, uv, FINE)
    along = texture.colour(POINTS, uv + torch.tensor([0.25, 0.0]), FINE)
    across = texture.colour(POINTS, uv + torch.tensor([0.0, 0.37]), FINE)
    assert float(((one - along).abs() < 1e-3).float().mean()) > 0.99
    torch.testing.assert_close(one, across)


def test_noise_is_continuous_even_across_cells() -> None:
    texture = Noise(torch.rand(3, 3), 0.3, 4, 1.0, torch.ones(3), torch.rand(4096))
    step = texture.colour(POINTS + 1e-5, POINTS[:, :2], FINE) - texture.colour(POINTS, POINTS[:, :2], FINE)
    assert float(step.abs().max()) < 2e-3


def test_plain_is_one_colour() -> None:
    colour = Plain(torch.tensor([0.1, 0.2, 0.3])).colour(POINTS, POINTS[:, :2], FINE)
    assert float(colour.std(0).max()) == 0.0
