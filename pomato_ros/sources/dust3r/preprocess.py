"""From images to the network's input: the package's own rule, and the three rules of the published loaders."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from pomato_ros.errors import UnusableFrame
from pomato_ros.geometry.camera import crop_homography, resize_homography, transform_intrinsics
from pomato_ros.structures import Frame, PreparedFrame

SQUARE_SIZE_PX = 224  # the published loaders treat this size in another way than all others
PATCH_PX = 16


def normalise(image_rgb: NDArray[np.uint8]) -> Tensor:
    """(..., h, w, 3) of 0 .. 255 -> (..., 3, h, w) float32 in [-1, 1]."""
    image = torch.from_numpy(image_rgb.astype(np.float32))
    return torch.movedim((image / 255.0 - 0.5) / 0.5, -1, -3)


def network_inputs(frames: Iterable[PreparedFrame]) -> list[Tensor]:
    """The network's input for each frame, (3, h, w) float32 in [-1, 1]."""
    return [normalise(frame.image_rgb) for frame in frames]


def prepare_frame(frame: Frame, long_side_px: int, patch_size: int = PATCH_PX) -> PreparedFrame:
    """Resize the long side, crop to whole patches around the centre, normalise; the intrinsics stay true.

    Args:
        frame: any size and orientation; a portrait image stays portrait.
        long_side_px: size of the long side before the crop.
        patch_size: both sides of the result are multiples of it.

    Raises:
        UnusableFrame: not an 8-bit RGB image, too thin to leave one patch, or with a depth image of another size.
    """
    image = frame.image_rgb
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise UnusableFrame(f"expected an image (h, w, 3) of uint8, got {image.shape} of {image.dtype}")
    height, width = image.shape[:2]
    scale = long_side_px / max(height, width)
    resized_width, resized_height = round(width * scale), round(height * scale)
    crop_width, crop_height = (side // patch_size * patch_size for side in (resized_width, resized_height))
    if not crop_width or not crop_height:
        raise UnusableFrame(
            f"an image of {width}x{height} px resized to a long side of {long_side_px} px is smaller than one patch of "
            f"{patch_size} px; use a larger image_size or a less elongated image"
        )
    resampling = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(image, (resized_width, resized_height), interpolation=resampling)
    left, top = (resized_width - crop_width) // 2, (resized_height - crop_height) // 2
    cropped = np.ascontiguousarray(resized[top : top + crop_height, left : left + crop_width])
    model_from_source = crop_homography(left, top) @ resize_homography(resized_width / width, resized_height / height)
    intrinsics = frame.intrinsics
    if intrinsics is not None:
        intrinsics = transform_intrinsics(model_from_source, intrinsics, (crop_width, crop_height))
    depth_m = frame.depth_m
    if depth_m is not None:
        if depth_m.shape != (height, width):
            raise UnusableFrame(f"expected a depth image of the image's shape {(height, width)}, got {depth_m.shape}")
        depth_m = nearest_pixels(depth_m, model_from_source, (crop_width, crop_height))
    return PreparedFrame(
        stamp_ns=frame.stamp_ns,
        image_rgb=cropped,
        intrinsics=intrinsics,
        model_from_source=model_from_source,
        source_size_wh=(width, height),
        depth_m=depth_m,
        prior_from_camera=frame.prior_from_camera,
    )


def nearest_pixels(
    values: NDArray[np.float32], model_from_source: NDArray[np.float64], size_wh: tuple[int, int]
) -> NDArray[np.float32]:
    """(h, w) of ``size_wh``: for each pixel the source pixel (of ``values``) next to its centre, never a mixture.

    ``model_from_source`` (3, 3) scales and shifts only.
    """
    source_from_model = np.linalg.inv(model_from_source)
    columns, rows = (
        np.rint(source_from_model[axis, axis] * np.arange(size) + source_from_model[axis, 2]).astype(int)
        for axis, size in enumerate(size_wh)
    )
    height, width = values.shape
    return np.ascontiguousarray(values[rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)], np.float32)


