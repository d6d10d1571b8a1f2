import math

import pytest
import torch
from torch import Tensor

from pomato_ros.synthetic.shapes import Box, Cone, Ellipsoid, Plane, Shape, Shell

SOLIDS = [
    Ellipsoid((0.5, 0.5, 0.5)),
    Ellipsoid((0.3, 0.9, 0.5)),
    Box((0.4, 0.7, 0.2)),
    Cone(0.4, 0.4, 0.6),
    Cone(0.6, 0.2, 0.5),
    Cone(0.5, 0.0, 0.4),
]


def hit(shape: Shape, origin: list[float], direction: list[float]) -> float:
    o, d = (torch.tensor(vector, dtype=torch.float64).view(1, 3, 1) for vector in (origin, direction))
    return float(shape.intersect(o, d))


def rays_towards(radius_m: float, count: int) -> tuple[Tensor, Tensor]:
    """Origins on a sphere well outside, (1, 3, n), and directions to the middle third of the bounding sphere."""
    generator = torch.Generator().manual_seed(0)
    outward = torch.randn(1, 3, count, generator=generator, dtype=torch.float64)
    origin = 3.0 * radius_m * torch.nn.functional.normalize(outward, dim=1)
    aim = 0.3 * radius_m * (2.0 * torch.rand(1, 3, count, generator=generator, dtype=torch.float64) - 1.0)
    return origin, aim - origin


@pytest.mark.parametrize(
    ("shape", "origin", "direction", "expected"),
    [
        (Ellipsoid((0.5, 0.5, 0.5)), [0.0, 0.0, -3.0], [0.0, 0.0, 1.0], 2.5),
        (Ellipsoid((0.5, 0.5, 0.5)), [0.3, 0.0, -3.0], [0.0, 0.0, 1.0], 3.0 - 0.4),
        (Ellipsoid((0.5, 1.0, 2.0)), [0.0, -5.0, 0.0], [0.0, 2.0, 0.0], 2.0),
        (Box((0.5, 1.0, 2.0)), [0.2, 0.3, -5.0], [0.0, 0.0, 1.0], 3.0),
        (Box((0.5, 1.0, 2.0)), [-2.0, -2.0, 0.0], [1.0, 1.0, 0.0], 1.5),
        (Cone(0.5, 0.5, 1.0), [-3.0, 0.0, 0.2], [1.0, 0.0, 0.0], 2.5),
        (Cone(0.5, 0.5, 1.0), [0.2, 0.1, 4.0], [0.0, 0.0, -1.0], 3.0),
        (Cone(1.0, 0.0, 1.0), [-3.0, 0.0, 0.0], [1.0, 0.0, 0.0], 2.5),
        (Plane(), [1.0, 2.0, 3.0], [0.5, 0.0, -1.0], 3.0),
        (Shell(10.0), [1.0, 0.0, 0.0], [1.0, 0.0, 0.0], 9.0),
    ],
)
def test_distance_is_the_analytic_one(
    shape: Shape, origin: list[float], direction: list[float], expected: float
) -> None:
    assert hit(shape, origin, direction) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shape", [*SOLIDS, Plane()])
def test_a_ray_that_leads_away_hits_nothing(shape: Shape) -> None:
    assert hit(shape, [0.1, 0.2, 4.0], [0.1, 0.2, 1.0]) == math.inf


@pytest.mark.parametrize("shape", SOLIDS)
def test_a_ray_that_passes_outside_the_bounding_sphere_hits_nothing(shape: Shape) -> None:
    assert hit(shape, [1.01 * shape.radius_m, 0.0, -4.0], [0.0, 0.001, 1.0]) == math.inf


@pytest.mark.parametrize("shape", SOLIDS)
def test_a_ray_from_inside_leaves_through_the_far_side(shape: Shape) -> None:
    middle, direction = [0.01, 0.02, 0.0], [0.2, 1.0, 0.3]
    inside = hit(shape, middle, direction)
    outside = hit(shape, [m + 5.0 * d for m, d in zip(middle, direction, strict=True)], [-d for d in direction])
    assert inside == pytest.approx(5.0 - outside, abs=1e-9)


@pytest.mark.parametrize("shape", SOLIDS)
def test_the_length_of_a_direction_scales_the_parameter_only(shape: Shape) -> None:
    origin, direction = rays_towards(shape.radius_m, 50)
    torch.testing.assert_close(shape.intersect(origin, direction), 2.5 * shape.intersect(origin, 2.5 * direction))


@pytest.mark.parametrize("shape", SOLIDS)
def test_normals_are_unit_face_the_ray_and_are_perpendicular_to_the_surface(shape: Shape) -> None:
    origin, direction = rays_towards(shape.radius_m, 200)
    nudges = (torch.zeros(3), torch.tensor([1e-6, 0.0, 0.0]), torch.tensor([0.0, 1e-6, 0.0]))
    hits = torch.isfinite(shape.intersect(origin, direction))[0]
    assert int(hits.sum()) > 100
    origin, direction = origin[..., hits], direction[..., hits]
    points = []
    for nudge in nudges:
        moved = direction + nudge.double()[:, None]
        points.append((origin + shape.intersect(origin, moved)[:, None] * moved)[0].T)
    normal = shape.normal(points[0])
    torch.testing.assert_close(normal.norm(dim=1), torch.ones_like(normal[:, 0]))
    assert bool(((normal * direction[0].T).sum(1) < 0.0).all())
    for neighbour in points[1:]:
        tangent = torch.nn.functional.normalize(neighbour - points[0], dim=1)
        along = (tangent * normal).sum(1).abs() < 1e-3
        assert float(along.double().mean()) > 0.97, "all but rays at an edge"


@pytest.mark.parametrize("shape", SOLIDS)
def test_surface_coordinates_are_metres(shape: Shape) -> None:
    origin, direction = rays_towards(shape.radius_m, 200)
    distance = shape.intersect(origin, direction)[:, None]
    points = (origin + distance * direction)[0].T[torch.isfinite(distance[0, 0])]
    assert bool((shape.surface_uv(points).abs() <= math.pi * shape.radius_m).all())
