"""How tracks begin, and how their templates are taken anew."""

import numpy as np
from numpy.typing import NDArray

from pomato_ros.config import TrackTuning
from pomato_ros.scene import klt
from pomato_ros.scene.depth_patches import DepthReading, read_inverse_depth
from pomato_ros.scene.point_filter import begin, free_velocities
from pomato_ros.scene.track_rows import LONE, STATIC, TENTATIVE, Seen, TrackFrame, Tracks, tangents_of, values_at
from pomato_ros.structures import MaskArray, PoseArray

SPREADS = (0.6, 1.8)  # areas of a patch over that of its template, beyond which it is too coarse or too fine


def begin_tracks(
    frame: TrackFrame,
    pixels: PoseArray,
    reading: DepthReading,
    groups: NDArray[np.int64],
    depth_factor: float,
    tuning: TrackTuning,
) -> Tracks:
    """New tracks at ``pixels`` (n, 2); those on the moving mask belong to ``groups`` (n,), the others rest.

    Args:
        frame: the newest.
        pixels: (n, 2).
        reading: inverse depth there.
        groups: (n,) of those that move.
        depth_factor: of the variance of inverse depths.
        tuning: standard deviations.
    """
    view, inverse = frame.view, reading.inverse_depth
    states = begin(view, pixels, inverse, depth_factor * reading.variance, tuning.birth_pixel_std)
    groups = np.where(values_at(frame.mask, pixels, False), groups, STATIC)
    lone = np.flatnonzero(groups == LONE)
    free_velocities(states, lone, tuning.speed_std / inverse[lone])
    zeros = np.zeros(len(pixels), np.int64)
    return Tracks(
        ids=zeros + TENTATIVE,
        age_frames=zeros + 1,
        sightings=zeros + 1,
        hidden_frames=zeros.copy(),
        contradicted=zeros.copy(),
        groups=groups,
        states=states,
        tangents=tangents_of(view, pixels, inverse, reading.slopes),
        templates=klt.capture(frame.image, pixels, tuning.alignment.patch_px),
        pixels=pixels,
        evidence=np.zeros((len(pixels), 3)),
    )


def refresh_templates(tracks: Tracks, frame: TrackFrame, seen: Seen, clear: MaskArray, tuning: TrackTuning) -> None:
    """New templates, at their own places, of visible tracks whose patch differs from how it was.

    Args:
        tracks: changed in place.
        frame: the newest.
        seen: what it shows.
        clear: (n,) visible, on texture and away from jumps in depth.
        tuning: gates.
    """
    spread = np.abs(np.linalg.det(tracks.warps(frame.view)))
    differs = (seen.correlation < tuning.refresh_correlation) | (spread < SPREADS[0]) | (spread > SPREADS[1])
    lost = (tracks.groups == STATIC) & ~seen.sightings.found
    rows = np.flatnonzero(differs & clear & (seen.ranged | seen.chained | lost))
    if not len(rows) or frame.depth is None:
        return
    pixels, inverse = tracks.pixels[rows], frame.view.observe(tracks.states.positions[rows])[:, 2]
    slopes = read_inverse_depth(frame.depth, pixels).slopes
    tracks.tangents[rows] = tangents_of(frame.view, pixels, inverse, slopes)
    fresh = klt.capture(frame.image, pixels, tuning.alignment.patch_px)
    tracks.templates.values[rows] = fresh.values
    tracks.templates.gradients[rows] = fresh.gradients
    tracks.templates.normal_inverse[rows] = fresh.normal_inverse
