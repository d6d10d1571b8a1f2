"""The published tracker's windows over a clip: which frames each one sees, and how their tracks become one."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

FIRST_WEIGHT, LAST_WEIGHT = 0.2, 0.8


def window_schedule(num_frames: int, window_size: int, overlap: int) -> NDArray[np.int64]:
    """(windows, window_size) frame indices: slot 0 is always the key frame 0, then consecutive frames.

    Window k starts at frame ``1 + k * (window_size - 1 - overlap)``; a short last window repeats its last frame.
    """
    step = window_size - 1 - overlap
    if step < 1 or overlap < 0 or num_frames < 1:
        raise ValueError(
            f"expected frames and 0 <= overlap < window_size - 1, got {num_frames} frames, overlap {overlap}, "
            f"window_size {window_size}"
        )
    starts = np.arange(1, max(num_frames, 2), step)
    frames = np.minimum(starts[:, None] + np.arange(window_size - 1), num_frames - 1)
    return np.concatenate((np.zeros_like(starts)[:, None], frames), axis=1)


def stitch_windows(window_frames: ArrayLike, window_tracks: ArrayLike, overlap: int) -> NDArray[np.float64]:
    """Tracks of all windows -> tracks over the clip (frames, n, 3).

    The key frame is averaged over the windows; the ``overlap`` slots after it fade from the old to the new window; the
    rest is taken from the new window. A frame repeated to fill a window counts with its last slot in the first window
    and where windows fade; beyond that only its first slot does.

    Args:
        window_frames: (windows, slots) from :func:`window_schedule`.
        window_tracks: (windows, slots, n, 3), position of every query in every slot.
        overlap: slots shared with the window before.
    """
    frames, tracks = np.asarray(window_frames), np.asarray(window_tracks, dtype=np.float64)
    stitched = np.zeros((int(frames.max()) + 1, *tracks.shape[2:]))
    stitched[frames[0]] = tracks[0]
    shared = slice(1, 1 + overlap)
    for slots, new in zip(frames[1:], tracks[1:], strict=True):
        stitched[slots[shared]] = blend(stitched[slots[shared]], new[shared])
        fresh = slice(1 + overlap, 1 + len(np.unique(slots[1:])))
        stitched[slots[fresh]] = new[fresh]
    stitched[0] = tracks[:, 0].mean(axis=0)
    return stitched


def blend(old: ArrayLike, new: ArrayLike) -> NDArray[np.float64]:
    """Fade along the first axis, the new one's weight rising evenly from 0.2 to 0.8."""
    old, new = np.asarray(old, dtype=np.float64), np.asarray(new, dtype=np.float64)
    weight = np.linspace(FIRST_WEIGHT, LAST_WEIGHT, len(new)).reshape(-1, *[1] * (new.ndim - 1))
    return (1 - weight) * old + weight * new
