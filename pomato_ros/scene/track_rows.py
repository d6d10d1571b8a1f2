"""What is kept of 3-D point tracks, one row a track, and what a frame shows of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomato_ros.scene.klt import GreyImage, Templates
from pomato_ros.scene.point_filter import PointStates, Sightings, View, hold
from pomato_ros.scene.rigid_groups import Motion, carried
from pomato_ros.structures import Correspondence, DepthMap, FloatArray, MaskArray, PoseArray

STATIC, LONE = 0, -1  # groups of tracks at rest, and of those that move by themselves; rigid groups count from 1
TENTATIVE = -1  # id of a track that is not confirmed yet


@dataclass(slots=True)
class Tracks:
    """Rows of equal length, one a track."""

    ids: NDArray[np.int64]
    age_frames: NDArray[np.int64]
    sightings: NDArray[np.int64]
    hidden_frames: NDArray[np.int64]  # in a row
    contradicted: NDArray[np.int64]  # frames in a row whose surface or patch is another one's
    groups: NDArray[np.int64]
    states: PointStates
    tangents: PoseArray  # (n, 2, 3) world: from the point to where the next pixels to the right and below were
    templates: Templates
    pixels: PoseArray  # (n, 2) in the last frame; NaN: not visible
    evidence: PoseArray  # (n, 3) decaying sum of normalised innovations

    def depths(self, view: View) -> PoseArray:
        """(n,) along the optical axis; 0 behind the camera."""
        inverse = view.observe(self.states.positions)[:, 2]
        return np.where(inverse > 0, 1.0 / np.where(inverse > 0, inverse, 1.0), 0.0)

    def warps(self, view: View) -> PoseArray:
        """(n, 2, 2) from offsets in the templates to offsets in the image: the surface's perspective, linearised."""
        warp: PoseArray = view.jacobian(self.states.positions)[:, :2] @ self.tangents.swapaxes(1, 2)
        return warp

    def carry(self, rows: NDArray[np.int64], motion: Motion) -> None:
        """Take tracks along with a rigid motion."""
        self.states.positions[rows] = motion.move(self.states.positions[rows])
        self.states.covariance[rows] = carried(motion, self.states.covariance[rows])
        self.tangents[rows] = self.tangents[rows] @ motion.rotation().T

    def settle(self, rows: NDArray[np.int64], group: int) -> None:
        """Tracks keep their place in the static world, or in a rigid group, from now on."""
        self.groups[rows], self.evidence[rows] = group, 0.0
        hold(self.states, rows)


@dataclass(frozen=True, slots=True)
class TrackFrame:
    """The newest frame, as its tracks need it."""

    seconds: float  # since the frame before
    gray: GreyImage  # (h, w)
    before: GreyImage | None  # (h, w) the frame before; None: there is none
    image: FloatArray  # (h, w) softened
    depth: DepthMap | None
    view: View
    mask: MaskArray  # (h, w) pixels that move
    log_odds: FloatArray  # (h, w) that they do
    labels: NDArray[np.int32]  # regions of the mask
    backward: Correspondence | None  # to the frame before


@dataclass(slots=True)
class Seen:
    """What the newest frame shows of the tracks, one row a track."""

    sightings: Sightings
    correlation: PoseArray  # (n,) with the templates; -1: not found
    searched: MaskArray  # (n,) expected inside the image
    chained: MaskArray  # (n,) unlike their templates, but followed from the last frame
    matched: MaskArray  # (n,) found within the gate
    ranged: MaskArray  # (n,) their depth, too


def values_at(values: NDArray[Any], pixels: PoseArray, outside: float | bool) -> NDArray[Any]:
    """(n, ...) values (h, w, ...) at the pixels nearest to (n, 2); ``outside`` beyond the image and where NaN."""
    height, width = values.shape[:2]
    finite = np.isfinite(pixels[:, 0]) & np.isfinite(pixels[:, 1])
    nearest = np.rint(np.where(finite[:, None], pixels, -1.0)).astype(np.int64)
    x, y = nearest[:, 0], nearest[:, 1]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    found = values[y.clip(0, height - 1), x.clip(0, width - 1)]
    return np.asarray(np.where(inside.reshape(-1, *[1] * (found.ndim - 1)), found, outside))


def tangents_of(view: View, pixels: PoseArray, inverse_depth: PoseArray, slopes: PoseArray) -> PoseArray:
    """(n, 2, 3) world: from points to their surface at the next pixels to the right and below.

    Args:
        view: the camera that sees them.
        pixels: (n, 2).
        inverse_depth: (n,) of the points.
        slopes: (n, 2) its change per pixel to the right and down.
    """
    here = view.place(pixels, inverse_depth)
    right = view.place(pixels + (1.0, 0.0), inverse_depth + slopes[:, 0])
    below = view.place(pixels + (0.0, 1.0), inverse_depth + slopes[:, 1])
    return np.stack((right - here, below - here), axis=1)


def no_tracks(taps: int) -> Tracks:
    """No rows; templates hold ``taps`` grey values."""
    whole = np.zeros(0, np.int64)
    return Tracks(
        ids=whole,
        age_frames=whole,
        sightings=whole,
        hidden_frames=whole,
        contradicted=whole,
        groups=whole,
        states=PointStates(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 6, 6))),
        tangents=np.zeros((0, 2, 3)),
        templates=Templates(np.zeros((0, taps), np.float32), np.zeros((0, 2, taps), np.float32), np.zeros((0, 2, 2))),
        pixels=np.zeros((0, 2)),
        evidence=np.zeros((0, 3)),
    )
