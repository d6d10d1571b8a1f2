"""Camera pose against the reference frame, and the scale that carries over from frame to frame."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from pomato_ros.geometry.alignment import DegenerateAlignmentError, RobustScale, robust_scale
from pomato_ros.geometry.camera import focal_by_irls, unproject
from pomato_ros.geometry.pnp import PnpFailure, PnpSolution, solve_pose
from pomato_ros.geometry.rigid import invert, rotation_angle
from pomato_ros.pointmap_scene.features import FeatureMatches, keep_rigid
from pomato_ros.structures import FloatArray, Intrinsics, MaskArray, PoseArray

PNP_THRESHOLD_SHARE = 5.0 / 512.0  # of the long side, the published method's 5 px on 512 px images
PNP_ITERATIONS = 100
PNP_SEED = 0
CONFIDENT_SHARE = 0.7  # of the static pixels, the most confident ones, take part in the pose
ENOUGH_PIXELS = 2_000  # of larger images every other pixel, or fewer, says as much: neighbours err alike
ENOUGH_FOR_SCALE = 1_500  # the same for a ratio of depths, one number in place of six
CORRELATED_PIXELS = 256.0  # a network errs alike within a patch of 16 x 16 px: so many pixels count as one
DEPTH_PATCHES = 12.0  # features in one patch of the image share an error of depth: so many patches are independent
FEATURE_THRESHOLD_SHARE = 1.0 / 40.0  # of the long side: what a rough depth does to a feature's place
MIN_FEATURES = 25  # fewer agreeing features than these decide nothing
PLENTY_OF_FEATURES = 80  # with fewer than these the frame before is asked first
FOCAL_MEMORY = 30  # estimates whose median is the focal length of an uncalibrated camera


@dataclass(frozen=True, slots=True)
class RelativePose:
    """Pose of the newest camera in the reference camera, in the pointmaps' unit."""

    reference_from_newest: PoseArray  # (4, 4)
    covariance: PoseArray  # (6, 6) position then rotation, reference axes
    inlier_ratio: float
    inliers: int
    residual_px: float  # root mean square reprojection error of the inliers

    @property
    def position_variance(self) -> float:
        """Squared standard deviation of the position, in the pointmaps' unit."""
        return float(np.trace(self.covariance[:3, :3]))


def solve_relative_pose(
    points_reference: FloatArray,
    confidence: FloatArray,
    static: MaskArray,
    intrinsics: Intrinsics,
    start: PoseArray | None = None,
) -> RelativePose | PnpFailure:
    """Robust PnP of the newest frame's pixels on where the network puts them in the reference camera.

    Args:
        points_reference: (h, w, 3) X^{n,r}.
        confidence: (h, w).
        static: (h, w) pixels that may take part.
        intrinsics: of the newest frame.
        start: (4, 4) where something else has the newest camera: only where to begin, these points alone decide.
    """
    height, width = confidence.shape
    stride, few = thinning(height, width), thinned(static)
    points, sureness = points_reference[few].reshape(-1, 3), confidence[few].ravel()
    with np.errstate(invalid="ignore"):  # of the sum: no number among three shows in it
        usable = np.flatnonzero(static[few].ravel() & np.isfinite(points @ np.ones(3, points.dtype)))
    if not len(usable):
        return PnpFailure("no static pixel is left to solve a pose on")
    sureness = sureness[usable]
    usable = usable[sureness >= lower_quantile(sureness, 1.0 - CONFIDENT_SHARE)]
    solution = solve_pose(
        _thinned_pixels(height, width, stride)[usable],
        points[usable],
        intrinsics.matrix(),
        threshold_px=PNP_THRESHOLD_SHARE * max(height, width),
        iterations=PNP_ITERATIONS,
        seed=PNP_SEED,
        start=start,
    )
    if isinstance(solution, PnpFailure):
        return solution
    return relative_pose(solution, solution.covariance * CORRELATED_PIXELS / stride**2)


