"""Casts rays into a scene: nearest hit over all parts, Lambert shading, highlights, hard shadows, a shutter, a sensor.

Everything happens on the device that the scene's tensors are on, see :meth:`pomato_ros.synthetic.scene.Scene.to`.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pomato_ros.structures import Intrinsics
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.jpeg import compressed
from pomato_ros.synthetic.poses import invert
from pomato_ros.synthetic.scene import Lamp, Part, Scene

NEAREST_EDGE_M = 1e-2  # a bounding sphere that comes nearer to the camera's plane may be anywhere in the image


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
    return Clip(
        images=_expose(colour, scene),
        depth_m=depth,
        world_from_camera=scene.world_from_camera,
        intrinsics=scene.intrinsics,
        instance=_instance_of_part(scene)[part.long()],
        world_from_object=scene.world_from_object,
        stamps_ns=list(scene.stamps_ns),
    )


@torch.no_grad()
def instances(scene: Scene, intrinsics: Intrinsics) -> Tensor:
    """(t, h, w) int16: which object each pixel of every frame sees through another camera in the same place."""
    other = dataclasses.replace(scene, intrinsics=intrinsics)
    hits = _cast(other, _view(other, slice(None), 1), 1)
    return _instance_of_part(scene)[hits.part.long()].view(-1, intrinsics.height_px, intrinsics.width_px)


def pixel_rays(intrinsics: Intrinsics, supersample: int = 1, device: torch.device | None = None) -> Tensor:
    """Directions (3, h * s * w * s) through the sample centres, row by row, in the camera frame, with z = 1."""
    x = (_sample_centres(intrinsics.width_px, supersample, device) - intrinsics.cx_px) / intrinsics.fx_px
    y = (_sample_centres(intrinsics.height_px, supersample, device) - intrinsics.cy_px) / intrinsics.fy_px
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack((grid_x, grid_y, torch.ones_like(grid_x))).flatten(1).float()


def _sample_centres(size_px: int, supersample: int, device: torch.device | None) -> Tensor:
    """Pixel coordinates (size * supersample,) of the samples along one axis; pixel centres are integers."""
    return (torch.arange(size_px * supersample, dtype=torch.float64, device=device) + 0.5) / supersample - 0.5


def _instance_of_part(scene: Scene) -> Tensor:
    """(n_parts,) int16 rows of the object table."""
    device = scene.world_from_camera.device
    return torch.tensor([item.instance for item in scene.parts], dtype=torch.int16, device=device)


def _render_chunk(scene: Scene, times: slice, supersample: int) -> tuple[Tensor, Tensor, Tensor]:
    """Linear colour (t, h, w, 3), depth (t, h, w) and part (t, h, w) of some frames."""
    height, width = scene.intrinsics.height_px, scene.intrinsics.width_px
    view = _view(scene, times, supersample)
    hits = _cast(scene, view, supersample)
    if scene.blur is None:
        colour = _shade(scene, view, hits, times, scene.intrinsics.fx_px * supersample)
    else:
        colour = _blurred(scene, times, supersample)
    frames = len(colour)
    colour = colour.view(frames, height, supersample, width, supersample, 3).mean(dim=(2, 4))
    if supersample > 1:
        hits = _cast(scene, _view(scene, times, 1), 1)
    return colour, hits.depth.view(frames, height, width), hits.part.view(frames, height, width)


def _blurred(scene: Scene, times: slice, supersample: int) -> Tensor:
    """Linear colour (t, n, 3): in each row the looks at a frame that it is made of, each rendered where it is used."""
    assert scene.blur is not None
    camera, whole = scene.blur.world_from_camera[times], scene.intrinsics
    height, width = whole.height_px * supersample, whole.width_px * supersample
    colour = torch.zeros(len(camera), height, width, 3, device=camera.device)
    for look, weights in enumerate(scene.blur.weights(whole.height_px)):
        used = np.flatnonzero(weights)
        if len(used) == 0:
            continue
        top, bottom = int(used[0]), int(used[-1]) + 1
        instant = dataclasses.replace(
            scene,
            world_from_object=scene.blur.world_from_object[:, look],
            world_from_camera=scene.blur.world_from_camera[:, look],
            intrinsics=dataclasses.replace(whole, cy_px=whole.cy_px - top, height_px=bottom - top),
            blur=None,
        )
        view = _view(instant, times, supersample)
        hits = _cast(instant, view, supersample)
        seen = _shade(instant, view, hits, times, whole.fx_px * supersample).unflatten(1, (-1, width))
        shares = torch.from_numpy(weights[top:bottom].repeat(supersample)).float().to(camera.device)
        colour[:, top * supersample : bottom * supersample] += shares[:, None, None] * seen
    return colour.flatten(1, 2)


def _view(scene: Scene, times: slice, supersample: int) -> _View:
    """Gather the poses of some frames; composed in float64, then rounded once."""
    camera = scene.world_from_camera[times]
    part_from_world = [invert(scene.world_from_object[times, p.instance] @ p.object_from_part) for p in scene.parts]
    return _View(
        rays=pixel_rays(scene.intrinsics, supersample, camera.device),
        part_from_camera=[(matrix @ camera).float() for matrix in part_from_world],
        part_from_world=[matrix.float() for matrix in part_from_world],
        world_from_camera=camera.float(),
    )


# ---------------------------------------------------------------------------------------------------------------------
# What a ray meets


def _cast(scene: Scene, view: _View, supersample: int) -> _Hits:
    """Nearest hit of every ray in each frame."""
    shape = (len(view.world_from_camera), view.rays.shape[1])
    depth = view.rays.new_full(shape, torch.inf)
    winner = torch.zeros(shape, dtype=torch.int16, device=depth.device)
    if scene.only_what_meets:
        _cast_within_bounds(scene, view, supersample, depth, winner)
        return _Hits(depth, winner)
    for index, (part, pose) in enumerate(zip(scene.parts, view.part_from_camera, strict=True)):
        found = part.shape.intersect(pose[:, :3, 3:], pose[:, :3, :3] @ view.rays)
        winner.masked_fill_(found < depth, index)
        depth = torch.fmin(depth, found)
    return _Hits(depth, winner)


def _cast_within_bounds(scene: Scene, view: _View, supersample: int, depth: Tensor, winner: Tensor) -> None:
    """The same, in place, with each part tried only in the rectangle of the image that its bounding sphere may fill."""
    height, width = (size * supersample for size in (scene.intrinsics.height_px, scene.intrinsics.width_px))
    rays, depth, winner = (array.unflatten(-1, (height, width)) for array in (view.rays, depth, winner))
    for index, (left, right, top, bottom) in enumerate(_rectangles(scene, view, supersample)):
        if left >= right or top >= bottom:
            continue
        rows, columns = slice(top, bottom), slice(left, right)
        pose = view.part_from_camera[index]
        directions = pose[:, :3, :3] @ rays[:, rows, columns].flatten(1)
        found = scene.parts[index].shape.intersect(pose[:, :3, 3:], directions)
        found = found.unflatten(-1, (bottom - top, right - left))
        nearer = found < depth[:, rows, columns]
        winner[:, rows, columns].masked_fill_(nearer, index)
        depth[:, rows, columns] = torch.where(nearer, found, depth[:, rows, columns])


def _rectangles(scene: Scene, view: _View, supersample: int) -> list[list[int]]:
    """Per part the samples [left, right) x [top, bottom) outside of which it cannot be seen in any of the frames.

    The planes through the camera's centre and an image axis that touch a sphere (c, r) cut the image at
    x = (c_x c_z -+ r sqrt(c_x^2 + c_z^2 - r^2)) / (c_z^2 - r^2), and the same for y.
    """
    k = scene.intrinsics
    sizes = (k.width_px * supersample, k.height_px * supersample)
    pose = torch.stack(view.part_from_camera)  # (p, t, 4, 4)
    centre = -(pose[..., :3, :3].transpose(-1, -2) @ pose[..., :3, 3:])[..., 0]
    radius = pose.new_tensor([part.shape.radius_m for part in scene.parts])[:, None]
    whole = (centre[..., 2] - radius <= NEAREST_EDGE_M).any(1) | torch.isinf(radius[:, 0])
    hidden = (centre[..., 2] + radius < 0.0).all(1)
    limits = []
    for axis, (focal, middle, size) in enumerate(((k.fx_px, k.cx_px, sizes[0]), (k.fy_px, k.cy_px, sizes[1]))):
        across, along = centre[..., axis], centre[..., 2]
        root = torch.sqrt((across**2 + along**2 - radius**2).clamp(min=0.0))
        below = along**2 - radius**2
        ends = torch.stack(((across * along - radius * root) / below, (across * along + radius * root) / below))
        samples = (ends * focal + middle + 0.5) * supersample - 0.5
        first = torch.floor(samples[0].amin(1)).clamp(0, size)
        last = (torch.ceil(samples[1].amax(1)) + 1.0).clamp(0, size)
        first, last = torch.where(whole, 0.0, first), torch.where(whole, float(size), last)
        limits += [first, torch.where(hidden, 0.0, last)]
    return [[int(value) for value in row] for row in torch.stack(limits, dim=1).tolist()]


# ---------------------------------------------------------------------------------------------------------------------
# Light


def _shade(scene: Scene, view: _View, hits: _Hits, times: slice, focal_px: float) -> Tensor:
    """Linear colour (t, n, 3) of all hits."""
    points = hits.depth[:, None] * view.rays  # (t, 3, n), camera frame
    sun = _homogeneous(scene.light.position_world)
    direct = _visible_light(scene, view, points, sun) if scene.light.shadows else points.new_ones(hits.depth.numel())
    lamps = [(lamp, _homogeneous(lamp.positions_world[times])) for lamp in scene.lamps]
    lamplight = [_visible_light(scene, view, points, position) if lamp.shadows else None for lamp, position in lamps]
    colour = points.new_zeros(hits.depth.numel(), 3)
    footprint = hits.depth.flatten() / focal_px
    for index, where in _pixels_of_parts(scene, hits):
        part = scene.parts[index]
        frame = where // hits.depth.shape[1]
        pose = view.part_from_camera[index]
        local = _local_points(scene, pose, points, where, frame)
        part_from_world = view.part_from_world[index]
        light_local = _within(part_from_world, sun)
        up_local = part_from_world[:, :3, 2]
        normal = part.shape.normal(local)
        to_light = torch.nn.functional.normalize(light_local[frame] - local, dim=1)
        facing = (normal * to_light).sum(1).clamp_(min=0.0) * direct[where]
        sky = 0.75 + 0.25 * (normal * up_local[frame]).sum(1)
        albedo = part.texture.colour(local, part.shape.surface_uv(local), footprint[where])
        light = (scene.light.ambient * sky)[:, None] + (1.0 - scene.light.ambient) * facing[:, None] * scene.light.rgb
        shine = None
        if part.gloss > 0.0:
            to_eye = torch.nn.functional.normalize(pose[frame, :3, 3] - local, dim=1)
            highlight = _highlight(part, normal, to_light, to_eye) * direct[where]
            shine = (1.0 - scene.light.ambient) * highlight[:, None] * scene.light.rgb
        for (lamp, position), visible in zip(lamps, lamplight, strict=True):
            strength, to_lamp = _lamp_strength(lamp, _within(part_from_world, position)[frame] - local)
            strength = strength if visible is None else strength * visible[where]
            light = light + (strength * (normal * to_lamp).sum(1).clamp(min=0.0))[:, None] * lamp.rgb
            if shine is not None:
                shine = shine + (strength * _highlight(part, normal, to_lamp, to_eye))[:, None] * lamp.rgb
        colour[where] = albedo * light if shine is None else albedo * light + shine
    return colour.view(*hits.depth.shape, 3)


def _pixels_of_parts(scene: Scene, hits: _Hits) -> list[tuple[int, Tensor]]:
    """Each part that is seen, with the flat indices (m,) of its hits in order."""
    flat = hits.part.flatten()
    if scene.only_what_meets:
        order = torch.argsort(flat, stable=True)
        counts = torch.bincount(flat.long(), minlength=len(scene.parts)).tolist()
        return [(index, where) for index, where in enumerate(order.split(counts)) if len(where)]
    found = ((index, torch.nonzero(flat == index)[:, 0]) for index in range(len(scene.parts)))
    return [(index, where) for index, where in found if len(where)]


def _local_points(scene: Scene, pose: Tensor, points: Tensor, where: Tensor, frame: Tensor) -> Tensor:
    """(m, 3) hits in a part's frame; ``points`` (t, 3, n) in the camera's, ``where`` their flat indices."""
    if scene.only_what_meets:
        chosen = points.transpose(1, 2).flatten(0, 1)[where]
        return (pose[frame, :3, :3] @ chosen[:, :, None])[:, :, 0] + pose[frame, :3, 3]
    local = pose[:, :3, :3] @ points + pose[:, :3, 3:]
    return local.transpose(0, 1).flatten(1)[:, where].T.contiguous()


def _homogeneous(position: Tensor) -> Tensor:
    """Positions (..., 3) as (..., 4) float32 with a last entry of 1."""
    short = position.float()
    return torch.cat((short, torch.ones_like(short[..., :1])), dim=-1)


def _within(part_from_world: Tensor, position: Tensor) -> Tensor:
    """(t, 3) of a homogeneous ``position``, (4,) or one for each frame (t, 4), in a part's frame."""
    if position.dim() == 1:
        return (part_from_world @ position)[:, :3]
    return (part_from_world @ position[:, :, None])[:, :3, 0]


