"""From an image message to everything one step says about it; knows messages, but neither node nor topics.

The worker owns one :class:`Perception`. It decodes, calibrates, steps the engine and places the result in ``odom``.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage

from pomato_ros.config import PomatoConfig
from pomato_ros.errors import OutOfMemory, UnusableFrame
from pomato_ros.pointmap_scene.scale import WAY_SOURCES
from pomato_ros.ros.conversions.camera_info import calibration_from_camera_info, camera_info_key
from pomato_ros.ros.conversions.guards import usable_stamp_ns
from pomato_ros.ros.conversions.image_decoding import SampleRange, decode_compressed_image, decode_image, meaning_of
from pomato_ros.ros.conversions.input_error import InputError
from pomato_ros.ros.depth_frames import ColourImage
from pomato_ros.ros.frames import OdometryFrames, OdometryState, unseen_motion
from pomato_ros.ros.intake import Arrival, StampMonitor, StampVerdict
from pomato_ros.ros.rectify import Rectifier
from pomato_ros.ros.right_frames import is_rectified_topic, rectified_view
from pomato_ros.ros.scale_inputs import ScaleInputs
from pomato_ros.ros.sensors import Sensors
from pomato_ros.ros.status import Durations, NodeStatus
from pomato_ros.ros.transforms import Mount
from pomato_ros.ros.validity import without_invalid
from pomato_ros.structures import Frame, PoseArray, SceneEstimate

LOG = logging.getLogger(__name__)
UNDECODABLE, REPEATED, LATE = "undecodable", "repeated", "late"
STAMPLESS = "bad_stamp"
STAMP_DROPS = {
    StampVerdict.REPEATED: REPEATED,
    StampVerdict.LATE: LATE,
    StampVerdict.UNCONFIRMED: "unconfirmed",
}
UNCALIBRATED, UNUSABLE = "no_camera_info", "unusable"
LOG_AGAIN_S = 60.0
INTERVALS_KEPT = 9
SILENT_INTERVALS = 3.0  # a camera is silent after so many of its usual intervals, if that is longer than lost_after_s
WAITING = "waiting"  # for the other frames of a hop, which never came


class Engine(Protocol):
    """What the node needs of the engine."""

    def advance(self, frame: Frame) -> tuple[SceneEstimate, ...]:
        """Take one frame; the scenes of all frames that have one now, none if it only joined the window."""

    def reset(self) -> None:
        """Forget window, tracks, pose and scale; the model stays."""

    @property
    def frames_waiting(self) -> int:
        """Frames that joined the window and have no scene yet; a reset or a step that fails lets go of them."""

    def set_track_output_enabled(self, enabled: bool) -> None:
        """Whether tracks are read from the next step on."""

    def update_config(self, config: PomatoConfig) -> None:
        """Use new values of the dynamic options from the next step on."""

    def describe(self) -> dict[str, Any]:
        """Facts about the model."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step, placed in the odometry frame."""

    scene: SceneEstimate
    camera_frame: str
    odometry: OdometryState
    odom_from_world: PoseArray  # (4, 4)
    received_ns: int  # steady clock
    epoch: int  # rises whenever window, pose and tracks were cleared: nothing may be carried over
    timeline: int  # rises whenever time jumped: stamps may be older than before