def solve_pose_on_features(
    matches: FeatureMatches,
    depth_reference: FloatArray,
    static_newest: MaskArray,
    intrinsics: Intrinsics,
) -> RelativePose | PnpFailure:
    """Robust PnP of image features of the newest frame on the reference frame's depth at the same features.

    Features are placed far better than a small network places points, so the rotation gains most; the depth, and with
    it the unit of the translation, is the network's.

    Args:
        matches: features of the reference in the newest frame.
        depth_reference: (h, w) z of X^{r,r}.
        static_newest: (h, w) pixels of the newest frame that may take part.
        intrinsics: of both frames.
    """
    matches = keep_rigid(matches, intrinsics.matrix())
    old = np.rint(matches.reference_pixels).astype(int)
    new = np.rint(matches.newest_pixels).astype(int)
    depth = depth_reference[old[:, 1], old[:, 0]]
    usable = static_newest[new[:, 1], new[:, 0]] & np.isfinite(depth) & (depth > 0)
    if usable.sum() < MIN_FEATURES:
        return PnpFailure(f"expected {MIN_FEATURES} static features with depth, got {int(usable.sum())}")
    points = unproject(matches.reference_pixels[usable], depth[usable], intrinsics.matrix())
    threshold_px = FEATURE_THRESHOLD_SHARE * max(intrinsics.width_px, intrinsics.height_px)
    solution = solve_pose(
        matches.newest_pixels[usable],
        points,
        intrinsics.matrix(),
        threshold_px=threshold_px,
        iterations=PNP_ITERATIONS,
        seed=PNP_SEED,
    )
    if isinstance(solution, PnpFailure):
        return solution
    if solution.inliers.sum() < MIN_FEATURES:
        return PnpFailure(f"expected {MIN_FEATURES} features that agree, got {int(solution.inliers.sum())}")
    shared = max(1.0, float(solution.inliers.sum()) / DEPTH_PATCHES)
    return relative_pose(solution, solution.covariance * shared)


def relative_pose(solution: PnpSolution, covariance: PoseArray) -> RelativePose:
    """A solved pose with the covariance it is to be trusted with."""
    return RelativePose(
        solution.reference_from_camera,
        covariance,
        solution.inlier_ratio,
        int(np.count_nonzero(solution.inliers)),
        solution.residual_px,
    )


def thinning(height: int, width: int, enough_pixels: int = ENOUGH_PIXELS) -> int:
    """Every which row and column of an image leaves about ``enough_pixels``; all of a small one."""
    return max(1, round((height * width / enough_pixels) ** 0.5))


@lru_cache(maxsize=4)
def _thinned_pixels(height: int, width: int, stride: int) -> PoseArray:
    """(n, 2) px of x and y of every ``stride``-th row and column, row by row."""
    y, x = np.mgrid[:height:stride, :width:stride].reshape(2, -1)
    pixels = np.stack((x, y), axis=-1).astype(np.float64)
    pixels.setflags(write=False)
    return pixels


def lower_quantile(values: FloatArray, share: float) -> float:
    """The value at rank ``share`` of (n,) values, the lower of two; without NumPy's price of a weighted mean."""
    rank = int(share * (len(values) - 1))
    return float(np.partition(values, rank)[rank])


def relative_scale(depth_units: FloatArray, depth_m: FloatArray, static: MaskArray) -> RobustScale | None:
    """Factor from a pointmap's depth to a known depth map of the same pixels, (h, w) each; None if none compares."""
    few = thinned(static, ENOUGH_FOR_SCALE)
    return _scale_of_few(depth_units[few], depth_m[few], static[few], static.size)


def scale_to_met_depth(
    points_reference: FloatArray,
    static: MaskArray,
    known_depth_m: FloatArray,
    known_static: MaskArray,
    intrinsics: Intrinsics,
) -> RobustScale | None:
    """:func:`relative_scale` of points (h, w, 3), static where told, to the depth they meet (:func:`depth_met`)."""
    few = thinned(static, ENOUGH_FOR_SCALE)
    points = points_reference[few]
    met = depth_met(points, known_depth_m, known_static, intrinsics)
    return _scale_of_few(points[..., 2], met, static[few], static.size)


def scale_to_moved_points(
    depth_units: FloatArray, points_reference: FloatArray, reference_from_newest: PoseArray, static: MaskArray
) -> RobustScale | None:
    """:func:`relative_scale` of the newest depth (h, w) to points (h, w, 3) of the reference camera, moved into it."""
    few = thinned(static, ENOUGH_FOR_SCALE)
    depth = depth_in_newest(points_reference[few], reference_from_newest)
    return _scale_of_few(depth_units[few], depth, static[few], static.size)


def thinned(values: MaskArray, enough_pixels: int = ENOUGH_PIXELS) -> tuple[slice, slice]:
    """The rows and columns of an image (h, w) of which about ``enough_pixels`` are left."""
    height, width = values.shape
    stride = thinning(height, width, enough_pixels)
    return slice(None, None, stride), slice(None, None, stride)


