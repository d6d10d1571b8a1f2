"""Tracks of a running engine against the truth of the very points that they began on."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pomato_ros.evaluation.metrics.tracks import THRESHOLDS_PX, evaluate_tracks, median_norm_ratio, scoring_focal
from pomato_ros.geometry.camera import project, unproject
from pomato_ros.geometry.rigid import invert, transform
from pomato_ros.structures import Intrinsics, MaskArray, PoseArray, SceneEstimate
from pomato_ros.synthetic.clip import DEPTH_TOLERANCE, Clip

RIGHT_PX = THRESHOLDS_PX[
    -1
]  # a track farther from its point than this, at the scoring size, is not that point any more
MISSING = 1e6  # share of the truth at which positions are put that nobody reported: right within no threshold
TOUCHING = 0.05  # depths of neighbouring pixels that differ by a smaller share are one surface


@dataclass(slots=True)
class TrackRecord:
    """All track estimates in the frames of one sequence: one row for each track and frame, in any order."""

    ids: list[NDArray[np.int64]] = field(default_factory=list)
    frames: list[NDArray[np.int64]] = field(default_factory=list)
    positions_camera: list[PoseArray] = field(default_factory=list)
    pixels: list[PoseArray] = field(default_factory=list)
    visible: list[MaskArray] = field(default_factory=list)

    def add(self, frame: int, scene: SceneEstimate) -> None:
        """Note the tracks of one scene; positions are kept in its camera, so that odometry errs on its own account."""
        if scene.world_from_camera is None or not len(scene.tracks.ids):
            return
        self.ids.append(scene.tracks.ids)
        self.frames.append(np.full(len(scene.tracks.ids), frame))
        self.positions_camera.append(transform(invert(scene.world_from_camera), scene.tracks.positions_world))
        self.pixels.append(scene.tracks.pixels.astype(np.float64))
        self.visible.append(scene.tracks.visible)


@dataclass(frozen=True, slots=True)
class TrackCounts:
    """What tracks of one sequence scored; counts, so that sequences can be pooled."""

    right_id: int  # after the windows asked for, the same id is on the same point
    asked_id: int  # points that are truly visible then
    right_occlusion: int  # visible or not, as in truth
    asked_occlusion: int  # positions after the first
    apd: float  # percent; NaN without positions
    apd_metric: float  # the same without taking a factor out: positions as they were given, in metres
    asked_apd: int  # truly visible positions after the first


@dataclass(frozen=True, slots=True)
class PointTruth:
    """Where points (n) truly are in each frame (t)."""

    positions_camera: PoseArray  # (t, n, 3)
    visible: MaskArray  # (t, n)


def score_recorded_tracks(record: TrackRecord, clip: Clip, frames_later: int) -> TrackCounts:
    """Follow every track from the frame where it is first seen for ``frames_later`` frames, as far as the clip goes.

    Its point is what its pixel truly sees there. A position that is not reported, since the track was given up or the
    camera lost, counts as not visible and as wrong. One factor, the ratio of median distances of what is visible and
    estimated, is taken out before APD, as TAPVid-3D does.
    """
    if not record.ids:
        return TrackCounts(0, 0, 0, 0, np.nan, np.nan, 0)
    ids, frames = np.concatenate(record.ids), np.concatenate(record.frames)
    places = np.concatenate(record.positions_camera)
    pixels, seen = np.concatenate(record.pixels), np.concatenate(record.visible)
    order = np.lexsort((frames, ids))
    order = order[seen[order]]
    known, first = np.unique(ids[order], return_index=True)  # of each track the earliest row where it is seen
    births = order[first]
    truth = follow_points(clip, frames[births], pixels[births])
    column = np.searchsorted(known, ids)
    reported = np.isin(ids, known)
    predicted = MISSING * truth.positions_camera
    visible = np.zeros(truth.visible.shape, bool)
    answered = np.zeros(truth.visible.shape, bool)
    rows = frames[reported], column[reported]
    predicted[rows], visible[rows], answered[rows] = places[reported], seen[reported], True
    age = np.arange(len(clip))[:, None] - frames[births]
    asked = (age > 0) & (age <= frames_later)
    focal_px = clip_scoring_focal(clip)
    right = distance_px(predicted, truth.positions_camera, focal_px) < RIGHT_PX
    later = (age == frames_later) & truth.visible
    return TrackCounts(
        right_id=int((right & answered & later).sum()),
        asked_id=int(later.sum()),
        right_occlusion=int(((visible == truth.visible) & asked).sum()),
        asked_occlusion=int(asked.sum()),
        apd=apd_percent(predicted, truth, asked & truth.visible, answered, focal_px, rescaled_by=answered & visible),
        apd_metric=apd_percent(predicted, truth, asked & truth.visible, answered, focal_px, rescaled_by=None),
        asked_apd=int((asked & truth.visible).sum()),
    )


def apd_percent(
    predicted: PoseArray,
    truth: PointTruth,
    scored: MaskArray,
    answered: MaskArray,
    focal_px: tuple[float, float],
    rescaled_by: MaskArray | None,
) -> float:
    """APD of the ``scored`` positions (t, n), those that were not ``answered`` (t, n) being wrong; NaN without any.

    ``rescaled_by``: (t, n) those whose median distance all are rescaled by; None: they are taken as metres.
    """
    if not scored.any():
        return np.nan
    if not (scored & answered).any():
        return 0.0
    ratio = 1.0
    if rescaled_by is not None and (scored & rescaled_by).any():
        ratio = median_norm_ratio(predicted, truth.positions_camera, scored & rescaled_by)
    scores = evaluate_tracks(ratio * predicted, truth.positions_camera, focal_px, scored, scored, rescale=False)
    return 100.0 * scores.average_pts_within_thresh


def distance_px(predicted: PoseArray, truth: PoseArray, focal_px: tuple[float, float]) -> PoseArray:
    """Distance (...) between points (..., 3) in what a pixel spans at their true depth."""
    unit = np.abs(truth[..., 2]) / np.sqrt(focal_px[0] * focal_px[1])
    return np.linalg.norm(predicted - truth, axis=-1) / unit


def clip_scoring_focal(clip: Clip) -> tuple[float, float]:
    """(fx, fy) of a clip's camera at the size that tracks are scored at."""
    camera = clip.intrinsics
    return scoring_focal((camera.fx_px, camera.fy_px), (camera.width_px, camera.height_px))


