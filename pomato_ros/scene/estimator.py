"""The method on one screen: what a source observes of the newest frame -> pose, motion, tracks, objects.

Flow is found in a thread of its own (:mod:`pomato_ros.scene.flow_ahead`) while pose, motion and tracks are solved.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from pomato_ros.config import MultiviewTuning, OdometryTuning, PomatoConfig
from pomato_ros.errors import UnusableFrame
from pomato_ros.geometry.camera import points_on_rays
from pomato_ros.geometry.rigid import invert
from pomato_ros.scene.flow_ahead import FlowAhead
from pomato_ros.scene.located import FrameInput, Located
from pomato_ros.scene.motion import MotionSegmenter, MotionState
from pomato_ros.scene.multiview_depth import ViewPair, fill_depth, triangulate, useful_gap
from pomato_ros.scene.objects import Objects
from pomato_ros.scene.odometry import Odometry
from pomato_ros.scene.pose import AbsolutePrior
from pomato_ros.scene.tracking_state import TrackingMonitor
from pomato_ros.scene.tracks import Tracker
from pomato_ros.structures import (
    Correspondence,
    DepthMap,
    FloatArray,
    Intrinsics,
    MaskArray,
    Observation,
    PoseArray,
    PosePrior,
    PreparedFrame,
    SceneEstimate,
    Window,
)

REMEMBERED_FRAMES = 12  # whose poses priors and motion evidence may refer to
MOST_CONFIDENCE = 1000.0


@dataclass(frozen=True, slots=True)
class _Remembered:
    """What later frames need of this one."""

    stamp_ns: int
    located: Located | None


class SceneEstimator:
    """Keeps everything that is known of earlier frames; the arithmetic is in the modules beside it."""

    def __init__(self, config: PomatoConfig) -> None:
        """Options of the scene and robustness groups."""
        self.config = config
        self._flow = FlowAhead()
        self._multiview = MultiviewTuning()
        self._odometry = Odometry(OdometryTuning())
        self._monitor = TrackingMonitor()
        self._motion = MotionSegmenter()
        self._tracker = Tracker(config.scene.max_tracks, config.scene.track_grid_px)
        self._objects = Objects()
        self._frames: deque[_Remembered] = deque(maxlen=REMEMBERED_FRAMES)  # newest first

    def reset(self) -> None:
        """Forget everything; the next frame is the world's origin."""
        for part in (self._flow, self._odometry, self._monitor, self._motion, self._tracker, self._objects):
            part.reset()
        self._frames.clear()

    def update(self, window: Window, observation: Observation) -> SceneEstimate:
        """The scene of the newest frame: flow, pose, motion, map, tracks, depth, objects, in this order.

        Raises:
            UnusableFrame: the camera is not calibrated.
        """
        newest, depth = window.frames[-1], observation.depth
        frame = frame_input(newest, depth)
        self._flow.push(frame.stamp_ns, frame.gray, frame.valid)
        correspondence = self._correspondence(observation)
        self._prepare(observation, self._motion.next_gaps())
        found = self._odometry.locate(frame, self._absolute(observation.pose_priors))
        located = self._monitor.judge(frame.stamp_ns, found, self.config.robustness)
        self._frames.appendleft(_Remembered(frame.stamp_ns, located))
        deep = self._depth_gap(frame, None if depth is None else ~depth.valid)
        self._prepare(observation, () if deep is None else (deep,))
        motion = self._segment(frame, located, observation, correspondence)
        self._odometry.extend(frame, located, ~motion.mask)
        pose = None if located is None else located.world_from_camera
        tracks = self._tracker.update(
            frame.stamp_ns, frame.gray, depth, pose, frame.intrinsics, motion.log_odds, motion.mask, correspondence
        )
        filled = self._filled_depth(frame, ~motion.mask, correspondence)
        points, confidence = self._points(filled, frame.intrinsics)
        objects = self._objects.update(frame.stamp_ns, tracks, motion.mask, points, pose, frame.intrinsics)
        return SceneEstimate(
            stamp_ns=newest.stamp_ns,
            state=self._monitor.state,
            frames_in_window=self.config.window.window_size,
            image_rgb=newest.image_rgb,
            intrinsics=frame.intrinsics,
            intrinsics_known=newest.intrinsics is not None,
            model_from_source=newest.model_from_source,
            source_size_wh=newest.source_size_wh,
            points_camera=points,
            confidence=confidence,
            dynamic_mask=grown(motion.mask, self.config.scene.mask_dilate_px),
            world_from_camera=pose,
            pose_covariance=None if located is None else located.covariance,
            pose_inlier_ratio=0.0 if located is None else located.inlier_ratio,
            metres_per_unit=1.0,
            tracks=tracks,
            stage_seconds={},
            objects=objects,
        )

    def _correspondence(self, observation: Observation) -> Callable[[int], Correspondence | None]:
        """The source's own correspondences where it has any, else optical flow; by gap."""

        def by_gap(gap: int) -> Correspondence | None:
            own = observation.correspondence(gap)
            if own is not None:
                return own
            return self._flow.correspondence(gap) if gap < self._flow.frame_count else None

        return by_gap

    def _absolute(self, priors: tuple[PosePrior, ...]) -> tuple[AbsolutePrior, ...]:
        """Priors against an earlier frame as priors in the world, where that frame has a pose."""
        found = []
        for prior in priors:
            earlier = self._frames[prior.gap - 1].located if prior.gap <= len(self._frames) else None
            if earlier is not None:
                pose = earlier.world_from_camera @ prior.earlier_from_newest
                turn = _twice(prior.earlier_from_newest[:3, :3])
                found.append(
                    AbsolutePrior(pose, np.asarray(np.linalg.inv(turn.T @ prior.covariance @ turn), np.float64))
                )
        return tuple(found)

    def _relative(self, gap: int) -> PosePrior | None:
        """The newest camera in the one ``gap`` frames before, by the fits of both; None where one has no pose."""
        if gap >= len(self._frames):
            return None
        newest, earlier = self._frames[0].located, self._frames[gap].located
        if newest is None or earlier is None:
            return None
        earlier_from_newest = invert(earlier.world_from_camera) @ newest.world_from_camera
        turn = _twice(earlier_from_newest[:3, :3])
        covariance = turn @ newest.fit_covariance @ turn.T + earlier.fit_covariance
        return PosePrior(gap, earlier_from_newest, covariance)

    def _segment(
        self,
        frame: FrameInput,
        located: Located | None,
        observation: Observation,
        correspondence: Callable[[int], Correspondence | None],
    ) -> MotionState:
        """What moves in the newest frame; nothing is said of a frame without a pose."""
        if located is None:
            self._motion.reset()
            return MotionState(np.zeros(frame.gray.shape, np.float32), np.zeros(frame.gray.shape, bool))
        return self._motion.update(
            frame.gray,
            frame.intrinsics,
            correspondence,
            depth=frame.depth,
            pose=self._relative,
            evidence=observation.motion,
            valid=frame.valid,
        )

    def _filled_depth(
        self, frame: FrameInput, static: MaskArray, correspondence: Callable[[int], Correspondence | None]
    ) -> DepthMap | None:
        """The source's depth, and where it has none, that of flow and pose; movers without depth stay without."""
        depth = frame.depth
        wanted = static if depth is None else static & ~depth.valid
        wanted = wanted if frame.valid is None else wanted & frame.valid
        gap = self._depth_gap(frame, wanted)
        if gap is None:
            return depth
        relative, match = self._relative(gap), correspondence(gap)
        if relative is None or match is None:
            return depth
        pair = ViewPair(match, relative.earlier_from_newest, relative.covariance)
        return fill_depth(depth, triangulate([pair], frame.intrinsics, wanted, self._multiview))

    def _depth_gap(self, frame: FrameInput, wanted: MaskArray | None) -> int | None:
        """Gap for multi-view depth of ``wanted`` (h, w) pixels, None: all; None: too few, or too little parallax."""
        tuning = self._multiview
        if wanted is not None and np.count_nonzero(wanted) < tuning.least_share * wanted.size:
            return None
        return useful_gap({gap: self._relative(gap) for gap in tuning.gaps}, frame.intrinsics, tuning)

    def _prepare(self, observation: Observation, gaps: Iterable[int]) -> None:
        """Let flow be found ahead for what the source does not match by itself."""
        self._flow.prepare(gap for gap in gaps if observation.correspondence(gap) is None)

    def _points(self, depth: DepthMap | None, intrinsics: Intrinsics) -> tuple[FloatArray, FloatArray]:
        """Points (h, w, 3) in the camera, NaN where invalid, and confidence (h, w): depth over its sigma."""
        scene, shape = self.config.scene, (intrinsics.height_px, intrinsics.width_px)
        if depth is None:
            return np.full((*shape, 3), np.nan, np.float32), np.ones(shape, np.float32)
        ahead = depth.valid & (depth.inverse_depth > 0)
        depth_m = np.full(shape, np.nan, np.float32)
        np.divide(np.float32(1.0), depth.inverse_depth, out=depth_m, where=ahead)
        confidence = np.ones(shape, np.float32)
        np.divide(depth.inverse_depth, depth.sigma, out=confidence, where=ahead)
        confidence = confidence.clip(1.0, MOST_CONFIDENCE)
        with np.errstate(invalid="ignore"):
            wanted = (depth_m >= scene.range_min) & (depth_m <= scene.range_max) & (confidence > scene.conf_threshold)
        depth_m[~wanted] = np.nan
        return points_on_rays(depth_m, intrinsics), confidence


def frame_input(frame: PreparedFrame, depth: DepthMap | None) -> FrameInput:
    """What the odometry reads of a prepared frame.

    Raises:
        UnusableFrame: its camera is not calibrated.
    """
    if frame.intrinsics is None:
        raise UnusableFrame("expected a calibrated camera, got an image without intrinsics; connect camera_info")
    gray = cv2.cvtColor(frame.image_rgb, cv2.COLOR_RGB2GRAY)
    return FrameInput(frame.stamp_ns, np.asarray(gray, np.uint8), frame.intrinsics, depth, frame.valid)


def grown(mask: MaskArray, pixels: int) -> MaskArray:
    """A mask dilated by so many pixels along rows and columns."""
    if not pixels:
        return mask
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    return cv2.dilate(mask.view(np.uint8), cross, iterations=pixels).view(bool)


def _twice(rotation: PoseArray) -> PoseArray:
    """(6, 6) that turns position and rotation vector alike."""
    turn = np.zeros((6, 6))
    turn[:3, :3] = turn[3:, 3:] = rotation
    return turn
