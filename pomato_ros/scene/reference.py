"""The one pair of a window that relates the newest frame to its reference frame, in both orders."""

from collections.abc import Container
from dataclasses import dataclass

import torch

from pomato_ros.structures import PairPrediction, Window, WindowPrediction


@dataclass(frozen=True, slots=True)
class PairMaps:
    """Predictions of one pair: like :class:`pomato_ros.structures.PairPrediction` without the leading axis."""

    points_1: torch.Tensor  # (h, w, 3)
    conf_1: torch.Tensor  # (h, w)
    points_2: torch.Tensor
    conf_2: torch.Tensor
    points_match: torch.Tensor
    conf_match: torch.Tensor


@dataclass(frozen=True, slots=True)
class ReferencePair:
    """The newest frame n against the reference frame r.

    ``in_reference``: view 1 = r, view 2 = n: X^{r,r}, X^{n,r} and n's pixels at r's time, all in camera r.
    ``in_newest``: view 1 = n, view 2 = r: X^{n,n}, X^{r,n} and r's pixels at n's time, all in camera n.
    Each of the two has its own scale.
    """

    reference_stamp_ns: int
    newest_stamp_ns: int
    in_reference: PairMaps
    in_newest: PairMaps


def reference_pair(
    window: Window,
    prediction: WindowPrediction,
    placed_ns: Container[int] = (),
    held_ns: int | None = None,
    overlap: int = 1,
) -> ReferencePair:
    """The pair that odometry, mask and tracks are read from.

    Anchored (the key is the first frame): the reference is the key. Rolling (the key is the newest): the reference is
    the frame ``held_ns`` as long as the window holds it, so that tracks keep their footing; then the oldest of the
    last ``overlap`` frames whose pose is known (``placed_ns``), else the oldest such frame of the window, else the
    oldest. Both modes give the same two pair orders.
    """
    newest = len(window.frames) - 1
    other = paired_slot(window, placed_ns, held_ns, overlap)
    from_key, to_key = (row(maps, prediction.row_of(other)) for maps in (prediction.from_key, prediction.to_key))
    rolling = window.key == newest and newest > 0
    reference = other if rolling else window.key
    in_reference, in_newest = (from_key, to_key) if rolling else (to_key, from_key)
    return ReferencePair(window.frames[reference].stamp_ns, window.frames[newest].stamp_ns, in_reference, in_newest)


def paired_slot(window: Window, placed_ns: Container[int] = (), held_ns: int | None = None, overlap: int = 1) -> int:
    """The frame whose pair with the key :func:`reference_pair` reads: the newest, or its reference where it is key."""
    newest = len(window.frames) - 1
    return rolling_reference(window, placed_ns, held_ns, overlap) if window.key == newest and newest > 0 else newest


def rolling_reference(window: Window, placed_ns: Container[int], held_ns: int | None, overlap: int) -> int:
    """Index of the reference frame of a window whose key is its newest frame."""
    stamps = [frame.stamp_ns for frame in window.frames[:-1]]
    if held_ns in stamps and held_ns in placed_ns:
        return stamps.index(held_ns)
    first_recent = max(0, len(stamps) - overlap) if held_ns is not None else 0
    placed = [index for index, stamp_ns in enumerate(stamps) if stamp_ns in placed_ns]
    return next((index for index in placed if index >= first_recent), placed[0] if placed else 0)


def row(prediction: PairPrediction, index: int) -> PairMaps:
    """One pair of a window."""
    return PairMaps(
        prediction.points_1[index],
        prediction.conf_1[index],
        prediction.points_2[index],
        prediction.conf_2[index],
        prediction.points_match[index],
        prediction.conf_match[index],
    )
