"""Where a frame shows the patches of tracks: where they are expected, else where the last frame's patches went."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import TrackTuning
from pomato_ros.scene import klt
from pomato_ros.scene.depth_patches import no_reading, read_inverse_depth
from pomato_ros.scene.point_filter import Sightings
from pomato_ros.scene.rows import pick
from pomato_ros.scene.track_rows import LONE, STATIC, Seen, TrackFrame, Tracks, values_at
from pomato_ros.structures import Correspondence, MaskArray, PoseArray

BORDER_PX = 2.0  # nearer to the image's border too little of a patch is seen


@dataclass(slots=True)
class _Patches:
    """Where the tracks' patches are seen; NaN and a correlation of -1 where they are not."""

    pixels: PoseArray  # (n, 2)
    covariance_px: PoseArray  # (n, 2, 2)
    correlation: PoseArray  # (n,)


def search(tracks: Tracks, frame: TrackFrame, factors: PoseArray, tuning: TrackTuning) -> Seen:
    """What the frame shows of the tracks.

    Args:
        tracks: predicted to the frame.
        frame: the newest.
        factors: (2,) of the variances of pixels and inverse depths.
        tuning: standard deviations and gates.
    """
    view, count = frame.view, len(tracks.ids)
    expected = view.observe(tracks.states.positions)
    warp, searched = tracks.warps(view), view.inside(expected[:, :2], BORDER_PX)
    patches = _Patches(np.full((count, 2), np.nan), np.zeros((count, 2, 2)), np.full(count, -1.0))
    _align(tracks, frame, patches, np.flatnonzero(searched), expected[:, :2], warp, tuning)
    followed, returned = _follow(
        tracks, frame, expected[:, :2], patches.correlation < tuning.refresh_correlation, tuning
    )
    _align(tracks, frame, patches, np.flatnonzero(view.inside(followed, BORDER_PX)), followed, warp, tuning)
    chained = returned & (tracks.groups == LONE) & (patches.correlation < tuning.least_correlation)
    patches.pixels[chained], patches.covariance_px[chained] = followed[chained], tuning.chain_std**2 * np.eye(2)
    found = (patches.correlation > tuning.least_correlation) | chained
    reading = no_reading(count) if frame.depth is None else read_inverse_depth(frame.depth, patches.pixels, found)
    with np.errstate(invalid="ignore"):
        found &= ~reading.valid | (np.abs(reading.inverse_depth / expected[:, 2] - 1.0) < tuning.depth_step)
    sightings = Sightings(
        patches.pixels,
        (factors[0] * (1.0 + tuning.template_share * tracks.sightings))[:, None, None] * patches.covariance_px,
        reading.inverse_depth,
        factors[1] * (1.0 + tuning.depth_share * tracks.sightings) * reading.variance,
        found,
        found & reading.valid & (reading.inverse_depth > 0),
    )
    return Seen(sightings, patches.correlation, searched, chained, found, sightings.ranged)


def _align(
    tracks: Tracks,
    frame: TrackFrame,
    patches: _Patches,
    rows: NDArray[np.int64],
    start: PoseArray,
    warp: PoseArray,
    tuning: TrackTuning,
) -> None:
    """Align the templates of ``rows`` (k,), and keep what fits better than what was found so far."""
    aligned = klt.align(frame.image, pick(tracks.templates, rows), start[rows], warp[rows], tuning.alignment)
    sound = aligned.converged & frame.view.inside(aligned.pixels, 0.0)
    better = np.flatnonzero(sound & (aligned.correlation > patches.correlation[rows] + tuning.better_correlation))
    patches.pixels[rows[better]] = aligned.pixels[better]
    patches.covariance_px[rows[better]] = aligned.covariance_px[better]
    patches.correlation[rows[better]] = aligned.correlation[better]


def _follow(
    tracks: Tracks, frame: TrackFrame, expected: PoseArray, wanted: MaskArray, tuning: TrackTuning
) -> tuple[PoseArray, MaskArray]:
    """(n, 2) where the last frame's patches went in the image, if they may move and are ``wanted`` (n,); else NaN.

    And which of them (n,) the same search leads back to where they were.
    """
    places, returned = np.full(expected.shape, np.nan), np.zeros(len(expected), bool)
    if frame.before is None:
        return places, returned
    may_move = (tracks.groups != STATIC) | (values_at(frame.log_odds, expected, 0.0) > 0)
    rows = np.flatnonzero(wanted & may_move & np.isfinite(tracks.pixels[:, 0]))
    earlier, start = tracks.pixels[rows], expected[rows]
    if frame.backward is not None and len(rows):
        by_flow = invert_correspondence(frame.backward, earlier)
        start = np.where(np.isfinite(by_flow[:, :1]), by_flow, start)
    start = np.where(frame.view.inside(start)[:, None], start, earlier)
    side = tuning.alignment.patch_px
    places[rows] = klt.follow(frame.before, frame.gray, earlier, start, side)
    rows = rows[frame.view.inside(places[rows], BORDER_PX)]
    back = klt.follow(frame.gray, frame.before, places[rows], tracks.pixels[rows], side)
    with np.errstate(invalid="ignore"):
        returned[rows] = np.linalg.norm(back - tracks.pixels[rows], axis=-1) < tuning.return_px
    return places, returned


def invert_correspondence(backward: Correspondence, earlier: PoseArray) -> PoseArray:
    """(n, 2) pixels of the newest frame whose correspondence is nearest to ``earlier`` (n, 2); NaN where there is none.

    Fixed-point iteration ``x <- x + (p - c(x))`` on the field c, which is smooth but at occlusions.
    """
    places = earlier.copy()
    for _ in range(4):
        off = earlier - values_at(backward.pixels, places, np.nan)
        places = places + off
    arrived = values_at(backward.visible, places, False) & (np.abs(off).max(axis=-1) < 1.0)
    return np.where(arrived[:, None], places, np.nan)
