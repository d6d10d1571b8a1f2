"""Pictures of clips, for people: what the world looks like and what its truth says."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.renderer import render
from pomato_ros.synthetic.world import WorldConfig, draw_scene

Picture = NDArray[np.uint8]
CLIP_FRAMES = 12  # length of a previewed clip
GAP_PX = 4  # white space between pictures
FLOW_RANGE = 0.1  # share of the image width at which a flow is drawn in full colour


def contact_sheet(
    seeds: Sequence[int], config: WorldConfig, path: Path, size_wh: tuple[int, int] = (240, 168), columns: int = 2
) -> None:
    """Write a PNG with one strip for each seed: first and middle frame, depth, instances, moving mask, flow.

    Args:
        seeds: scenes to show.
        config: what they are drawn from.
        path: the PNG file; its folder must exist.
        size_wh: size of one picture, px.
        columns: strips side by side.

    Raises:
        OSError: the file could not be written.
    """
    middle = CLIP_FRAMES // 2
    shown = [0, middle - 1, middle, middle + 1]  # what a strip looks at of a clip
    scenes = (draw_scene(seed, config, CLIP_FRAMES, size_wh).at(shown) for seed in seeds)
    strips = [clip_strip(render(scene, supersample=2)) for scene in scenes]
    blank = np.full_like(strips[0], 255)
    strips += [blank] * (-len(strips) % columns)
    rows = [np.concatenate(strips[first : first + columns], axis=1) for first in range(0, len(strips), columns)]
    if not cv2.imwrite(str(path), cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR)):
        raise OSError(f"could not write {path}; choose a .png in a folder that exists")


def clip_strip(clip: Clip) -> Picture:
    """(h, w, 3) RGB: first frame; of the middle frame colour, depth, instances, moving mask, flow to the next."""
    middle = len(clip) // 2
    following = min(middle + 1, len(clip) - 1)
    image = clip.images[middle].numpy()
    pictures = [
        clip.images[0].numpy(),
        image,
        depth_picture(clip.depth_m[middle]),
        instance_picture(clip.instance[middle]),
        mask_picture(image, clip.moving(middle)),
        flow_picture(clip.optical_flow(middle, following)),
    ]
    padding = ((GAP_PX, 0), (GAP_PX, 0), (0, 0))
    return np.concatenate([np.pad(picture, padding, constant_values=255) for picture in pictures], axis=1)


def depth_picture(depth_m: Tensor) -> Picture:
    """(h, w, 3) RGB of a depth map (h, w): near is red, far is blue, linear in inverse depth."""
    inverse = 1.0 / depth_m.numpy()
    low, high = np.quantile(inverse, (0.01, 0.99))
    level = np.clip((inverse - low) / max(high - low, 1e-9), 0.0, 1.0)
    bgr = cv2.applyColorMap((255 * level).astype(np.uint8), cv2.COLORMAP_TURBO)
    return np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)


def instance_picture(instance: Tensor) -> Picture:
    """(h, w, 3) RGB of an instance map (h, w): the background is dark, every object has its own hue."""
    ids = instance.numpy().astype(np.int64)
    hue = (ids * 67) % 180
    value = np.where(ids == 0, 40, 235)
    saturation = np.where(ids == 0, 0, 170)
    hsv = np.stack((hue, saturation, value), axis=-1)
    return _rgb_from_hsv(hsv)


def mask_picture(image_rgb: Picture, mask: Tensor) -> Picture:
    """(h, w, 3) RGB: the image in grey, the masked pixels (h, w) in red."""
    grey = np.repeat(image_rgb.mean(axis=-1, keepdims=True), 3, axis=-1)
    red = 0.5 * grey + 0.5 * np.array([255.0, 30.0, 30.0])
    return np.where(mask.numpy()[..., None], red, 0.8 * grey).astype(np.uint8)


def flow_picture(flow: Tensor) -> Picture:
    """(h, w, 3) RGB of a flow (h, w, 2): hue is direction, strength is length; undefined pixels are black."""
    x, y = np.moveaxis(np.nan_to_num(flow.numpy()), -1, 0)
    length = np.hypot(x, y) / (FLOW_RANGE * flow.shape[1])
    hue = np.degrees(np.arctan2(y, x)) % 360.0 / 2.0
    hsv = np.stack((hue, 255.0 * np.clip(length**0.5, 0.0, 1.0), np.full_like(x, 255.0)), axis=-1)
    rgb = _rgb_from_hsv(hsv)
    rgb[np.isnan(flow.numpy()).any(-1)] = 0
    return rgb


def _rgb_from_hsv(hsv: NDArray[np.generic]) -> Picture:
    """(h, w, 3) RGB of hue in 0..179, saturation and value in 0..255."""
    return np.asarray(cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB), dtype=np.uint8)
