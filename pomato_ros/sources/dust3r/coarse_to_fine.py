"""Matches of images larger than the network's size: pairs of windows chosen by coarse matches, matched again in each.

MASt3R's scheme (paper, section 3.4): a grid of overlapping windows on either image, for each a partner window where its
coarse matches fall, and of all these pairs as few as cover most of the matches.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pomato_ros.sources.dust3r.heads import PATCH_SIZE_PX
from pomato_ros.sources.dust3r.mast3r import Mast3r
from pomato_ros.sources.dust3r.matching import Matches, matches_of_starts, pixels_at, start_grid, values_at

WINDOW_PX = 512  # long side
OVERLAP = 0.5  # least share that neighbouring windows have in common
LEAST_MATCHES = 10  # of a window that gets a partner
COVERED_SHARE = 0.9  # of the matches' weight
FALL_OFF = 2.0  # weight exp(-2 d^2) of a match d window sides from the middle
PAIRS_AT_ONCE = 48
TOLERANCE_PX = 5.0

Array = NDArray[np.float64]
Boxes = NDArray[np.int64]  # (n, 4) x0, y0, x1, y1, the last two outside
Size = tuple[int, int]  # height, width


@dataclass(frozen=True, slots=True)
class WindowPairs:
    """Windows of two images that belong together, and the weight of every coarse match in each pair."""

    boxes_1: Boxes
    boxes_2: Boxes
    weights: Array  # (pairs, matches)


def window_size(size_hw: Size, long_side_px: int = WINDOW_PX) -> Size:
    """Height and width of an image's windows, whole patches, with the image's proportions."""
    longest = max(size_hw)
    height, width = (side * long_side_px // longest // PATCH_SIZE_PX * PATCH_SIZE_PX for side in size_hw)
    return height, width


def window_starts(length_px: int, window_px: int) -> Boxes:
    """Where windows start along one side, evenly spread and overlapping by at least half."""
    last = length_px - window_px
    count = 2 + int((last - 1) // (window_px * (1 - OVERLAP)))
    return np.linspace(0, last, count).round().astype(np.int64)


def window_grid(size_hw: Size, window_hw: Size) -> Boxes:
    """All windows of an image, row by row."""
    y, x = np.meshgrid(
        *(window_starts(side, window) for side, window in zip(size_hw, window_hw, strict=True)), indexing="ij"
    )
    corners = np.stack((x.ravel(), y.ravel()), axis=-1)
    return np.concatenate((corners, corners + np.array(window_hw)[::-1]), axis=-1)


def window_around(centres_xy: Array, window_hw: Size, size_hw: Size) -> Boxes:
    """Windows of a given size about some centres (n, 2), moved inside the image."""
    window_wh, size_wh = np.array(window_hw)[::-1], np.array(size_hw)[::-1]
    ends = np.floor(centres_xy + window_wh / 2).astype(np.int64)
    starts = np.minimum(np.maximum(ends - window_wh, 0), size_wh - window_wh)
    return np.concatenate((starts, starts + window_wh), axis=-1)


def partner_windows(boxes: Boxes, own_xy: Array, other_xy: Array, window_hw: Size, size_hw: Size) -> WindowPairs:
    """The windows of ``boxes`` that hold enough matches, and in the other image the window about their other ends.

    Args:
        boxes: of the first image.
        own_xy: (m, 2) matches in the first image.
        other_xy: (m, 2) in the other one.
        window_hw: of the other image's windows.
        size_hw: of the other image.
    """
    in_box = (own_xy >= boxes[:, None, :2]) & (own_xy < boxes[:, None, 2:])
    inside: NDArray[np.bool_] = np.all(in_box, axis=-1)  # (n, m)
    enough = inside.sum(1) >= LEAST_MATCHES
    boxes, inside = boxes[enough], inside[enough]
    centres = (inside[..., None] * other_xy).sum(1) / np.maximum(inside.sum(1), 1)[:, None]
    partners = window_around(centres, window_hw, size_hw)
    weights = inside * middle_weight(boxes, own_xy) * middle_weight(partners, other_xy)
    return WindowPairs(boxes, partners, weights)


def middle_weight(boxes: Boxes, pixels_xy: Array) -> Array:
    """(n, m) how near the middle of each window a match is, from 1 there downwards."""
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    offsets = (pixels_xy - centres[:, None]) / sides[:, None]
    return np.exp(-FALL_OFF * np.square(offsets).sum(-1))


def cover_greedily(weights: Array) -> list[int]:
    """Pairs of windows, the best next one first, until they cover most of what all of them together do."""
    left, covered = weights.copy(), 0.0
    target = COVERED_SHARE * float(weights.max(axis=0, initial=0.0).sum())
    chosen: list[int] = []
    while covered < target:
        best = int(left.sum(axis=1).argmax())
        gain = left[best].copy()
        covered += float(gain.sum())
        left = np.clip(left - gain, 0.0, None)
        chosen.append(best)
    return chosen


def choose_windows(
    sizes_hw: Sequence[Size], positions_xy: Sequence[Tensor], windows_hw: Sequence[Size] | None = None
) -> tuple[Boxes, Boxes]:
    """Pairs of windows of two images in the order of their choice, (n, 4) each.

    Args:
        sizes_hw: of both images.
        positions_xy: (m, 2) coarse matches in both, pixels of the full images.
        windows_hw: of both images' windows; by default 512 px long in the image's proportions.
    """
    given = windows_hw or [window_size(size) for size in sizes_hw]
    own, other = (np.asarray(positions, np.float64) for positions in positions_xy)
    forth = partner_windows(forced_grid(sizes_hw[0], given[0]), own, other, given[1], sizes_hw[1])
    back = partner_windows(forced_grid(sizes_hw[1], given[1]), other, own, given[0], sizes_hw[0])
    boxes_1 = np.concatenate((forth.boxes_1, back.boxes_2))
    boxes_2 = np.concatenate((forth.boxes_2, back.boxes_1))
    order = cover_greedily(np.concatenate((forth.weights, back.weights)))
    return boxes_1[order], boxes_2[order]


def forced_grid(size_hw: Size, window_hw: Size) -> Boxes:
    """The grid of an image's own windows, each brought to the size that is asked for."""
    boxes = window_grid(size_hw, window_size(size_hw))
    return window_around((boxes[:, :2] + boxes[:, 2:]) / 2, window_hw, size_hw)


