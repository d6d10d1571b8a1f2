"""The record that every reader of a paper's data set gives: frames, with whatever truth lies beside them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomato_ros.datasets.sensors.sequence import SensorSequence
from pomato_ros.structures import FloatArray, Frame, MaskArray, PoseArray


@dataclass(frozen=True, slots=True, eq=False)
class TrackTruth:
    """Points of the first frame, followed.

    Attributes:
        queries_xy: (n, 2) px in the first frame.
        points_camera: (t, n, 3) metres, in the camera of each frame.
        visible: (t, n).
        focal_px: fx, fy of the images.
    """

    queries_xy: NDArray[np.float64]
    points_camera: NDArray[np.float64]
    visible: MaskArray
    focal_px: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class PaperSequence:
    """One sequence of a data set; nothing is read before it is asked for.

    Attributes:
        name: of the sequence.
        frames: number of frames.
        read_frame: a frame by its number; its depth is truth, if it has any, and must not be given to what is scored.
        read_depth: (h, w) true depth in metres, 0 where unknown; None: no truth.
        world_from_camera: (t, 4, 4) true poses, NaN where unknown; None: no truth.
        read_mask: (h, w) true moving pixels; None: no truth.
        tracks: followed points; None: no truth.
    """

    name: str
    frames: int
    read_frame: Callable[[int], Frame]
    read_depth: Callable[[int], FloatArray] | None = None
    world_from_camera: PoseArray | None = None
    read_mask: Callable[[int], MaskArray] | None = None
    tracks: TrackTruth | None = None


def of_sensor_sequence(sequence: SensorSequence) -> PaperSequence:
    """A recorded depth camera as truth: its depth, and poses without gaps or none."""
    poses = sequence.world_from_camera
    has_depth = sequence.read_frame(0).depth_m is not None

    def read_depth(number: int) -> FloatArray:
        depth_m = sequence.read_frame(number).depth_m
        if depth_m is None:
            raise ValueError(f"{sequence.name}: frame {number} has no depth although the first one has")
        return np.nan_to_num(depth_m, nan=0.0)

    return PaperSequence(
        sequence.name, len(sequence), sequence.read_frame, read_depth if has_depth else None, poses, sequence.read_mask
    )
