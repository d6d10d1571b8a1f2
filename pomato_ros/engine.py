"""Read this first: a frame comes in, the window rolls, the network sees it, a scene comes out."""

import dataclasses
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import numpy as np

from pomato_ros.config import PomatoConfig, WindowOptions
from pomato_ros.errors import ConfigError
from pomato_ros.latency import LatencyBudget, Setting, settings
from pomato_ros.pointmap_scene.estimator import SceneEstimator
from pomato_ros.pointmap_scene.reference import wanted_of
from pomato_ros.sources.dust3r.prediction import Wanted, WindowPrediction
from pomato_ros.sources.dust3r.predictor import Predictor
from pomato_ros.sources.dust3r.preprocess import prepare_frame
from pomato_ros.structures import Frame, PreparedFrame, SceneEstimate, Window
from pomato_ros.window import RollingWindow

LIKELY_SIZE_WH = (640, 480)  # px; of a camera that has not sent anything yet
WARM_UP_ROUNDS = 2  # a piece is recorded when it comes again
STEPS_TOLD = 10  # from one line of the log to the next
TRACK_MATCHES = "matching pointmap of tracks"
LOGGER = logging.getLogger(__name__)


class WindowPredictor(Protocol):
    """What the engine needs of a network; tests put truth in its place."""

    def predict(self, window: Window, wanted: Wanted | None = None) -> WindowPrediction:
        """Both pair orders of a window against its key frame, at least what is ``wanted``; None: all."""

    def describe(self) -> dict[str, Any]:
        """Facts about the model: ``image_size_px``, the size its weights were trained at, and ``temporal_length``."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A frame that joined the window and has no scene yet."""

    window: Window  # of which it is the newest frame
    window_size: int  # of that window when it is full
    preprocess_s: float
    since_s: float  # performance counter