@dataclass(frozen=True, slots=True)
class FineMatches:
    """Matches in pixels of the full images, with the smaller one of their descriptors' confidences (m,)."""

    matches: Matches
    confidence: Tensor


@torch.inference_mode()
def fine_matches(
    network: Mast3r,
    image_1: Tensor,
    image_2: Tensor,
    coarse: Matches,
    starts_xy: Tensor | None = None,
    step_px: int = 8,
) -> FineMatches:
    """Match two large images window by window.

    Args:
        network: MASt3R.
        image_1: (3, h, w) in [-1, 1], at full size.
        image_2: the same of the other image.
        coarse: matches at the network's size, in pixels of the full images.
        starts_xy: (k, 2) integer pixels of image 1 to find again, within 5 px there and back; None: a grid in each
            window.
        step_px: of that grid.
    """
    sizes = [(image.shape[-2], image.shape[-1]) for image in (image_1, image_2)]
    boxes_1, boxes_2 = choose_windows(sizes, (coarse.pixels_1.cpu(), coarse.pixels_2.cpu()))
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for first in range(0, len(boxes_1), PAIRS_AT_ONCE):
        some = slice(first, first + PAIRS_AT_ONCE)
        crops = [crop(image, boxes[some]) for image, boxes in ((image_1, boxes_1), (image_2, boxes_2))]
        maps = network.pair_maps(*crops)
        for row, (box_1, box_2) in enumerate(zip(boxes_1[some], boxes_2[some], strict=True)):
            one = {name: value[row] for name, value in maps.items()}
            found.append(match_window(one, box_1, box_2, starts_xy, step_px))
    return distinct_matches(found, sizes)


def crop(image: Tensor, boxes: Boxes) -> Tensor:
    """Windows (n, 3, h, w) of an image (3, h, w)."""
    return torch.stack([image[:, y0:y1, x0:x1] for x0, y0, x1, y1 in boxes.tolist()])


def match_window(
    maps: dict[str, Tensor], box_1: Boxes, box_2: Boxes, starts_xy: Tensor | None, step_px: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Matches of one pair of windows: pixels (m, 2) of both full images, and confidence (m,)."""
    desc_1, desc_2 = maps["desc_1"], maps["desc_2"]
    corner_1, corner_2 = (torch.as_tensor(box[:2], device=desc_1.device) for box in (box_1, box_2))
    height, width = desc_1.shape[:2]
    if starts_xy is None:
        starts = pixels_at(start_grid(height, width, step_px, desc_1.device), width)
    else:
        local = starts_xy.to(desc_1.device) - corner_1
        limit = torch.tensor((width, height), device=desc_1.device)
        starts = local[((local >= 0) & (local < limit)).all(-1)]
    matches = matches_of_starts(desc_1, desc_2, starts, TOLERANCE_PX)
    conf = torch.minimum(
        values_at(maps["desc_conf_1"], matches.pixels_1), values_at(maps["desc_conf_2"], matches.pixels_2)
    )
    return matches.pixels_1 + corner_1, matches.pixels_2 + corner_2, conf


def distinct_matches(found: Sequence[tuple[Tensor, Tensor, Tensor]], sizes_hw: Sequence[Size]) -> FineMatches:
    """Of a pixel of image 1 that several windows match, the most confident match."""
    if not found:
        empty = torch.zeros(0, 2, dtype=torch.long)
        return FineMatches(Matches(empty, empty), torch.zeros(0))
    pixels_1, pixels_2, conf = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = conf.argsort(descending=True, stable=True)
    index = (pixels_1[:, 0] + sizes_hw[0][1] * pixels_1[:, 1])[order]
    distinct, which = index.unique(return_inverse=True)
    places = torch.arange(len(index), device=index.device)
    first = places.new_full((len(distinct),), len(index)).scatter_reduce(0, which, places, "amin")
    kept = order[first]
    return FineMatches(Matches(pixels_1[kept], pixels_2[kept]), conf[kept])
