"""WindowPrediction and what is remembered -> SceneEstimate: the method of the package, step by step."""

import dataclasses
import logging
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import binary_dilation

from pomato_ros.config import PomatoConfig
from pomato_ros.geometry.alignment import RobustScale
from pomato_ros.geometry.camera import unproject
from pomato_ros.geometry.grid import pixel_grid
from pomato_ros.geometry.pnp import PnpFailure
from pomato_ros.geometry.rigid import invert
from pomato_ros.scene.features import FeatureMatches, match_features
from pomato_ros.scene.landmarks import PLACE_SHARE, LandmarkPose, Landmarks
from pomato_ros.scene.motion_mask import motion_mask
from pomato_ros.scene.moving import MovingMask, without_strays
from pomato_ros.scene.odometry import (
    PLENTY_OF_FEATURES,
    FocalEstimate,
    RelativePose,
    depth_in_newest,
    metres_per_unit,
    motion_between,
    relative_scale,
    scale_doubt,
    solve_pose_on_features,
    solve_relative_pose,
)
from pomato_ros.scene.reference import PairMaps, ReferencePair, paired_slot, reference_pair, row
from pomato_ros.scene.tracks import Tracker, TrackObservation, empty_track_set
from pomato_ros.structures import (
    FloatArray,
    Intrinsics,
    MaskArray,
    PoseArray,
    SceneEstimate,
    TrackingState,
    TrackSet,
    Window,
    WindowPrediction,
)

LOGGER = logging.getLogger(__name__)

# of a frame nothing is known about yet: 1 mm and 0.06 deg, so that no covariance is ever zero
FIRST_COVARIANCE = np.diag([1e-6] * 3 + [1e-6] * 3)
UNSEEN_SPEED_M_S = 0.5  # how far a camera may have gone while nothing was seen, as a standard deviation
UNSEEN_TURN_RAD_S = 0.5


@dataclass(frozen=True, slots=True)
class FrameMemory:
    """What is kept of a frame while a window may still start from it."""

    depth_m: FloatArray  # (h, w), as the network gave it, whatever is published of it
    static: MaskArray  # (h, w)
    world_from_camera: PoseArray  # (4, 4)
    covariance: PoseArray  # (6, 6)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the newest camera is, if that can be told."""

    state: TrackingState
    world_from_camera: PoseArray | None
    covariance: PoseArray | None
    relative: RelativePose | None
    reference_metres_per_unit: float  # of the pair in the reference camera; without meaning while lost
    on_landmarks: bool = False  # which then know the newest frame's own scale too


