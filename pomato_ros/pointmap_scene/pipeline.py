"""The pointmap networks with the estimator that reads their pairs of pointmaps: windows in, scenes out."""

import dataclasses
import logging
import math
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from pomato_ros.config import PomatoConfig, WindowOptions
from pomato_ros.pointmap_scene.estimator import SceneEstimator
from pomato_ros.pointmap_scene.reference import wanted_of
from pomato_ros.sources.base import PredictionRequest
from pomato_ros.sources.dust3r.pomato_source import WindowPredictor, check_window
from pomato_ros.sources.dust3r.prediction import Wanted
from pomato_ros.sources.dust3r.predictor import Predictor
from pomato_ros.sources.dust3r.preprocess import prepare_frame
from pomato_ros.structures import Frame, PreparedFrame, SceneEstimate, Window
from pomato_ros.window import RollingWindow

WARM_UP_ROUNDS = 2  # a piece is recorded when it comes again
STEPS_LOGGED = 10  # from one line of the log to the next
LOGGER = logging.getLogger(__name__)


class PointmapPipeline:
    """A :class:`pomato_ros.pipeline.Pipeline` of a network that gives pairs of pointmaps."""

    def __init__(self, config: PomatoConfig, predictor: WindowPredictor | None = None) -> None:
        """Load the network that ``config`` names, or use ``predictor``.

        Raises:
            CheckpointError: the weights cannot be used.
            ConfigError: an option cannot be met on this machine or with these weights.
        """
        self.predictor = predictor or Predictor.from_options(config.model)
        self._facts = self.predictor.describe()
        check_window(config.window.window_size, self._facts.get("temporal_length", 0))
        self._config = config
        self.estimator = SceneEstimator(config)

    def prepare(self, frame: Frame) -> PreparedFrame:
        """As :func:`pomato_ros.sources.dust3r.preprocess.prepare_frame`, at the size of the options or the weights."""
        return prepare_frame(frame, self._image_size_px)

    def evaluate(self, windows: Sequence[Window], request: PredictionRequest) -> list[SceneEstimate]:
        """The scene of each window; windows with one key are evaluated together."""
        self.estimator.match_tracks = request.tracks
        groups = [list(group) for _, group in groupby(windows, key=key_ns)]
        return [scene for group in groups for scene in self._evaluate_together(group, request.stride)]

    @property
    def warmup_count(self) -> int:
        """How often the network did something for the first or second time, where it records what it does."""
        replays = self.predictor.replays if isinstance(self.predictor, Predictor) else None
        return replays.warmup_count if replays is not None else 0

    def warm_up(self, size_wh: tuple[int, int]) -> None:
        """Record what the network will replay for a camera of ``size_wh``; where nothing is recorded, do nothing.

        Raises:
            UnusableFrame: images of this size are too small for the network.
        """
        network = self.predictor
        if not isinstance(network, Predictor) or network.replays is None:
            return
        started = time.perf_counter()
        blank = self.prepare(Frame(0, np.zeros((size_wh[1], size_wh[0], 3), np.uint8)))
        record_pieces(network, self._config.window, blank)
        took_s = time.perf_counter() - started
        LOGGER.info("recorded the network in %d pieces for %dx%d px, %.1f s", network.replays.count, *size_wh, took_s)

    def reset(self) -> None:
        """Start a new world; weights and recordings stay."""
        self.estimator.reset()
        if isinstance(self.predictor, Predictor):
            self.predictor.reset()

    def update_config(self, config: PomatoConfig) -> None:
        """Use new values of the dynamic options from the next window on."""
        self._config = config
        self.estimator.config = config

    def describe(self) -> dict[str, Any]:
        """Facts about the model for logs and diagnostics."""
        return {**self._facts, "image_size_px": self._image_size_px}

    @property
    def _image_size_px(self) -> int:
        """Long side of the network's input."""
        return self._config.window.image_size or int(self._facts["image_size_px"])

    def _evaluate_together(self, group: Sequence[Window], stride: int) -> Iterator[SceneEstimate]:
        """The scenes of windows with one key; each has its share of the network's time."""
        started = time.perf_counter()
        wanted = wanted_together([self.estimator.wanted(window) for window in group], stride)
        prediction = self.predictor.predict(group[-1], wanted)
        model_s = (time.perf_counter() - started) / len(group)
        for window in group:
            updating = time.perf_counter()
            scene = self.estimator.update(window, prediction)
            seconds = {"model": model_s, "scene": time.perf_counter() - updating}
            yield dataclasses.replace(scene, stage_seconds=seconds)


def key_ns(window: Window) -> int:
    """The stamp of the key; consecutive windows that share it are beginnings of one and evaluated as one."""
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
        if number % STEPS_LOGGED == STEPS_LOGGED - 1:
            LOGGER.info("recording the network: %d steps, %d pieces so far", number + 1, network.replays.count)
    network.reset()


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
