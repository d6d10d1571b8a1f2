"""WindowPrediction and what is remembered -> SceneEstimate: the method of the package, step by step."""

import dataclasses
import logging
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import cv2
import numpy as np
from scipy.linalg.lapack import dgesv

from pomato_ros.config import PomatoConfig
from pomato_ros.geometry.alignment import RobustScale
from pomato_ros.geometry.pnp import PnpFailure
from pomato_ros.geometry.rigid import cross_matrix, invert, pose_from, rotation_exp, rotation_log
from pomato_ros.pointmap_scene.features import FeatureMatches, match_features
from pomato_ros.pointmap_scene.fusion import DepthFusion, changed_as, seen_again, thinned_camera, thinning
from pomato_ros.pointmap_scene.image_motion import ImageMotion
from pomato_ros.pointmap_scene.landmarks import PLACE_SHARE, LandmarkPose, Landmarks
from pomato_ros.pointmap_scene.motion_mask import motion_mask
from pomato_ros.pointmap_scene.moving import MovingMask, doubt_by, without_strays
from pomato_ros.pointmap_scene.objects import ObjectObservation, Objects
from pomato_ros.pointmap_scene.odometry import (
    PLENTY_OF_FEATURES,
    FocalEstimate,
    RelativePose,
    depth_in_newest,
    metres_per_unit,
    motion_between,
    scale_doubt,
    scale_to_met_depth,
    scale_to_moved_points,
    solve_pose_on_features,
    solve_relative_pose,
)
from pomato_ros.pointmap_scene.reference import (
    PairMaps,
    ReferencePair,
    key_is_newest,
    paired_slot,
    reference_pair,
    row,
    wanted_of,
)
from pomato_ros.pointmap_scene.scale import (
    SENSOR_SOURCES,
    WAY_SOURCES,
    ScaleFilter,
    ScaleMeasurement,
    scale_from_depth,
    scale_from_way,
    scaled_about,
)
from pomato_ros.pointmap_scene.tracks import TOLD_BLUR_PX, Tracker, TrackObservation, empty_track_set
from pomato_ros.pointmap_scene.trust import ENOUGH_ALONE, PoseTrust
from pomato_ros.sources.dust3r.prediction import Wanted, WindowPrediction
from pomato_ros.structures import (
    FloatArray,
    Intrinsics,
    MaskArray,
    ObjectSet,
    PoseArray,
    PreparedFrame,
    SceneEstimate,
    TrackingState,
    TrackSet,
    Window,
)

LOGGER = logging.getLogger(__name__)

# of a frame nothing is known about yet: 1 mm and 0.06 deg, so that no covariance is ever zero
FIRST_COVARIANCE = np.diag([1e-6] * 3 + [1e-6] * 3)
AT_ODDS = 25.0  # squared distance of two poses, 6 if their covariances are honest, beyond which one is wrong
TYPICAL_PX = 48  # rows or columns, whichever are fewer, that tell what is typical of an image
UNSEEN_SPEED_M_S = 0.5  # how far a camera may have gone while nothing was seen, as a standard deviation
UNSEEN_TURN_RAD_S = 0.5


