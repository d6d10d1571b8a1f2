"""Where things may be: the space of a scene, and the camera that must see but never touch them."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pomato_ros.synthetic.draw import Draw, Range
from pomato_ros.synthetic.enclosure import Enclosure
from pomato_ros.synthetic.marched import Relief
from pomato_ros.synthetic.models import Model
from pomato_ros.synthetic.poses import rotation_about
from pomato_ros.synthetic.textures import Texture

CAMERA_GAP_M = 0.25  # the camera stays this far from every object's bounding sphere
OVERLAP = 0.8  # bounding spheres nearer than this share of the sum of their radii count as cutting each other


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """An object with its pose at every time. One that bends is its bound, and ``members`` are its rigid pieces."""

    model: Model
    world_from_object: Tensor  # (t, 4, 4) float64
    members: tuple["Placed", ...] = ()
    looks: tuple[Texture, ...] = ()  # of the model's shapes, where they are chosen already

    @property
    def centres_world(self) -> Tensor:
        """(t, 3) positions of the origin."""
        return self.world_from_object[:, :3, 3]


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """The space of a scene and its camera's path."""

    enclosure: Enclosure
    world_from_camera: Tensor  # (t, 4, 4) float64
    half_image: tuple[float, float]  # half width and half height of the image at unit depth

    def point_in_view(
        self, draw: Draw, frame: int, share: Range | None = None, spread: float = 1.0
    ) -> tuple[Tensor, float]:
        """A random world point (3,) in view at ``frame`` inside the enclosure, and its distance in metres.

        Args:
            draw: source of the point.
            frame: when it is in view.
            share: limits of its distance, share of the way to the enclosure's end, log-uniform; None for the plain
                world's, which are even and leave the foreground free.
            spread: how far from the middle of the image, 1 for nearly all of it.
        """
        x = draw.uniform((-0.85, 0.85)) * self.half_image[0] * spread
        y = draw.uniform((-0.75, 0.9)) * self.half_image[1] * spread
        ray = torch.tensor([x, y, 1.0], dtype=torch.float64)
        camera = self.world_from_camera[frame]
        direction = camera[:3, :3] @ (ray / ray.norm())
        origin = camera[:3, 3]
        walls = torch.where(direction > 0.0, self.enclosure.high, self.enclosure.low)
        part_way = draw.uniform((0.3, 0.98)) if share is None else draw.log_uniform(share)
        distance = part_way * float(((walls - origin) / direction).min())
        return origin + distance * direction, distance

    def size_for_share(self, share: float, distance_m: float) -> float:
        """Radius in metres of a disc that fills ``share`` of the image from ``distance_m``."""
        return distance_m * math.sqrt(share * 4.0 * self.half_image[0] * self.half_image[1] / math.pi)

    def space(self, model: Model, floating: bool) -> tuple[Tensor, Tensor]:
        """Corners (3,) between which the origin of ``model`` may be: on the floor unless ``floating``."""
        low, high = self.enclosure.low + model.radius_m, self.enclosure.high - model.radius_m
        if not floating:
            low[2] = high[2] = model.half_height_m
        middle = 0.5 * (low + high)
        return torch.minimum(low, middle), torch.maximum(high, middle)

    def on_ground(self, world_from_object: Tensor) -> Tensor:
        """Poses (t, 4, 4) that were meant for level ground, lifted by the relief below each of them."""
        return lifted(world_from_object, self.enclosure.relief)

    def clear_of_camera(self, item: Placed) -> bool:
        """True if the camera never comes near the object's bounding sphere."""
        gap = (item.centres_world - self.world_from_camera[:, :3, 3]).norm(dim=-1)
        return bool((gap > item.model.radius_m + CAMERA_GAP_M).all())

    def hides(self, front: Placed, behind: Placed, frame: int) -> bool:
        """True if at ``frame`` the origin of ``behind`` lies behind the bounding sphere of ``front``."""
        eye = self.world_from_camera[frame, :3, 3]
        to_behind = behind.centres_world[frame] - eye
        to_front = front.centres_world[frame] - eye
        along = float((to_front @ to_behind) / (to_behind @ to_behind))
        return 0.0 < along < 1.0 and float((to_front - along * to_behind).norm()) < front.model.radius_m


def lifted(world_from_body: Tensor, relief: Relief | None) -> Tensor:
    """Poses (t, 4, 4) raised or lowered by the height of ``relief`` at their places."""
    if relief is None:
        return world_from_body
    raised = world_from_body.clone()
    raised[:, 2, 3] += relief.height(world_from_body[:, :2, 3])
    return raised


def cut(one: Placed, other: Placed) -> bool:
    """True if the bounding spheres of two objects ever run deep into each other."""
    gap = (one.centres_world - other.centres_world).norm(dim=-1)
    return bool((gap < OVERLAP * (one.model.radius_m + other.model.radius_m)).any())


def draw_orientation(draw: Draw, floating: bool) -> Tensor:
    """(3, 3) float64 rotation: any if ``floating``, else about the vertical."""
    axis = draw.direction() if floating else torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    return rotation_about(axis, torch.tensor(draw.uniform((-math.pi, math.pi)), dtype=torch.float64))
