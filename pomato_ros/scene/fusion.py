"""Depth over time: what is said of a surface in many frames, carried from image to image and averaged.

A network errs anew in every frame, and in part smoothly over the image, so that neighbours do not average it out; time
does. A pixel at rest came from where the camera's own motion takes it, a moving one from where the image flow does; its
mean comes with it, in the depth that it has now, and begins anew where the newest depth does not fit. Another map that
speaks of the newest pixels errs by itself, and is averaged with the newest depth before.
"""

import cv2
import numpy as np

from pomato_ros.geometry.rigid import invert
from pomato_ros.scene.scale import scaled_about
from pomato_ros.scene.surface import ONE_SURFACE
from pomato_ros.structures import FloatArray, Intrinsics, MaskArray, PoseArray

LOOKS_STILL = 25.0  # usual looks that a mean is over at most
LOOKS_MOVING = 1.5  # looks as the newest that it is, of what moves and soon has another depth, and over at least
FITS = 0.07  # a look farther from the mean than this share of it is of another surface
HOLE = -1e6  # in place of a depth: like nothing beside it
LONG_SIDE_PX = 128  # means of larger images are kept of every other row and column, or fewer
ALIKE = 0.1  # log depth: maps that differ by more, at a pixel, speak of different surfaces
AROUND_PX = 7  # side of the square over which they are compared: what is smooth in their errors, not single pixels
OUTSIDE_PX = 1e5  # what was in no image is put there


def thinning(shape: tuple[int, ...]) -> int:
    """Of maps (h, w) every so many rows and columns are averaged."""
    return max(1, round(max(shape) / LONG_SIDE_PX))


def seen_again(depth_m: FloatArray, other: FloatArray, rests: MaskArray) -> FloatArray:
    """(h, w) ``depth_m`` averaged with what another map of the same pixels says, in their logs.

    Args:
        depth_m: (h, w).
        other: depth of every :func:`thinning`-th pixel, in any unit.
        rests: the same pixels' that units are compared by.
    """
    stride = thinning(depth_m.shape)
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.log(other / depth_m[::stride, ::stride])
    known = np.isfinite(apart)
    compared = apart[known & rests]
    if not len(compared):
        return depth_m
    apart -= np.float32(np.median(compared))
    alike = known & (np.abs(apart) < np.float32(ALIKE))
    number = alike.astype(np.float32)
    usual = cv2.blur(np.where(alike, apart, np.float32(0.0)), (AROUND_PX, AROUND_PX))
    usual /= np.maximum(cv2.blur(number, (AROUND_PX, AROUND_PX)), np.float32(1e-3))
    factor = np.exp(np.float32(0.5) * number * usual)
    if stride > 1:
        rows, columns = factor.shape
        factor = cv2.resize(factor, (stride * columns, stride * rows), interpolation=cv2.INTER_LINEAR)
    return depth_m * factor[: depth_m.shape[0], : depth_m.shape[1]]


class DepthFusion:
    """The mean depth of the newest frame's pixels over the frames that saw the same surfaces."""

    def __init__(self) -> None:
        """Nothing seen."""
        self.forget()

    def forget(self) -> None:
        """Begin anew with the next frame."""
        self._mean: FloatArray | None = None  # (h, w, 2) depth, or HOLE, and looks
        self._world_from_camera: PoseArray | None = None

    def rescale(self, factor: float, centre_world: PoseArray) -> None:
        """Lengths of the world grow by ``factor`` about the point ``centre_world`` (3,)."""
        if self._mean is not None and self._world_from_camera is not None:
            self._mean[..., 0] *= np.float32(factor)
            self._world_from_camera = scaled_about(self._world_from_camera, factor, centre_world)

    def update(
        self,
        depth_m: FloatArray,
        moving: MaskArray,
        flow_to_before: FloatArray | None,
        world_from_camera: PoseArray,
        intrinsics: Intrinsics,
        doubt: FloatArray | None = None,
    ) -> FloatArray:
        """(h, w) mean depth of the newest frame's pixels, metres; where ``depth_m`` is not positive, that.

        Args:
            depth_m: (h, w) what the newest frame says.
            moving: (h, w) its pixels that move, whose mean is over a few frames only.
            flow_to_before: (h, w, 2) pixels from the newest image to the one before; None: what moves begins anew.
            world_from_camera: (4, 4) of the newest frame.
            intrinsics: of the newest frame.
            doubt: of every :func:`thinning`-th pixel, how many times more it errs than usual; a look counts for the
                inverse square. None: all err alike.
        """
        stride = thinning(depth_m.shape)
        if stride > 1:
            return self._update_thinned(stride, depth_m, moving, flow_to_before, world_from_camera, intrinsics, doubt)
        with np.errstate(invalid="ignore"):
            valid = (depth_m > 0) & (depth_m < np.inf)
        seen = np.where(valid, depth_m, np.float32(0.0)).astype(np.float32, copy=False)
        look = np.ones_like(seen) if doubt is None else doubt**-2
        looks, mean = look * valid, seen
        if self._mean is not None and self._world_from_camera is not None:
            newest_from_before = invert(world_from_camera) @ self._world_from_camera
            carried, told = carried_means(
                self._mean, seen, moving, flow_to_before, newest_from_before, intrinsics.matrix()
            )
            apart = seen - carried
            fits = (told > 0) & (np.abs(apart) < np.float32(FITS) * seen)
            most = np.maximum(np.float32(LOOKS_STILL) * ~moving, np.float32(LOOKS_MOVING) * look)
            together = np.minimum(told + look, most)
            mean = np.where(fits, carried + apart * (look / together), seen)
            looks = np.where(fits, together, looks)
        self._mean = cv2.merge((np.where(valid, mean, np.float32(HOLE)), looks))
        self._world_from_camera = world_from_camera
        return np.where(valid, mean, depth_m).astype(np.float32, copy=False)

    def _update_thinned(
        self,
        stride: int,
        depth_m: FloatArray,
        moving: MaskArray,
        flow_to_before: FloatArray | None,
        world_from_camera: PoseArray,
        intrinsics: Intrinsics,
        doubt: FloatArray | None,
    ) -> FloatArray:
        """As :meth:`update` of every ``stride``-th pixel; what it changes there, neighbours are changed by too."""
        few = (slice(None, None, stride), slice(None, None, stride))
        height, width = moving[few].shape
        centre_px = intrinsics.cx_px / stride, intrinsics.cy_px / stride
        camera = Intrinsics(intrinsics.fx_px / stride, intrinsics.fy_px / stride, *centre_px, width, height)
        flow = None if flow_to_before is None else flow_to_before[few] / np.float32(stride)
        mean = self.update(depth_m[few], moving[few], flow, world_from_camera, camera, doubt)
        with np.errstate(all="ignore"):
            factor = mean / depth_m[few]
        factor = np.where(np.isfinite(factor), factor, np.float32(1.0))
        nearest = cv2.resize(factor, (stride * width, stride * height), interpolation=cv2.INTER_NEAREST)
        return (depth_m * nearest[: depth_m.shape[0], : depth_m.shape[1]]).astype(np.float32, copy=False)


