"""The nouns a renderer needs: parts with shapes and textures, lights, the sensor, and where everything is at each time.

The world frame of a scene has z up and its origin on the floor; metres throughout.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
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
    gloss: float = 0.0  # strength of highlights
    sharpness: float = 1.0  # exponent of the highlights' falloff


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """A point light, or a sun when far away, beside light from all around."""

    position_world: Tensor  # (3,) float64
    ambient: float  # share of the light that comes from everywhere, [0, 1]
    rgb: Tensor  # (3,) colour of the direct light
    shadows: bool


@dataclass(frozen=True, slots=True, eq=False)
class Lamp:
    """A point light that may move; its light falls off with the square of the distance beyond ``reach_m``."""

    positions_world: Tensor  # (t, 3) float64
    rgb: Tensor  # (3,) strength within the reach
    reach_m: float
    shadows: bool


@dataclass(frozen=True, slots=True, eq=False)
class Sensor:
    """How radiance becomes 8-bit colour."""

    exposure: Tensor  # (t,) gain of each frame
    noise_std: float  # of the 8-bit value, in steps of 1/255
    noise_seed: int
    vignette: float = 0.0  # share of the light that is lost in the corners
    jpeg_quality: int | None = None  # 1 to 100, as libjpeg counts it


@dataclass(frozen=True, slots=True)
class Rolling:
    """When an image's rows are exposed, one after the other; seconds relative to the frame's stamp.

    The middle of row r's exposure, of h, is at (r / (h - 1) - 1/2) * ``readout_s``.
    """

    looks_s: tuple[float, ...]  # (k,) when the poses of a Blur are looked at, rising
    open_s: tuple[float, ...]  # instants of a row's exposure, relative to its middle; 0 alone for a sharp picture
    readout_s: float  # from the first row to the last

    def weights(self, height_px: int) -> NDArray[np.float64]:
        """(k, height_px): the share of each look in each row, linear between the two looks next to an instant."""
        rows = np.arange(height_px)
        middle_s = (rows - 0.5 * (height_px - 1)) / max(height_px - 1, 1) * self.readout_s
        instants_s = middle_s[:, None] + np.array(self.open_s)
        alone = np.eye(len(self.looks_s))
        return np.stack([np.interp(instants_s, self.looks_s, look).mean(axis=1) for look in alone])


@dataclass(frozen=True, slots=True, eq=False)
class Blur:
    """Poses at the times a frame's picture is put together from, k for each frame; the middle ones are its own.

    The picture is the mean of what is seen at these times; with a rolling shutter, what each row's own exposure has of
    them. The truth of a frame (depth, poses, instances and all that follows from them) is that of its stamp, for every
    row.
    """

    world_from_object: Tensor  # (t, k, n_objects, 4, 4) float64
    world_from_camera: Tensor  # (t, k, 4, 4) float64
    rolling: Rolling | None = None

    def weights(self, height_px: int) -> NDArray[np.float64]:
        """(k, height_px): the share of each look in each row of the picture."""
        looks = self.world_from_camera.shape[1]
        if self.rolling is None:
            return np.full((looks, height_px), 1.0 / looks)
        return self.rolling.weights(height_px)


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
    lamps: tuple[Lamp, ...] = ()
    blur: Blur | None = None
    only_what_meets: bool = False  # skip rays that pass a shape by

    def at(self, frames: Sequence[int]) -> "Scene":
        """The same scene at some of its times only."""
        picked = list(frames)
        return dataclasses.replace(
            self,
            world_from_object=self.world_from_object[picked],
            world_from_camera=self.world_from_camera[picked],
            sensor=dataclasses.replace(self.sensor, exposure=self.sensor.exposure[picked]),
            stamps_ns=tuple(self.stamps_ns[frame] for frame in picked),
            lamps=tuple(dataclasses.replace(lamp, positions_world=lamp.positions_world[picked]) for lamp in self.lamps),
            blur=None
            if self.blur is None
            else dataclasses.replace(
                self.blur,
                world_from_object=self.blur.world_from_object[picked],
                world_from_camera=self.blur.world_from_camera[picked],
            ),
        )

    def to(self, device: torch.device) -> "Scene":
        """The same scene with every tensor on ``device``, where it is then rendered."""
        moved = _moved(self, device)
        assert isinstance(moved, Scene)
        return moved


def _moved(item: object, device: torch.device) -> object:
    """``item`` with all tensors in it on ``device``; tuples and dataclasses are made again around them."""
    if isinstance(item, Tensor):
        return item.to(device)
    if isinstance(item, tuple):
        return tuple(_moved(member, device) for member in item)
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        changed = {field.name: _moved(getattr(item, field.name), device) for field in dataclasses.fields(item)}
        return dataclasses.replace(item, **changed)
    return item


def centred_intrinsics(fov_deg: float, size_wh: tuple[int, int]) -> Intrinsics:
    """A camera with square pixels, a horizontal view of ``fov_deg`` and its axis through the middle of the image."""
    width, height = size_wh
    focal = 0.5 * width / math.tan(math.radians(0.5 * fov_deg))
    return Intrinsics(focal, focal, 0.5 * (width - 1), 0.5 * (height - 1), width, height)
