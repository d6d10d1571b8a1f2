"""Depth over time: what is said of a surface in many frames, carried from image to image and averaged.

A network errs anew in every frame, and in part smoothly over the image, so that neighbours do not average it out; time
does. A pixel at rest came from where the camera's own motion takes it, a moving one from where the image flow does; its
mean comes with it, in the depth that it has now, and begins anew where the newest depth does not fit. Another map that
speaks of the newest pixels errs by itself, and is averaged with the newest depth before.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from pomato_ros.geometry.rigid import invert
from pomato_ros.pointmap_scene.moving import quantile_of
from pomato_ros.pointmap_scene.scale import scaled_about
from pomato_ros.pointmap_scene.surface import ONE_SURFACE
from pomato_ros.structures import FloatArray, Intrinsics, MaskArray, PoseArray

LOOKS_STILL = 25.0  # frames, as sure as usual, that a mean is over at most
LOOKS_MOVING = 1.5  # the same, as sure as the newest, of what moves and soon has another depth
FITS = 0.07  # a look farther from the mean than this share of it is of another surface
HOLE = -1e6  # in place of a depth: like nothing beside it
LONG_SIDE_PX = 128  # means of larger images are kept of every other row and column, or fewer
ALIKE = 0.1  # log depth: maps that differ by more, at a pixel, speak of different surfaces
AROUND_PX = 7  # side of the square over which they are compared: what is smooth in their errors, not single pixels
OUTSIDE_PX = 1e5  # what was in no image is put there


def thinning(shape: tuple[int, ...]) -> int:
    """Of maps (h, w) every so many rows and columns are averaged."""
    return max(1, round(max(shape) / LONG_SIDE_PX))


def thinned_camera(intrinsics: Intrinsics, stride: int) -> Intrinsics:
    """Of an image of every ``stride``-th row and column."""
    return Intrinsics(
        fx_px=intrinsics.fx_px / stride,
        fy_px=intrinsics.fy_px / stride,
        cx_px=intrinsics.cx_px / stride,
        cy_px=intrinsics.cy_px / stride,
        width_px=-(-intrinsics.width_px // stride),
        height_px=-(-intrinsics.height_px // stride),
    )


def changed_as(few_m: FloatArray, changed_m: FloatArray, depth_m: FloatArray) -> FloatArray:
    """(h, w) ``depth_m``, of which every :func:`thinning`-th pixel was ``few_m`` and is now ``changed_m``.

    Neighbours are changed by as much.
    """
    stride = thinning(depth_m.shape)
    if stride == 1:
        return changed_m
    with np.errstate(all="ignore"):
        factor = changed_m / few_m
    factor = chosen(np.isfinite(factor), factor, np.ones_like(factor))
    whole = factor.repeat(stride, axis=1).repeat(stride, axis=0)  # twice as fast as OpenCV's exact resize
    return whole[: depth_m.shape[0], : depth_m.shape[1]] * depth_m


def chosen(where: MaskArray, values: FloatArray, others: FloatArray) -> FloatArray:
    """(h, w) ``values`` where told, else ``others``, which are overwritten; several times as fast as NumPy's own."""
    cv2.copyTo(values, where.view(np.uint8), others)
    return others


