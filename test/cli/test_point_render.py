import numpy as np
import pytest

from pomato_ros.cli.point_render import draw_line, draw_points, frustum_lines, look_at

SIZE_WH = (80, 60)
UP = np.array([0.0, -1.0, 0.0])
RED, BLUE = np.array([[255, 0, 0]], np.uint8), np.array([[0, 0, 255]], np.uint8)


def blank() -> np.ndarray:
    return np.zeros((SIZE_WH[1], SIZE_WH[0], 3), np.uint8)


def view_along_z() -> object:
    return look_at(np.array([0.0, 0.0, -2.0]), np.zeros(3), UP, 60.0, SIZE_WH)


def test_the_target_is_in_the_middle_and_up_is_up() -> None:
    view = view_along_z()
    pixels, depth = view.project(np.array([[0.0, 0.0, 0.0], [0.0, -0.5, 0.0], [0.5, 0.0, 0.0]]))
    assert pixels[0] == pytest.approx([39.5, 29.5])
    assert depth[0] == pytest.approx(2.0)
    assert pixels[1, 1] < pixels[0, 1]
    assert pixels[2, 0] > pixels[0, 0]


def test_the_nearer_point_hides_the_farther_one_in_any_order() -> None:
    points, colours = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), np.concatenate([RED, BLUE])
    for order in ([0, 1], [1, 0]):
        canvas = blank()
        draw_points(canvas, view_along_z(), points[order], colours[order], 0.05)
        assert canvas[30, 40].tolist() == [255, 0, 0]


def test_points_behind_the_camera_and_nan_are_not_drawn() -> None:
    canvas = blank()
    draw_points(canvas, view_along_z(), np.array([[0.0, 0.0, -3.0]]), RED, 0.05)
    draw_points(canvas, view_along_z(), np.array([[np.nan, 0.0, 0.0]]), RED, 0.05)
    assert not canvas.any()


def test_a_fitted_view_holds_all_points_and_fills_the_picture() -> None:
    points = np.random.default_rng(0).uniform(-3.0, 3.0, (200, 3)) + np.array([4.0, 1.0, 9.0])
    pixels, _ = view_along_z().fitted(points, fill=0.9).project(points)
    span = np.ptp(pixels, axis=0)
    assert (pixels >= 0).all()
    assert (pixels <= np.array(SIZE_WH)).all()
    assert np.isclose(span, 0.9 * np.array(SIZE_WH), rtol=1e-6).any()


def test_a_camera_is_drawn_as_a_rim_and_four_edges() -> None:
    lines = frustum_lines(np.eye(4), np.array([[50.0, 0, 40], [0, 50, 30], [0, 0, 1]]), (80, 60), 2.0)
    assert [len(line) for line in lines] == [5, 2, 2, 2, 2]
    np.testing.assert_allclose(lines[0][:, 2], 2.0)
    canvas = blank()
    for line in lines:
        draw_line(canvas, look_at(np.array([-3.0, -2.0, -3.0]), np.zeros(3), UP, 60.0, SIZE_WH), line, (0, 255, 0), 1)
    assert canvas.any()