class Perception:
    """Owns the engine and all that must be cleared together when time jumps."""

    def __init__(
        self,
        engine: Engine,
        config: PomatoConfig,
        status: NodeStatus,
        find_mount: Callable[[str], Mount],
        forget_transforms: Callable[[], None],
        scale_inputs: ScaleInputs,
        sensors: Sensors,
        tracks_are_read: Callable[[], bool],
    ) -> None:
        """``find_mount`` tells how the camera of a given frame sits on the base; it may wait.

        ``forget_transforms`` is called when the images' stamps jumped back; ``scale_inputs`` tells metres; ``sensors``
        gives depth and right images;
        ``tracks_are_read`` tells whether anybody wants what tracks are in.
        """
        self._tracks_are_read = tracks_are_read
        self._scale_inputs, self._sensors = scale_inputs, sensors
        self._engine = engine
        self._config = config
        self._status = status
        self._find_mount = find_mount
        self._forget_transforms = forget_transforms
        self._stamps = StampMonitor()
        self._frames: OdometryFrames | None = None
        self._mount_assumed = False
        self._newest_ns: int | None = None  # stamp of the newest frame that the engine was given
        self._intervals_s: deque[float] = deque(maxlen=INTERVALS_KEPT)  # between the newest frames
        self._received_ns: dict[int, int] = {}  # by stamp: when frames came that have no scene yet, steady clock
        self._camera_frame = ""
        self._camera_key: object = None
        self._rectifier: Rectifier | None = None
        self._camera_info: CameraInfo | None = None  # of the newest frame
        self._sample_range = SampleRange(config.input.sample_bits)
        self._logged_drops_s: dict[str, float] = {}  # when the last frame of a kind was logged, steady clock
        self._epoch = 0
        self._timeline = 0

    def change_config(self, config: PomatoConfig) -> None:
        """Use new values of dynamic options from the next frame on."""
        self._config = config
        self._engine.update_config(config)

    def jump_in_time(self) -> None:
        """Start over on a clock that may show any time."""
        self._stamps.forget()
        self._scale_inputs.clear()
        self._sensors.clear()
        self._timeline += 1
        self.reset("time jumped")

    def reset(self, reason: str = "a reset was asked for") -> None:
        """Forget window, tracks, pose and scale; the model stays."""
        self.give_up_waiting(reason)
        self._engine.reset()
        self._received_ns.clear()
        self._frames = None
        self._newest_ns = None
        self._intervals_s.clear()
        self._status.engine.resets += 1
        self._epoch += 1

    def give_up_waiting(self, reason: str) -> None:
        """Count the frames that wait for others of their hop as dropped; the caller lets the engine go of them."""
        self._drop_waiting(self._engine.frames_waiting, reason)

    def process(self, arrival: Arrival, camera_info: CameraInfo | None) -> tuple[StepResult, ...]:
        """Take a frame; a step for each frame that has a scene now.

        Nothing if this one was dropped (counted, with the reason) or only joined the window.
        """
        message = arrival.message
        try:
            stamp_ns = usable_stamp_ns(message.header.stamp)
        except InputError as error:
            self._drop(STAMPLESS, str(error))
            return ()
        if not self._accept_stamp(stamp_ns, arrival.received_ns):
            return ()
        try:
            image_rgb = self._decode(message)
        except InputError as error:
            self._drop(UNDECODABLE, str(error))
            return ()
        self._watch_frame_id(message.header.frame_id)
        if not self._calibrate(camera_info, (image_rgb.shape[1], image_rgb.shape[0])):
            return ()
        self._watch_gap(stamp_ns, arrival)
        with_sensors = self._frame_with_sensors(stamp_ns, image_rgb) if self._sensors.used else None
        frames = self._odometry_frames()  # may wait for TF, while newer messages of the sensors replace older ones
        self._received_ns[stamp_ns] = arrival.received_ns
        scenes = self._step(with_sensors or self._frame(stamp_ns, image_rgb))
        results = tuple(self._place(scene, frames) for scene in scenes)
        if results or not self._config.window.window_hop > 1:
            self._received_ns.clear()
        return results

    def _place(self, scene: SceneEstimate, frames: OdometryFrames) -> StepResult:
        """A scene in the odometry frame."""
        valid = None if self._rectifier is None else self._rectifier.valid
        return StepResult(
            scene=scene if valid is None else without_invalid(scene, valid),
            camera_frame=self._camera_frame,
            odometry=frames.update(scene.stamp_ns, scene.world_from_camera, scene.pose_covariance),
            odom_from_world=frames.odom_from_world,
            received_ns=self._received_ns[scene.stamp_ns],
            epoch=self._epoch,
            timeline=self._timeline,
        )

    def _accept_stamp(self, stamp_ns: int, received_ns: int) -> bool:
        verdict = self._stamps.judge(stamp_ns, received_ns)
        if verdict is StampVerdict.JUMP:
            LOG.warning("image stamps jumped back to %d ns: clearing window, tracks, pose and scale", stamp_ns)
            self._status.input.time_jumps += 1
            self._forget_transforms()
            self.jump_in_time()
            self._stamps.judge(stamp_ns, received_ns)
            return True
        if verdict is StampVerdict.NEW:
            return True
        kind = STAMP_DROPS[verdict]
        self._drop(kind, f"image stamp {stamp_ns} ns: expected newer than the last frame's, {verdict.value}")
        return False

    def _decode(self, message: Any) -> np.ndarray:
        max_pixels = self._config.input.max_pixels
        if isinstance(message, CompressedImage):
            self._status.input.encoding = message.format
            return decode_compressed_image(message, max_pixels)
        meaning = meaning_of(message.encoding)
        image_rgb = decode_image(message, max_pixels, self._sample_range)
        said = message.encoding if meaning == message.encoding.lower() else f"{message.encoding} (read as {meaning})"
        if meaning.endswith("16"):
            said = f"{message.encoding} ({self._sample_range.bits} bits)"
        self._status.input.encoding = said
        return image_rgb

    def _calibrate(self, camera_info: CameraInfo | None, image_wh: tuple[int, int]) -> bool:
        """Bring the rectifier up to date; False if the frame must wait for a calibration."""
        self._camera_info = camera_info
        key = (image_wh, None if camera_info is None else camera_info_key(camera_info))
        if key != self._camera_key:
            self._change_camera(camera_info, image_wh)
            self._camera_key = key
        if self._rectifier is None and self._config.input.require_camera_info:
            topic = self._status.input.camera_info_topic
            self._drop(UNCALIBRATED, f"require_camera_info is set, but '{topic}' gave no calibration")
            return False
        return True

    def _change_camera(self, camera_info: CameraInfo | None, image_wh: tuple[int, int]) -> None:
        """Another image size or calibration: rebuild the intrinsics, start a new window from the last pose."""
        size = f"{image_wh[0]}x{image_wh[1]}"
        if self._camera_key is not None:
            LOG.warning("image size or camera_info changed (now %s): starting a new window", size)
            self._status.input.size_changes += size != self._status.input.image_size
            self._start_new_window("image size or camera_info changed", unseen_s=0.0)
        self._status.input.image_size = size
        self._rectifier = self._make_rectifier(camera_info, image_wh)

    def _start_new_window(self, reason: str, unseen_s: float) -> None:
        """Go on from the last pose, less certain of it by what the camera may have done in ``unseen_s``."""
        self.give_up_waiting(reason)
        self._engine.reset()
        self._received_ns.clear()
        self._status.engine.resets += 1
        if self._frames is not None:
            limits = self._config.robustness
            self._frames.continue_from_last(unseen_motion(unseen_s, limits.unseen_speed, limits.unseen_turn))

    def _make_rectifier(self, camera_info: CameraInfo | None, image_wh: tuple[int, int]) -> Rectifier | None:
        status = self._status.input
        status.camera_info_error = ""
        if camera_info is None:
            status.camera = "no camera_info: focal length estimated"
            return None
        try:
            rectifier = self._rectifier_of(camera_info, image_wh)
        except InputError as error:
            LOG.warning("camera_info refused: %s", error)
            status.camera, status.camera_info_error = "camera_info refused: focal length estimated", str(error)
            status.camera_info_refused += 1
            return None
        status.camera_info_error = "" if rectifier is None else rectifier.note
        if rectifier is None:
            status.camera = "uncalibrated (camera_info K[0] == 0): focal length estimated"
            return None
        status.camera = "calibrated, distortion removed" if rectifier.removes_distortion else "calibrated"
        return rectifier

    def _rectifier_of(self, camera_info: CameraInfo, image_wh: tuple[int, int]) -> Rectifier | None:
        """The rectifier of a calibration; None where it is none.

        Raises:
            InputError: It cannot be one of this image.
        """
        calibration = calibration_from_camera_info(camera_info, image_wh)
        if calibration is None:
            return None
        view = rectified_view(camera_info) if self._config.model.backend == "stereo" else None
        to_rectify = bool(calibration.distortion) or view is not None
        rectified = is_rectified_topic(self._status.input.stream.topic) and to_rectify
        if rectified:
            topic = self._status.input.stream.topic
            LOG.info("'%s' is rectified, as its name says: P of camera_info is used, its distortion is not", topic)
        return Rectifier(calibration, remove_distortion=self._config.input.rectify and not rectified, view=view)

    def _frame(self, stamp_ns: int, image_rgb: np.ndarray) -> Frame:
        source, rectifier = self._config.scale.scale_source, self._rectifier
        depth_m = prior = None
        if source == "depth":
            size_wh = (image_rgb.shape[1], image_rgb.shape[0])
            camera = None if rectifier is None else rectifier.raw_intrinsics
            depth_m = self._scale_inputs.depth_m(stamp_ns, self._camera_frame, size_wh, camera)
        elif source in WAY_SOURCES:
            prior = self._scale_inputs.prior_from_camera(stamp_ns, self._camera_frame)
        if rectifier is None:
            return Frame(stamp_ns, image_rgb, None, depth_m, prior)
        depth_m = None if depth_m is None else rectifier.rectify_depth(depth_m)
        image_rgb = rectifier.rectify(image_rgb)
        return Frame(stamp_ns, image_rgb, rectifier.intrinsics, depth_m, prior, valid=rectifier.valid)

    def _frame_with_sensors(self, stamp_ns: int, image_rgb: np.ndarray) -> Frame:
        """The frame of a metric backend; without its depth or right image where that cannot be used."""
        rectifier = self._rectifier
        image = ColourImage(stamp_ns, self._camera_frame, (image_rgb.shape[1], image_rgb.shape[0]), rectifier)
        depth_m = self._sensors.depth_m(image)
        right_rgb, baseline_m = self._sensors.right(stamp_ns, self._camera_info, rectifier) or (None, None)
        if rectifier is None:
            return Frame(stamp_ns, image_rgb, None, depth_m)
        return Frame(
            stamp_ns,
            rectifier.rectify(image_rgb),
            rectifier.intrinsics,
            depth_m,
            right_rgb=right_rgb,
            baseline_m=baseline_m,
            valid=rectifier.valid,
        )

    def _watch_frame_id(self, camera_frame: str) -> None:
        """Another frame is another camera: nothing of the last one's may be mixed with it."""
        if self._frames is not None and camera_frame != self._camera_frame:
            LOG.warning("image frame_id changed from '%s' to '%s': starting over", self._camera_frame, camera_frame)
            self.reset("frame_id changed")
        self._camera_frame = self._status.input.frame_id = camera_frame

    def _watch_gap(self, stamp_ns: int, arrival: Arrival) -> None:
        """After a long silence the old window says nothing of the new frame: go on from the last pose.

        A step that takes long leaves gaps too, but then frames were passed over; and a camera may be slow: then each
        interval is as long as those before.
        """
        gap_s = 0.0 if self._newest_ns is None else (stamp_ns - self._newest_ns) * 1e-9
        usual_s = float(np.median(self._intervals_s)) if self._intervals_s else np.inf
        longest_s = max(self._config.robustness.lost_after_s, SILENT_INTERVALS * usual_s)
        if not arrival.after_passed_over and gap_s > longest_s:
            LOG.warning("no frame for %.1f s: starting a new window", gap_s)
            self._start_new_window(f"no frame for {gap_s:.1f} s", unseen_s=gap_s)
        elif gap_s > 0.0:
            self._intervals_s.append(gap_s)
        self._newest_ns = stamp_ns

    def _odometry_frames(self) -> OdometryFrames:
        """Where the camera and odom are; an assumed mount gives way to one from TF whenever that comes."""
        if self._frames is None:
            mount = self._find_mount(self._camera_frame)
            self._frames, self._mount_assumed = OdometryFrames(mount.base_from_optical), mount.assumed
        elif self._mount_assumed:
            mount = self._find_mount(self._camera_frame)
            if not mount.assumed:
                LOG.warning("the camera's mount came on TF: base_frame moves to its place, the camera stays in odom")
                self._frames.change_mount(mount.base_from_optical)
                self._mount_assumed = False
        return self._frames

    def _drop(self, kind: str, reason: str) -> None:
        """Count a frame that cannot be used; log the first of its kind."""
        self._status.input.drop(kind, reason)
        now_s = time.monotonic()
        if now_s - self._logged_drops_s.get(kind, -np.inf) > LOG_AGAIN_S:
            LOG.warning("frame dropped (%s; others of this kind are only counted for a minute): %s", kind, reason)
            self._logged_drops_s[kind] = now_s

    def _drop_waiting(self, count: int, reason: str) -> None:
        for _ in range(count):
            self._drop(
                WAITING, f"a frame that waited for {self._config.window.window_hop} to be taken at once: {reason}"
            )

    def _fail(self, error: Exception, stamp_ns: int) -> None:
        """Count a step that failed; log it when it fails in a new way."""
        status = self._status.engine
        if str(error) != status.last_error:
            LOG.error("step failed on the frame of %d ns", stamp_ns, exc_info=error)
        status.out_of_memory += isinstance(error, OutOfMemory)
        status.fail(str(error))

    def _step(self, frame: Frame) -> tuple[SceneEstimate, ...]:
        status, started = self._status.engine, time.monotonic()
        self._engine.set_track_output_enabled(self._tracks_are_read())
        waited = self._engine.frames_waiting
        try:
            scenes = self._engine.advance(frame)
        except UnusableFrame as error:
            self._received_ns.pop(frame.stamp_ns, None)
            self._drop(UNUSABLE, str(error))
            self._drop_waiting(waited - self._engine.frames_waiting, "the step failed")
            return ()
        except Exception as error:  # the worker must live on, whatever a frame does to the engine
            self._received_ns.clear()
            self._fail(error, frame.stamp_ns)
            self._drop_waiting(waited - self._engine.frames_waiting, "the step failed")
            return ()
        if scenes:
            status.step.add_seconds(time.monotonic() - started)
            self._status.depth.facts = self._status.right.facts = dict(scenes[-1].facts)
        for scene in scenes:
            status.steps += 1
            status.rate.tick()
            for stage, seconds in scene.stage_seconds.items():
                status.stages.setdefault(stage, Durations()).add_seconds(seconds)
        return scenes