def _scale_of_few(depth_units: FloatArray, depth_m: FloatArray, static: MaskArray, pixels: int) -> RobustScale | None:
    """The robust factor between thinned maps; each of them counts for its share of all ``pixels``."""
    try:
        found = robust_scale(depth_units[static], depth_m[static])
    except DegenerateAlignmentError:
        return None
    return replace(found, count=round(found.count * pixels / static.size))


def metres_per_unit(depth_units: FloatArray, depth_m: FloatArray, static: MaskArray) -> float | None:
    """The factor of :func:`relative_scale` alone."""
    found = relative_scale(depth_units, depth_m, static)
    return found.scale if found else None


def depth_met(
    points_reference: FloatArray, depth_m: FloatArray, static: MaskArray, intrinsics: Intrinsics
) -> FloatArray:
    """(h, w) what a depth map holds where points (h, w, 3) in its camera, of any unit, fall on its static pixels.

    Between pixels the inverse depth is interpolated, which is exact on planes. NaN where a point is behind the camera,
    outside the image or beside a pixel that is not static.
    """
    height, width = depth_m.shape
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        nearness = 1.0 / np.where(points_reference[..., 2] > 0, points_reference[..., 2], np.float32(np.nan))
        x = intrinsics.fx_px * points_reference[..., 0] * nearness + intrinsics.cx_px
        y = intrinsics.fy_px * points_reference[..., 1] * nearness + intrinsics.cy_px
        inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)  # what is no number is not
        x, y = x[inside], y[inside]
        left, top = x.astype(np.intp), y.astype(np.intp)
        right, below = np.minimum(left + 1, width - 1), width * np.minimum(top + 1, height - 1)
        corners = np.stack((width * top + left, width * top + right, below + left, below + right))
        inverse = np.float32(1.0) / depth_m.ravel()[corners]
        np.putmask(inverse, ~(static.ravel()[corners] & (inverse > 0) & (inverse < np.inf)), np.float32(np.nan))
        x -= left
        y -= top
        upper, lower = inverse[::2] + x * (inverse[1::2] - inverse[::2])
        met = np.full(inside.shape, np.float32(np.nan))
        met[inside] = np.float32(1.0) / (upper + y * (lower - upper))
    return met


def scale_doubt(scale: RobustScale, position: PoseArray) -> PoseArray:
    """(6, 6) covariance that an uncertain scale gives a relative position (3,), metres, in the position's axes."""
    variance = scale.log_spread**2 / max(scale.count / CORRELATED_PIXELS, 1.0)
    covariance = np.zeros((6, 6))
    covariance[:3, :3] = variance * np.outer(position, position)
    return covariance


def depth_in_newest(points_reference: FloatArray, reference_from_newest: PoseArray) -> FloatArray:
    """(h, w) depth in the newest camera of points (h, w, 3) given in the reference camera, one unit throughout."""
    x, y, z, offset = invert(reference_from_newest)[2].tolist()
    across, down, forward = np.array(points_reference.transpose(2, 0, 1), order="C")  # read once where they lie apart
    return np.asarray(x * across + y * down + z * forward + offset, dtype=np.float32)


def motion_between(world_from_a: PoseArray, world_from_b: PoseArray, seconds: float) -> tuple[float, float]:
    """Mean speed in m/s and turn rate in rad/s between two poses."""
    a_from_b = invert(world_from_a) @ world_from_b
    return (
        float(np.linalg.norm(a_from_b[:3, 3])) / seconds,
        float(rotation_angle(a_from_b[:3, :3])) / seconds,
    )


class FocalEstimate:
    """Intrinsics of an uncalibrated camera: the median over recent frames of each pointmap's own focal length."""

    def __init__(self) -> None:
        """Nothing seen yet."""
        self._focals_px: list[float] = []

    def update(self, points_camera: FloatArray, confidence: FloatArray) -> Intrinsics:
        """Add the newest frame's own pointmap X^{n,n} (h, w, 3); principal point in the middle of the image."""
        height, width = confidence.shape
        centre = ((width - 1) / 2, (height - 1) / 2)
        in_front = (points_camera[..., 2] > 0) & (confidence >= np.median(confidence))
        try:
            focal_px = focal_by_irls(points_camera, centre, weights=in_front)
        except ValueError:  # a pointmap without any usable pixel says nothing
            focal_px = np.nan
        if np.isfinite(focal_px) and focal_px > 0:
            self._focals_px = [*self._focals_px[1 - FOCAL_MEMORY :], focal_px]
        focal_px = float(np.median(self._focals_px)) if self._focals_px else float(max(height, width))
        return Intrinsics(focal_px, focal_px, *centre, width, height)
