"""The nouns a renderer needs: parts with shapes and textures, lights, the sensor, and where everything is at each time.

The world frame of a scene has z up and its origin on the floor; metres throughout.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from pomato_ros.structures import Intrinsics
from pomato_ros.synthetic.shapes import Shape
from pomato_ros.synthetic.textures import Texture


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One shape with one texture, fixed to an object. Several parts may share an object."""

    shape: Shape
    texture: Texture
    instance: int  # row of the object table; 0 is the static background
    object_from_part: Tensor  # (4, 4) float64
    casts_shadow: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """A point light, or a sun when far away, beside light from all around."""

    position_world: Tensor  # (3,) float64
    ambient: float  # share of the light that comes from everywhere, [0, 1]
    rgb: Tensor  # (3,) colour of the direct light
    shadows: bool


@dataclass(frozen=True, slots=True, eq=False)
class Sensor:
    """How radiance becomes 8-bit colour."""

    exposure: Tensor  # (t,) gain of each frame
    noise_std: float  # of the 8-bit value, in steps of 1/255
    noise_seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """Everything about one clip before it is rendered."""

    parts: tuple[Part, ...]
    world_from_object: Tensor  # (t, n_objects, 4, 4) float64; row 0 is the background, always identity
    world_from_camera: Tensor  # (t, 4, 4) float64, optical
    intrinsics: Intrinsics
    light: Light
    sensor: Sensor
    stamps_ns: tuple[int, ...]

    def at(self, frames: Sequence[int]) -> "Scene":
        """The same scene at some of its times only."""
        picked = list(frames)
        return dataclasses.replace(
            self,
            world_from_object=self.world_from_object[picked],
            world_from_camera=self.world_from_camera[picked],
            sensor=dataclasses.replace(self.sensor, exposure=self.sensor.exposure[picked]),
            stamps_ns=tuple(self.stamps_ns[frame] for frame in picked),
        )


def centred_intrinsics(fov_deg: float, size_wh: tuple[int, int]) -> Intrinsics:
    """A camera with square pixels, a horizontal view of ``fov_deg`` and its axis through the middle of the image."""
    width, height = size_wh
    focal = 0.5 * width / math.tan(math.radians(0.5 * fov_deg))
    return Intrinsics(focal, focal, 0.5 * (width - 1), 0.5 * (height - 1), width, height)