def seen_again(depth_m: FloatArray, other: FloatArray, rests: MaskArray) -> FloatArray:
    """(h, w) ``depth_m`` averaged with what another map of the same pixels says, in their logs.

    Args:
        depth_m: (h, w).
        other: (h, w) depth in any unit.
        rests: (h, w) pixels that units are compared by.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.log(other / depth_m)
    known = np.isfinite(apart)
    compared = apart[known & rests]
    if not len(compared):
        return depth_m
    apart -= np.float32(quantile_of(compared, 0.5))
    alike = known & (np.abs(apart) < np.float32(ALIKE))
    number = alike.astype(np.float32)
    usual = cv2.blur(chosen(alike, apart, np.zeros_like(apart)), (AROUND_PX, AROUND_PX))
    usual /= cv2.max(cv2.blur(number, (AROUND_PX, AROUND_PX)), 1e-3)
    number *= usual
    number *= np.float32(0.5)
    return depth_m * cv2.exp(number)


@dataclass(frozen=True, slots=True)
class _Means:
    """What is known of the pixels of a frame."""

    depth_m: FloatArray  # (h, w), or HOLE
    looks: FloatArray  # (h, w) how many usual frames' mean that is
    world_from_camera: PoseArray  # (4, 4)


class DepthFusion:
    """The mean depth of the newest frame's pixels over the frames that saw the same surfaces."""

    def __init__(self) -> None:
        """Nothing seen."""
        self.forget()

    def forget(self) -> None:
        """Begin anew with the next frame."""
        self._before: _Means | None = None

    def rescale(self, factor: float, centre_world: PoseArray) -> None:
        """Lengths of the world grow by ``factor`` about the point ``centre_world`` (3,)."""
        if self._before is not None:
            pose = scaled_about(self._before.world_from_camera, factor, centre_world)
            self._before = _Means(self._before.depth_m * np.float32(factor), self._before.looks, pose)

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
            doubt: (h, w) how many times more a pixel errs than usual; a look counts for the inverse square. None: all
                err alike.
        """
        with np.errstate(invalid="ignore"):
            valid = (depth_m > 0) & (depth_m < np.inf)
        seen = chosen(valid, depth_m, np.zeros_like(depth_m))
        look = np.ones_like(seen) if doubt is None else np.float32(1.0) / (doubt * doubt)
        looks, mean = look * valid, seen
        if self._before is not None:
            newest_from_before = invert(world_from_camera) @ self._before.world_from_camera
            carried, told = carried_means(
                self._before, seen, moving, flow_to_before, newest_from_before, intrinsics.matrix()
            )
            apart = seen - carried
            fits = (told > 0) & (np.abs(apart) < np.float32(FITS) * seen)
            most = np.maximum(np.float32(LOOKS_STILL) * ~moving, np.float32(LOOKS_MOVING) * look)
            told += look
            together = cv2.min(told, most)
            apart *= look / together
            carried += apart
            mean = chosen(fits, carried, seen.copy())
            looks = chosen(fits, together, looks)
        self._before = _Means(chosen(valid, mean, np.full_like(mean, HOLE)), looks, world_from_camera)
        return chosen(valid, mean, depth_m.copy())


def carried_means(
    before: _Means,
    depth_m: FloatArray,
    moving: MaskArray,
    flow: FloatArray | None,
    newest_from_before: PoseArray,
    camera_matrix: PoseArray,
) -> tuple[FloatArray, FloatArray]:
    """The means (h, w) of the frame ``before`` at the newest pixels, as depth now, and their looks; 0 for none."""
    by_flow = bool(moving.any())
    x, y = pixels_before(depth_m, newest_from_before, camera_matrix)
    if by_flow and flow is not None:
        height, width = moving.shape
        x = chosen(moving, np.arange(width, dtype=np.float32) + flow[..., 0], x)
        y = chosen(moving, np.arange(height, dtype=np.float32)[:, None] + flow[..., 1], y)
    elif by_flow:
        x[moving] = np.nan
    x, y = (np.fmax(np.fmin(part, np.float32(OUTSIDE_PX)), np.float32(-OUTSIDE_PX)) for part in (x, y))
    nearest = cv2.remap(before.depth_m, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
    looks = cv2.remap(before.looks, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
    between = cv2.remap(before.depth_m, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    then = chosen(np.abs(between - nearest) < np.float32(ONE_SURFACE) * nearest, between, nearest)
    now = depth_after(x, y, then, newest_from_before, camera_matrix)
    if by_flow:
        now = chosen(moving, then, now)
    return now, chosen(now > 0, looks, np.zeros_like(looks))


def rays_matrix(camera_matrix: PoseArray) -> PoseArray:
    """The inverse (3, 3) of a pinhole camera's matrix (3, 3)."""
    (fx, _, cx), (_, fy, cy), _ = camera_matrix.tolist()
    return np.array([[1.0 / fx, 0.0, -cx / fx], [0.0, 1.0 / fy, -cy / fy], [0.0, 0.0, 1.0]])


def pixels_before(
    depth_m: FloatArray, newest_from_before: PoseArray, camera_matrix: PoseArray
) -> tuple[FloatArray, FloatArray]:
    """Places (h, w) of x and y in the image before of all pixels of the newest, at rest and ``depth_m`` (h, w) away.

    With ``H = K R K^-1`` and ``e = K t``, R and t from the newest camera to the one before, a pixel (u, v, 1) at depth
    d is at ``d H (u, v, 1) + e``, which falls apart into a row and a column. NaN for what was not in front.
    """
    before_from_newest = invert(newest_from_before)
    by_pixel = (camera_matrix @ before_from_newest[:3, :3] @ rays_matrix(camera_matrix)).astype(np.float32)
    offset = (camera_matrix @ before_from_newest[:3, 3]).astype(np.float32)
    height, width = depth_m.shape
    u, v = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    x, y, z = (
        depth_m * (a * u + (b * v + c)) + e for (a, b, c), e in zip(by_pixel.tolist(), offset.tolist(), strict=True)
    )
    z = chosen(z > 0, z, np.full_like(z, np.nan))
    x /= z
    y /= z
    return x, y


def depth_after(
    x: FloatArray, y: FloatArray, depth_m: FloatArray, newest_from_before: PoseArray, camera_matrix: PoseArray
) -> FloatArray:
    """(h, w) depth in the newest camera of what the camera before saw at pixels x, y (h, w), ``depth_m`` away."""
    a, b, c = (newest_from_before[2, :3] @ rays_matrix(camera_matrix)).tolist()
    return depth_m * (a * x + (b * y + c)) + np.float32(newest_from_before[2, 3])