def carried_means(
    before: FloatArray,
    depth_m: FloatArray,
    moving: MaskArray,
    flow: FloatArray | None,
    newest_from_before: PoseArray,
    camera_matrix: PoseArray,
) -> tuple[FloatArray, FloatArray]:
    """The means (h, w) of the frame ``before`` at the newest pixels, as depth now, and their looks; 0 for none."""
    by_flow = bool(moving.any())
    x, y = pixels_before(depth_m, newest_from_before, camera_matrix)
    if by_flow:
        height, width = moving.shape
        along_x, along_y = (np.nan, np.nan) if flow is None else (flow[..., 0], flow[..., 1])
        x = np.where(moving, np.arange(width, dtype=np.float32) + along_x, x)
        y = np.where(moving, np.arange(height, dtype=np.float32)[:, None] + along_y, y)
    x, y = (np.fmax(np.fmin(part, np.float32(OUTSIDE_PX)), np.float32(-OUTSIDE_PX)) for part in (x, y))
    nearest, looks = cv2.split(cv2.remap(before, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT))
    between = cv2.remap(np.ascontiguousarray(before[..., 0]), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    then = np.where(np.abs(between - nearest) < np.float32(ONE_SURFACE) * nearest, between, nearest)
    now = depth_after(x, y, then, newest_from_before, camera_matrix)
    if by_flow:
        now = np.where(moving, then, now)
    return now, np.where(now > 0, looks, np.float32(0.0))


def pixels_before(
    depth_m: FloatArray, newest_from_before: PoseArray, camera_matrix: PoseArray
) -> tuple[FloatArray, FloatArray]:
    """Places (h, w) of x and y in the image before of all pixels of the newest, at rest and ``depth_m`` (h, w) away.

    With ``H = K R K^-1`` and ``e = K t``, R and t from the newest camera to the one before, a pixel (u, v, 1) at depth
    d is at ``d H (u, v, 1) + e``, which falls apart into a row and a column. NaN for what was not in front.
    """
    before_from_newest = invert(newest_from_before)
    by_pixel = (camera_matrix @ before_from_newest[:3, :3] @ np.linalg.inv(camera_matrix)).astype(np.float32)
    offset = (camera_matrix @ before_from_newest[:3, 3]).astype(np.float32)
    height, width = depth_m.shape
    u, v = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    x, y, z = (
        depth_m * (a * u + (b * v + c)) + e for (a, b, c), e in zip(by_pixel.tolist(), offset.tolist(), strict=True)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.float32(1.0) / np.where(z > 0, z, np.float32(np.nan))
    return x * inverse, y * inverse


def depth_after(
    x: FloatArray, y: FloatArray, depth_m: FloatArray, newest_from_before: PoseArray, camera_matrix: PoseArray
) -> FloatArray:
    """(h, w) depth in the newest camera of what the camera before saw at pixels x, y (h, w), ``depth_m`` away."""
    a, b, c = (newest_from_before[2, :3] @ np.linalg.inv(camera_matrix)).tolist()
    return depth_m * (a * x + (b * y + c)) + np.float32(newest_from_before[2, 3])
