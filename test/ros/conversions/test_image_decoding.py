from array import array

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image

from pomato_ros.ros.conversions.image_decoding import ENCODINGS, SampleRange, decode_compressed_image, decode_image
from pomato_ros.ros.conversions.input_error import InputError

HEIGHT, WIDTH = 6, 10
MAX_PIXELS = 10_000
RGB = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GREY = RGB[..., 0]


def message_of(encoding: str, rows: np.ndarray, *, padding: int = 0, width: int = WIDTH, height: int = HEIGHT) -> Image:
    """An image whose rows (rows, bytes) are each followed by ``padding`` bytes of rubbish."""
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    message = Image(height=height, width=width, encoding=encoding, step=padded.shape[1])
    message.data = array("B", padded.tobytes())
    return message


def interleaved(channels: list[np.ndarray]) -> np.ndarray:
    return np.stack(channels, axis=-1).reshape(HEIGHT, -1)


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "order"), [("rgb8", "rgb"), ("bgr8", "bgr"), ("rgba8", "rgba"), ("bgra8", "bgra")]
)
def test_channel_orders_give_the_same_picture(encoding: str, order: str, padding: int) -> None:
    planes = {"r": RGB[..., 0], "g": RGB[..., 1], "b": RGB[..., 2], "a": np.full_like(GREY, 9)}
    message = message_of(encoding, interleaved([planes[name] for name in order]), padding=padding)
    np.testing.assert_array_equal(decode_image(message, MAX_PIXELS), RGB)


@pytest.mark.parametrize("padding", [0, 3])
def test_mono8_becomes_grey(padding: int) -> None:
    np.testing.assert_array_equal(
        decode_image(message_of("mono8", GREY, padding=padding), MAX_PIXELS), np.repeat(GREY[..., None], 3, axis=-1)
    )


@pytest.mark.parametrize("big_endian", [0, 1])
def test_mono16_keeps_its_upper_byte_in_either_byte_order(big_endian: int) -> None:
    values = GREY.astype(np.uint16) * 256 + 13
    rows = values.astype(">u2" if big_endian else "<u2").view(np.uint8)
    message = message_of("mono16", rows, padding=4)
    message.is_bigendian = big_endian
    np.testing.assert_array_equal(decode_image(message, MAX_PIXELS)[..., 1], GREY)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_16_bit_samples_are_read_over_the_bits_that_are_used(bits: int) -> None:
    full = GREY.copy()
    full[0, :2] = 255  # a little in the image is bright
    message = message_of("mono16", (full.astype("<u2") << (bits - 8)).view(np.uint8))
    for sample_range in (SampleRange(), SampleRange(bits)):
        np.testing.assert_array_equal(decode_image(message, MAX_PIXELS, sample_range)[..., 0], full)
        assert sample_range.bits == bits


def test_the_range_of_samples_is_never_narrowed() -> None:
    sample_range = SampleRange()
    for level, bits in ((200, 8), (3000, 12), (100, 12), (900, 12)):
        message = message_of("mono16", np.full((HEIGHT, WIDTH), level, "<u2").view(np.uint8))
        assert decode_image(message, MAX_PIXELS, sample_range).max() == level >> (bits - 8)
        assert sample_range.bits == bits


@pytest.mark.parametrize(("encoding", "same_as"), [("8UC1", "mono8"), ("8UC3", "bgr8"), ("8UC4", "bgra8")])
def test_types_of_opencv_mean_its_channels(encoding: str, same_as: str) -> None:
    channels = {"mono8": 1, "bgr8": 3, "bgra8": 4}[same_as]
    rows = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH * channels), dtype=np.uint8)
    expected = decode_image(message_of(same_as, rows), MAX_PIXELS)
    np.testing.assert_array_equal(decode_image(message_of(encoding, rows), MAX_PIXELS), expected)


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_depth_as_an_image_is_refused_with_its_place(encoding: str) -> None:
    with pytest.raises(InputError, match="depth/image"):
        decode_image(message_of(encoding, np.zeros((HEIGHT, 4 * WIDTH), np.uint8)), MAX_PIXELS)


COLOURS = [(200, 60, 30), (20, 180, 90), (40, 50, 220), (128, 128, 128), (235, 230, 20)]


