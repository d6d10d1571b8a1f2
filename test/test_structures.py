"""The nouns: conventions that everything else relies on."""

import dataclasses
import inspect

import numpy as np
import pytest
import torch

from pomato_ros import structures
from pomato_ros.pointmap_scene.tracks import empty_track_set
from pomato_ros.structures import Intrinsics, SceneEstimate, TrackingState

NOUNS = [item for _, item in inspect.getmembers(structures, dataclasses.is_dataclass) if inspect.isclass(item)]


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: noun.__name__)
def test_nouns_are_values_that_nobody_changes(noun: type) -> None:
    assert noun.__dataclass_params__.frozen
    assert "__slots__" in vars(noun)
    assert inspect.getdoc(noun)


def test_a_camera_matrix_maps_the_optical_axis_to_the_principal_point() -> None:
    camera = Intrinsics(400.0, 410.0, 319.5, 239.5, 640, 480)
    pixel = camera.matrix() @ [0.0, 0.0, 5.0]
    np.testing.assert_allclose(pixel / pixel[2], [319.5, 239.5, 1.0])
    right, down = camera.matrix() @ [1.0, 0.0, 2.0], camera.matrix() @ [0.0, 1.0, 2.0]
    np.testing.assert_allclose(right / right[2], [319.5 + 200.0, 239.5, 1.0])
    np.testing.assert_allclose(down / down[2], [319.5, 239.5 + 205.0, 1.0])


def test_depth_is_the_third_coordinate_of_the_points() -> None:
    points = torch.rand(4, 6, 3).numpy()
    points[1, 2] = np.nan
    camera = Intrinsics(6.0, 6.0, 2.5, 1.5, 6, 4)
    scene = SceneEstimate(
        stamp_ns=1,
        state=TrackingState.LOST,
        frames_in_window=1,
        image_rgb=np.zeros((4, 6, 3), np.uint8),
        intrinsics=camera,
        intrinsics_known=True,
        model_from_source=np.eye(3),
        source_size_wh=(6, 4),
        points_camera=points,
        confidence=np.ones((4, 6), np.float32),
        dynamic_mask=np.zeros((4, 6), bool),
        world_from_camera=None,
        pose_covariance=None,
        pose_inlier_ratio=0.0,
        metres_per_unit=1.0,
        tracks=empty_track_set(),
        stage_seconds={},
    )
    np.testing.assert_array_equal(scene.depth, points[..., 2])
