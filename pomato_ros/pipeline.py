"""A source together with the estimator that reads it: what the engine runs, whatever the backend."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any, Protocol

from pomato_ros.config import ARCHITECTURES, PomatoConfig
from pomato_ros.pointmap_scene.pipeline import PointmapPipeline
from pomato_ros.scene.estimator import SceneEstimator
from pomato_ros.sources.base import PredictionRequest, Source
from pomato_ros.sources.metric_scale import MetricSource
from pomato_ros.sources.registry import SOURCES
from pomato_ros.structures import Frame, PreparedFrame, SceneEstimate, Window


class Pipeline(Protocol):
    """Windows of prepared frames in, scenes out; it keeps all that is known of earlier frames."""

    def prepare(self, frame: Frame) -> PreparedFrame:
        """Resize and crop a frame to the size that the source works at.

        Raises:
            UnusableFrame: the frame lacks what the source needs, or is too small.
        """

    def evaluate(self, windows: Sequence[Window], request: PredictionRequest) -> list[SceneEstimate]:
        """The scene of the newest frame of each of consecutive windows, with the time of each stage.

        Raises:
            OutOfMemory: the device has no room for windows of this size.
        """

    @property
    def warmup_count(self) -> int:
        """Rises with every evaluation that is slower than later ones of its kind, as while graphs are recorded."""

    def warm_up(self, size_wh: tuple[int, int]) -> None:
        """Do once what would make the first steps of a camera of this size slow.

        Raises:
            UnusableFrame: images of this size are too small.
        """

    def reset(self) -> None:
        """Start a new world: forget frames, pose, scale and tracks."""

    def update_config(self, config: PomatoConfig) -> None:
        """Use new values of the dynamic options from the next window on."""

    def describe(self) -> dict[str, Any]:
        """Facts for logs and diagnostics; at least ``image_size_px``."""


class ScenePipeline:
    """The pipeline of any source that speaks the records of `structures.py`."""

    def __init__(self, config: PomatoConfig, source: Source) -> None:
        """Estimate scenes of what ``source`` observes."""
        self.source = source if source.capabilities.metric else MetricSource(source, config.scale)
        self.estimator = SceneEstimator(config)

    def prepare(self, frame: Frame) -> PreparedFrame:
        """The source's own preparation.

        Raises:
            UnusableFrame: the frame lacks what the source needs, or is too small.
        """
        return self.source.prepare(frame)

    def evaluate(self, windows: Sequence[Window], request: PredictionRequest) -> list[SceneEstimate]:
        """The scene of the newest frame of each window."""
        return [self._evaluate(window, request) for window in windows]

    def _evaluate(self, window: Window, request: PredictionRequest) -> SceneEstimate:
        started = time.perf_counter()
        observation = self.source.predict(window, request)
        observed = time.perf_counter()
        scene = self.estimator.update(window, observation)
        seconds = {"model": observed - started, "scene": time.perf_counter() - observed}
        return dataclasses.replace(scene, stage_seconds=seconds, facts=observation.facts)

    @property
    def warmup_count(self) -> int:
        """As the source counts among its facts; 0 where nothing is recorded."""
        return int(self.source.describe().get("warmup_count", 0))

    def warm_up(self, size_wh: tuple[int, int]) -> None:
        """Let the source prepare for a camera of this size."""
        self.source.warm_up(size_wh)

    def reset(self) -> None:
        """Start a new world."""
        self.source.reset()
        self.estimator.reset()

    def update_config(self, config: PomatoConfig) -> None:
        """Use new values of the dynamic options from the next window on."""
        self.estimator.config = config

    def describe(self) -> dict[str, Any]:
        """The source's facts."""
        return self.source.describe()


def build_pipeline(config: PomatoConfig) -> Pipeline:
    """The pipeline that the options name.

    Raises:
        CheckpointError: the weights cannot be used.
        ConfigError: an option cannot be met on this machine or with this backend.
    """
    backend = config.model.named_backend
    if backend in ARCHITECTURES:
        return PointmapPipeline(config)
    return ScenePipeline(config, SOURCES[backend](config))
