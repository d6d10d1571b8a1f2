"""Axis-aligned boxes around points of objects."""

import numpy as np
from numpy.typing import NDArray

from pomato_ros.geometry.rigid import transform
from pomato_ros.structures import ObjectSet, PoseArray

QUANTILES = (0.01, 0.99)  # of an object's points, along each axis, that its box reaches to


def boxes_of(points: PoseArray, rows: NDArray[np.int64], count: int) -> tuple[PoseArray, PoseArray]:
    """Lowest and highest corners (count, 3) of boxes around points (m, 3) that belong to ``rows`` (m,) from 0.

    A few outliers at each end lie outside. NaN for a row without points.
    """
    low, high = np.full((2, count, 3), np.nan)
    in_order = bool((rows[1:] >= rows[:-1]).all())
    together = np.ascontiguousarray((points if in_order else points[np.argsort(rows, kind="stable")]).T)
    begin = 0
    for row, size in enumerate(np.bincount(rows, minlength=count).tolist()):
        if size:
            values = np.sort(together[:, begin : begin + size], axis=1)
            low[row], high[row] = (values[:, round(quantile * float(size - 1))] for quantile in QUANTILES)
            begin += size
    return low, high


def boxes_in(objects: ObjectSet, target_from_world: PoseArray) -> tuple[PoseArray, PoseArray]:
    """Centres and sizes (n, 3) of boxes along the axes of another frame (4, 4), around the points of each object.

    A hidden object has no points: the box around its last box.
    """
    count = len(objects.ids)
    low, high = boxes_of(transform(target_from_world, objects.points_world), objects.point_rows, count)
    centres = transform(target_from_world, objects.centres_world)
    sizes = objects.sizes_world @ np.abs(target_from_world[:3, :3]).T
    seen = np.isfinite(low).all(axis=-1, keepdims=True)
    return np.where(seen, 0.5 * (low + high), centres), np.where(seen, high - low, sizes)
