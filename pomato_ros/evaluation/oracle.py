"""A predictor that knows the truth: a rendered clip's own pointmaps in place of a network's."""

from typing import Any

import torch

from pomato_ros.config import PomatoConfig
from pomato_ros.engine import Engine
from pomato_ros.pointmap_scene.pipeline import PointmapPipeline
from pomato_ros.sources.dust3r.pomato_source import WindowPredictor
from pomato_ros.sources.dust3r.prediction import PairPrediction, Wanted, WindowPrediction
from pomato_ros.structures import Frame, Window
from pomato_ros.synthetic.clip import Clip


class OraclePredictor:
    """Answers for windows of one clip's frames, recognised by their stamps, in a scale that is not the metre."""

    def __init__(self, clip: Clip, pair_scale: float = 0.7, noise: float = 0.0, seed: int = 0) -> None:
        """``pair_scale``: model units per metre; ``noise``: relative depth noise, one draw a pixel and pointmap."""
        self._clip = clip
        self._scale = pair_scale
        self._noise = noise
        self._generator = torch.Generator().manual_seed(seed)

    def describe(self) -> dict[str, Any]:
        """As the real predictor."""
        return {"image_size_px": max(self._clip.intrinsics.width_px, self._clip.intrinsics.height_px)}

    def predict(self, window: Window, wanted: Wanted | None = None) -> WindowPrediction:
        """Truth for both pair orders."""
        numbers = [self._clip.stamps_ns.index(frame.stamp_ns) for frame in window.frames]
        key = numbers[window.key]
        numbers = numbers if wanted is None else [numbers[slot] for slot in wanted.slots]
        return WindowPrediction(
            key=window.key,
            from_key=self._rows([(t, key) for t in numbers]),
            to_key=self._rows([(key, t) for t in numbers]),
            slots=None if wanted is None else wanted.slots,
        )

    def _rows(self, pairs: list[tuple[int, int]]) -> PairPrediction:
        clip = self._clip
        points_1 = torch.stack([clip.points_camera(one) for one, _ in pairs])
        points_2 = torch.stack([clip.points_transferred(two, one) for one, two in pairs])
        matched = torch.stack([clip.points_matched(two, one) for one, two in pairs])
        conf = torch.full(points_1.shape[:-1], 5.0)
        return PairPrediction(self._err(points_1), conf, self._err(points_2), conf, self._err(matched), conf)

    def _err(self, points: torch.Tensor) -> torch.Tensor:
        noise = self._noise * torch.randn(points.shape[:-1], generator=self._generator)
        return self._scale * points * (1 + noise)[..., None]


def pointmap_engine(config: PomatoConfig, predictor: WindowPredictor) -> Engine:
    """An engine with ``predictor`` in the network's place."""
    return Engine(config, PointmapPipeline(config, predictor))


def frame_of(clip: Clip, t: int, *, calibrated: bool = True) -> Frame:
    """Frame ``t`` of a clip as a camera would give it."""
    return Frame(clip.stamps_ns[t], clip.images[t].numpy(), clip.intrinsics if calibrated else None)