class Engine:
    """Online perception of one camera. All state lives here and in the parts it owns; ``reset`` clears it."""

    def __init__(self, config: PomatoConfig, predictor: WindowPredictor | None = None) -> None:
        """Load the model that ``config`` names, or use ``predictor``.

        Raises:
            CheckpointError: the weights cannot be used.
            ConfigError: an option cannot be met on this machine or with this model.
        """
        self._predictor = predictor or Predictor.from_options(config.model)
        self._facts = self._predictor.describe()
        check_window(config.window.window_size, self._facts.get("temporal_length", 0))
        self._config = config
        self._window = RollingWindow(config.window.window_size, config.window.overlap, config.window.mode)
        options = config.window
        self._budget = LatencyBudget(settings(options.window_size, options.overlap, options.mode, options.window_hop))
        self._waiting: list[Waiting] = []
        self._estimator = SceneEstimator(config)
        self._frames_taken = 0
        self._tracks_are_read = True

    def step(self, frame: Frame) -> SceneEstimate | None:
        """Take the newest frame; what it shows, or None for one that ``window_stride`` leaves out or that waits.

        With ``window_hop`` frames wait for each other; :meth:`advance` gives the scenes of those before the newest too.

        Raises:
            UnusableFrame: as :meth:`advance`.
        """
        scenes = self.advance(frame)
        return scenes[-1] if scenes else None

    def advance(self, frame: Frame) -> tuple[SceneEstimate, ...]:
        """Take the newest frame; the scenes of all frames that have one now, oldest first.

        Raises:
            UnusableFrame: the frame is not newer than the last one or of another size (call ``reset`` first), or too
                small for the network.
        """
        if self._frames_taken % self._config.window.window_stride:
            self._frames_taken += 1
            return ()
        started = time.perf_counter()
        setting = self._budget.setting
        self._window.resize(setting.window_size)
        window = self._window.push(prepare_frame(frame, self.image_size_px))
        self._frames_taken += 1  # a frame that was refused leaves its place to the next one
        prepared = time.perf_counter()
        self._waiting.append(Waiting(window, self._window.size, prepared - started, prepared))
        return self._answer(setting) if len(self._waiting) >= setting.hop else ()

    def _answer(self, setting: Setting) -> tuple[SceneEstimate, ...]:
        """The scenes of all frames that wait."""
        waiting, self._waiting = self._waiting, []
        unmatched = self._why_unmatched(setting)
        self._estimator.match_tracks = not unmatched
        news = self._news()
        begun = time.perf_counter()
        groups = [list(group) for _, group in groupby(waiting, key=lambda each: key_ns(each.window))]
        scenes = [scene for group in groups for scene in self._evaluate(group, setting.stride)]
        seconds = {stage: sum(scene.stage_seconds[stage] for scene in scenes) for stage in scenes[0].stage_seconds}
        if len(waiting) > 1:
            waits = [{"waiting": begun - each.since_s} for each in waiting]
            scenes = [
                dataclasses.replace(scene, stage_seconds=scene.stage_seconds | wait)
                for scene, wait in zip(scenes, waits, strict=True)
            ]
            seconds["waiting"] = begun - waiting[0].since_s - sum(each.preprocess_s for each in waiting[1:])
        used = dataclasses.replace(setting, window_size=waiting[-1].window_size, hop=len(waiting))
        if self._news() == news:  # a step that recorded something says nothing of those to come
            self._budget.observe(seconds, self._config.window.max_latency_ms * 1e-3, used)
        said, left_out = self._budget.describe(), f"{TRACK_MATCHES}: {unmatched}" if unmatched else ""
        return tuple(dataclasses.replace(scene, budget=said, left_out=left_out) for scene in scenes)

    def _news(self) -> int:
        """How often the network did something for the first or second time, where it records what it does."""
        replays = self._predictor.replays if isinstance(self._predictor, Predictor) else None
        return replays.news if replays is not None else 0

    def _why_unmatched(self, setting: Setting) -> str:
        """Why the network is not asked where tracks are, or nothing."""
        if not self._config.scene.max_tracks:
            return "max_tracks is 0"
        if not self._tracks_are_read:
            return "nobody reads tracks"
        return "" if setting.match_tracks else "to keep max_latency_ms"

    def heed_readers(self, *, tracks: bool) -> None:
        """What is read of the scenes from the next step on; tracks that nobody reads are found in the image alone."""
        self._tracks_are_read = tracks

    @property
    def frames_waiting(self) -> int:
        """Frames that joined the window and have no scene yet; a reset or a step that fails lets go of them."""
        return len(self._waiting)

    def _evaluate(self, group: Sequence[Waiting], stride: int) -> Iterator[SceneEstimate]:
        """The scenes of frames with one key; each has its share of the network's time."""
        started = time.perf_counter()
        wanted = wanted_together([self._estimator.wanted(each.window) for each in group], stride)
        prediction = self._predictor.predict(group[-1].window, wanted)
        model_s = (time.perf_counter() - started) / len(group)
        for each in group:
            updating = time.perf_counter()
            scene = self._estimator.update(each.window, prediction)
            scene_s = time.perf_counter() - updating
            seconds = {"preprocess": each.preprocess_s, "model": model_s, "scene": scene_s}
            yield dataclasses.replace(scene, stage_seconds=seconds)

    def warm_up(self, size_wh: tuple[int, int] = LIKELY_SIZE_WH) -> None:
        """Let the network record what it will replay, so that no step of a camera of ``size_wh`` stops for it.

        A camera of another shape has it recorded in its first steps. Where nothing is recorded this does nothing.

        Raises:
            UnusableFrame: images of this size are too small for the network.
        """
        network = self._predictor
        if not isinstance(network, Predictor) or network.replays is None:
            return
        started = time.perf_counter()
        blank = prepare_frame(Frame(0, np.zeros((size_wh[1], size_wh[0], 3), np.uint8)), self.image_size_px)
        record_pieces(network, self._config.window, blank)
        took_s = time.perf_counter() - started
        LOGGER.info("recorded the network in %d pieces for %dx%d px, %.1f s", network.replays.count, *size_wh, took_s)

    def reset(self) -> None:
        """Forget window, tracks, pose and scale; the model stays."""
        self._window.clear()
        self._waiting = []
        self._estimator.reset()
        if isinstance(self._predictor, Predictor):
            self._predictor.forget()
        self._frames_taken = 0

    def update_config(self, config: PomatoConfig) -> None:
        """Use new values of the dynamic options from the next step on."""
        self._config = config
        self._estimator.config = config

    @property
    def image_size_px(self) -> int:
        """Long side of the network's input."""
        return self._config.window.image_size or int(self._facts["image_size_px"])

    def describe(self) -> dict[str, Any]:
        """Facts about the model for logs and diagnostics."""
        return {**self._facts, "image_size_px": self.image_size_px}