@dataclass(frozen=True, slots=True)
class FrameMemory:
    """What is kept of a frame while a window may still start from it."""

    depth_m: FloatArray  # (h, w), as the network gave it, whatever is published of it
    static: MaskArray  # (h, w)
    world_from_camera: PoseArray  # (4, 4)
    covariance: PoseArray  # (6, 6), without what the doubt of the scale adds
    prior_from_camera: PoseArray | None = None  # (4, 4) as another odometry has it
    guessed: bool = False  # placed where the camera was seen last; its image may show nothing
    astray_m: float = 0.0  # standard deviation of the position, in the covariance, that grows with the way

    def rescaled(self, factor: float, centre_world: PoseArray) -> "FrameMemory":
        """The same in a world whose lengths grow by ``factor`` about a point."""
        pose = scaled_about(self.world_from_camera, factor, centre_world)
        return dataclasses.replace(self, depth_m=self.depth_m * np.float32(factor), world_from_camera=pose)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the newest camera is, if that can be told."""

    state: TrackingState
    world_from_camera: PoseArray | None
    covariance: PoseArray | None
    relative: RelativePose | None
    reference_metres_per_unit: float  # of the pair in the reference camera; without meaning while lost
    on_landmarks: bool = False  # which then know the newest frame's own scale too
    astray_m: float = 0.0  # as in :class:`FrameMemory`


@dataclass(frozen=True, slots=True)
class WorldPose:
    """The newest camera by the pointmap."""

    world_from_camera: PoseArray  # (4, 4)
    covariance: PoseArray  # (6, 6) world axes and metres, against the reference frame


AnyPose = TypeVar("AnyPose", LandmarkPose, RelativePose, WorldPose)


class SceneEstimator:
    """Keeps pose, scale and tracks from step to step; all arithmetic is in pure functions beside it."""

    def __init__(self, config: PomatoConfig) -> None:
        """Options of the scene, scale and robustness groups."""
        self.config = config
        self.match_tracks = True  # else tracks are found in the image alone; set between steps
        self._tracker = Tracker(config.scene.max_tracks, config.scene.track_grid_px)
        self._objects = Objects()
        self.reset()

    def reset(self) -> None:
        """Forget everything; the next frame is the world's origin."""
        self._frames: dict[int, FrameMemory] = {}
        self._focal = FocalEstimate()
        self._landmarks = Landmarks()
        self._mask = MovingMask()
        self._image_motion = ImageMotion()
        self._fusion = DepthFusion()
        self._matches: tuple[int, FeatureMatches] | None = None
        self._trust = PoseTrust()
        self._tracker.reset()
        self._objects.reset()
        self._last_good: tuple[int, FrameMemory] | None = None
        self._to_confirm = 0  # frames with a pose that a camera still needs after being lost; all of them while lost
        self._is_lost = False
        self._reference_ns: int | None = None
        self._own_metres_per_unit = 1.0
        self._way_m = 0.0  # since the camera was last placed without landmarks
        self._landmarks_covariance = FIRST_COVARIANCE  # of the camera that was last placed without them,
        self._landmarks_begun_m = np.zeros(3)  # and where it was
        self._contradiction = np.zeros(6)  # the worst between landmarks and pointmap since then
        self._frames_seen = 0
        self._scale = ScaleFilter(known=self.config.scale.scale_source not in SENSOR_SOURCES)
        self._stretch_m = np.zeros(3)

    def wanted(self, window: Window) -> Wanted:
        """What the next :meth:`update` will read of the prediction of ``window``."""
        overlap = self.config.window.overlap
        other = paired_slot(window, self._frames, self._reference_ns, overlap)
        reference = other if key_is_newest(window) else window.key
        if window.frames[reference].stamp_ns in self._frames:
            return wanted_of(window, (other,), match_tracks=self.match_tracks)
        # the reference was lost when it came: its own depth is read, and any frame that is placed can place it now
        placed = [slot for slot, frame in enumerate(window.frames) if frame.stamp_ns in self._frames]
        slots = tuple(sorted({other, *placed}))
        return wanted_of(window, slots, of_reference=True, match_tracks=self.match_tracks)

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
        reference = self._frames.get(pair.reference_stamp_ns)
        still = pair.reference_stamp_ns == pair.newest_stamp_ns
        telling = not still and reference is not None and not reference.guessed
        mask = self._mask.update(
            newest.image_rgb,
            pair.in_reference if telling else None,
            self.config.scene.mask_threshold,
            self.config.scene.mask_floor,
        )
        place = self._place(window, prediction, pair, mask, intrinsics)
        if place.world_from_camera is None:
            mask = np.zeros_like(mask)  # what is said of a frame without sense is no motion
        own_metres_per_unit = self._own_metres_per_unit = self._own_scale(pair, place, mask)
        depth_m = own_units[..., 2] * np.float32(own_metres_per_unit)
        factor = self._correct_scale(newest, place, depth_m, confidence, ~mask)
        own_metres_per_unit = own_metres_per_unit * factor
        depth_m = depth_m * np.float32(factor) if factor != 1.0 else depth_m
        covariance = self._with_scale_doubt(place)
        points, told = self._points(newest, own_units, own_metres_per_unit, depth_m, confidence)
        smooth_m = smoothed(depth_m)
        doubtful = mask  # to the network; where it is weak, what is doubtful is no mover, and not to be leant on either
        mask = self._moving_in_image(newest, place, mask, smooth_m, intrinsics)
        static = ~(mask | doubtful)
        self._remember(newest, place, depth_m, static)
        if place.world_from_camera is not None and self._uses_landmarks():
            if not place.on_landmarks and place.covariance is not None:  # those that stay are looked at from here
                self._landmarks_covariance, self._way_m, self._contradiction = place.covariance, 0.0, np.zeros(6)
                self._landmarks_begun_m = place.world_from_camera[:3, 3]
            self._landmarks.learn(
                newest.image_rgb,
                smooth_m,
                static,
                place.world_from_camera,
                intrinsics,
                self._trust.variance_factor,
            )
        surface = self._surface(pair, place, smooth_m, mask, intrinsics) * told
        tracks = self._track(window, pair, place, surface, mask, intrinsics, own_metres_per_unit)
        objects = self._find_objects(newest, place, surface, mask, intrinsics, tracks)
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
            pose_covariance=covariance,
            pose_inlier_ratio=place.relative.inlier_ratio if place.relative else 0.0,
            metres_per_unit=own_metres_per_unit,
            tracks=tracks,
            stage_seconds={},
            scale_std=self._scale.log_std,
            objects=objects,
        )

    def _correct_scale(
        self, newest: PreparedFrame, place: Placement, depth: FloatArray, confidence: FloatArray, static: MaskArray
    ) -> float:
        """The factor by which a sensor has everything longer; the world has grown by it about the newest camera.

        So the newest pose stays where it is, and only ways from now on are longer. ``depth``: (h, w) of the newest
        frame in the unit that the world had until now.
        """
        self._scale.predict()
        if place.world_from_camera is None:
            return 1.0
        measured = self._measured_scale(newest, place, depth, confidence, static)
        factor = float(np.exp(self._scale.update(measured))) if measured else 1.0
        if factor != 1.0:
            centre = place.world_from_camera[:3, 3]
            self._frames = {stamp: memory.rescaled(factor, centre) for stamp, memory in self._frames.items()}
            if self._last_good is not None:
                self._last_good = (self._last_good[0], self._last_good[1].rescaled(factor, centre))
            self._landmarks.rescale(factor, centre)
            self._landmarks_begun_m = centre + factor * (self._landmarks_begun_m - centre)
            self._tracker.rescale(factor, centre)
            self._fusion.rescale(factor, centre)
            self._image_motion.rescale(factor, centre)
            self._objects.rescale(factor, centre)
            self._own_metres_per_unit *= factor
        return factor

    def _measured_scale(
        self, newest: PreparedFrame, place: Placement, depth: FloatArray, confidence: FloatArray, static: MaskArray
    ) -> ScaleMeasurement | None:
        """What the sensor of ``scale_source`` says of the world's unit at the newest frame, if anything."""
        source = self.config.scale.scale_source
        if source == "depth" and newest.depth_m is not None:
            return scale_from_depth(depth, newest.depth_m, confidence, static)
        if source not in WAY_SOURCES or newest.prior_from_camera is None:
            return None
        for base in self._frames.values():  # the oldest frame of the window that has both
            if base.prior_from_camera is not None and place.world_from_camera is not None:
                return scale_from_way(
                    place.world_from_camera[:3, 3] - base.world_from_camera[:3, 3],
                    between(base, place) if place.covariance is not None else np.eye(3),
                    newest.prior_from_camera[:3, 3] - base.prior_from_camera[:3, 3],
                    overlap=len(self._frames),
                )
        return None

    def _with_scale_doubt(self, place: Placement) -> PoseArray | None:
        """The pose's covariance with what the doubt of the scale adds: its standard deviation times the way.

        A scale is wrong alike for long, so that these errors add up along the way, and cancel on a way back.
        """
        if place.world_from_camera is None or place.covariance is None:
            return None
        if self._last_good is not None:
            way_m = place.world_from_camera[:3, 3] - self._last_good[1].world_from_camera[:3, 3]
            self._stretch_m = self._stretch_m + self._scale.log_std * way_m
        covariance = place.covariance.copy()
        covariance[:3, :3] += np.outer(self._stretch_m, self._stretch_m)
        return covariance

    def _moving(self, maps: PairMaps) -> MaskArray:
        """Pixels of view 2 whose point is elsewhere than at view 1's time (paper, eq. 5)."""
        scene = self.config.scene
        return motion_mask(maps.points_2, maps.points_match, scene.mask_threshold, scene.mask_floor).numpy()

    def _moving_in_image(
        self, newest: PreparedFrame, place: Placement, mask: MaskArray, depth_m: FloatArray, intrinsics: Intrinsics
    ) -> MaskArray:
        """What moves (h, w) in the newest image: ``mask``, the network's, but by flow and poses where that is weak.

        Features tell where the camera is even then, so that the image tells more than the network's pointmaps.
        """
        if place.world_from_camera is None or not self._trust.is_weak or not self._uses_landmarks():
            self._image_motion.forget()
            return mask
        found = self._image_motion.update(
            newest.image_rgb, depth_m, place.world_from_camera, intrinsics, self._mask.flow_to_before
        )
        return found if self._trust.is_surely_weak else mask

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
        measured = self._reference_scale(pair, reference, mask, intrinsics)
        if measured is None:
            return self._lost("no depth compares with what is remembered of the reference frame", pair)
        scale = measured.scale
        if pair.reference_stamp_ns == pair.newest_stamp_ns:
            pose, covariance = reference.world_from_camera, reference.covariance
            return Placement(
                self._state(), pose, covariance, RelativePose(np.eye(4), covariance, 1.0, mask.size, 0.0), scale
            )
        maps, static = pair.in_reference, ~mask
        start = self._start(reference, scale)
        on_points = solve_relative_pose(maps.points_2.numpy(), maps.conf_2.numpy(), static, intrinsics, start)
        by_points = self._in_world(on_points, reference, scale)
        found = None
        if self._uses_landmarks():
            found = self._landmarks.locate(window.frames[-1].image_rgb, static, intrinsics)
            if found is not None and not reference.guessed:
                self._trust.chance()
                if by_points is not None:
                    self._trust.compare(disagreement(found, by_points))
            if isinstance(on_points, RelativePose):
                on_points = doubted(on_points, self._trust.variance_factor)
            by_points = None if by_points is None else doubted(by_points, self._trust.variance_factor)
            if found is not None:
                found = doubted(found, self._trust.features_variance_factor)
        together = None
        if found is not None:
            together = self._together(found, by_points)
            if self._surer(found, by_points):
                placed = self._place_on_landmarks(together, reference, pair, scale)
                if placed is not None:
                    return placed
                together = None
        if together is not None and isinstance(on_points, RelativePose):
            relative: RelativePose | PnpFailure = against(reference, together, on_points, scale)
        else:
            relative = self._relative_pose(window, pair, mask, intrinsics, scale, self._alone(on_points))
        if isinstance(relative, PnpFailure):
            return self._lost(relative.reason, pair)
        if not self._trusted(relative) or not self._borne_out(relative, mask):
            return self._lost(f"only {relative.inlier_ratio:.0%} of the still pixels agree with a pose", pair)
        reference_from_newest = in_metres(relative.reference_from_newest, scale)
        pose = reference.world_from_camera @ reference_from_newest
        haste = self._haste(pose, pair.newest_stamp_ns)
        if haste:
            return self._lost(haste, pair)
        if reference.guessed and self._is_lost:
            self._scale.doubt()
        covariance = carried(reference.covariance, pose[:3, 3] - reference.world_from_camera[:3, 3])
        covariance = covariance + in_world(reference.world_from_camera, relative.covariance, scale)
        doubt = scale_doubt(measured, reference_from_newest[:3, 3])
        covariance = covariance + in_world(reference.world_from_camera, doubt, 1.0)
        return Placement(self._state(), pose, covariance, relative, scale, astray_m=reference.astray_m)

    def _start(self, reference: FrameMemory, scale: float) -> PoseArray | None:
        """The camera placed last, in the reference camera and units of ``scale`` metres."""
        if self._last_good is None:
            return None
        last = self._last_good[1].world_from_camera
        return in_metres(invert(reference.world_from_camera) @ last, 1.0 / scale)

    def _in_world(self, on_points: RelativePose | PnpFailure, reference: FrameMemory, scale: float) -> WorldPose | None:
        """The newest camera in the world by the pointmap; None where that does not tell."""
        if isinstance(on_points, PnpFailure) or reference.guessed or not self._trusted(on_points):
            return None
        return WorldPose(
            reference.world_from_camera @ in_metres(on_points.reference_from_newest, scale),
            in_world(reference.world_from_camera, on_points.covariance, scale),
        )

    def _alone(self, on_points: RelativePose | PnpFailure) -> RelativePose | PnpFailure:
        """The pointmap's pose where nothing in the image backs it: as many pixels of a weak network agree in noise."""
        if isinstance(on_points, PnpFailure) or not (self._uses_landmarks() and self._trust.is_weak):
            return on_points
        if on_points.inlier_ratio >= ENOUGH_ALONE:
            return on_points
        return PnpFailure(
            f"only {on_points.inlier_ratio:.0%} of the still pixels agree with a pose of a weak network, "
            "and nothing in the image backs it"
        )

    def _together(self, found: LandmarkPose, by_points: WorldPose | None) -> LandmarkPose:
        """The newest camera as landmarks and pointmap have it together, each weighed by its covariance.

        Landmarks hold the pose over many frames, but stray where they are few or many of them move; the pointmap is of
        one moment, so that movers do not spoil it, but errs anew in each window. Where they contradict each other the
        answer lies between them, the more doubtful the farther they are apart, and what goes on from it is doubted by
        how far it is from the landmarks.
        """
        if by_points is None:
            return found
        squared = disagreement(found, by_points)
        pose, covariance = fused(
            found.world_from_camera, found.covariance, by_points.world_from_camera, by_points.covariance
        )
        if squared > AT_ODDS:
            self._contradict(pose, found.world_from_camera)
        covariance = covariance * max(1.0, squared / len(covariance))
        return dataclasses.replace(found, world_from_camera=pose, covariance=covariance)

    def _surer(self, found: LandmarkPose, by_points: WorldPose | None) -> bool:
        """Whether the landmarks place the camera better than the pointmap, which without noise nothing beats."""
        if by_points is None:
            return True
        return bool(np.trace(found.covariance[:3, :3]) < np.trace(by_points.covariance[:3, :3]))

    def _contradict(self, placed: PoseArray, by_landmarks: PoseArray) -> None:
        """Somebody is wrong, nobody knows who: from now on the landmarks' poses are doubted by that much."""
        apart = difference(placed, by_landmarks)
        if np.linalg.norm(apart[:3]) > np.linalg.norm(self._contradiction[:3]):
            self._contradiction = apart

    def _borne_out(self, relative: RelativePose, mask: MaskArray) -> bool:
        """Whether a pose that no landmark backs is that of enough of the image: noise, too, has pixels that agree."""
        if not self._uses_landmarks():
            return True
        still = 1.0 - np.count_nonzero(mask) / mask.size
        return bool(relative.inlier_ratio * still >= self.config.robustness.min_inlier_ratio)

    def _uses_landmarks(self) -> bool:
        return self.config.scene.pose_source == "best"

    def _place_on_landmarks(
        self, found: LandmarkPose, reference: FrameMemory, pair: ReferencePair, scale: float
    ) -> Placement | None:
        """The newest camera where the landmarks say; None if that is not to be trusted."""
        if self._last_good is None or self._haste(found.world_from_camera, pair.newest_stamp_ns):
            return None
        since_m = found.world_from_camera[:3, 3] - self._landmarks_begun_m
        covariance = carried(self._landmarks_covariance, since_m) + found.covariance
        covariance += np.outer(self._contradiction, self._contradiction)
        astray_m = PLACE_SHARE * float(np.sqrt(self._trust.astray_variance_factor)) * self._way_m
        covariance += np.diag([astray_m**2] * 3 + [(astray_m / typical_depth(reference.depth_m)) ** 2] * 3)
        relative = RelativePose(
            in_metres(invert(reference.world_from_camera) @ found.world_from_camera, 1.0 / scale),
            covariance,
            found.inlier_ratio,
            found.inliers,
            found.residual_px,
        )
        pose = found.world_from_camera
        return Placement(self._state(), pose, covariance, relative, scale, on_landmarks=True, astray_m=astray_m)

    def _lost(self, reason: str, pair: ReferencePair) -> Placement:
        """No pose; the log tells when that begins."""
        LOGGER.log(
            logging.DEBUG if self._is_lost else logging.WARNING, "lost at %d ns: %s", pair.newest_stamp_ns, reason
        )
        self._is_lost = True
        self._to_confirm = self.config.robustness.recover_frames
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
        pointmap's own pose ``on_points`` where features fail or place the camera worse.
        """
        if self.config.scene.pose_source == "pointmap":
            return on_points
        matches = self._match(window, pair)
        depth_units = self._frames[pair.reference_stamp_ns].depth_m / np.float32(scale)
        on_features = solve_pose_on_features(matches, depth_units, ~mask, intrinsics)
        if not self._plentiful(on_features):
            from_before = self._pose_from_previous(window, pair, mask, intrinsics, scale)
            on_features = from_before if self._plentiful(from_before) else on_features
        if isinstance(on_features, RelativePose):
            on_features = doubted(on_features, self._trust.features_variance_factor)
        found = [pose for pose in (on_points, on_features) if isinstance(pose, RelativePose)]
        trusted = [pose for pose in found if self._trusted(pose)]
        return min(trusted or found, key=lambda pose: pose.position_variance, default=on_points)

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
        reference = frame_at(window, pair.reference_stamp_ns)
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
            number = prediction.row_of(index)
            maps = row(prediction.to_key, number)
            camera = frame.intrinsics or intrinsics
            relative = solve_relative_pose(maps.points_2.numpy(), maps.conf_2.numpy(), ~self._moving(maps), camera)
            if isinstance(relative, PnpFailure) or not self._trusted(relative):
                continue
            depth_units = depth_in_newest(maps.points_2.numpy(), relative.reference_from_newest)
            scale = metres_per_unit(depth_units, known.depth_m, known.static)
            if scale is not None:
                if self._uses_landmarks():
                    relative = doubted(relative, self._trust.variance_factor)
                return place_reference(known, relative, scale, prediction.to_key.points_1[number, ..., 2].numpy())
        return None

    def _place_at_last_good(self, pair: ReferencePair) -> FrameMemory:
        """Where the camera was seen last, with the doubt of the time since then; the world's origin if never."""
        if pair.reference_points is None:
            raise ValueError("the reference frame is not known and its own pointmap was not asked for")
        depth_units = pair.reference_points[..., 2].numpy()
        static = np.ones(depth_units.shape, dtype=bool)
        if self._last_good is None:
            unit = self.config.scale.scale if self.config.scale.scale_source == "fixed" else 1.0
            return FrameMemory(depth_units * np.float32(unit), static, np.eye(4), FIRST_COVARIANCE)
        last_ns, last = self._last_good
        ratio = typical_depth(last.depth_m) / typical_depth(depth_units)
        scale = ratio if np.isfinite(ratio) else self._own_metres_per_unit
        covariance = last.covariance + unseen_motion((pair.reference_stamp_ns - last_ns) * 1e-9)
        pose = last.world_from_camera
        return FrameMemory(depth_units * np.float32(scale), static, pose, covariance, guessed=True)

    def _reference_scale(
        self, pair: ReferencePair, reference: FrameMemory, mask: MaskArray, intrinsics: Intrinsics
    ) -> RobustScale | None:
        """Metres per unit of the pair in the reference camera: X^{n,r} against the depth remembered where it falls."""
        points = pair.in_reference.points_2.numpy()
        return scale_to_met_depth(points, ~mask, reference.depth_m, reference.static, intrinsics)

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
        own_depth = pair.in_newest.points_1[..., 2].numpy()
        pose = place.relative.reference_from_newest
        found = scale_to_moved_points(own_depth, pair.in_reference.points_2.numpy(), pose, ~mask)
        return found.scale * place.reference_metres_per_unit if found else self._own_metres_per_unit

    def _points(
        self,
        newest: PreparedFrame,
        own_units: FloatArray,
        metres_per_unit: float,
        depth_m: FloatArray,
        confidence: FloatArray,
    ) -> tuple[FloatArray, FloatArray]:
        """(h, w, 3) points in the camera, metres, and (h, w) 1 where they are valid; both are NaN elsewhere.

        Valid are those that are certain enough, in range and in front of the camera. They lie on the rays of a
        calibrated camera, else where the network has them.
        """
        scene = self.config.scene
        valid = confidence > scene.conf_threshold
        valid &= depth_m >= scene.range_min
        valid &= depth_m <= scene.range_max
        if newest.intrinsics is not None:
            told = one_or_nan(valid)
            return on_rays(depth_m * told, newest.intrinsics), told
        with np.errstate(invalid="ignore"):
            valid &= np.isfinite(own_units[..., 0] + own_units[..., 1])  # the sum of what is no number is none
            told = one_or_nan(valid)
            factor = cv2.cvtColor(told * np.float32(metres_per_unit), cv2.COLOR_GRAY2RGB)
            return np.multiply(own_units, factor, out=factor), told

    def _remember(self, newest: PreparedFrame, place: Placement, depth_m: FloatArray, static: MaskArray) -> None:
        """Keep what later windows start from; nothing of a lost frame."""
        if place.world_from_camera is None or place.covariance is None:
            return
        if self._last_good is not None:
            gone_m = place.world_from_camera[:3, 3] - self._last_good[1].world_from_camera[:3, 3]
            self._way_m += float(np.linalg.norm(gone_m))
        pose, prior = place.world_from_camera, newest.prior_from_camera
        memory = FrameMemory(depth_m, static, pose, place.covariance, prior, astray_m=place.astray_m)
        known = self._frames.get(newest.stamp_ns, memory)
        self._frames[newest.stamp_ns] = dataclasses.replace(known, prior_from_camera=newest.prior_from_camera)
        if self._last_good is not None and not _says_something(depth_m):  # placed, but its own map is empty
            memory = dataclasses.replace(memory, depth_m=self._last_good[1].depth_m)
        self._last_good = (newest.stamp_ns, memory)

    def _surface(
        self, pair: ReferencePair, place: Placement, depth_m: FloatArray, mask: MaskArray, intrinsics: Intrinsics
    ) -> FloatArray:
        """(h, w) smooth depth of the newest frame, averaged over maps and time; nothing is kept of a lost one.

        X^{n,r} moved into camera n speaks of the same pixels.
        """
        if place.world_from_camera is None:
            self._fusion.forget()
            return depth_m
        stride = thinning(depth_m.shape)
        every = np.s_[::stride, ::stride]
        few_m, moving = np.ascontiguousarray(depth_m[every]), np.ascontiguousarray(mask[every])
        mean_m = few_m
        if place.relative is not None and pair.reference_stamp_ns != pair.newest_stamp_ns:
            points = pair.in_reference.points_2.numpy()[every]
            mean_m = seen_again(few_m, depth_in_newest(points, place.relative.reference_from_newest), ~moving)
        flow_to_before = self._mask.flow_in(few_m.shape[::-1]) if moving.any() else None
        camera = thinned_camera(intrinsics, stride)
        doubt = self._mask.errors.grown(doubt_by(pair.in_newest.conf_1.numpy()[every]))
        mean_m = self._fusion.update(mean_m, moving, flow_to_before, place.world_from_camera, camera, doubt)
        return changed_as(few_m, mean_m, depth_m)

    def _track(
        self,
        window: Window,
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
        observation = TrackObservation(
            stamp_ns=pair.newest_stamp_ns,
            reference_stamp_ns=pair.reference_stamp_ns,
            image_rgb=window.frames[-1].image_rgb,
            image_soft=self._landmarks.soft(window.frames[-1].image_rgb),
            reference_rgb=frame_at(window, pair.reference_stamp_ns).image_rgb,
            points_matched=pair.in_newest.points_match if self.match_tracks else None,
            conf_match=pair.in_newest.conf_match,
            depth=depth_m,
            dynamic_mask=mask,
            intrinsics=intrinsics,
            world_from_camera=place.world_from_camera,
            metres_per_unit=own_metres_per_unit,
            blur_px=TOLD_BLUR_PX,
            depth_variance_factor=self._trust.variance_factor,
        )
        return self._tracker.update(observation)

    def _find_objects(
        self,
        newest: PreparedFrame,
        place: Placement,
        depth_m: FloatArray,
        mask: MaskArray,
        intrinsics: Intrinsics,
        tracks: TrackSet,
    ) -> ObjectSet:
        """What moves, grouped; nothing in a lost frame."""
        if place.world_from_camera is None:
            return self._objects.miss()
        return self._objects.update(
            ObjectObservation(newest.stamp_ns, mask, depth_m, intrinsics, place.world_from_camera, tracks)
        )

    def _state(self) -> TrackingState:
        """Of a frame with a pose: recovering for the first few after being lost."""
        self._is_lost = False
        if self._to_confirm:
            self._to_confirm -= 1
            return TrackingState.RECOVERING
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


def frame_at(window: Window, stamp_ns: int) -> PreparedFrame:
    """The frame of a window with this stamp."""
    return next(frame for frame in window.frames if frame.stamp_ns == stamp_ns)


def smoothed(values: FloatArray) -> FloatArray:
    """(h, w) without the errors of single pixels; as it is where something is no number."""
    return without_strays(values, 3) if np.isfinite(values).all() else values


def one_or_nan(valid: MaskArray) -> FloatArray:
    """(h, w) 1 where ``valid``, else NaN, which takes a part of the time of choosing pixel by pixel."""
    number: FloatArray = valid.astype(np.float32)
    with np.errstate(invalid="ignore"):
        number /= number
    return number


@lru_cache(maxsize=2)
def rays_of(intrinsics: Intrinsics, shape: tuple[int, int]) -> FloatArray:
    """(h, w, 3) points at depth 1 on the rays of the pixels."""
    height, width = shape
    rays = np.ones((height, width, 3), np.float32)
    rays[..., 0] = (np.arange(width) - intrinsics.cx_px) / intrinsics.fx_px
    rays[..., 1] = ((np.arange(height) - intrinsics.cy_px) / intrinsics.fy_px)[:, None]
    rays.setflags(write=False)
    return rays


def on_rays(depth: FloatArray, intrinsics: Intrinsics) -> FloatArray:
    """(h, w, 3) points at ``depth`` (h, w) on the rays of a calibrated camera."""
    height, width = depth.shape
    points: FloatArray = cv2.cvtColor(np.asarray(depth, np.float32), cv2.COLOR_GRAY2RGB)
    points *= rays_of(intrinsics, (height, width))
    return points


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
    """The median of a depth map (h, w) over what is in front of the camera, of few pixels in a large one; else NaN."""
    for every in (max(1, min(depth.shape) // TYPICAL_PX), 1):
        few = depth[::every, ::every]
        in_front = few[np.isfinite(few) & (few > 0)]
        if in_front.size:
            return float(np.median(in_front))
    return np.nan


def _says_something(depth: FloatArray) -> bool:
    """Whether a depth map (h, w) has any that is in front of the camera; some pixels are asked first."""
    return any(bool(((some > 0) & (some < np.inf)).any()) for some in (depth[::16, ::16], depth))


def between(base: FrameMemory, place: Placement) -> PoseArray:
    """(3, 3) covariance of the way from a remembered frame to a placed one, apart from how far a path goes astray.

    That is one factor of all ways for long: just what a sensor of the scale tells, and no error of its telling.
    """
    assert place.covariance is not None  # noqa: S101
    apart: PoseArray = (place.covariance - base.covariance)[:3, :3]
    return apart - (place.astray_m**2 - base.astray_m**2) * np.eye(3)


def unseen_motion(seconds: float) -> PoseArray:
    """(6, 6) covariance of what a camera may have done in a time, which counts forwards and backwards alike."""
    return np.diag([(UNSEEN_SPEED_M_S * seconds) ** 2] * 3 + [(UNSEEN_TURN_RAD_S * seconds) ** 2] * 3)


def doubted(pose: AnyPose, factor: float) -> AnyPose:
    """The same pose with variances that are ``factor`` times as large."""
    return dataclasses.replace(pose, covariance=factor * pose.covariance)


def against(reference: FrameMemory, placed: LandmarkPose, on_points: RelativePose, scale: float) -> RelativePose:
    """A pose in the world as one against the reference, in units of ``scale`` metres; fit as that ``on_points``."""
    from_world = invert(reference.world_from_camera)
    return dataclasses.replace(
        on_points,
        reference_from_newest=in_metres(from_world @ placed.world_from_camera, 1.0 / scale),
        covariance=in_world(from_world, placed.covariance, 1.0 / scale),
    )


def in_world(world_from_reference: PoseArray, covariance: PoseArray, scale: float) -> PoseArray:
    """(6, 6) covariance in the reference's axes and unit -> world axes and metres."""
    turn = np.zeros((6, 6))
    turn[3:, 3:] = world_from_reference[:3, :3]
    turn[:3, :3] = scale * turn[3:, 3:]
    return turn @ covariance @ turn.T


def carried(covariance: PoseArray, way: PoseArray) -> PoseArray:
    """(6, 6) covariance of a pose, at a place that lies ``way`` (3,) farther on: errors of rotation grow with the way.

    ``e_p' = e_p + e_r x way``, ``e_r' = e_r``, world axes.
    """
    jacobian = np.eye(6)
    jacobian[:3, 3:] = -cross_matrix(way)
    return jacobian @ covariance @ jacobian.T


def difference(world_from_a: PoseArray, world_from_b: PoseArray) -> PoseArray:
    """(6,) position and rotation (rad) from b to a, world axes."""
    turn = rotation_log(world_from_a[:3, :3] @ world_from_b[:3, :3].T)
    return np.concatenate((world_from_a[:3, 3] - world_from_b[:3, 3], turn))


def squared_distance(world_from_a: PoseArray, world_from_b: PoseArray, covariance: PoseArray) -> float:
    """Mahalanobis' squared distance of two poses (4, 4) whose difference has this covariance (6, 6), world axes."""
    apart = difference(world_from_a, world_from_b)
    return float(apart @ dgesv(covariance + FIRST_COVARIANCE, apart)[2])


def disagreement(found: LandmarkPose, by_points: WorldPose) -> float:
    """Squared distance of the landmarks' and the pointmap's pose in their own measure; 6 if both are honest."""
    covariance = found.covariance + by_points.covariance
    return squared_distance(found.world_from_camera, by_points.world_from_camera, covariance)


def fused(
    world_from_a: PoseArray, covariance_a: PoseArray, world_from_b: PoseArray, covariance_b: PoseArray
) -> tuple[PoseArray, PoseArray]:
    """Two poses (4, 4) of one camera, each weighed by its covariance (6, 6, world axes) -> pose and covariance.

    ``K = A (A + B)^-1``: from a, K of the way to b; ``(I - K) A``.
    """
    smallest = 1e-6 * FIRST_COVARIANCE  # so that the sum of two that are sure can be inverted
    gain = dgesv(covariance_a + covariance_b + smallest, covariance_a)[2].T  # all three are symmetric
    step = gain @ difference(world_from_b, world_from_a)
    pose = pose_from(rotation_exp(step[3:]) @ world_from_a[:3, :3], world_from_a[:3, 3] + step[:3])
    covariance = covariance_a - gain @ covariance_a
    return pose, 0.5 * (covariance + covariance.T) + smallest


def nearest_positive(covariance: PoseArray) -> PoseArray:
    """The covariance with variances below those of a first frame raised to them."""
    values, vectors = np.linalg.eigh(0.5 * (covariance + covariance.T))
    return vectors @ np.diag(np.maximum(values, FIRST_COVARIANCE[0, 0])) @ vectors.T


def grow(mask: MaskArray, pixels: int) -> MaskArray:
    """Dilate a mask by ``pixels``, along rows and columns."""
    if not pixels:
        return mask
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return cv2.dilate(mask.view(np.uint8), cross, iterations=pixels).view(bool)
