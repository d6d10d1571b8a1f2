import numpy as np
from sensor_msgs.msg import PointField
from std_msgs.msg import Header

from pomato_ros.ros.conversions.cloud import cloud_message, cloud_records, packed_rgb, point_records, unpacked_rgb
from pomato_ros.ros.conversions.images import image_message, mask_levels, to_source_size

HEIGHT, WIDTH = 3, 5
GENERATOR = np.random.default_rng(0)
POINTS = GENERATOR.normal(size=(HEIGHT, WIDTH, 3)).astype(np.float32)
RGB = GENERATOR.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
CONFIDENCE = GENERATOR.uniform(1, 5, (HEIGHT, WIDTH)).astype(np.float32)
DYNAMIC = GENERATOR.uniform(size=(HEIGHT, WIDTH)) > 0.5


def test_an_organised_cloud_keeps_rows_and_columns_and_every_field() -> None:
    message = cloud_message(point_records(POINTS, RGB, CONFIDENCE, DYNAMIC), Header(frame_id="camera"))
    assert (message.height, message.width) == (HEIGHT, WIDTH)
    assert message.row_step == message.point_step * WIDTH
    assert len(message.data) == message.row_step * HEIGHT
    assert message.is_dense is False
    records = cloud_records(message)
    for axis, name in enumerate("xyz"):
        np.testing.assert_array_equal(records[name], POINTS[..., axis])
    np.testing.assert_array_equal(records["confidence"], CONFIDENCE)
    np.testing.assert_array_equal(records["dynamic"], DYNAMIC)
    np.testing.assert_array_equal(unpacked_rgb(np.ascontiguousarray(records["rgb"])), RGB)


def test_fields_lie_where_rviz_and_pcl_look_for_them() -> None:
    message = cloud_message(point_records(POINTS, RGB, CONFIDENCE, DYNAMIC), Header())
    layout = {field.name: (field.offset, field.datatype, field.count) for field in message.fields}
    floats = {name: (4 * index, PointField.FLOAT32, 1) for index, name in enumerate(("x", "y", "z", "rgb"))}
    assert layout == {**floats, "confidence": (16, PointField.FLOAT32, 1), "dynamic": (20, PointField.UINT8, 1)}


def test_colours_are_packed_as_00rrggbb() -> None:
    packed = packed_rgb(np.array([[0x12, 0x34, 0x56]], np.uint8))
    assert packed.view(np.uint32)[0] == 0x00123456


def test_a_list_of_points_is_one_dense_row() -> None:
    message = cloud_message(point_records(POINTS, RGB, CONFIDENCE, DYNAMIC).reshape(-1)[:4], Header())
    assert (message.height, message.width, message.is_dense) == (1, 4, True)
    assert len(message.data) == 4 * message.point_step


def test_an_empty_cloud_is_a_valid_message() -> None:
    message = cloud_message(point_records(POINTS, RGB, CONFIDENCE, DYNAMIC).reshape(-1)[:0], Header())
    assert (message.height, message.width, len(message.data)) == (1, 0, 0)


def test_float_images_are_row_major() -> None:
    message = image_message(CONFIDENCE, "32FC1", Header(frame_id="camera"))
    assert (message.height, message.width, message.step, message.encoding) == (HEIGHT, WIDTH, 4 * WIDTH, "32FC1")
    np.testing.assert_array_equal(np.frombuffer(message.data, np.float32).reshape(HEIGHT, WIDTH), CONFIDENCE)


def test_transposed_pixels_are_made_contiguous() -> None:
    message = image_message(CONFIDENCE.T, "32FC1", Header())
    np.testing.assert_array_equal(np.frombuffer(message.data, np.float32).reshape(WIDTH, HEIGHT), CONFIDENCE.T)


def test_masks_have_two_levels() -> None:
    assert set(mask_levels(np.array([[True, False]])).ravel().tolist()) == {0, 255}


def test_the_source_size_puts_each_model_pixel_back_where_it_came_from() -> None:
    # The network's image is the source halved, with a column cut off at the left and right.
    model_from_source = np.array([[0.5, 0.0, -1.25], [0.0, 0.5, -0.25], [0.0, 0.0, 1.0]])
    model = np.arange(1, 7, dtype=np.uint8).reshape(2, 3)
    source = to_source_size(model, model_from_source, (10, 4), 0.0)
    expected = np.zeros((4, 10), np.uint8)
    expected[:, 2:8] = np.kron(model, np.ones((2, 2), np.uint8))
    np.testing.assert_array_equal(source, expected)


def test_depth_outside_the_crop_is_nan() -> None:
    model_from_source = np.array([[1.0, 0.0, -2.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    source = to_source_size(np.ones((2, 3), np.float32), model_from_source, (7, 2), float("nan"))
    np.testing.assert_array_equal(np.isnan(source[0]), [True, True, False, False, False, True, True])
