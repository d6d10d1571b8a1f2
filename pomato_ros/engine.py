"""Read this first: a frame comes in, the window rolls, a source observes it, a scene comes out."""

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

from pomato_ros.config import PomatoConfig
from pomato_ros.latency import LatencyBudget, Setting, settings
from pomato_ros.pipeline import Pipeline, build_pipeline
from pomato_ros.sources.base import PredictionRequest
from pomato_ros.structures import Frame, SceneEstimate, Window
from pomato_ros.window import RollingWindow

LIKELY_SIZE_WH = (640, 480)  # px; of a camera that has not sent anything yet
TRACK_MATCHES = "matching pointmap of tracks"


@dataclass(frozen=True, slots=True)
class PendingFrame:
    """A frame that joined the window and has no scene yet."""

    window: Window  # of which it is the newest frame
    window_size: int  # of that window when it is full
    preprocess_s: float
    since_s: float  # performance counter


class Engine:
    """Online perception of one camera. All state lives here and in the parts it owns; ``reset`` clears it."""

    def __init__(self, config: PomatoConfig, pipeline: Pipeline | None = None) -> None:
        """Load the backend that ``config`` names, or use ``pipeline``.

        Raises:
            CheckpointError: the weights cannot be used.
            ConfigError: an option cannot be met on this machine or with this backend.
        """
        options = config.window
        self._config = config
        self._pipeline = build_pipeline(config) if pipeline is None else pipeline
        self._window = RollingWindow(options.window_size, options.overlap, options.mode)
        self._budget = LatencyBudget(settings(options.window_size, options.overlap, options.mode, options.window_hop))
        self._pending: list[PendingFrame] = []
        self._frames_taken = 0
        self._tracks_enabled = True

    def step(self, frame: Frame) -> SceneEstimate | None:
        """Take the newest frame; its scene, or None for one that ``window_stride`` leaves out or that waits.

        With ``window_hop`` frames wait for each other; :meth:`advance` gives the scenes of those before the newest too.

        Raises:
            UnusableFrame: as :meth:`advance`.
        """
        scenes = self.advance(frame)
        return scenes[-1] if scenes else None

    def advance(self, frame: Frame) -> tuple[SceneEstimate, ...]:
        """Take the newest frame; the scenes of all frames that have one now, oldest first.

        Raises:
            UnusableFrame: the frame is not newer than the last one or of another size (call ``reset`` first), too
                small for the source, or lacks what it needs.
            OutOfMemory: the device has no room for the step; the frames that waited are dropped.
        """
        if self._frames_taken % self._config.window.window_stride:
            self._frames_taken += 1
            return ()
        started = time.perf_counter()
        setting = self._budget.setting
        self._window.resize(setting.window_size)
        window = self._window.push(self._pipeline.prepare(frame))
        self._frames_taken += 1  # a frame that was refused leaves its place to the next one
        prepared = time.perf_counter()
        self._pending.append(PendingFrame(window, self._window.size, prepared - started, prepared))
        return self._evaluate(setting) if len(self._pending) >= setting.hop else ()

    def _evaluate(self, setting: Setting) -> tuple[SceneEstimate, ...]:
        """The scenes of all pending frames; the latency budget observes how long they took."""
        pending, self._pending = self._pending, []
        begun = time.perf_counter()
        omitted = self._why_tracks_are_omitted(setting)
        warmups = self._pipeline.warmup_count
        request = PredictionRequest(tracks=not omitted, stride=setting.stride)
        scenes = self._pipeline.evaluate([each.window for each in pending], request)
        scenes = [with_waiting(scene, each, begun, len(pending)) for scene, each in zip(scenes, pending, strict=True)]
        if self._pipeline.warmup_count == warmups:  # else the step took longer than later ones will
            used = dataclasses.replace(setting, window_size=pending[-1].window_size, hop=len(pending))
            allowed_s = self._config.window.max_latency_ms * 1e-3
            self._budget.observe(total_seconds(scenes, pending, begun), allowed_s, used)
        report, left_out = self._budget.report(), f"{TRACK_MATCHES}: {omitted}" if omitted else ""
        return tuple(dataclasses.replace(scene, budget=report, left_out=left_out) for scene in scenes)

    def _why_tracks_are_omitted(self, setting: Setting) -> str:
        """Why the source is not asked for 3-D correspondences of tracks; empty: it is asked."""
        if not self._config.scene.max_tracks:
            return "max_tracks is 0"
        if not self._tracks_enabled:
            return "nobody reads tracks"
        return "" if setting.match_tracks else "to keep max_latency_ms"

    def set_track_output_enabled(self, enabled: bool) -> None:
        """Whether tracks are read from the next step on; if not, the source need not match them in 3-D."""
        self._tracks_enabled = enabled

    @property
    def frames_waiting(self) -> int:
        """Frames that joined the window and have no scene yet; a reset or a failed step drops them."""
        return len(self._pending)

    def warm_up(self, size_wh: tuple[int, int] = LIKELY_SIZE_WH) -> None:
        """Do once what would make the first steps of a camera of ``size_wh`` slow, such as recording CUDA graphs.

        Raises:
            UnusableFrame: images of this size are too small for the source.
        """
        self._pipeline.warm_up(size_wh)

    def reset(self) -> None:
        """Forget window, tracks, pose and scale; the model stays."""
        self._window.clear()
        self._pending = []
        self._pipeline.reset()
        self._frames_taken = 0

    def update_config(self, config: PomatoConfig) -> None:
        """Use new values of the dynamic options from the next step on."""
        self._config = config
        self._pipeline.update_config(config)

    @property
    def image_size_px(self) -> int:
        """Long side of the prepared images."""
        return int(self.describe()["image_size_px"])

    def describe(self) -> dict[str, Any]:
        """Facts about the backend for logs and diagnostics."""
        return self._pipeline.describe()


def with_waiting(scene: SceneEstimate, frame: PendingFrame, begun_s: float, together: int) -> SceneEstimate:
    """``scene`` with the time that its frame took before evaluation began, also waiting if ``together`` is above 1."""
    before = {"waiting": begun_s - frame.since_s} if together > 1 else {}
    return dataclasses.replace(scene, stage_seconds={"preprocess": frame.preprocess_s, **scene.stage_seconds, **before})


def total_seconds(scenes: list[SceneEstimate], pending: list[PendingFrame], begun_s: float) -> dict[str, float]:
    """Time of a step by stage; frames are prepared while the first of them waits, which counts once."""
    seconds = {stage: sum(scene.stage_seconds[stage] for scene in scenes) for stage in scenes[0].stage_seconds}
    if "waiting" in seconds:
        seconds["waiting"] = begun_s - pending[0].since_s - sum(frame.preprocess_s for frame in pending[1:])
    return seconds
