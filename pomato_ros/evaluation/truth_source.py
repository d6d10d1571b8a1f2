"""A source that knows the truth of a rendered clip, with white noise of known size, to test laws and estimators."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pomato_ros.errors import UnusableFrame
from pomato_ros.geometry.rigid import invert
from pomato_ros.sources.base import Capabilities, PredictionRequest
from pomato_ros.structures import (
    Correspondence,
    DepthMap,
    FloatArray,
    Frame,
    Intrinsics,
    MotionEvidence,
    Observation,
    PosePrior,
    PreparedFrame,
    Window,
)
from pomato_ros.synthetic.clip import Clip

EVIDENCE = 3.0  # log-odds of a pixel that truly moves, and minus those of one at rest
OCCLUSION_SHARE = 0.01  # of depth, by which a point behind what is seen there is occluded


@dataclass(frozen=True, slots=True)
class TruthNoise:
    """Standard deviations of white noise; all of it is stated in the records."""

    depth_share: float = 0.01  # of ln z
    pixel: float = 0.3  # px
    position_m: float = 0.005
    rotation_rad: float = 0.001


class TruthSource:
    """A :class:`pomato_ros.sources.base.Source` of one clip's frames, recognised by their stamps."""

    def __init__(self, clip: Clip, noise: TruthNoise | None = None, seed: int = 0) -> None:
        """Noise of a frame depends on ``seed`` and the frame alone."""
        self._clip = clip
        self._noise = noise or TruthNoise()
        self._seed = seed
        self._number = {stamp_ns: number for number, stamp_ns in enumerate(clip.stamps_ns)}

    @property
    def capabilities(self) -> Capabilities:
        """All."""
        return Capabilities(metric=True, dense_correspondence=True, pose_prior=True, motion_evidence=True)

    def prepare(self, frame: Frame) -> PreparedFrame:
        """The frame as it is.

        Raises:
            UnusableFrame: it is not of the clip.
        """
        height, width = frame.image_rgb.shape[:2]
        if frame.stamp_ns not in self._number or (width, height) != self._size_wh:
            raise UnusableFrame(
                f"expected a frame of the clip, {self._size_wh} px, got one of {(width, height)} px at "
                f"{frame.stamp_ns} ns"
            )
        return PreparedFrame(frame.stamp_ns, frame.image_rgb, frame.intrinsics, np.eye(3), (width, height))

    def predict(self, window: Window, request: PredictionRequest) -> Observation:
        """Truth of the newest frame, with noise."""
        numbers = [self._number[frame.stamp_ns] for frame in window.frames]
        newest = numbers[-1]
        true_m: FloatArray = self._clip.depth_m[newest].numpy()
        ratio = np.exp(self._draws(newest, 0).normal(0.0, self._noise.depth_share, true_m.shape))
        valid = np.isfinite(true_m) & (true_m > 0)
        inverse = np.where(valid, ratio / np.where(valid, true_m, 1.0), 0.0).astype(np.float32)
        depth = DepthMap(inverse, (inverse * self._noise.depth_share).astype(np.float32), valid, metric=True)
        moving = self._clip.moving(newest).numpy()
        return Observation(
            depth,
            lambda gap: self._correspondence(newest, numbers[-1 - gap], gap) if 0 < gap < len(numbers) else None,
            tuple(self._prior(newest, numbers[-2], 1) for _ in range(len(numbers) > 1)),
            MotionEvidence(np.where(moving, EVIDENCE, -EVIDENCE).astype(np.float32)),
        )

    def warm_up(self, size_wh: tuple[int, int]) -> None:
        """Nothing to do."""

    def reset(self) -> None:
        """Nothing is kept of frames."""

    def describe(self) -> dict[str, Any]:
        """Backend and size."""
        return {"backend": "truth", "image_size_px": max(self._size_wh)}

    @property
    def _size_wh(self) -> tuple[int, int]:
        camera: Intrinsics = self._clip.intrinsics
        return camera.width_px, camera.height_px

    def _draws(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, *numbers])

    def _correspondence(self, newest: int, earlier: int, gap: int) -> Correspondence:
        """Visible where the point at the earlier time is on that image and nothing is before it."""
        clip, camera = self._clip, self._clip.intrinsics
        points: FloatArray = clip.points_matched(newest, earlier).numpy()
        with np.errstate(divide="ignore", invalid="ignore"):
            x = camera.fx_px * points[..., 0] / points[..., 2] + camera.cx_px
            y = camera.fy_px * points[..., 1] / points[..., 2] + camera.cy_px
        inside = (points[..., 2] > 0) & (x >= 0) & (x <= camera.width_px - 1) & (y >= 0) & (y <= camera.height_px - 1)
        columns, rows = (np.rint(np.where(inside, each, 0.0)).astype(int) for each in (x, y))
        seen_m = clip.depth_m[earlier].numpy()[rows, columns]
        visible = inside & (points[..., 2] < (1.0 + OCCLUSION_SHARE) * seen_m)
        pixels = np.stack((x, y), axis=-1) + self._draws(newest, earlier, 1).normal(
            0.0, self._noise.pixel, (*x.shape, 2)
        )
        sigma = np.full(x.shape, self._noise.pixel, np.float32)
        return Correspondence(gap, pixels.astype(np.float32), sigma, visible, points)

    def _prior(self, newest: int, earlier: int, gap: int) -> PosePrior:
        poses = self._clip.world_from_camera.numpy()
        earlier_from_newest = np.asarray(invert(poses[earlier]) @ poses[newest], np.float64)
        noise = self._noise
        earlier_from_newest[:3, 3] += self._draws(newest, earlier, 2).normal(0.0, noise.position_m, 3)
        covariance = np.diag([noise.position_m**2] * 3 + [noise.rotation_rad**2] * 3)
        return PosePrior(gap, earlier_from_newest, covariance)
