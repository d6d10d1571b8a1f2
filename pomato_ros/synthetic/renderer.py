"""Casts rays into a scene: nearest hit over all parts, Lambert shading, hard shadows, a simple sensor."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pomato_ros.structures import Intrinsics
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.poses import invert
from pomato_ros.synthetic.scene import Part, Scene


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """Some frames of a scene, ready to be hit by rays; all float32."""

    rays: Tensor  # (3, n) camera frame, z = 1
    part_from_camera: list[Tensor]  # per part (t, 4, 4)
    part_from_world: list[Tensor]  # per part (t, 4, 4)
    world_from_camera: Tensor  # (t, 4, 4)


@dataclass(frozen=True, slots=True, eq=False)
class _Hits:
    """Nearest surface along each ray of each frame."""

    depth: Tensor  # (t, n) metres along the optical axis
    part: Tensor  # (t, n) int16, index into Scene.parts


@torch.no_grad()
def render(scene: Scene, supersample: int = 1, chunk: int = 4) -> Clip:
    """Render every frame of ``scene``.

    Args:
        scene: what to render; every ray must meet something.
        supersample: colour samples per pixel along each axis. The truth always belongs to pixel centres.
        chunk: frames handled at once; larger takes more memory.

    Raises:
        ValueError: a ray left the scene, so that its depth would be infinite.
    """
    frames = range(len(scene.stamps_ns))
    chunks = [_render_chunk(scene, slice(first, first + chunk), supersample) for first in frames[::chunk]]
    colour, depth, part = (torch.cat(arrays) for arrays in zip(*chunks, strict=True))
    if not torch.isfinite(depth).all():
        raise ValueError("a ray meets no part of the scene; enclose it with planes or a shell")
    instance_of_part = torch.tensor([item.instance for item in scene.parts], dtype=torch.int16)
    return Clip(
        images=_expose(colour, scene),
        depth_m=depth,
        world_from_camera=scene.world_from_camera,
        intrinsics=scene.intrinsics,
        instance=instance_of_part[part.long()],
        world_from_object=scene.world_from_object,
        stamps_ns=list(scene.stamps_ns),
    )


def pixel_rays(intrinsics: Intrinsics, supersample: int = 1) -> Tensor:
    """Directions (3, h * s * w * s) through the sample centres, row by row, in the camera frame, with z = 1."""
    x = (_sample_centres(intrinsics.width_px, supersample) - intrinsics.cx_px) / intrinsics.fx_px
    y = (_sample_centres(intrinsics.height_px, supersample) - intrinsics.cy_px) / intrinsics.fy_px
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack((grid_x, grid_y, torch.ones_like(grid_x))).flatten(1).float()


def _sample_centres(size_px: int, supersample: int) -> Tensor:
    """Pixel coordinates (size * supersample,) of the samples along one axis; pixel centres are integers."""
    return (torch.arange(size_px * supersample, dtype=torch.float64) + 0.5) / supersample - 0.5


def _render_chunk(scene: Scene, times: slice, supersample: int) -> tuple[Tensor, Tensor, Tensor]:
    """Linear colour (t, h, w, 3), depth (t, h, w) and part (t, h, w) of some frames."""
    height, width = scene.intrinsics.height_px, scene.intrinsics.width_px
    view = _view(scene, times, supersample)
    hits = _cast(scene.parts, view)
    colour = _shade(scene, view, hits, scene.intrinsics.fx_px * supersample)
    frames = len(colour)
    colour = colour.view(frames, height, supersample, width, supersample, 3).mean(dim=(2, 4))
    if supersample > 1:
        hits = _cast(scene.parts, _view(scene, times, 1))
    return colour, hits.depth.view(frames, height, width), hits.part.view(frames, height, width)


def _view(scene: Scene, times: slice, supersample: int) -> _View:
    """Gather the poses of some frames; composed in float64, then rounded once."""
    camera = scene.world_from_camera[times]
    part_from_world = [invert(scene.world_from_object[times, p.instance] @ p.object_from_part) for p in scene.parts]
    return _View(
        rays=pixel_rays(scene.intrinsics, supersample),
        part_from_camera=[(matrix @ camera).float() for matrix in part_from_world],
        part_from_world=[matrix.float() for matrix in part_from_world],
        world_from_camera=camera.float(),
    )


def _cast(parts: tuple[Part, ...], view: _View) -> _Hits:
    """Nearest hit of every ray in each frame."""
    shape = (len(view.world_from_camera), view.rays.shape[1])
    depth = torch.full(shape, torch.inf)
    winner = torch.zeros(shape, dtype=torch.int16)
    for index, (part, pose) in enumerate(zip(parts, view.part_from_camera, strict=True)):
        found = part.shape.intersect(pose[:, :3, 3:], pose[:, :3, :3] @ view.rays)
        winner.masked_fill_(found < depth, index)
        depth = torch.fmin(depth, found)
    return _Hits(depth, winner)


def _shade(scene: Scene, view: _View, hits: _Hits, focal_px: float) -> Tensor:
    """Linear colour (t, n, 3) of all hits."""
    points = hits.depth[:, None] * view.rays  # (t, 3, n), camera frame
    direct = _visible_light(scene, view, points)
    light_world = torch.cat((scene.light.position_world.float(), torch.ones(1)))
    colour = points.new_zeros(hits.depth.numel(), 3)
    flat_part, footprint = hits.part.flatten(), hits.depth.flatten() / focal_px
    for index, part in enumerate(scene.parts):
        where = torch.nonzero(flat_part == index)[:, 0]
        if len(where) == 0:
            continue
        pose = view.part_from_camera[index]
        local = pose[:, :3, :3] @ points + pose[:, :3, 3:]
        local = local.transpose(0, 1).flatten(1)[:, where].T.contiguous()  # (m, 3)
        frame = where // hits.depth.shape[1]
        light_local = (view.part_from_world[index] @ light_world)[:, :3]
        up_local = view.part_from_world[index][:, :3, 2]
        normal = part.shape.normal(local)
        to_light = torch.nn.functional.normalize(light_local[frame] - local, dim=1)
        facing = (normal * to_light).sum(1).clamp_(min=0.0) * direct[where]
        sky = 0.75 + 0.25 * (normal * up_local[frame]).sum(1)
        albedo = part.texture.colour(local, part.shape.surface_uv(local), footprint[where])
        light = (scene.light.ambient * sky)[:, None] + (1.0 - scene.light.ambient) * facing[:, None] * scene.light.rgb
        colour[where] = albedo * light
    return colour.view(*hits.depth.shape, 3)


def _visible_light(scene: Scene, view: _View, points: Tensor) -> Tensor:
    """1 where the direct light reaches a hit and 0 in shadow, (t * n,); ``points`` (t, 3, n) in the camera frame."""
    lit = points.new_ones(points.shape[0], points.shape[2])
    if not scene.light.shadows:
        return lit.flatten()
    light_world = torch.cat((scene.light.position_world.float(), torch.ones(1)))
    for index, part in enumerate(scene.parts):
        if not part.casts_shadow:
            continue
        pose = view.part_from_camera[index]
        origin = pose[:, :3, :3] @ points + pose[:, :3, 3:]
        light_local = (view.part_from_world[index] @ light_world)[:, :3, None]
        lit.masked_fill_(part.shape.intersect(origin, light_local - origin) < 1.0, 0.0)
    return lit.flatten()


def _expose(colour: Tensor, scene: Scene) -> Tensor:
    """Linear colour (t, h, w, 3) to uint8, with gain, the square-root transfer curve and sensor noise."""
    generator = torch.Generator().manual_seed(scene.sensor.noise_seed)
    value = torch.sqrt(colour * scene.sensor.exposure[:, None, None, None]).mul_(255.0)
    value += scene.sensor.noise_std * torch.randn(value.shape, generator=generator)
    return value.round_().clamp_(0.0, 255.0).to(torch.uint8)
