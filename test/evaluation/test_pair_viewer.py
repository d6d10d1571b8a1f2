"""Two cameras that look at one scene are found again, whichever direction the network is surer of."""

import numpy as np
import pytest

from pomato_ros.evaluation.pair_viewer import PairDirection, PairScene, view_pair
from pomato_ros.geometry.camera import unproject
from pomato_ros.geometry.grid import pixel_grid
from pomato_ros.geometry.rigid import compose, invert, pose_exp, transform

HEIGHT, WIDTH, FOCAL_PX = 30, 40, 45.0
WORLD_FROM_CAMERA = np.stack((np.eye(4), pose_exp([0.4, -0.1, 0.2, 0.05, -0.2, 0.1])))


def points_of(view: int, camera: int) -> np.ndarray:
    """What each pixel of a view sees (random depths), in a camera's frame."""
    depth = np.random.default_rng(view).uniform(2, 5, size=(HEIGHT, WIDTH))
    matrix = np.array([[FOCAL_PX, 0, WIDTH / 2], [0, FOCAL_PX, HEIGHT / 2], [0, 0, 1]])
    points = unproject(pixel_grid(HEIGHT, WIDTH), depth, matrix)
    return transform(compose(invert(WORLD_FROM_CAMERA[camera]), WORLD_FROM_CAMERA[view]), points).astype(np.float32)


def direction(first: int, confidence: float) -> PairDirection:
    conf = np.full((HEIGHT, WIDTH), confidence, dtype=np.float32)
    return PairDirection(points_of(first, first), conf, points_of(1 - first, first), conf)


def relative(scene: PairScene) -> np.ndarray:
    return compose(invert(scene.world_from_camera[0]), scene.world_from_camera[1])


@pytest.mark.parametrize("surer", [0, 1])
def test_pose_focal_length_and_depth_are_found(surer: int) -> None:
    scene = view_pair((direction(0, 9.0 - surer), direction(1, 8.0 + surer)), min_confidence=3.0, seed=0)
    assert scene.focal_px == pytest.approx((FOCAL_PX, FOCAL_PX), rel=1e-5)
    np.testing.assert_array_equal(scene.world_from_camera[surer], np.eye(4))
    np.testing.assert_allclose(relative(scene), WORLD_FROM_CAMERA[1], atol=1e-4)
    for view in (0, 1):
        np.testing.assert_allclose(scene.depth[view], points_of(view, view)[..., 2], atol=1e-3)


def test_without_confident_pixels_there_is_no_pose_and_no_identity_instead() -> None:
    with pytest.raises(ValueError, match="no pose"):
        view_pair((direction(0, 2.0), direction(1, 2.0)), min_confidence=3.0, seed=0)