def key_ns(window: Window) -> int:
    """The stamp of the key; windows that follow one another and share it are beginnings of one and evaluated as one."""
    return window.frames[window.key].stamp_ns


def wanted_together(each: Sequence[Wanted], stride: int) -> Wanted:
    """All that is wanted of windows that are beginnings of one, of the longest of them."""

    def union(parts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        return tuple(sorted(set().union(*parts)))

    return Wanted(
        union([wanted.slots for wanted in each]),
        union([wanted.from_key_heads for wanted in each]),
        union([wanted.to_key_heads for wanted in each]),
        stride,
    )


def record_pieces(network: Predictor, options: WindowOptions, frame: PreparedFrame) -> None:
    """Have ``network`` record every piece of a stream of frames of the size of ``frame``, if it records at all."""
    if network.replays is None:
        return
    for number, (window, wanted) in enumerate(usual_windows(options, frame)):
        network.predict(window, wanted)
        if number % STEPS_TOLD == STEPS_TOLD - 1:
            LOGGER.info("recording the network: %d steps, %d pieces so far", number + 1, network.replays.count)
    network.forget()


def usual_windows(options: WindowOptions, frame: PreparedFrame) -> Iterator[tuple[Window, Wanted]]:
    """Windows of copies of one frame, every kind that a stream has, :data:`WARM_UP_ROUNDS` times from the first on.

    Each comes with and without the matching pointmap of tracks.
    """
    period = options.window_size - options.overlap if options.mode == "anchored" else options.window_size
    steady = math.lcm(period, options.window_hop)
    for _ in range(WARM_UP_ROUNDS):
        filling = RollingWindow(options.window_size, options.overlap, options.mode)
        waiting: list[Window] = []
        for number in range(options.window_size + steady):
            waiting.append(filling.push(dataclasses.replace(frame, stamp_ns=number)))
            if len(waiting) < options.window_hop:
                continue
            for _, group in groupby(waiting, key=key_ns):
                together = list(group)
                for match_tracks in (False, True):
                    each = [
                        wanted_of(window, (usual_slot(window, number),), number < options.window_hop, match_tracks)
                        for window in together
                    ]
                    yield together[-1], wanted_together(each, stride=1)
            waiting = []


def usual_slot(window: Window, number: int) -> int:
    """The frame whose pair is read; rolling, the reference moves from the newest to the oldest place."""
    newest = len(window.frames) - 1
    return newest if window.key == 0 else max(0, newest - 1 - number % len(window.frames))


def check_window(window_size: int, temporal_length: int) -> None:
    """Refuse windows that the weights' motion modules do not reach over; 0 is a network without them.

    Raises:
        ConfigError: the window is too long.
    """
    if temporal_length and window_size > temporal_length:
        raise ConfigError(
            f"window_size must be at most {temporal_length} with these weights, got {window_size}; choose a shorter "
            "window or weights with a longer temporal_length"
        )
