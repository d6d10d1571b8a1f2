"""What small parts of many images looked like, side by side on sheets, so that few images have to be followed.

OpenCV's tracker prepares both of its images as a whole: each further image costs as much as some forty features. How
many sheets there are hangs on how many looks lie at the same edge of their images, where a sheet has few places.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pomato_ros.structures import PoseArray

LOOK_PX = 15  # side of a look, odd: the widest patch that is followed, 11, with its gradients
LEAST_SIDE_PX = 2 * LOOK_PX  # looks at opposite edges do not overlap; a smaller image is its own sheet


class Sheets:
    """Images with many looks each, as large as those that these are taken from, since the tracker asks for that.

    What was at an edge of its image lies at the same edge of its sheet: the tracker leaves out what is beyond.
    """

    def __init__(self) -> None:
        """No looks yet."""
        self.images: list[NDArray[np.uint8]] = []  # (h, w) each

    def add(
        self, grey: NDArray[np.uint8], pixels: PoseArray, kept_sheets: NDArray[np.int64], kept_spots: PoseArray
    ) -> tuple[NDArray[np.int64], PoseArray]:
        """Lay down looks at pixels of an image: on which sheets their pixels are then (n,), and where x, y (n, 2).

        Args:
            grey: (h, w), as large as all before.
            pixels: (n, 2) in it; what is between them counts as the nearest.
            kept_sheets: (m,) where the looks are that are still needed,
            kept_spots: (m, 2), as of earlier calls.
        """
        if min(grey.shape) < LEAST_SIDE_PX:
            taken_numbers = set(kept_sheets.tolist())
            number = next(number for number in range(len(taken_numbers) + 1) if number not in taken_numbers)
            self.images[number : number + 1] = [grey]
            return np.full(len(pixels), number), pixels.astype(np.float64)
        nearest = np.rint(pixels).astype(np.int64)
        firsts = np.clip(nearest - LOOK_PX // 2, 0, np.array(grey.shape[::-1]) - LOOK_PX)
        columns, rows, fitting = layout(*grey.shape)
        kinds = (np.sign(nearest - firsts - LOOK_PX // 2) + 1) @ (1, 3)
        of_kind = [np.flatnonzero(kinds == kind) for kind in range(len(fitting))]
        further = sum(-(-len(these) // len(slots)) for these, slots in zip(of_kind, fitting, strict=True))
        free = np.ones((len(self.images) + further, len(rows) * len(columns)), bool)
        column, row = (
            np.searchsorted(at, spot, "right") - 1 for at, spot in zip((columns, rows), kept_spots.T, strict=True)
        )
        free[kept_sheets, len(columns) * row + column] = False
        sheets, taken = np.zeros((2, len(pixels)), np.int64)
        for these, slots in zip(of_kind, fitting, strict=True):
            sheet, slot = (found[: len(these)] for found in np.nonzero(free[:, slots]))
            sheets[these], taken[these] = sheet, slots[slot]
            free[sheet, slots[slot]] = False
        needed = 1 + max(int(kept_sheets.max(initial=-1)), int(sheets.max(initial=-1)))
        self.images = self.images[:needed]
        self.images += [np.zeros(grey.shape, np.uint8) for _ in range(needed - len(self.images))]
        laid = np.stack((columns[taken % len(columns)], rows[taken // len(columns)]), axis=-1)
        looks = squares_of(grey)[firsts[:, 1], firsts[:, 0]]
        for number in np.unique(sheets).tolist():
            here = sheets == number
            squares_of(self.images[number])[laid[here, 1], laid[here, 0]] = looks[here]
        return sheets, (laid + nearest - firsts).astype(np.float64)


def squares_of(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h - LOOK_PX + 1, w - LOOK_PX + 1, LOOK_PX, LOOK_PX) view of an image (h, w): the square that begins at each."""
    return np.lib.stride_tricks.sliding_window_view(image, (LOOK_PX, LOOK_PX), writeable=True)


@lru_cache(maxsize=4)
def layout(height: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64], list[NDArray[np.int64]]]:
    """Where squares begin in a sheet, columns (c,) and rows (r,), and which of those c * r fit each of nine kinds.

    A look's kind is whether its pixel is nearer to its left, in the middle, or nearer to its right; and so downwards.
    """
    begins, fitting = [], []
    for side in (width, height):
        between = np.arange(LOOK_PX, side - 2 * LOOK_PX + 1, LOOK_PX)
        begins.append(np.concatenate(([0], between, [side - LOOK_PX])))
        last = len(between) + 1
        fitting.append(([0], np.arange(1, last) if last > 1 else [0, last], [last]))
    slots = [np.add.outer(len(begins[0]) * np.array(y), x).ravel() for y in fitting[1] for x in fitting[0]]
    return begins[0], begins[1], slots