class SceneEstimator:
    """Keeps pose, scale and tracks from step to step; all arithmetic is in pure functions beside it."""

    def __init__(self, config: PomatoConfig) -> None:
        """Options of the scene, scale and robustness groups."""
        self.config = config
        self._tracker = Tracker(config.scene.max_tracks, config.scene.track_grid_px)
        self.reset()

    def reset(self) -> None:
        """Forget everything; the next frame is the world's origin."""
        self._frames: dict[int, FrameMemory] = {}
        self._focal = FocalEstimate()
        self._landmarks = Landmarks()
        self._mask = MovingMask()
        self._matches: tuple[int, FeatureMatches] | None = None
        self._tracker.reset()
        self._last_good: tuple[int, FrameMemory] | None = None
        self._is_lost = False
        self._reference_ns: int | None = None
        self._own_metres_per_unit = 1.0
        self._way_m = 0.0
        self._frames_seen = 0

    def slots_wanted(self, window: Window) -> tuple[int, ...]:
        """The frames of ``window`` whose pairs with its key the next :meth:`update` will read."""
        overlap = self.config.window.overlap
        other = paired_slot(window, self._frames, self._reference_ns, overlap)
        if window.key != 0 or window.frames[0].stamp_ns in self._frames:
            return (other,)
        # the key was lost when it came: any frame that is placed can place it now
        placed = [slot for slot, frame in enumerate(window.frames) if frame.stamp_ns in self._frames]
        return tuple(sorted({other, *placed}))

    def update(self, window: Window, prediction: WindowPrediction) -> SceneEstimate:
        """One step: reference pair, mask, pose, scale, points, tracks."""
        self._frames_seen += 1
        self._forget_before(window.frames[0].stamp_ns)
        newest = window.frames[-1]
        overlap = self.config.window.overlap
        pair = reference_pair(window, prediction, self._frames, self._reference_ns, overlap)
        self._reference_ns = pair.reference_stamp_ns
        own_units = pair.in_newest.points_1.numpy()
        confidence = pair.in_newest.conf_1.numpy()
        intrinsics = newest.intrinsics or self._focal.update(own_units, confidence)
        still = pair.reference_stamp_ns == pair.newest_stamp_ns
        mask = self._mask.update(
            newest.image_rgb,
            None if still else pair.in_reference,
            self.config.scene.mask_threshold,
            self.config.scene.mask_floor,
        )
        place = self._place(window, prediction, pair, mask, intrinsics)
        if place.world_from_camera is None:
            mask = np.zeros_like(mask)  # what is said of a frame without sense is no motion
        own_metres_per_unit = self._own_metres_per_unit = self._own_scale(pair, place, mask)
        if newest.intrinsics is not None:
            own_units = on_rays(own_units[..., 2], newest.intrinsics)
        points_m = own_units * np.float32(own_metres_per_unit)
        points = self._valid_points(points_m, confidence)
        self._remember(pair, place, points_m[..., 2], ~mask)
        if place.world_from_camera is not None and self._uses_landmarks():
            self._landmarks.learn(newest.image_rgb, points_m[..., 2], ~mask, place.world_from_camera, intrinsics)
        surface = np.where(np.isnan(points[..., 2]), points[..., 2], smoothed(points_m[..., 2]))
        tracks = self._track(pair, place, surface, mask, intrinsics, own_metres_per_unit)
        return SceneEstimate(
            stamp_ns=newest.stamp_ns,
            state=place.state,
            frames_in_window=min(self._frames_seen, self.config.window.window_size),
            image_rgb=newest.image_rgb,
            intrinsics=intrinsics,
            intrinsics_known=newest.intrinsics is not None,
            model_from_source=newest.model_from_source,
            source_size_wh=newest.source_size_wh,
            points_camera=points,
            confidence=confidence,
            dynamic_mask=grow(mask, self.config.scene.mask_dilate_px),
            world_from_camera=place.world_from_camera,
            pose_covariance=place.covariance,
            pose_inlier_ratio=place.relative.inlier_ratio if place.relative else 0.0,
            metres_per_unit=own_metres_per_unit,
            tracks=tracks,
            stage_seconds={},
        )

    def _moving(self, maps: PairMaps) -> MaskArray:
        """Pixels of view 2 whose point is elsewhere than at view 1's time (paper, eq. 5)."""
        scene = self.config.scene
        return motion_mask(maps.points_2, maps.points_match, scene.mask_threshold, scene.mask_floor).numpy()

    def _place(
        self,
        window: Window,
        prediction: WindowPrediction,
        pair: ReferencePair,
        mask: MaskArray,
        intrinsics: Intrinsics,
    ) -> Placement:
        """Pose of the newest camera in the world, or LOST with a reason in the log."""
        reference = self._reference(window, prediction, pair, intrinsics)
        measured = self._reference_scale(pair, reference)
        if measured is None:
            return self._lost("no depth compares with what is remembered of the reference frame", pair)
        scale = measured.scale
        if pair.reference_stamp_ns == pair.newest_stamp_ns:
            pose, covariance = reference.world_from_camera, reference.covariance
            return Placement(
                self._state(), pose, covariance, RelativePose(np.eye(4), covariance, 1.0, mask.size, 0.0, 1.0), scale
            )
        maps = pair.in_reference
        on_points = solve_relative_pose(maps.points_2.numpy(), maps.conf_2.numpy(), ~mask, intrinsics)
        if self._uses_landmarks():
            found = self._landmarks.locate(window.frames[-1].image_rgb, ~mask, intrinsics)
            if found is not None and self._surer_than_points(found, on_points, scale):
                placed = self._place_on_landmarks(found, reference, pair, scale)
                if placed is not None:
                    return placed
        relative = self._relative_pose(window, pair, mask, intrinsics, scale, on_points)
        if isinstance(relative, PnpFailure):
            return self._lost(relative.reason, pair)
        if not self._trusted(relative) or not self._borne_out(relative, mask):
            return self._lost(f"only {relative.inlier_ratio:.0%} of the still pixels agree with a pose", pair)
        reference_from_newest = in_metres(relative.reference_from_newest, scale)
        pose = reference.world_from_camera @ reference_from_newest
        haste = self._haste(pose, pair.newest_stamp_ns)
        if haste:
            return self._lost(haste, pair)
        self._is_lost = False
        covariance = reference.covariance + in_world(reference.world_from_camera, relative.covariance, scale)
        doubt = scale_doubt(measured, reference_from_newest[:3, 3])
        covariance = covariance + in_world(reference.world_from_camera, doubt, 1.0)
        return Placement(self._state(), pose, covariance, relative, scale)

    def _surer_than_points(self, found: LandmarkPose, on_points: RelativePose | PnpFailure, scale: float) -> bool:
        """Whether the landmarks place the camera better than the pointmap, which without noise nothing beats."""
        if isinstance(on_points, PnpFailure) or not self._trusted(on_points):
            return True
        return bool(np.trace(found.covariance[:3, :3]) < scale**2 * np.trace(on_points.covariance[:3, :3]))

    def _borne_out(self, relative: RelativePose, mask: MaskArray) -> bool:
        """Whether a pose that no landmark backs is that of enough of the image: noise, too, has pixels that agree."""
        if not self._uses_landmarks():
            return True
        return relative.inlier_ratio * float((~mask).mean()) >= self.config.robustness.min_inlier_ratio

    def _uses_landmarks(self) -> bool:
        return self.config.scene.pose_source == "best"

    def _place_on_landmarks(
        self, found: LandmarkPose, reference: FrameMemory, pair: ReferencePair, scale: float
    ) -> Placement | None:
        """The newest camera where the landmarks say; None if that is not to be trusted."""
        if self._last_good is None or self._haste(found.world_from_camera, pair.newest_stamp_ns):
            return None
        self._is_lost = False
        _, last = self._last_good
        gone = found.world_from_camera[:3, 3] - last.world_from_camera[:3, 3]
        self._way_m += float(np.linalg.norm(gone))
        covariance = found.covariance + FIRST_COVARIANCE
        astray_m = PLACE_SHARE * self._way_m
        covariance += np.diag([astray_m**2] * 3 + [(astray_m / typical_depth(reference.depth_m)) ** 2] * 3)
        relative = RelativePose(
            in_metres(invert(reference.world_from_camera) @ found.world_from_camera, 1.0 / scale),
            covariance,
            found.inlier_ratio,
            found.inliers,
            found.residual_px,
            found.residual_px,
        )
        return Placement(self._state(), found.world_from_camera, covariance, relative, scale, on_landmarks=True)

    def _lost(self, reason: str, pair: ReferencePair) -> Placement:
        """No pose; the log tells when that begins."""
        LOGGER.log(
            logging.DEBUG if self._is_lost else logging.WARNING, "lost at %d ns: %s", pair.newest_stamp_ns, reason
        )
        self._is_lost = True
        self._mask.forget()
        return Placement(TrackingState.LOST, None, None, None, 1.0)

    def _trusted(self, relative: RelativePose) -> bool:
        return relative.inlier_ratio >= self.config.robustness.min_inlier_ratio

    def _relative_pose(
        self,
        window: Window,
        pair: ReferencePair,
        mask: MaskArray,
        intrinsics: Intrinsics,
        scale: float,
        on_points: RelativePose | PnpFailure,
    ) -> RelativePose | PnpFailure:
        """Newest camera in the reference camera, in the unit of ``pair.in_reference`` (``scale`` metres).

        Image features of the reference frame first, of the frame before where too few of those are left, and the
        pointmap's own pose ``on_points`` where features fail or explain their pixels worse.
        """
        if self.config.scene.pose_source == "pointmap":
            return on_points
        matches = self._match(window, pair)
        depth_units = pair.in_reference.points_1[..., 2].numpy()
        on_features = solve_pose_on_features(matches, depth_units, ~mask, intrinsics)
        if not self._plentiful(on_features):
            from_before = self._pose_from_previous(window, pair, mask, intrinsics, scale)
            on_features = from_before if self._plentiful(from_before) else on_features
        found = [pose for pose in (on_points, on_features) if isinstance(pose, RelativePose)]
        trusted = [pose for pose in found if self._trusted(pose)]
        return min(trusted or found, key=lambda pose: pose.misfit, default=on_points)

    def _plentiful(self, pose: RelativePose | PnpFailure) -> bool:
        return isinstance(pose, RelativePose) and self._trusted(pose) and pose.inliers >= PLENTY_OF_FEATURES

    def _pose_from_previous(
        self, window: Window, pair: ReferencePair, mask: MaskArray, intrinsics: Intrinsics, scale: float
    ) -> RelativePose | PnpFailure:
        """The same from features of the frame before the newest, by way of its own pose."""
        before = window.frames[-2]
        known = self._frames.get(before.stamp_ns)
        if known is None or before.stamp_ns == pair.reference_stamp_ns:
            return PnpFailure("the frame before has no pose of its own to go on from")
        matches = match_features(before.image_rgb, window.frames[-1].image_rgb)
        relative = solve_pose_on_features(matches, known.depth_m, ~mask, intrinsics)
        if isinstance(relative, PnpFailure):
            return relative
        reference = self._frames[pair.reference_stamp_ns]
        reference_from_before = invert(reference.world_from_camera) @ known.world_from_camera
        reference_from_newest = in_metres(reference_from_before @ relative.reference_from_newest, 1.0 / scale)
        covariance = (
            known.covariance - reference.covariance + in_world(known.world_from_camera, relative.covariance, 1.0)
        )
        return dataclasses.replace(
            relative,
            reference_from_newest=reference_from_newest,
            covariance=in_world(invert(reference.world_from_camera), nearest_positive(covariance), 1.0 / scale),
        )

    def _match(self, window: Window, pair: ReferencePair) -> FeatureMatches:
        """Features of the reference frame in the newest one, tracked on from the step before."""
        known = self._matches
        guess = known[1] if known and known[0] == pair.reference_stamp_ns else None
        reference = next(frame for frame in window.frames if frame.stamp_ns == pair.reference_stamp_ns)
        matches = match_features(reference.image_rgb, window.frames[-1].image_rgb, guess)
        self._matches = (pair.reference_stamp_ns, matches)
        return matches

    def _reference(
        self, window: Window, prediction: WindowPrediction, pair: ReferencePair, intrinsics: Intrinsics
    ) -> FrameMemory:
        """Memory of the reference frame; one that was lost when it was the newest is placed now."""
        stamp_ns = pair.reference_stamp_ns
        if stamp_ns not in self._frames:
            placed = self._place_key(window, prediction, intrinsics)
            self._frames[stamp_ns] = placed or self._place_at_last_good(pair)
        return self._frames[stamp_ns]

    def _place_key(self, window: Window, prediction: WindowPrediction, intrinsics: Intrinsics) -> FrameMemory | None:
        """The window's key, placed by the first of its frames with a known pose: their pair tells where the key was."""
        for index, frame in enumerate(window.frames):
            known = self._frames.get(frame.stamp_ns)
            if known is None:
                continue
            maps = row(prediction.to_key, prediction.row_of(index))
            camera = frame.intrinsics or intrinsics
            relative = solve_relative_pose(maps.points_2.numpy(), maps.conf_2.numpy(), ~self._moving(maps), camera)
            if isinstance(relative, PnpFailure) or not self._trusted(relative):
                continue
            depth_units = depth_in_newest(maps.points_2.numpy(), relative.reference_from_newest)
            scale = metres_per_unit(depth_units, known.depth_m, known.static)
            if scale is not None:
                return place_reference(known, relative, scale, maps.points_1[..., 2].numpy())
        return None

    def _place_at_last_good(self, pair: ReferencePair) -> FrameMemory:
        """Where the camera was seen last, with the doubt of the time since then; the world's origin if never."""
        depth_units = pair.in_reference.points_1[..., 2].numpy()
        static = np.ones(depth_units.shape, dtype=bool)
        if self._last_good is None:
            unit = self.config.scale.scale if self.config.scale.scale_source == "fixed" else 1.0
            return FrameMemory(depth_units * np.float32(unit), static, np.eye(4), FIRST_COVARIANCE)
        last_ns, last = self._last_good
        scale = typical_depth(last.depth_m) / typical_depth(depth_units)
        covariance = last.covariance + unseen_motion((pair.reference_stamp_ns - last_ns) * 1e-9)
        return FrameMemory(depth_units * np.float32(scale), static, last.world_from_camera, covariance)

    def _reference_scale(self, pair: ReferencePair, reference: FrameMemory) -> RobustScale | None:
        """Metres per unit of the pair in the reference camera: its own depth against the one remembered."""
        depth_units = pair.in_reference.points_1[..., 2].numpy()
        return relative_scale(depth_units, reference.depth_m, reference.static)

    def _own_scale(self, pair: ReferencePair, place: Placement, mask: MaskArray) -> float:
        """Metres per unit of the newest frame's own pointmap: its depth against the reference pair's.

        While lost, and where nothing compares, that of the step before.
        """
        if place.relative is None:
            return self._own_metres_per_unit
        if place.world_from_camera is not None and place.on_landmarks:
            measured = self._landmarks.scale_of(pair.in_newest.points_1[..., 2].numpy(), place.world_from_camera)
            if measured is not None:
                return measured.scale
        depth_units = depth_in_newest(pair.in_reference.points_2.numpy(), place.relative.reference_from_newest)
        depth_m = depth_units * place.reference_metres_per_unit
        own_depth = pair.in_newest.points_1[..., 2].numpy()
        return metres_per_unit(own_depth, depth_m, ~mask) or self._own_metres_per_unit

    def _valid_points(self, points_m: FloatArray, confidence: FloatArray) -> FloatArray:
        """(h, w, 3) with NaN where a point is too uncertain, out of range or behind the camera."""
        scene = self.config.scene
        depth = points_m[..., 2]
        valid = (confidence > scene.conf_threshold) & (depth >= scene.range_min) & (depth <= scene.range_max)
        return np.where(valid[..., None] & np.isfinite(points_m), points_m, np.float32(np.nan)).astype(np.float32)

    def _remember(self, pair: ReferencePair, place: Placement, depth_m: FloatArray, static: MaskArray) -> None:
        """Keep what later windows start from; nothing of a lost frame."""
        if place.world_from_camera is None or place.covariance is None:
            return
        memory = FrameMemory(depth_m, static, place.world_from_camera, place.covariance)
        self._frames.setdefault(pair.newest_stamp_ns, memory)
        self._last_good = (pair.newest_stamp_ns, memory)

    def _track(
        self,
        pair: ReferencePair,
        place: Placement,
        depth_m: FloatArray,
        mask: MaskArray,
        intrinsics: Intrinsics,
        own_metres_per_unit: float,
    ) -> TrackSet:
        """Move the tracks to the newest frame; there are none in a lost one."""
        if place.world_from_camera is None:
            return empty_track_set()
        matched = pair.in_newest.points_match * own_metres_per_unit
        matched = torch.from_numpy(smoothed(matched.numpy()))
        observation = TrackObservation(
            stamp_ns=pair.newest_stamp_ns,
            reference_stamp_ns=pair.reference_stamp_ns,
            points_matched=matched,
            conf_match=pair.in_newest.conf_match,
            depth=depth_m,
            dynamic_mask=mask,
            intrinsics=intrinsics,
            world_from_camera=place.world_from_camera,
        )
        return self._tracker.update(observation)

    def _state(self) -> TrackingState:
        warm = self._frames_seen >= self.config.window.window_size
        return TrackingState.TRACKING if warm else TrackingState.WARMING

    def _haste(self, world_from_camera: PoseArray, stamp_ns: int) -> str:
        """What is too fast about a pose, or nothing."""
        if self._last_good is None:
            return ""
        last_ns, last = self._last_good
        speed, turn = motion_between(last.world_from_camera, world_from_camera, (stamp_ns - last_ns) * 1e-9)
        limits = self.config.robustness
        if speed <= limits.max_speed and turn <= limits.max_angular_speed:
            return ""
        return (
            f"{speed:.3g} m/s and {turn:.3g} rad/s since the last pose, where max_speed is {limits.max_speed:g} and "
            f"max_angular_speed {limits.max_angular_speed:g}"
        )

    def _forget_before(self, stamp_ns: int) -> None:
        self._frames = {stamp: memory for stamp, memory in self._frames.items() if stamp >= stamp_ns}
        self._tracker.forget_frames_before(stamp_ns)


