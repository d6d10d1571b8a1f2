import dataclasses

import pytest
import torch

from pomato_ros.structures import Intrinsics
from pomato_ros.synthetic.poses import look_at, pose
from pomato_ros.synthetic.renderer import render
from pomato_ros.synthetic.scene import Light, Part, Scene, Sensor
from pomato_ros.synthetic.shapes import Box, Ellipsoid, Plane, Shape, Shell
from pomato_ros.synthetic.textures import Plain

INTRINSICS = Intrinsics(40.0, 40.0, 24.0, 16.0, 49, 33)  # pixel (24, 16) looks along the optical axis
EYE = torch.eye(3, dtype=torch.float64)


def at(x: float, y: float, z: float) -> torch.Tensor:
    return pose(EYE, torch.tensor([x, y, z], dtype=torch.float64))


def part(shape: Shape, instance: int, rgb: tuple[float, float, float] = (0.5, 0.5, 0.5)) -> Part:
    return Part(shape, Plain(torch.tensor(rgb)), instance, torch.eye(4, dtype=torch.float64), instance > 0)


def scene(parts: list[Part], object_poses: list[torch.Tensor], shadows: bool = False) -> Scene:
    """One frame from (-4, 0, 1) along +x; poses are of the objects from 1 on."""
    eye = torch.tensor([-4.0, 0.0, 1.0], dtype=torch.float64)
    camera = look_at(eye, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    objects = torch.stack([torch.eye(4, dtype=torch.float64), *object_poses])
    light = Light(torch.tensor([0.0, 0.0, 6.0], dtype=torch.float64), 0.2, torch.ones(3), shadows)
    sensor = Sensor(torch.ones(1), noise_std=0.0, noise_seed=0)
    return Scene(tuple(parts), objects[None], camera[None], INTRINSICS, light, sensor, (0,))


def test_depth_of_a_sphere_is_analytic_at_every_pixel() -> None:
    clip = render(scene([part(Shell(50.0), 0), part(Ellipsoid((0.8, 0.8, 0.8)), 1)], [at(0.0, 0.0, 1.0)]))
    x = (torch.arange(49, dtype=torch.float64) - 24.0) / 40.0
    y = (torch.arange(33, dtype=torch.float64) - 16.0) / 40.0
    length_squared = 1.0 + x[None] ** 2 + y[:, None] ** 2
    discriminant = 16.0 - length_squared * (16.0 - 0.64)
    expected = (4.0 - torch.sqrt(discriminant)) / length_squared
    on_sphere = clip.instance[0] == 1
    assert torch.equal(on_sphere, discriminant > 0.0)
    torch.testing.assert_close(clip.depth_m[0][on_sphere].double(), expected[on_sphere], atol=2e-5, rtol=0.0)


def test_depth_of_a_box_face_is_constant_along_the_optical_axis() -> None:
    clip = render(scene([part(Shell(50.0), 0), part(Box((0.5, 0.7, 0.4)), 1)], [at(0.0, 0.0, 1.0)]))
    face = clip.depth_m[0][clip.instance[0] == 1]
    torch.testing.assert_close(face, torch.full_like(face, 3.5))
    assert int((clip.instance[0, 16] == 1).sum()) == 2 * int(40.0 * 0.7 / 3.5) + 1


def test_depth_of_the_ground_follows_the_row() -> None:
    clip = render(scene([part(Plane(), 0), part(Shell(50.0), 0)], []))
    rows = torch.arange(22, 33, dtype=torch.float32)
    expected = (40.0 / (rows - 16.0))[:, None].expand(11, 49)
    torch.testing.assert_close(clip.depth_m[0, 22:], expected)


def test_the_nearer_of_two_objects_wins_whatever_their_order() -> None:
    ball, box = Ellipsoid((0.3, 0.3, 0.3)), Box((0.1, 1.0, 0.5))
    for order in ([0, 1], [1, 0]):
        parts = [part(shape, instance) for shape, instance in ((ball, 1), (box, 2))]
        ordered = [part(Shell(50.0), 0), *(parts[i] for i in order)]
        clip = render(scene(ordered, [at(-1.0, 0.0, 1.0), at(0.0, 0.0, 1.0)]))
        assert int(clip.instance[0, 16, 24]) == 1
        assert int(clip.instance[0, 16, 31]) == 2


def test_shadows_darken_and_only_below_the_object() -> None:
    parts, poses = [part(Plane(), 0), part(Shell(50.0), 0), part(Ellipsoid((0.5, 0.5, 0.5)), 1)], [at(0.0, 0.0, 1.5)]
    bright, dark = (render(scene(parts, poses, shadows)) for shadows in (False, True))
    points = dark.points_camera(0).double() @ dark.world_from_camera[0, :3, :3].T + dark.world_from_camera[0, :3, 3]
    ground = (dark.instance[0] == 0) & (points[..., 2].abs() < 1e-3)
    beside_axis = points[..., :2].norm(dim=-1)
    radius = 0.5 * 6.0 / (4.5**2 - 0.5**2) ** 0.5  # of the shadow's circle, from similar triangles
    shaded = (dark.images[0] < bright.images[0]).any(-1)
    assert bool(shaded[ground & (beside_axis < radius - 0.02)].all())
    assert not bool(shaded[ground & (beside_axis > radius + 0.02)].any())


def test_light_falls_off_with_the_angle_as_lambert_says() -> None:
    clip = render(scene([part(Plane(), 0), part(Shell(50.0), 0)], []))
    points = clip.points_camera(0).double() @ clip.world_from_camera[0, :3, :3].T + clip.world_from_camera[0, :3, 3]
    cosine = 6.0 / (points[..., :2].square().sum(-1) + 36.0).sqrt()
    expected = 255.0 * (0.5 * (0.2 + 0.8 * cosine)).sqrt()
    ground = points[..., 2].abs() < 1e-3
    assert float((clip.images[0, ..., 0].double() - expected)[ground].abs().max()) <= 0.51


def test_supersampling_leaves_the_truth_alone() -> None:
    setting = scene([part(Plane(), 0), part(Shell(50.0), 0), part(Box((0.5, 0.5, 0.5)), 1)], [at(0.0, 0.3, 1.0)])
    one, four = render(setting), render(setting, supersample=2)
    assert torch.equal(one.depth_m, four.depth_m)
    assert torch.equal(one.instance, four.instance)
    assert not torch.equal(one.images, four.images)


def test_frames_do_not_depend_on_how_many_are_rendered_together() -> None:
    single = scene([part(Plane(), 0), part(Shell(50.0), 0), part(Box((0.5, 0.5, 0.5)), 1)], [at(0.0, 0.3, 1.0)])
    triple = dataclasses.replace(
        single,
        world_from_object=single.world_from_object.expand(3, -1, -1, -1),
        world_from_camera=torch.stack([single.world_from_camera[0] @ at(0.1 * t, 0.0, 0.0) for t in range(3)]),
        sensor=Sensor(torch.ones(3), 0.0, 0),
        stamps_ns=(0, 1, 2),
    )
    one, all_three = render(triple, chunk=1), render(triple, chunk=3)
    torch.testing.assert_close(one.depth_m, all_three.depth_m)
    assert int((one.images.int() - all_three.images.int()).abs().max()) <= 1


def test_a_ray_that_leaves_the_scene_is_an_error() -> None:
    with pytest.raises(ValueError, match="enclose it"):
        render(scene([part(Plane(), 0)], []))
