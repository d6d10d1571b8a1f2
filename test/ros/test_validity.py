"""Pixels that show nothing are in no output."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from pomato_ros.ros.conversions.camera_info import Calibration
from pomato_ros.ros.rectify import Rectifier
from pomato_ros.ros.validity import at_model, without_invalid
from pomato_ros.structures import Frame, Intrinsics


def scene_of(fakes: SimpleNamespace) -> Any:
    width, height = fakes.SOURCE_WH
    frame = Frame(0, np.zeros((height, width, 3), np.uint8))
    return fakes.make_scene(frame, np.eye(4), 12)


def test_a_pixel_is_valid_where_all_that_it_is_made_of_is(fakes: SimpleNamespace) -> None:
    scene = scene_of(fakes)
    valid_source = np.ones(fakes.SOURCE_WH[::-1], bool)
    valid_source[:, :10] = False
    valid = at_model(valid_source, scene)
    columns = np.arange(valid.shape[1])
    from_source = np.linalg.inv(scene.model_from_source)
    source_columns = from_source[0, 0] * columns + from_source[0, 2]
    assert not valid[:, source_columns < 9.5].any()
    assert valid[:, source_columns > 11.5].all()


def test_nothing_is_left_where_the_image_shows_nothing(fakes: SimpleNamespace) -> None:
    scene = scene_of(fakes)
    scene = replace(scene, tracks=replace(scene.tracks, pixels=np.array([[2.0, 5.0], [np.nan, np.nan]], np.float32)))
    valid_source = np.ones(fakes.SOURCE_WH[::-1], bool)
    valid_source[:, :16] = False
    valid = at_model(valid_source, scene)
    kept = without_invalid(scene, valid_source)
    assert np.isnan(kept.points_camera[~valid]).all()
    assert np.isnan(kept.depth[~valid]).all()
    assert not kept.dynamic_mask[~valid].any()
    assert (kept.confidence[~valid] == 0.0).all()
    assert kept.tracks.ids.tolist() == [7]  # the one that is not seen stays
    np.testing.assert_array_equal(kept.points_camera[valid], scene.points_camera[valid])


def test_black_corners_of_a_rectified_image_are_no_geometry(graph: Any, fakes: SimpleNamespace) -> None:
    """A calibration that keeps all raw pixels (alpha = 1): corners of the rectified image show nothing."""
    width, height = fakes.SOURCE_WH
    info = fakes.camera_info_of(focal_px=40.0)
    info.d = [-0.35, 0.12, 0.0, 0.0, 0.0]
    wide = Intrinsics(26.0, 26.0, (width - 1) / 2, (height - 1) / 2, width, height)
    info.p = [wide.fx_px, 0.0, wide.cx_px, 0.0, 0.0, wide.fy_px, wide.cy_px, 0.0, 0.0, 0.0, 1.0, 0.0]
    info.r = np.eye(3).ravel().tolist()
    graph.publish_info(info)
    graph.send(fakes.image_of(0))
    graph.send(fakes.image_of(1))
    raw = Intrinsics(40.0, 40.0, wide.cx_px, wide.cy_px, width, height)
    expected = Rectifier(Calibration(raw, wide, "plumb_bob", tuple(info.d)), remove_distortion=True).valid
    assert expected is not None
    np.testing.assert_array_equal(graph.engine.frames[-1].valid, expected)
    scene = graph.node._outputs.history.newest.scene
    invalid = ~at_model(expected, scene)
    assert invalid.any()
    assert np.isnan(scene.points_camera[invalid]).all()