def _lamp_strength(lamp: Lamp, to_lamp: Tensor) -> tuple[Tensor, Tensor]:
    """Strength (m,) of light from the ends of ``to_lamp`` (m, 3), 1 / (1 + (d / reach)^2), and unit directions."""
    distance = to_lamp.norm(dim=1)
    return 1.0 / (1.0 + (distance / lamp.reach_m) ** 2), to_lamp / distance.clamp(min=1e-6)[:, None]


def _highlight(part: Part, normal: Tensor, to_light: Tensor, to_eye: Tensor) -> Tensor:
    """(m,) gloss * max(0, n . h)^sharpness, h halfway between light and eye, where both are above the surface."""
    halfway = torch.nn.functional.normalize(to_light + to_eye, dim=1)
    above = ((normal * to_light).sum(1) > 0.0) & ((normal * to_eye).sum(1) > 0.0)
    return part.gloss * (normal * halfway).sum(1).clamp(min=0.0) ** part.sharpness * above


def _visible_light(scene: Scene, view: _View, points: Tensor, light_world: Tensor) -> Tensor:
    """1 where light from ``light_world``, (4,) or (t, 4), reaches a hit, else 0, (t * n,); ``points`` (t, 3, n)."""
    lit = points.new_ones(points.shape[0], points.shape[2])
    if scene.only_what_meets:
        _cast_shadows_within_bounds(scene, view, points, light_world, lit)
        return lit.flatten()
    for index, part in enumerate(scene.parts):
        if not part.casts_shadow:
            continue
        pose = view.part_from_camera[index]
        origin = pose[:, :3, :3] @ points + pose[:, :3, 3:]
        light_local = _within(view.part_from_world[index], light_world)[:, :, None]
        lit.masked_fill_(part.shape.intersect(origin, light_local - origin) < 1.0, 0.0)
    return lit.flatten()


