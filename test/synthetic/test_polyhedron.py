import math

import pytest
import torch

from pomato_ros.synthetic.polyhedron import Polyhedron, gem, prism, pyramid
from pomato_ros.synthetic.shapes import Box

HALF = (0.4, 0.7, 0.2)
NORMALS = ((1.0, 0.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, -1.0))
CUBOID = Polyhedron(NORMALS, (0.4, 0.4, 0.7, 0.7, 0.2, 0.2), math.hypot(*HALF))


def hit(shape: Polyhedron, origin: list[float], direction: list[float]) -> float:
    o, d = (torch.tensor(vector, dtype=torch.float64).view(1, 3, 1) for vector in (origin, direction))
    return float(shape.intersect(o, d))


def test_six_faces_make_a_box() -> None:
    generator = torch.Generator().manual_seed(0)
    origin = 2.0 * torch.randn(1, 3, 500, generator=generator, dtype=torch.float64)
    direction = 0.5 * torch.randn(1, 3, 500, generator=generator, dtype=torch.float64) - origin
    found, expected = CUBOID.intersect(origin, direction), Box(HALF).intersect(origin, direction)
    torch.testing.assert_close(found, expected)
    points = (origin + expected[:, None] * direction)[0].T[torch.isfinite(expected[0])]
    torch.testing.assert_close(CUBOID.normal(points), Box(HALF).normal(points))


@pytest.mark.parametrize(
    ("shape", "origin", "direction", "expected"),
    [
        (prism(6, 1.0, 0.5), [-3.0, 0.0, 0.0], [1.0, 0.0, 0.0], 3.0 - math.sqrt(0.75)),
        (prism(4, 1.0, 0.5), [0.1, 0.1, 3.0], [0.0, 0.0, -1.0], 2.5),
        (prism(4, 1.0, 0.5), [5.0, 0.0, 3.0], [0.0, 0.0, -1.0], math.inf),  # along faces, outside of them
        (pyramid(4, 1.0, 0.5), [0.0, 0.0, 3.0], [0.0, 0.0, -1.0], 2.5),
        (pyramid(4, 1.0, 0.5), [-3.0, 0.0, 0.0], [1.0, 0.0, 0.0], 3.0 - 0.5 * math.sqrt(0.5)),
    ],
)
def test_distance_is_the_analytic_one(
    shape: Polyhedron, origin: list[float], direction: list[float], expected: float
) -> None:
    assert hit(shape, origin, direction) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_a_gem_is_within_its_radius_and_is_met_from_everywhere(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    normals = torch.nn.functional.normalize(torch.randn(9, 3, generator=generator, dtype=torch.float64), dim=1)
    shape = gem(normals, 0.3 + 0.2 * torch.rand(9, generator=generator, dtype=torch.float64))
    outward = torch.nn.functional.normalize(torch.randn(1, 3, 300, generator=generator, dtype=torch.float64), dim=1)
    distance = shape.intersect(4.0 * outward, -outward)
    assert bool((distance >= 4.0 - shape.radius_m - 1e-9).all())
    assert bool((distance <= 4.0 - 0.3 + 1e-9).all())
    assert hit(shape, [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]) >= 0.3