def yuv_of(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """BT.601 with the limited range that cameras use."""
    red, green, blue = colour
    luma = 16 + 0.257 * red + 0.504 * green + 0.098 * blue
    chroma_u = 128 - 0.148 * red - 0.291 * green + 0.439 * blue
    chroma_v = 128 + 0.439 * red - 0.368 * green - 0.071 * blue
    return round(luma), round(chroma_u), round(chroma_v)


def packed_yuv(encoding: str, colour: tuple[int, int, int]) -> np.ndarray:
    y, u, v = yuv_of(colour)
    if encoding in ("nv12", "nv21"):
        pair = [u, v] if encoding == "nv12" else [v, u]
        return np.concatenate([np.full((HEIGHT, WIDTH), y), np.tile(pair, (HEIGHT // 2, WIDTH // 2))]).astype(np.uint8)
    group = [u, y, v, y] if encoding in ("yuv422", "uyvy") else [y, u, y, v]
    return np.tile(group, (HEIGHT, WIDTH // 2)).astype(np.uint8)


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", ["yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12", "nv21"])
@pytest.mark.parametrize("colour", COLOURS)
def test_yuv_images_show_their_colour(encoding: str, colour: tuple[int, int, int], padding: int) -> None:
    image = decode_image(message_of(encoding, packed_yuv(encoding, colour), padding=padding), MAX_PIXELS)
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(image.astype(int) - np.array(colour)).max() <= 4


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
@pytest.mark.parametrize("colour", COLOURS)
def test_bayer_images_show_their_colour(pattern: str, bits: int, colour: tuple[int, int, int]) -> None:
    values = dict(zip("rgb", colour, strict=True))
    block = np.array([values[letter] for letter in pattern], np.uint8).reshape(2, 2)
    mosaic = np.tile(block, (HEIGHT // 2, WIDTH // 2))
    rows = mosaic if bits == 8 else (mosaic.astype("<u2") * 256).view(np.uint8)
    image = decode_image(message_of(f"bayer_{pattern}{bits}", rows), MAX_PIXELS)
    np.testing.assert_array_equal(image[2:-2, 2:-2], np.broadcast_to(colour, (HEIGHT - 4, WIDTH - 4, 3)))


def test_the_result_does_not_share_memory_with_a_reversed_message() -> None:
    assert decode_image(message_of("bgr8", RGB[..., ::-1].reshape(HEIGHT, -1)), MAX_PIXELS).flags.c_contiguous


def test_every_listed_encoding_is_decoded_to_the_message_size() -> None:
    for name, encoding in ENCODINGS.items():
        rows = HEIGHT * encoding.rows_per_line[0] // encoding.rows_per_line[1]
        data = np.zeros((rows, WIDTH * encoding.bytes_per_pixel), np.uint8)
        assert decode_image(message_of(name, data), MAX_PIXELS).shape == (HEIGHT, WIDTH, 3), name


def spoiled(**changes: object) -> Image:
    message = message_of("rgb8", RGB.reshape(HEIGHT, -1))
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (spoiled(encoding="32FC4"), "32FC4"),
        (spoiled(encoding=""), "expected one of"),
        (spoiled(width=0), "0x6"),
        (spoiled(height=0), "10x0"),
        (spoiled(data=array("B", bytes(100))), "180 bytes, got 100"),
        (spoiled(data=array("B")), "got 0"),
        (spoiled(step=29), "at least 30 bytes"),
        (spoiled(height=2000), "max_pixels"),
        (message_of("nv12", np.zeros((9, 9), np.uint8), width=9), "even"),
        (message_of("nv21", np.zeros((7, 10), np.uint8), height=5), "even"),
        (message_of("yuv422", np.zeros((6, 18), np.uint8), width=9), "even"),
    ],
)
def test_a_bad_image_is_refused_with_what_was_expected(message: Image, told: str) -> None:
    with pytest.raises(InputError, match=told):
        decode_image(message, MAX_PIXELS)


def compressed(suffix: str) -> CompressedImage:
    smooth = cv2.resize(RGB, (40, 24), interpolation=cv2.INTER_CUBIC)
    _, data = cv2.imencode(suffix, smooth[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])
    return CompressedImage(format=suffix[1:], data=array("B", data.tobytes()))


@pytest.mark.parametrize(("suffix", "tolerance"), [(".jpg", 30), (".png", 0)])
def test_compressed_images_come_back_as_rgb(suffix: str, tolerance: int) -> None:
    image = decode_compressed_image(compressed(suffix), MAX_PIXELS)
    expected = cv2.resize(RGB, (40, 24), interpolation=cv2.INTER_CUBIC)
    assert np.abs(image.astype(int) - expected).mean() <= tolerance


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("kept", [0.9, 0.5, 0.1])
def test_a_compressed_image_cut_short_is_refused(suffix: str, kept: float) -> None:
    message = compressed(suffix)
    message.data = message.data[: int(kept * len(message.data))]
    with pytest.raises(InputError, match="cut short"):
        decode_compressed_image(message, MAX_PIXELS)


def test_what_is_neither_jpeg_nor_png_is_refused() -> None:
    with pytest.raises(InputError, match="JPEG or PNG"):
        decode_compressed_image(CompressedImage(format="h264", data=array("B", b"\0\0\0\1abc")), MAX_PIXELS)


def test_a_compressed_image_above_the_limit_is_refused() -> None:
    with pytest.raises(InputError, match="max_pixels"):
        decode_compressed_image(compressed(".png"), 100)
