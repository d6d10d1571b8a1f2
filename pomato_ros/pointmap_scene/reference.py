"""The one pair of a window that relates the newest frame to its reference frame, in both orders."""

from collections.abc import Container
from dataclasses import dataclass

import torch

from pomato_ros.sources.dust3r.prediction import HEADS, PairPrediction, Wanted, WindowPrediction
from pomato_ros.structures import Window


@dataclass(frozen=True, slots=True)
class PairMaps:
    """What the second view of a pair says, in camera 1: X^{2,1}, and its pixels at view 1's time."""

    points_2: torch.Tensor  # (h, w, 3)
    conf_2: torch.Tensor  # (h, w)
    points_match: torch.Tensor
    conf_match: torch.Tensor


@dataclass(frozen=True, slots=True)
class OwnMaps:
    """What is said in the first view's own camera: X^{1,1}, and the pixels of view 2 at view 1's time."""

    points_1: torch.Tensor  # (h, w, 3)
    conf_1: torch.Tensor  # (h, w)
    points_match: torch.Tensor | None  # None where it was not asked for
    conf_match: torch.Tensor | None


PAIR_HEADS, OWN_HEADS = (2, 3), (1, 3)  # that give PairMaps and OwnMaps
UNMATCHED_HEADS = (1,)  # OwnMaps without the matching pointmap, which tracks alone read


@dataclass(frozen=True, slots=True)
class ReferencePair:
    """The newest frame n against the reference frame r.

    ``in_reference``: view 1 = r, view 2 = n: X^{n,r} and n's pixels at r's time, in camera r.
    ``in_newest``: view 1 = n, view 2 = r: X^{n,n} and r's pixels at n's time, in camera n.
    ``reference_points``: X^{r,r} in the unit of ``in_reference``, (h, w, 3), where it was asked for.
    Each of the two orders has its own scale.
    """

    reference_stamp_ns: int
    newest_stamp_ns: int
    in_reference: PairMaps
    in_newest: OwnMaps
    reference_points: torch.Tensor | None


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
    rolling = key_is_newest(window)
    reference = other if rolling else window.key
    orders = (prediction.from_key, prediction.to_key) if rolling else (prediction.to_key, prediction.from_key)
    index = prediction.row_of(other)
    in_reference, in_newest = row(orders[0], index), own_row(orders[1], index)
    points = orders[0].points_1
    return ReferencePair(
        window.frames[reference].stamp_ns,
        window.frames[newest].stamp_ns,
        in_reference,
        in_newest,
        points[index] if len(points) else None,
    )


def wanted_of(window: Window, slots: tuple[int, ...], of_reference: bool = False, match_tracks: bool = True) -> Wanted:
    """What is read of the pairs of the frames ``slots``.

    ``of_reference``: the reference's own pointmap as well. ``match_tracks``: the matching pointmap of the reference's
    pixels, which nothing but tracks reads.
    """
    in_reference = HEADS if of_reference else PAIR_HEADS
    in_newest = OWN_HEADS if match_tracks else UNMATCHED_HEADS
    if key_is_newest(window):
        return Wanted(slots, from_key_heads=in_reference, to_key_heads=in_newest)
    return Wanted(slots, from_key_heads=in_newest, to_key_heads=in_reference)


def key_is_newest(window: Window) -> bool:
    """Whether the window's key is its newest frame, with others before it (mode rolling)."""
    return window.key == len(window.frames) - 1 > 0


def paired_slot(window: Window, placed_ns: Container[int] = (), held_ns: int | None = None, overlap: int = 1) -> int:
    """The frame whose pair with the key :func:`reference_pair` reads: the newest, or its reference where it is key."""
    newest = len(window.frames) - 1
    return rolling_reference(window, placed_ns, held_ns, overlap) if key_is_newest(window) else newest


def rolling_reference(window: Window, placed_ns: Container[int], held_ns: int | None, overlap: int) -> int:
    """Index of the reference frame of a window whose key is its newest frame."""
    stamps = [frame.stamp_ns for frame in window.frames[:-1]]
    if held_ns in stamps and held_ns in placed_ns:
        return stamps.index(held_ns)
    first_recent = max(0, len(stamps) - overlap) if held_ns is not None else 0
    placed = [index for index, stamp_ns in enumerate(stamps) if stamp_ns in placed_ns]
    return next((index for index in placed if index >= first_recent), placed[0] if placed else 0)


def own_row(prediction: PairPrediction, index: int) -> OwnMaps:
    """One pair of a window, in the order that speaks of view 1's camera alone."""
    matched = len(prediction.points_match) > 0
    return OwnMaps(
        prediction.points_1[index],
        prediction.conf_1[index],
        prediction.points_match[index] if matched else None,
        prediction.conf_match[index] if matched else None,
    )


def row(prediction: PairPrediction, index: int) -> PairMaps:
    """One pair of a window."""
    return PairMaps(
        prediction.points_2[index],
        prediction.conf_2[index],
        prediction.points_match[index],
        prediction.conf_match[index],
    )