def smoothed(values: FloatArray) -> FloatArray:
    """(h, w) or (h, w, 3) without the errors of single pixels; as it is where something is no number."""
    return without_strays(values) if np.isfinite(values).all() else values


def on_rays(depth: FloatArray, intrinsics: Intrinsics) -> FloatArray:
    """(h, w, 3) points at ``depth`` (h, w) on the rays of a calibrated camera."""
    return unproject(pixel_grid(*depth.shape), depth, intrinsics.matrix()).astype(np.float32)


def in_metres(a_from_b: PoseArray, metres_per_unit: float) -> PoseArray:
    """A pose (4, 4) whose position is in units -> the same in metres."""
    scaled = a_from_b.copy()
    scaled[:3, 3] *= metres_per_unit
    return scaled


def place_reference(known: FrameMemory, relative: RelativePose, scale: float, depth_units: FloatArray) -> FrameMemory:
    """Memory of a reference frame from a ``known`` frame and its pose ``relative`` to the reference.

    ``scale``: metres per unit of the pair, ``depth_units``: (h, w) of the reference frame in the pair's unit.
    """
    reference_from_known = in_metres(relative.reference_from_newest, scale)
    pose = known.world_from_camera @ invert(reference_from_known)
    covariance = known.covariance + in_world(pose, relative.covariance, scale)
    return FrameMemory(depth_units * np.float32(scale), np.ones(depth_units.shape, dtype=bool), pose, covariance)


