"""What measured depth says of motion without flow: a point at rest cannot lie where an earlier frame saw through."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import MotionTuning
from pomato_ros.scene.flow import grid, inside
from pomato_ros.scene.rest import LEAST_Z, PairGeometry
from pomato_ros.structures import DepthMap, FloatArray, MaskArray

NOTHING_SEEN = 1e3  # inverse depth of pixels without one, where nothing may be concluded
NEIGHBOURS_PX = 3  # side of the window whose nearest surface counts as seen at a pixel
COVER_PX = 5  # side of the window whose nearest surface may hide a point
EDGE_SIGMAS, EDGE_SHARE = 4.0, 0.05  # of the inverse depth, from which a difference among neighbours is an edge


@dataclass(frozen=True, slots=True, eq=False)
class DepthGrid:
    """A depth map on the grid of residuals; arrays (h, w)."""

    inverse_depth: FloatArray  # 1/m; 0 where unknown
    sigma: FloatArray  # 1/m
    weight: FloatArray  # 1 / variance, that of neighbours beside an edge included; 0 where unknown
    known: MaskArray
    spread: FloatArray  # largest difference of the inverse depth from a neighbour's
    nearest: FloatArray  # largest inverse depth among direct neighbours; NOTHING_SEEN where one is unknown
    cover: FloatArray  # largest inverse depth among neighbours, 0 where all are unknown
    background: FloatArray  # smallest inverse depth among neighbours, 0 where all are unknown

    @classmethod
    def of(cls, depth: DepthMap, size_wh: tuple[int, int], tuning: MotionTuning) -> "DepthGrid":
        """The nearest pixels of ``depth`` on a grid of ``size_wh``; ``tuning``: ``halo_px``."""
        known = cv2.resize(depth.valid.astype(np.uint8), size_wh, interpolation=cv2.INTER_NEAREST).astype(bool)
        inverse_depth = cv2.resize(depth.inverse_depth, size_wh, interpolation=cv2.INTER_NEAREST)
        sigma = cv2.resize(depth.sigma, size_wh, interpolation=cv2.INTER_NEAREST)
        inverse_depth, sigma = (np.where(known, array, 0.0).astype(np.float32) for array in (inverse_depth, sigma))
        largest = cv2.dilate(np.where(known, inverse_depth, np.float32(-NOTHING_SEEN)), _square(tuning.halo_px))
        least = cv2.erode(np.where(known, inverse_depth, np.float32(NOTHING_SEEN)), _square(tuning.halo_px))
        spread = np.where(known, np.maximum(largest - inverse_depth, inverse_depth - least), 0.0).astype(np.float32)
        edge = spread > np.float32(EDGE_SIGMAS) * sigma + np.float32(EDGE_SHARE) * inverse_depth
        variance = sigma * sigma + np.where(edge, spread * spread, 0.0)
        return cls(
            inverse_depth=inverse_depth,
            sigma=sigma,
            weight=np.where(known, 1.0 / np.maximum(variance, 1e-12), 0.0).astype(np.float32),
            known=known,
            spread=spread,
            nearest=cv2.dilate(np.where(known, inverse_depth, np.float32(NOTHING_SEEN)), _square(NEIGHBOURS_PX)),
            cover=cv2.dilate(inverse_depth, _square(COVER_PX)),
            background=np.where(least < NOTHING_SEEN, least, 0.0).astype(np.float32),
        )


@dataclass(frozen=True, slots=True, eq=False)
class RestView:
    """What an earlier frame measured where each pixel would be at rest; arrays (h, w)."""

    pixels: FloatArray  # (h, w, 2) px in the earlier frame; undefined where not known
    inverse_depth: FloatArray  # of the point at rest, along the earlier camera's axis
    seen: FloatArray  # largest inverse depth that was measured about there
    variance: FloatArray  # of the difference of the two
    known: MaskArray  # the newest depth is known and smooth, and the place lies in the earlier image
    hidden: MaskArray  # something nearer stood before it then


def rest_view(newest: DepthGrid, earlier: DepthGrid, geometry: PairGeometry, tuning: MotionTuning) -> RestView:
    """The measurements of an earlier frame where each pixel would be at rest.

    Pixels without depth are taken to be as far as the farthest of their neighbours, to see whether they were hidden.

    Args:
        newest: the depth of the newest frame.
        earlier: that of the earlier one.
        geometry: in the unit of the depths.
        tuning: ``depth_floor``, ``hidden`` and ``spread_gate``.
    """
    inverse_depth = np.where(newest.known, newest.inverse_depth, newest.background)
    pixels, then, ahead = _projected(inverse_depth, geometry)
    within = ahead & inside(pixels)
    known = within & newest.known & (newest.spread < np.float32(tuning.spread_gate) * newest.inverse_depth)
    sigma = _nearest(earlier.sigma, pixels, 0.0)
    floor = np.float32(tuning.depth_floor) * then
    return RestView(
        pixels=pixels,
        inverse_depth=then,
        seen=_nearest(earlier.nearest, pixels, NOTHING_SEEN),
        variance=np.asarray(newest.sigma * newest.sigma + sigma * sigma + floor * floor),
        known=known,
        hidden=within & (_nearest(earlier.cover, pixels, 0.0) > np.float32(1.0 + tuning.hidden) * then),
    )


def free_space_evidence(view: RestView, tuning: MotionTuning) -> FloatArray:
    """(h, w) log-odds of motion: positive in space that was free, slightly negative where the surface was there.

    Args:
        view: what was measured.
        tuning: ``depth_gate``, ``most_motion`` and ``rest_depth``.
    """
    sigma = np.sqrt(np.maximum(view.variance, np.float32(1e-12)))
    through = (view.inverse_depth - view.seen) / sigma
    moved = np.clip(through - np.float32(tuning.depth_gate), 0.0, tuning.most_motion)
    there = np.abs(through) < np.float32(tuning.depth_gate)
    evidence = np.where(moved > 0, moved, np.where(there, np.float32(-tuning.rest_depth), np.float32(0.0)))
    return np.where(view.known, evidence, np.float32(0.0)).astype(np.float32)


def _projected(inverse_depth: FloatArray, geometry: PairGeometry) -> tuple[FloatArray, FloatArray, MaskArray]:
    """Pixels (h, w, 2) and inverse depth (h, w) in the earlier camera of the grid's points, and whether before it."""
    place: FloatArray = cv2.transform(grid(*inverse_depth.shape), geometry.homography)
    place += inverse_depth[..., None] * geometry.epipole.astype(np.float32)
    z = np.maximum(place[..., 2], np.float32(LEAST_Z))
    return (
        np.ascontiguousarray(place[..., :2] / z[..., None]),
        np.asarray(inverse_depth / z, np.float32),
        place[..., 2] > LEAST_Z,
    )


def _nearest(values: FloatArray, pixels: FloatArray, outside: float) -> FloatArray:
    """(h, w) the values at the nearest pixels."""
    return np.asarray(
        cv2.remap(values, pixels, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=outside)
    )


def _square(side_px: int) -> NDArray[np.uint8]:
    """A square structuring element."""
    return np.ones((side_px, side_px), np.uint8)
