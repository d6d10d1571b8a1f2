import pytest
import torch

from pomato_ros.synthetic.draw import Draw
from pomato_ros.synthetic.model_kinds import KEPT_BACK_KINDS, MODEL_KINDS, RICH_KINDS, draw_model_of
from pomato_ros.synthetic.models import draw_model
from pomato_ros.synthetic.poses import invert
from pomato_ros.synthetic.texture_kinds import KEPT_BACK_TEXTURES, RICH_TEXTURES, TEXTURE_KINDS, draw_texture_of
from pomato_ros.synthetic.textures import draw_texture

POINTS = 2.0 * torch.rand(2000, 3, generator=torch.Generator().manual_seed(0)) - 1.0
FINE = torch.full((2000,), 1e-3)


@pytest.mark.parametrize("kind", list(MODEL_KINDS))
def test_an_object_is_met_and_only_within_its_radius(kind: str) -> None:
    for seed in range(3):
        model = MODEL_KINDS[kind](Draw(seed), 0.5)
        generator = torch.Generator().manual_seed(seed)
        origin = 4.0 * torch.nn.functional.normalize(torch.randn(1, 3, 400, generator=generator).double(), dim=1)
        aim = model.radius_m * (2.0 * torch.rand(1, 3, 400, generator=generator).double() - 1.0)
        nearest = torch.full((1, 400), torch.inf, dtype=torch.float64)
        for part in model.parts(1, [draw_texture(Draw(0), (0.1, 1.0), 0.0)] * len(model.shapes)):
            pose = invert(part.object_from_part)
            found = part.shape.intersect(pose[:3, :3] @ origin + pose[:3, 3:], pose[:3, :3] @ (aim - origin))
            nearest = torch.minimum(nearest, found)
        met = torch.isfinite(nearest)
        points = (origin + nearest[:, None] * (aim - origin))[0].T[met[0]]
        assert bool(met.any())
        assert float(points.norm(dim=1).max()) <= model.radius_m * (1.0 + 1e-6)


def test_what_is_kept_back_is_drawn_by_no_world_to_train_on() -> None:
    assert not set(KEPT_BACK_KINDS) & set(RICH_KINDS)
    assert not set(KEPT_BACK_TEXTURES) & set(RICH_TEXTURES)


def test_no_kinds_are_the_plain_ones_draw_for_draw() -> None:
    one, other = Draw(5), Draw(5)
    assert draw_model_of(one, (), 0.4) == draw_model(other, 0.4)
    assert one.unit() == other.unit()
    draw_texture_of(one, (), (0.1, 1.0), 0.2)
    draw_texture(other, (0.1, 1.0), 0.2)
    assert one.unit() == other.unit()


@pytest.mark.parametrize("kind", list(TEXTURE_KINDS))
@pytest.mark.parametrize("seed", range(3))
def test_textures_are_colours_with_detail_that_fades(kind: str, seed: int) -> None:
    texture = TEXTURE_KINDS[kind](Draw(seed), 0.2)
    near = texture.colour(POINTS, POINTS[:, :2], FINE)
    far = texture.colour(POINTS, POINTS[:, :2], FINE + 8.0)
    assert near.shape == (2000, 3)
    assert 0.0 <= float(near.min()) <= float(near.max()) <= 1.0
    assert float(near.std(0).max()) > 0.01
    assert float(far.std(0).max()) < 0.02 + 0.15 * float(near.std(0).max())


def test_cells_of_worley_are_those_of_their_nearest_point() -> None:
    texture = TEXTURE_KINDS["worley"](Draw(1), 0.5)
    assert hasattr(texture, "seam")
    smooth = (texture.colour(POINTS + 1e-5, POINTS[:, :2], FINE) - texture.colour(POINTS, POINTS[:, :2], FINE)).abs()
    assert float((smooth.amax(1) < 1e-4).float().mean()) > 0.95, "one tone within a cell"
