"""The node with an engine that knows the truth of the clip that `checkpoint` names; run by test_demo."""

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pomato_ros.config import PomatoConfig
from pomato_ros.evaluation.recorded_run import load_truth
from pomato_ros.ros import node
from pomato_ros.structures import Frame, Intrinsics, SceneEstimate, TrackingState, TrackSet


class TruthEngine:
    """Answers with the truth; the first frame it gets is the clip's first."""

    def __init__(self, config: PomatoConfig) -> None:
        truth = load_truth(Path(config.model.checkpoint))
        if truth is None:
            raise FileNotFoundError(f"no truth at {config.model.checkpoint}")
        self.truth = truth
        self.first_ns: int | None = None
        self.frames_waiting = 0

    def reset(self) -> None:
        self.first_ns = None

    def set_track_output_enabled(self, enabled: bool) -> None:
        pass

    def update_config(self, config: PomatoConfig) -> None:
        pass

    def describe(self) -> dict[str, Any]:
        return {"checkpoint": "truth", "device": "cpu", "precision": "fp64"}

    def advance(self, frame: Frame) -> tuple[SceneEstimate, ...]:
        return (self.step(frame),)

    def step(self, frame: Frame) -> SceneEstimate:
        self.first_ns = frame.stamp_ns if self.first_ns is None else self.first_ns
        index = int(np.searchsorted(self.truth.offsets_ns, frame.stamp_ns - self.first_ns))
        depth, matrix = self.truth.depth_m[index], self.truth.camera_matrix
        height, width = depth.shape
        columns, rows = np.meshgrid(np.arange(width), np.arange(height))
        rays = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ np.linalg.inv(matrix).T
        points = (rays * depth[..., None]).astype(np.float32)
        pose = np.linalg.inv(self.truth.world_from_camera[0]) @ self.truth.world_from_camera[index]
        scale = width / frame.image_rgb.shape[1]
        return SceneEstimate(
            stamp_ns=frame.stamp_ns,
            state=TrackingState.TRACKING,
            frames_in_window=12,
            image_rgb=np.asarray(cv2.resize(frame.image_rgb, (width, height)), np.uint8),
            intrinsics=Intrinsics(matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], width, height),
            intrinsics_known=frame.intrinsics is not None,
            model_from_source=np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2], [0, 0, 1.0]]),
            source_size_wh=(frame.image_rgb.shape[1], frame.image_rgb.shape[0]),
            points_camera=points,
            confidence=np.full((height, width), 3.0, np.float32),
            dynamic_mask=self.truth.moving[index],
            world_from_camera=pose,
            pose_covariance=np.eye(6) * 1e-4,
            pose_inlier_ratio=1.0,
            metres_per_unit=1.0,
            tracks=self.tracks(points, pose, index),
            stage_seconds={},
        )

    def tracks(self, points: np.ndarray, pose: np.ndarray, index: int) -> TrackSet:
        """Every sixteenth pixel of the frame."""
        positions = points[::16, ::16].reshape(-1, 3) @ pose[:3, :3].T + pose[:3, 3]
        count = len(positions)
        return TrackSet(
            ids=np.arange(count, dtype=np.int64),
            positions_world=positions.astype(np.float64),
            velocities_world=np.zeros((count, 3)),
            pixels=np.full((count, 2), np.nan, np.float32),
            confidence=np.full(count, 3.0, np.float32),
            visible=np.ones(count, bool),
            dynamic=self.truth.moving[index][::16, ::16].ravel(),
            age_frames=np.ones(count, np.int64),
        )


if __name__ == "__main__":
    node.PomatoNode.__init__.__kwdefaults__["engine_factory"] = TruthEngine
    sys.exit(node.main())