def _cast_shadows_within_bounds(scene: Scene, view: _View, points: Tensor, light_world: Tensor, lit: Tensor) -> None:
    """The same, in place, with each part tried only by rays that come within its bounding sphere."""
    camera = view.world_from_camera
    light = (camera[:, :3, :3].transpose(1, 2) @ (light_world[..., :3, None] - camera[:, :3, 3:]))[
        ..., 0
    ]  # camera frame
    ray = points - light[:, :, None]
    length = ray.norm(dim=1)
    unit = ray / length[:, None].clamp(min=1e-9)
    for index, part in enumerate(scene.parts):
        if not part.casts_shadow:
            continue
        pose = view.part_from_camera[index]
        centre = -(pose[:, :3, :3].transpose(1, 2) @ pose[:, :3, 3:])[..., 0] - light
        along = (centre[:, None] @ unit)[:, 0]
        apart = (centre**2).sum(1, keepdim=True) - along**2
        radius = 1.001 * part.shape.radius_m
        near = (apart < radius**2) & (along > -radius) & (along - radius < length) & (lit > 0.0)
        frame, where = torch.nonzero(near, as_tuple=True)
        if len(frame) == 0:
            continue
        origin = (pose[frame, :3, :3] @ points[frame, :, where][:, :, None])[..., 0] + pose[frame, :3, 3]
        light_local = _within(view.part_from_world[index], light_world)[frame]
        blocked = part.shape.intersect(origin.T[None], (light_local - origin).T[None])[0] < 1.0
        lit[frame[blocked], where[blocked]] = 0.0