def follow_points(clip: Clip, frames: NDArray[np.int64], pixels: PoseArray) -> PointTruth:
    """The true way of what ``pixels`` (n, 2) see in ``frames`` (n), through all frames of the clip.

    Visible: inside the image, and among the four pixels around the projection those of the same object enclose the
    point's depth, as :meth:`Clip.visible` has it.
    """
    camera_matrix = clip.intrinsics.matrix()
    instance, depth = clip.instance.numpy(), clip.depth_m.numpy().astype(np.float64)
    world_from_camera, world_from_object = clip.world_from_camera.numpy(), clip.world_from_object.numpy()
    nearest = np.rint(pixels).astype(int).clip(0, (clip.intrinsics.width_px - 1, clip.intrinsics.height_px - 1))
    owner = instance[frames, nearest[:, 1], nearest[:, 0]].astype(int)
    born = unproject(pixels, surface_depth(depth, frames, pixels, nearest), camera_matrix)
    object_from_camera = np.linalg.inv(world_from_object[frames, owner]) @ world_from_camera[frames]
    on_object = (object_from_camera[:, :3, :3] @ born[..., None])[..., 0] + object_from_camera[:, :3, 3]
    camera_from_object = np.linalg.inv(world_from_camera)[:, None] @ world_from_object[:, owner]  # (t, n, 4, 4)
    positions = (camera_from_object[..., :3, :3] @ on_object[..., None])[..., 0] + camera_from_object[..., :3, 3]
    return PointTruth(positions, _visible(positions, owner, instance, depth, clip.intrinsics))


def surface_depth(
    depth: PoseArray, frames: NDArray[np.int64], pixels: PoseArray, nearest: NDArray[np.int64]
) -> PoseArray:
    """(n,) depth of ``depth`` (t, h, w) at ``pixels`` (n, 2): interpolated on one surface, the nearest at an edge."""
    height, width = depth.shape[1:]
    corner = np.floor(pixels).astype(int).clip(0, (width - 2, height - 2))
    part = (pixels - corner).clip(0.0, 1.0)
    around = np.stack(
        [depth[frames, corner[:, 1] + down, corner[:, 0] + right] for down in (0, 1) for right in (0, 1)], axis=-1
    )
    weights = np.stack(
        [
            (part[:, 1] if down else 1 - part[:, 1]) * (part[:, 0] if right else 1 - part[:, 0])
            for down in (0, 1)
            for right in (0, 1)
        ],
        axis=-1,
    )
    smooth = around.max(axis=-1) < (1.0 + TOUCHING) * around.min(axis=-1)
    inverse = (weights / around).sum(axis=-1)  # the inverse depth of a plane is linear in the image
    return np.where(smooth, 1.0 / inverse, depth[frames, nearest[:, 1], nearest[:, 0]])


def _visible(
    positions: PoseArray,
    owner: NDArray[np.int64],
    instance: NDArray[np.int16],
    depth: PoseArray,
    intrinsics: Intrinsics,
) -> MaskArray:
    """(t, n) of positions (t, n, 3) of points on the objects ``owner`` (n)."""
    width, height = intrinsics.width_px, intrinsics.height_px
    pixels = project(positions, intrinsics.matrix())
    with np.errstate(invalid="ignore"):
        inside: MaskArray = np.all((pixels >= -0.5) & (pixels < (width - 0.5, height - 0.5)), axis=-1)
    corner = np.floor(np.where(inside[..., None], pixels, 0.0)).astype(int)
    low, high = np.full(inside.shape, np.inf), np.full(inside.shape, -np.inf)
    frame = np.arange(len(positions))[:, None]
    for right, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
        x, y = (corner[..., 0] + right).clip(0, width - 1), (corner[..., 1] + down).clip(0, height - 1)
        same = instance[frame, y, x] == owner
        low = np.where(same, np.minimum(low, depth[frame, y, x]), low)
        high = np.where(same, np.maximum(high, depth[frame, y, x]), high)
    slack = DEPTH_TOLERANCE * positions[..., 2]
    return inside & (positions[..., 2] > low - slack) & (positions[..., 2] < high + slack)
