"""From a depth image in metres to inverse depth with a standard deviation, by the noise model of the sensor's kind."""

import cv2
import numpy as np

from pomato_ros.config import DepthNoise
from pomato_ros.sources.resize import Resizing
from pomato_ros.structures import DepthMap, FloatArray, MaskArray

JUMP = 1.1  # ratio of depths within 3x3 pixels that no surface has: 85 degrees from its normal at 280 px
LEAST_SHARE = 0.5  # of the pixels that a working pixel covers must be measured
AVERAGING = (
    0.83  # sigma of a working pixel over that of a source pixel at half size; errors are correlated (dev/LOG.md)
)


def measure_depth(depth_m: FloatArray, noise: DepthNoise, resizing: Resizing) -> DepthMap:
    """Inverse depth at the working size.

    Working pixels are means over the source pixels that they cover; where these, or their neighbours, lie on different
    surfaces (bleeding edges) there is no depth, and none out of the sensor's range.

    Args:
        depth_m: (h, w) of the colour image's source pixels, metres; NaN, 0 and negative are none.
        noise: of the sensor.
        resizing: from the source size to the working size.
    """
    inverse, valid = inverse_depth(depth_m, noise.range_m)
    smooth = ~jumps(inverse, valid)
    lateral_px = noise.lateral_px
    if resizing.shrinks:
        inverse, valid, smooth = shrunk(inverse, valid, smooth, resizing)
        lateral_px *= resizing.working_wh[0] / resizing.source_wh[0]
    valid &= eroded(smooth, noise.edge_px)
    sigma = inverse_depth_sigma(inverse, valid, noise, lateral_px)
    if resizing.shrinks:
        sigma *= np.float32(AVERAGING)
    return DepthMap(inverse, sigma, valid, metric=True)


def inverse_depth(depth_m: FloatArray, range_m: tuple[float, float]) -> tuple[FloatArray, MaskArray]:
    """Inverse depth (h, w) in 1/m, 0 where there is none, and where it was measured within the range."""
    with np.errstate(invalid="ignore"):
        valid: MaskArray = (depth_m >= np.float32(range_m[0])) & (depth_m <= np.float32(range_m[1]))
    inverse = np.zeros(depth_m.shape, np.float32)
    np.divide(np.float32(1.0), depth_m, out=inverse, where=valid)
    return inverse, valid


def jumps(inverse: FloatArray, valid: MaskArray) -> MaskArray:
    """(h, w) pixels whose 3x3 neighbours lie on surfaces of different depth; what is not valid is left out."""
    square = np.ones((3, 3), np.uint8)
    nearest = cv2.dilate(inverse, square)
    farthest = cv2.erode(np.where(valid, inverse, np.float32(np.inf)), square)
    return np.asarray(nearest * np.float32(1.0 / JUMP) > farthest)


def shrunk(
    inverse: FloatArray, valid: MaskArray, smooth: MaskArray, resizing: Resizing
) -> tuple[FloatArray, MaskArray, MaskArray]:
    """Means of what is valid, where enough is, and which working pixels cover smooth pixels only."""
    share = cv2.resize(valid.astype(np.float32), resizing.working_wh, interpolation=cv2.INTER_AREA)
    total = cv2.resize(inverse, resizing.working_wh, interpolation=cv2.INTER_AREA)
    kept = share >= np.float32(LEAST_SHARE)
    mean = np.zeros(share.shape, np.float32)
    np.divide(total, share, out=mean, where=kept)
    return mean, kept, resizing.mask(smooth)


def eroded(mask: MaskArray, pixels: int) -> MaskArray:
    """The mask without what is within so many pixels of its outside."""
    if not pixels:
        return mask
    square = np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)
    return np.asarray(cv2.erode(mask.view(np.uint8), square) > 0)


def inverse_depth_sigma(inverse: FloatArray, valid: MaskArray, noise: DepthNoise, lateral_px: float) -> FloatArray:
    """(h, w) standard deviation of inverse depth rho, 1/m.

    ``sigma_rho^2 = (rho^2 sigma_z(1 / rho))^2 + q^2 / 12 + (lateral_px |grad rho|)^2``, to first order in sigma_z; with
    ``sigma_z(z) = a + b (z - c)^2`` the first root is ``(a + b c^2) rho^2 - 2 b c rho + b``.
    """
    a, b, c = noise.floor_m, noise.square_per_m, noise.nearest_best_m
    axial = (np.float32(a + b * c * c) * inverse - np.float32(2.0 * b * c)) * inverse + np.float32(b)
    variance = axial * axial + np.float32(noise.inverse_step_per_m**2 / 12.0)
    slope = squared_gradient(inverse, valid) - variance  # the errors alone would give a slope of their own
    variance += np.float32(lateral_px**2) * cv2.max(slope, 0.0)
    return np.asarray(cv2.sqrt(variance), np.float32)


def squared_gradient(inverse: FloatArray, valid: MaskArray) -> FloatArray:
    """(h, w) squared slope of inverse depth, per px^2, central differences; 0 where a neighbour is missing."""
    kernel = np.array([[-0.5, 0.0, 0.5]], np.float32)
    along_x = cv2.filter2D(inverse, cv2.CV_32F, kernel, borderType=cv2.BORDER_REPLICATE)
    along_y = cv2.filter2D(inverse, cv2.CV_32F, kernel.T, borderType=cv2.BORDER_REPLICATE)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inner = cv2.erode(valid.view(np.uint8), cross)
    return np.asarray((along_x * along_x + along_y * along_y) * inner, np.float32)
