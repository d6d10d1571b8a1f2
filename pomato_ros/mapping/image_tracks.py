"""Image features followed through a chunk: corners at rest, sparse Lucas-Kanade flow checked both ways."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

CORNERS = 250
QUALITY = 0.01
SPACING = 1 / 32  # of the image's long side, between corners
CHECK_PX = 0.5
WINDOW_PX = 13


@dataclass(frozen=True, slots=True)
class ImageTracks:
    """Observations of features: row o says that track ``track[o]`` is seen at ``pixels[o]`` of image ``image[o]``."""

    track: NDArray[np.int64]  # (o,)
    image: NDArray[np.int64]  # (o,)
    pixels: NDArray[np.float64]  # (o, 2) x, y

    def select(self, chosen: NDArray[np.bool_]) -> "ImageTracks":
        """Some of the observations; tracks that are then seen in fewer than three images are left out."""
        counts = np.bincount(self.track[chosen], minlength=int(self.track.max(initial=-1)) + 1)
        kept = chosen & (counts[self.track] >= 3)
        return ImageTracks(self.track[kept], self.image[kept], self.pixels[kept])


def follow_images(images_rgb: Sequence[NDArray[np.uint8]], static: NDArray[np.bool_]) -> ImageTracks:
    """Tracks through images (h, w, 3) in order, where ``static`` (n, h, w) holds, each seen in three or more."""
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images_rgb]
    alive, places = np.zeros(0, np.int64), np.zeros((0, 2), np.float32)
    rows: list[tuple[NDArray[np.int64], int, NDArray[np.float32]]] = []
    next_id = 0
    for number, image in enumerate(grey):
        if number and len(alive):
            places, found = _followed(grey[number - 1], image, places)
            found &= _holds(static[number], places)
            alive, places = alive[found], places[found]
        fresh = _corners(image, static[number], places)
        alive = np.concatenate((alive, next_id + np.arange(len(fresh))))
        places = np.concatenate((places, fresh))
        next_id += len(fresh)
        rows.append((alive, number, places))
    tracks = ImageTracks(
        np.concatenate([ids for ids, _, _ in rows]),
        np.concatenate([np.full(len(ids), number) for ids, number, _ in rows]),
        np.concatenate([seen for _, _, seen in rows]).astype(np.float64),
    )
    return tracks.select(np.ones(len(tracks.track), bool))


def _followed(
    before: NDArray[np.uint8], after: NDArray[np.uint8], places: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Places (n, 2) in the next image, and which of them lead back."""
    window = (WINDOW_PX, WINDOW_PX)
    there, found, _ = cv2.calcOpticalFlowPyrLK(before, after, places[:, None], None, winSize=window, maxLevel=3)
    back, returned, _ = cv2.calcOpticalFlowPyrLK(after, before, there, None, winSize=window, maxLevel=3)
    near = np.linalg.norm(back[:, 0] - places, axis=-1) < CHECK_PX
    return there[:, 0], near & (found[:, 0] > 0) & (returned[:, 0] > 0)


def _corners(image: NDArray[np.uint8], static: NDArray[np.bool_], taken: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, 2) new corners away from those that are followed already."""
    spacing = max(3, round(SPACING * max(image.shape)))
    free = static.astype(np.uint8) * 255
    for x, y in np.rint(taken).astype(int):
        cv2.circle(free, (int(x), int(y)), spacing, 0, -1)
    room = CORNERS - len(taken)
    if room <= 0:
        return np.zeros((0, 2), np.float32)
    found = cv2.goodFeaturesToTrack(image, room, QUALITY, spacing, mask=free)
    return np.zeros((0, 2), np.float32) if found is None else np.asarray(found[:, 0], np.float32)


def _holds(mask: NDArray[np.bool_], places: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(n,) whether places lie in the image on a pixel of ``mask``."""
    height, width = mask.shape
    column, row = np.rint(places).astype(int).T
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return inside & mask[row.clip(0, height - 1), column.clip(0, width - 1)]
