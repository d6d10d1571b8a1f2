"""Optical flow between images of a chunk, checked both ways: what tells global alignment how cameras turned."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from pomato_ros.mapping.objective import MeasuredFlow, consistent_flow

FLOW_CHECK_PX = 1.0


def measure_flow(
    images_rgb: Sequence[NDArray[np.uint8]], edges: NDArray[np.int64], static: NDArray[np.bool_], stride: int
) -> MeasuredFlow:
    """Dense inverse search flow along ``edges`` (e, 2) in both directions, at every ``stride``-th pixel.

    Args:
        images_rgb: n images (h, w, 3).
        edges: pairs of images.
        static: (n, h, w) pixels that do not move by themselves.
        stride: of the maps that come out.
    """
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images_rgb]
    solver = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    there = torch.from_numpy(np.stack([solver.calc(grey[i], grey[j], None) for i, j in edges]))
    back = torch.from_numpy(np.stack([solver.calc(grey[j], grey[i], None) for i, j in edges]))
    first, second = edges[:, 0], edges[:, 1]
    seen_i = consistent_flow(there, back, FLOW_CHECK_PX) & torch.from_numpy(static[first])
    seen_j = consistent_flow(back, there, FLOW_CHECK_PX) & torch.from_numpy(static[second])
    part = (slice(None), slice(stride // 2, None, stride), slice(stride // 2, None, stride))
    return MeasuredFlow(torch.from_numpy(edges), there[part], back[part], seen_i[part], seen_j[part])