@dataclass(frozen=True, slots=True)
class PublishedRule:
    """One of the published loaders: PIL image in, (3, h, w) tensor in [-1, 1] out."""

    reshape: Callable[[Image.Image], Image.Image]
    half_precision: bool  # values rounded to fp16, as upstream feeds them

    def __call__(self, image: Image.Image) -> Tensor:
        """The network's input for ``image``."""
        tensor = normalise(np.asarray(self.reshape(image)))
        return tensor.half().float() if self.half_precision else tensor


def pairwise_rule(size_px: int, *, square_ok: bool = False, crop: bool = True) -> PublishedRule:
    """Pairs and global alignment: long side to ``size_px`` (short side at 224), then centre crop.

    Square images lose a quarter of their height unless ``square_ok``; ``crop=False`` squashes instead of cropping.
    """

    def reshape(image: Image.Image) -> Image.Image:
        image = ImageOps.exif_transpose(image).convert("RGB")
        if size_px != SQUARE_SIZE_PX:
            return _to_patches(_resize_long_side(image, size_px), square_ok=square_ok, crop=crop)
        long_side_px = round(size_px * max(image.size) / min(image.size))
        return _to_square(_resize_long_side(image, long_side_px), crop=crop)

    return PublishedRule(reshape, half_precision=False)


def fast_reconstruction_rule(size_px: int, *, crop: bool = True) -> PublishedRule:
    """Fast reconstruction: as pairs, squares kept, and at 224 too it is the long side that is resized."""

    def reshape(image: Image.Image) -> Image.Image:
        resized = _resize_long_side(ImageOps.exif_transpose(image).convert("RGB"), size_px)
        if size_px == SQUARE_SIZE_PX:
            return _to_square(resized, crop=crop)
        return _to_patches(resized, square_ok=True, crop=crop)

    return PublishedRule(reshape, half_precision=True)


def tracking_rule(size_px: int) -> PublishedRule:
    """3-D tracking: no crop and no EXIF; each side shrunk to whole patches, which squashes the image a little."""

    def reshape(image: Image.Image) -> Image.Image:
        long_side = max(image.size)
        width, height = (int(side * size_px / long_side) // PATCH_PX * PATCH_PX for side in image.size)
        return image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)

    return PublishedRule(reshape, half_precision=True)


def _resize_long_side(image: Image.Image, long_side_px: int) -> Image.Image:
    """Keep the shape; Lanczos when shrinking, bicubic otherwise."""
    longest = max(image.size)
    resampling = Image.Resampling.LANCZOS if longest > long_side_px else Image.Resampling.BICUBIC
    width, height = (round(side * long_side_px / longest) for side in image.size)
    return image.resize((width, height), resampling)


def _to_patches(image: Image.Image, *, square_ok: bool, crop: bool) -> Image.Image:
    """Around the centre, whole patches."""
    half_width, half_height = (2 * (side // 2) // PATCH_PX * (PATCH_PX // 2) for side in image.size)
    if image.width == image.height and not square_ok:
        half_height = 3 * half_width // 4
    return _to_half_extents(image, half_width, half_height, crop=crop)


def _to_square(image: Image.Image, *, crop: bool) -> Image.Image:
    """Around the centre, the largest square of even size."""
    half = min(image.width // 2, image.height // 2)
    return _to_half_extents(image, half, half, crop=crop)


def _to_half_extents(image: Image.Image, half_width: int, half_height: int, *, crop: bool) -> Image.Image:
    """Crop or squash to twice the half extents."""
    if not crop:
        return image.resize((2 * half_width, 2 * half_height), Image.Resampling.LANCZOS)
    centre_x, centre_y = image.width // 2, image.height // 2
    return image.crop((centre_x - half_width, centre_y - half_height, centre_x + half_width, centre_y + half_height))
