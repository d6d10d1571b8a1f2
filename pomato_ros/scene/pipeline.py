"""A source behind the seam with the one estimator: windows in, scenes out."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from pomato_ros.config import PomatoConfig
from pomato_ros.scene.estimator import SceneEstimator
from pomato_ros.sources.base import PredictionRequest, Source
from pomato_ros.structures import Frame, PreparedFrame, SceneEstimate, Window


class ScenePipeline:
    """A :class:`pomato_ros.pipeline.Pipeline` of any source that speaks the records of `structures.py`."""

    warmup_count = 0

    def __init__(self, config: PomatoConfig, source: Source) -> None:
        """Estimate scenes of what ``source`` observes."""
        self.source = source
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
        return dataclasses.replace(scene, stage_seconds=seconds)

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
