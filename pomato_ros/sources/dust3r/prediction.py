"""Predictions of a network of the DUSt3R family for a window, as torch tensors, and the request for them."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class PairPrediction:
    """Outputs of the three heads for P pairs (view 1, view 2); points in the pair's own, arbitrary scale.

    ``points_1`` X^{1,1}: pixels of view 1 in camera 1. ``points_2`` X^{2,1}: pixels of view 2 in camera 1.
    ``points_match`` X_m^{2,1}: where the points seen by view 2 were at view 1's time, in camera 1.
    Maps that nobody asked for have no rows, see :class:`Wanted`.
    """

    points_1: Tensor  # (p, h, w, 3)
    conf_1: Tensor  # (p, h, w), above 1
    points_2: Tensor
    conf_2: Tensor
    points_match: Tensor
    conf_match: Tensor


HEADS = (1, 2, 3)  # of the network, in the order of PairPrediction's fields: X^{1,1}, X^{2,1} and X_m^{2,1}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What will be read of a window's prediction; a predictor may leave out the rest.

    ``slots``: the window's frames whose pairs with the key are read. ``from_key_heads``, ``to_key_heads``: which maps
    of :class:`WindowPrediction`'s two orders. ``stride``: maps need not tell neighbours apart that are nearer than this
    many pixels; they have every pixel all the same.
    """

    slots: tuple[int, ...]
    from_key_heads: tuple[int, ...] = HEADS
    to_key_heads: tuple[int, ...] = HEADS
    stride: int = 1


@dataclass(frozen=True, slots=True)
class WindowPrediction:
    """Both pair orders of a window against its key frame, one row for each of some frames or, by default, for all.

    ``from_key``: view 1 = frame t, view 2 = key (the paper's tracking): its ``points_1`` is X^{t,t} and its
    ``points_match`` follows the key's pixels to time t, in camera t.
    ``to_key``: view 1 = key, view 2 = frame t (the paper's reconstruction): its ``points_2`` is X^{t,key} and its
    ``points_match`` takes frame t's pixels back to the key's time, in the key's camera.
    """

    key: int
    from_key: PairPrediction
    to_key: PairPrediction
    slots: tuple[int, ...] | None = None  # the window's frames that rows belong to; None: all, in order

    def row_of(self, slot: int) -> int:
        """The row of a frame of the window.

        Raises:
            ValueError: the frame was not asked for.
        """
        return row_among(self.slots, slot)


def row_among(slots: tuple[int, ...] | None, slot: int) -> int:
    """The row of a frame of a window among the frames ``slots`` that were predicted; None: all, in order.

    Raises:
        ValueError: the frame was not asked for.
    """
    if slots is None:
        return slot
    if slot not in slots:
        raise ValueError(f"expected one of the frames {slots} that were predicted, got {slot}; ask for it")
    return slots.index(slot)
