"""The published answer for two images: a focal length each, and the pose of one camera in the other."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomato_ros.geometry.camera import focal_by_irls, half_size_principal_point
from pomato_ros.geometry.grid import pixel_grid
from pomato_ros.geometry.pnp import PnpFailure, solve_pose
from pomato_ros.geometry.rigid import invert, transform

RANSAC_THRESHOLD_PX = 5.0
RANSAC_ITERATIONS = 100


@dataclass(frozen=True, slots=True)
class PairDirection:
    """Predictions for two images, view 1 first."""

    points_1: NDArray[np.float32]  # (h, w, 3) in camera 1
    conf_1: NDArray[np.float32]  # (h, w)
    points_2: NDArray[np.float32]  # pixels of view 2, in camera 1
    conf_2: NDArray[np.float32]

    @property
    def score(self) -> float:
        """How sure the network is of this direction."""
        return float(self.conf_1.mean()) * float(self.conf_2.mean())


@dataclass(frozen=True, slots=True)
class PairScene:
    """Two cameras in one frame, that of the camera which is view 1 of the better direction."""

    focal_px: tuple[float, float]
    world_from_camera: NDArray[np.float64]  # (2, 4, 4)
    depth: NDArray[np.float64]  # (2, h, w)


def view_pair(directions: tuple[PairDirection, PairDirection], min_confidence: float, seed: int) -> PairScene:
    """Two images (a, b) from the directions (a as view 1, b as view 1).

    Raises:
        ValueError: the pose of the other camera cannot be solved.
    """
    height, width = directions[0].conf_1.shape
    principal_point = half_size_principal_point(height, width)
    focal_px = (
        focal_by_irls(directions[0].points_1, principal_point),
        focal_by_irls(directions[1].points_1, principal_point),
    )
    first = 0 if directions[0].score > directions[1].score else 1
    best, other = directions[first], 1 - first
    chosen = best.conf_2 > min_confidence
    matrix = np.array([[focal_px[other], 0, principal_point[0]], [0, focal_px[other], principal_point[1]], [0, 0, 1.0]])
    solved = solve_pose(
        pixel_grid(height, width)[chosen],
        best.points_2[chosen],
        matrix,
        threshold_px=RANSAC_THRESHOLD_PX,
        iterations=RANSAC_ITERATIONS,
        seed=seed,
    )
    if isinstance(solved, PnpFailure):
        raise ValueError(f"the second camera has no pose: {solved.reason}")
    world_from_camera, depth = np.stack((np.eye(4), np.eye(4))), np.empty((2, height, width))
    world_from_camera[other] = solved.reference_from_camera
    depth[first] = best.points_1[..., 2]
    depth[other] = transform(invert(solved.reference_from_camera), best.points_2)[..., 2]
    return PairScene(focal_px=focal_px, world_from_camera=world_from_camera, depth=depth)
