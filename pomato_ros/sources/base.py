"""The seam between what measures geometry and what estimates the scene.

A source turns a window of prepared frames into an :class:`Observation` of the newest one. It keeps only what makes it
fast (caches of frames it has seen); all estimation over time belongs to `pomato_ros.scene`. Every source passes the
same suite of laws, `test/sources/test_source_laws.py`.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from pomato_ros.structures import (
    Frame,
    Observation,
    PreparedFrame,
    Window,
)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a source can say; the estimator never asks for its type."""

    metric: bool  # depth is in metres
    depth: bool = True  # it measures depth in every frame
    dense_correspondence: bool = False  # it has correspondences of its own; else they come from optical flow
    pose_prior: bool = False
    motion_evidence: bool = False


@dataclass(frozen=True, slots=True)
class PredictionRequest:
    """What will be read of an observation; a source may leave out the rest.

    Attributes:
        gaps: frames back for which correspondences may be asked.
        tracks: whether 3-D correspondences for tracks are read.
        stride: maps may be computed at every n-th pixel and interpolated.
    """

    gaps: tuple[int, ...] = (1,)
    tracks: bool = True
    stride: int = 1


class Source(Protocol):
    """One backend: a depth camera, a stereo pair, a network, or flow alone."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can say."""

    def prepare(self, frame: Frame) -> PreparedFrame:
        """Resize and crop a frame to the size the source works at.

        Raises:
            UnusableFrame: the frame lacks what the source needs, or is too small.
        """

    def predict(self, window: Window, request: PredictionRequest) -> Observation:
        """Observe the newest frame of ``window``."""

    def warm_up(self, size_wh: tuple[int, int]) -> None:
        """Do once what would make the first steps of a camera of this size slow."""

    def reset(self) -> None:
        """Let go of everything that is kept of frames."""

    def describe(self) -> dict[str, Any]:
        """Facts for logs and diagnostics; at least ``backend``."""