# ---------------------------------------------------------------------------------------------------------------------
# The sensor


def _expose(colour: Tensor, scene: Scene) -> Tensor:
    """Linear colour (t, h, w, 3) to uint8: vignette, gain, the square-root transfer curve, noise, compression."""
    sensor = scene.sensor
    if sensor.vignette > 0.0:
        colour = colour * _vignette(scene.intrinsics, sensor.vignette, colour.device)[..., None]
    generator = torch.Generator("cpu").manual_seed(sensor.noise_seed)  # the same noise whatever the device
    value = torch.sqrt(colour * sensor.exposure[:, None, None, None]).mul_(255.0)
    value += sensor.noise_std * torch.randn(value.shape, generator=generator, device="cpu").to(value.device)
    if sensor.jpeg_quality is not None:
        value = compressed(value.round_().clamp_(0.0, 255.0), sensor.jpeg_quality)
    return value.round_().clamp_(0.0, 255.0).to(torch.uint8)


def _vignette(intrinsics: Intrinsics, loss: float, device: torch.device) -> Tensor:
    """(h, w) share of the light that arrives: 1 in the middle of the image, 1 - ``loss`` in its corners."""
    x = torch.linspace(-1.0, 1.0, intrinsics.width_px, device=device) * intrinsics.width_px
    y = torch.linspace(-1.0, 1.0, intrinsics.height_px, device=device) * intrinsics.height_px
    square = x**2 + y[:, None] ** 2
    return 1.0 - loss * square / square.amax()