def typical_depth(depth: FloatArray) -> float:
    """The median of a depth map (h, w) over what is in front of the camera; NaN if nothing is."""
    in_front = depth[np.isfinite(depth) & (depth > 0)]
    return float(np.median(in_front)) if in_front.size else np.nan


def unseen_motion(seconds: float) -> PoseArray:
    """(6, 6) covariance of what a camera may have done in a time, which counts forwards and backwards alike."""
    return np.diag([(UNSEEN_SPEED_M_S * seconds) ** 2] * 3 + [(UNSEEN_TURN_RAD_S * seconds) ** 2] * 3)


def in_world(world_from_reference: PoseArray, covariance: PoseArray, scale: float) -> PoseArray:
    """(6, 6) covariance in the reference's axes and unit -> world axes and metres."""
    turn = np.kron(np.eye(2), world_from_reference[:3, :3])
    unit = np.diag([scale] * 3 + [1.0] * 3)
    return turn @ unit @ covariance @ unit @ turn.T


def nearest_positive(covariance: PoseArray) -> PoseArray:
    """The covariance with variances below those of a first frame raised to them."""
    values, vectors = np.linalg.eigh(0.5 * (covariance + covariance.T))
    return vectors @ np.diag(np.maximum(values, FIRST_COVARIANCE[0, 0])) @ vectors.T


def grow(mask: MaskArray, pixels: int) -> MaskArray:
    """Dilate a mask by ``pixels``."""
    return binary_dilation(mask, iterations=pixels) if pixels else mask
