"""The demonstration without ROS: the engine alone on the frames of a clip, with the same picture and summary."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from pomato_ros.cli.demo_playback import DemoError, DemoPlan
from pomato_ros.config import PomatoConfig
from pomato_ros.engine import Engine
from pomato_ros.errors import PomatoError
from pomato_ros.evaluation.davis import source_mask
from pomato_ros.evaluation.recorded_run import RecordedRun, RecordedStep, RecordedTracks, Showcase, showcase_worth
from pomato_ros.ros.frame_source import CameraFile, FolderSource, VideoSource, limit_size, open_source, read_camera_file
from pomato_ros.ros.frames import assumed_mount
from pomato_ros.structures import Frame, Intrinsics, SceneEstimate

FOLDER_RATE_HZ = 15.0
PINHOLE_MODELS = ("plumb_bob", "rational_polynomial")


def run_engine(plan: DemoPlan, console: Console) -> tuple[RecordedRun, Showcase | None, int]:
    """The steps of the engine on a clip, the one that shows most, and how many frames could not be read.

    Raises:
        DemoError: The clip, its calibration or the weights cannot be used.
    """
    try:
        source = open_source(str(plan.video), FOLDER_RATE_HZ)
        camera = read_camera_file(source.calibration_file) if source.calibration_file else None
        engine = Engine(demo_config(plan))
        steps, showcase, stamps_ns = take_steps(engine, plan, source, camera, console)
    except PomatoError as error:
        raise DemoError(str(error)) from error
    run = RecordedRun({}, tuple(steps), tuple(stamps_ns), len(stamps_ns), len(stamps_ns) - len(steps))
    return run, showcase, len(source.skips.reasons)


def demo_config(plan: DemoPlan) -> PomatoConfig:
    """The defaults with the parameters file and the weights of the plan."""
    values = {} if plan.params_file is None else parameters_in(plan.params_file)
    if plan.checkpoint:
        values["checkpoint"] = plan.checkpoint
    return PomatoConfig().with_values(values)


def parameters_in(path: Path) -> dict[str, Any]:
    """The parameters of a ROS parameters file, whatever node they are for.

    Raises:
        DemoError: It is no such file.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {name: value for node in content.values() for name, value in node["ros__parameters"].items()}
    except (OSError, ValueError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise DemoError(f"{path}: expected a ROS parameters file as config/pomato.yaml, got {error}") from error


def take_steps(
    engine: Engine,
    plan: DemoPlan,
    source: FolderSource | VideoSource,
    camera: CameraFile | None,
    console: Console,
) -> tuple[list[RecordedStep], Showcase | None, list[int]]:
    """One step a frame; the showcase is of the later half where the clip's length is known."""
    steps: list[RecordedStep] = []
    stamps_ns: list[int] = []
    showcase: Showcase | None = None
    total = min(filter(None, (plan.max_frames, source.count)), default=0)
    frames = track(frames_of(plan, source, camera), "steps", total=total or None, console=console)
    for number, frame in enumerate(frames):
        stamps_ns.append(frame.stamp_ns)
        started_ns = time.time_ns()
        scene = engine.step(frame)
        if scene is None:
            continue
        steps.append(recorded_step(scene, started_ns))
        better = showcase is None or showcase_worth(steps[-1]) > showcase_worth(showcase.step)
        if better and number >= total // 2:
            showcase = Showcase(
                steps[-1], frame.image_rgb, scene.points_camera, scene.image_rgb, scene.dynamic_mask.astype(bool)
            )
    return steps, showcase, stamps_ns


def frames_of(plan: DemoPlan, source: FolderSource | VideoSource, camera: CameraFile | None) -> Iterator[Frame]:
    """The frames of a clip as the engine takes them, without distortion where the calibration has some."""
    for number, frame in enumerate(source.frames()):
        if plan.max_frames and number >= plan.max_frames:
            return
        image_bgr = limit_size(frame.image_bgr, plan.max_side_px)
        intrinsics = None if camera is None else scaled_intrinsics(camera, image_bgr.shape[1], image_bgr.shape[0])
        image_rgb = np.ascontiguousarray(undistorted(image_bgr, camera, intrinsics)[..., ::-1])
        offset_ns = time.time_ns() if frame.offset_ns is None else frame.offset_ns
        yield Frame(1 + offset_ns, image_rgb, intrinsics)


def scaled_intrinsics(camera: CameraFile, width_px: int, height_px: int) -> Intrinsics | None:
    """The pinhole camera of an image of this size; None for a lens that is none."""
    if camera.distortion_model not in PINHOLE_MODELS:
        return None
    x, y = width_px / camera.width_px, height_px / camera.height_px  # pixel centres are at integers
    fx_px, _, cx_px, _, fy_px, cy_px, *_ = camera.camera_matrix
    return Intrinsics(fx_px * x, fy_px * y, (cx_px + 0.5) * x - 0.5, (cy_px + 0.5) * y - 0.5, width_px, height_px)


def undistorted(
    image_bgr: NDArray[np.uint8], camera: CameraFile | None, intrinsics: Intrinsics | None
) -> NDArray[np.uint8]:
    """The image of the same camera with straight lines."""
    if camera is None or intrinsics is None or not any(camera.distortion):
        return image_bgr
    return np.asarray(cv2.undistort(image_bgr, intrinsics.matrix(), np.array(camera.distortion)), np.uint8)


def recorded_step(scene: SceneEstimate, started_ns: int) -> RecordedStep:
    """A step in the form that the evaluation of recordings reads; odom starts at the first camera, z up."""
    pose = None if scene.world_from_camera is None else assumed_mount() @ scene.world_from_camera
    odom_from_world = assumed_mount()
    positions = scene.tracks.positions_world @ odom_from_world[:3, :3].T + odom_from_world[:3, 3]
    return RecordedStep(
        stamp_ns=scene.stamp_ns,
        image_published_ns=started_ns,
        outputs_published_ns=time.time_ns(),
        depth=np.asarray(scene.depth, np.float32),
        camera_matrix=np.asarray(scene.intrinsics.matrix(), np.float64),
        mask=source_mask(scene.dynamic_mask, scene.model_from_source, scene.source_size_wh),
        odom_from_camera=pose,
        tracks=RecordedTracks(scene.tracks.ids, np.asarray(positions, np.float64), scene.tracks.dynamic),
        has_points=True,
    )
