import dataclasses
import math

import pytest
import torch

from pomato_ros.structures import Intrinsics
from pomato_ros.synthetic.poses import look_at, pose
from pomato_ros.synthetic.renderer import render
from pomato_ros.synthetic.scene import Blur, Lamp, Light, Part, Scene, Sensor
from pomato_ros.synthetic.shapes import Box, Ellipsoid, Plane, Shape, Shell
from pomato_ros.synthetic.textures import Plain
from pomato_ros.synthetic.world import DRIVING_WORLD, RICH_WORLD, draw_scene

INTRINSICS = Intrinsics(40.0, 40.0, 24.0, 16.0, 49, 33)  # pixel (24, 16) looks along the optical axis
EYE = torch.eye(3, dtype=torch.float64)


def at(x: float, y: float, z: float) -> torch.Tensor:
    return pose(EYE, torch.tensor([x, y, z], dtype=torch.float64))


def part(shape: Shape, instance: int, gloss: float = 0.0) -> Part:
    eye = torch.eye(4, dtype=torch.float64)
    return Part(shape, Plain(torch.full((3,), 0.5)), instance, eye, instance > 0, gloss, 20.0)


def scene(parts: list[Part], object_poses: list[torch.Tensor], **changes: object) -> Scene:
    """One frame from (-4, 0, 1) along +x under light from everywhere."""
    eye = torch.tensor([-4.0, 0.0, 1.0], dtype=torch.float64)
    camera = look_at(eye, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
    objects = torch.stack([torch.eye(4, dtype=torch.float64), *object_poses])
    light = Light(torch.tensor([0.0, 0.0, 6.0], dtype=torch.float64), 0.2, torch.ones(3), False)
    sensor = Sensor(torch.ones(1), noise_std=0.0, noise_seed=0)
    plain = Scene(tuple(parts), objects[None], camera[None], INTRINSICS, light, sensor, (0,))
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def linear(setting: Scene) -> torch.Tensor:
    """Radiance (h, w) before the transfer curve, but for rounding."""
    return (render(setting).images[0, ..., 0].double() / 255.0) ** 2


def ground_points(setting: Scene) -> tuple[torch.Tensor, torch.Tensor]:
    """World points (h, w, 3) and where they are ground."""
    clip = render(setting)
    camera = clip.world_from_camera[0]
    points = clip.points_camera(0).double() @ camera[:3, :3].T + camera[:3, 3]
    return points, (clip.instance[0] == 0) & (points[..., 2].abs() < 1e-3)


GROUND = [part(Plane(), 0), part(Shell(50.0), 0)]


def test_a_lamp_adds_its_light_as_lambert_and_its_falloff_say() -> None:
    lamp = Lamp(torch.tensor([[-1.0, 0.5, 1.5]], dtype=torch.float64), torch.full((3,), 0.6), 1.2, shadows=False)
    dark, bright = scene(GROUND, []), scene(GROUND, [], lamps=(lamp,))
    points, ground = ground_points(dark)
    to_lamp = lamp.positions_world[0] - points
    distance = to_lamp.norm(dim=-1)
    expected = 0.5 * 0.6 * (to_lamp[..., 2] / distance) / (1.0 + (distance / 1.2) ** 2)
    added = linear(bright) - linear(dark)
    assert float((added - expected)[ground].abs().max()) < 0.008, "two roundings to 8 bits"


@pytest.mark.parametrize("only_what_meets", [False, True])
def test_a_lamp_casts_shadows_from_where_it_is_in_each_frame(only_what_meets: bool) -> None:
    two = scene([*GROUND, part(Ellipsoid((0.3, 0.3, 0.3)), 1)], [at(0.0, 0.0, 1.0)])
    way = torch.tensor([[0.0, 0.0, 3.0], [0.0, 1.0, 3.0]], dtype=torch.float64)
    two = dataclasses.replace(
        two,
        world_from_object=two.world_from_object.expand(2, -1, -1, -1),
        world_from_camera=two.world_from_camera.expand(2, -1, -1),
        sensor=Sensor(torch.ones(2), 0.0, 0),
        stamps_ns=(0, 1),
        only_what_meets=only_what_meets,
    )
    lit, shaded = (render(dataclasses.replace(two, lamps=(Lamp(way, torch.ones(3), 4.0, on),))) for on in (False, True))
    points, ground = ground_points(two.at([0]))
    for frame in (0, 1):
        darker = (shaded.images[frame].int() < lit.images[frame].int()).any(-1) & ground
        centre = points[darker].mean(0)
        expected = way[frame] + (torch.tensor([0.0, 0.0, 1.0]) - way[frame]) * 1.5  # through the ball to the ground
        assert float((centre - expected)[:2].norm()) < 0.25


def test_a_highlight_is_where_the_mirror_image_of_the_light_is() -> None:
    low = Light(torch.tensor([8.0, 0.0, 2.0], dtype=torch.float64), 0.2, torch.ones(3), False)
    dull, glossy = (scene([part(Plane(), 0, gloss), part(Shell(50.0), 0)], [], light=low) for gloss in (0.0, 0.8))
    points, ground = ground_points(dull)
    shine = torch.where(ground, linear(glossy) - linear(dull), 0.0)
    place = points.flatten(0, 1)[shine.argmax()]
    mirror = 12.0 / (1.0 + 2.0)  # heights 1 and 2 above the ground, 12 m apart
    assert float(place[0]) == pytest.approx(-4.0 + mirror, abs=0.6)
    assert float(place[1].abs()) < 0.15
    eye, light = torch.tensor([-4.0, 0.0, 1.0]).double(), low.position_world
    unit = torch.nn.functional.normalize
    halfway = unit(unit(eye - points, dim=-1) + unit(light - points, dim=-1), dim=-1)
    expected = 0.8 * 0.8 * halfway[..., 2] ** 20
    assert float((shine - expected)[ground & (expected + 0.5 < 0.9)].abs().max()) < 0.01


def test_a_vignette_takes_its_share_from_the_corners_and_nothing_from_the_middle() -> None:
    room = scene([part(Shell(50.0), 0)], [], light=Light(torch.zeros(3).double(), 1.0, torch.ones(3), False))
    plain, dimmed = linear(room), linear(dataclasses.replace(room, sensor=Sensor(torch.ones(1), 0.0, 0, 0.4)))
    ratio = dimmed / plain
    assert float(ratio[16, 24]) == pytest.approx(1.0, abs=0.02)
    assert [float(ratio[y, x]) for y in (0, -1) for x in (0, -1)] == pytest.approx([0.6] * 4, abs=0.02)


def test_blur_is_the_mean_of_radiance_and_the_truth_is_the_middle_one() -> None:
    box = [*GROUND, part(Box((0.3, 0.3, 0.3)), 1)]
    places = [at(0.0, y, 1.0) for y in (-0.4, 0.0, 0.4)]
    singles = [scene(box, [place]) for place in places]
    table = torch.stack([single.world_from_object[0] for single in singles])[None]
    middle = singles[1]
    blurred = dataclasses.replace(middle, blur=Blur(table, middle.world_from_camera[:, None].expand(1, 3, 4, 4)))
    mean = sum(linear(single) for single in singles) / 3.0
    assert float((linear(blurred) - mean).abs().max()) < 0.008
    clip, sharp = render(blurred), render(middle)
    assert torch.equal(clip.depth_m, sharp.depth_m)
    assert torch.equal(clip.instance, sharp.instance)


def test_a_drawn_shutter_is_open_around_the_stamp() -> None:
    config = dataclasses.replace(RICH_WORLD, blur_probability=1.0, blur_samples=4)
    setting = draw_scene(2, config, 3, (24, 16))
    assert setting.blur is not None
    assert setting.blur.world_from_camera.shape[:2] == (3, 5), "an even number has no middle"
    assert torch.equal(setting.blur.world_from_camera[:, 2], setting.world_from_camera)
    assert torch.equal(setting.blur.world_from_object[:, 2], setting.world_from_object)
    picked = setting.at([2, 0])
    assert picked.blur is not None
    assert torch.equal(picked.blur.world_from_camera[0], setting.blur.world_from_camera[2])


def test_compression_changes_colours_and_nothing_else() -> None:
    setting = draw_scene(3, RICH_WORLD, 1, (32, 24))
    setting = dataclasses.replace(setting, sensor=Sensor(torch.ones(1), 0.0, 0))
    pressed = dataclasses.replace(setting, sensor=Sensor(torch.ones(1), 0.0, 0, jpeg_quality=40))
    one, other = render(setting), render(pressed)
    assert not torch.equal(one.images, other.images)
    assert float((one.images.double() - other.images.double()).abs().mean()) < 15.0
    assert torch.equal(one.depth_m, other.depth_m)


@pytest.mark.parametrize("config", [RICH_WORLD, DRIVING_WORLD], ids=["rich", "driving"])
def test_nothing_is_rendered_on_another_device_than_the_scene_is_on(config: object) -> None:
    world = dataclasses.replace(
        config,
        blur_probability=1.0,
        rolling_shutter_probability=1.0,
        jpeg_probability=1.0,
        lamps=(1, 1),
        shadow_probability=1.0,
    )
    setting = draw_scene(1, world, 2, (24, 16))
    expected = render(setting)
    with torch.device("meta"):  # a tensor made without saying where would be of no value, and mix with none
        clip = render(setting)
        flow, tracks = clip.scene_flow(0, 1), clip.tracks(0, torch.tensor([[3, 4]], device="cpu"))
        moving, seen = clip.moving(0), clip.visible(0, 1)
    assert torch.equal(clip.images, expected.images)
    assert torch.equal(clip.depth_m, expected.depth_m)
    assert {item.device.type for item in (flow, tracks.visible, moving, seen)} == {"cpu"}


def test_a_scene_is_moved_with_all_that_is_in_it() -> None:
    moved = draw_scene(1, dataclasses.replace(RICH_WORLD, lamps=(1, 1)), 2, (24, 16)).to(torch.device("meta"))

    def devices(item: object) -> set[str]:
        if isinstance(item, torch.Tensor):
            return {item.device.type}
        if isinstance(item, tuple):
            return set().union(*(devices(member) for member in item))
        if dataclasses.is_dataclass(item):
            return set().union(*(devices(getattr(item, field.name)) for field in dataclasses.fields(item)))
        return set()

    assert devices(moved) == {"meta"}


def test_an_exposure_step_is_sudden_and_stays() -> None:
    config = dataclasses.replace(
        RICH_WORLD, exposure_drift=0.0, exposure_step_probability=1.0, exposure_step=(2.0, 2.0)
    )
    for seed in range(4):
        gain = draw_scene(seed, config, 9, (24, 16)).sensor.exposure
        ratio = (gain[1:] / gain[:-1]).tolist()
        assert sum(not math.isclose(value, 1.0, rel_tol=1e-5) for value in ratio) <= 1
        assert max(ratio) == pytest.approx(2.0) or max(ratio) == pytest.approx(1.0)
