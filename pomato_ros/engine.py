"""Read this first: a frame comes in, the window rolls, the network sees it, a scene comes out."""

import dataclasses
import time
from typing import Any, Protocol

from pomato_ros.config import ConfigError, PomatoConfig
from pomato_ros.inference.budget import LatencyBudget, window_levels
from pomato_ros.inference.predictor import Predictor
from pomato_ros.inference.preprocess import prepare_frame
from pomato_ros.inference.window import RollingWindow
from pomato_ros.scene.estimator import SceneEstimator
from pomato_ros.structures import Frame, SceneEstimate, Wanted, Window, WindowPrediction


class WindowPredictor(Protocol):
    """What the engine needs of a network; tests put truth in its place."""

    def predict(self, window: Window, wanted: Wanted | None = None) -> WindowPrediction:
        """Both pair orders of a window against its key frame, at least what is ``wanted``; None: all."""

    def describe(self) -> dict[str, Any]:
        """Facts about the model: ``image_size_px``, the size its weights were trained at, and ``temporal_length``."""


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
        self._budget = LatencyBudget(window_levels(options.window_size, options.overlap, options.mode))
        self._estimator = SceneEstimator(config)
        self._frames_taken = 0

    def step(self, frame: Frame) -> SceneEstimate | None:
        """Take the newest frame; what it shows, or None for a frame that ``window_stride`` leaves out.

        Raises:
            ValueError: the frame is not newer than the last one or of another size (call ``reset`` first), or too
                small for the network.
        """
        if self._frames_taken % self._config.window.window_stride:
            self._frames_taken += 1
            return None
        started = time.perf_counter()
        self._window.resize(self._budget.window_size)
        window = self._window.push(prepare_frame(frame, self.image_size_px))
        self._frames_taken += 1  # a frame that was refused leaves its place to the next one
        prepared = time.perf_counter()
        prediction = self._predictor.predict(window, self._estimator.wanted(window))
        predicted = time.perf_counter()
        scene = self._estimator.update(window, prediction)
        seconds = {
            "preprocess": prepared - started,
            "model": predicted - prepared,
            "scene": time.perf_counter() - predicted,
        }
        self._budget.observe(seconds, self._config.window.max_latency_ms * 1e-3, self._window.size)
        return dataclasses.replace(scene, stage_seconds=seconds, budget=self._budget.describe())

    def reset(self) -> None:
        """Forget window, tracks, pose and scale; the model stays."""
        self._window.clear()
        self._estimator.reset()
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
