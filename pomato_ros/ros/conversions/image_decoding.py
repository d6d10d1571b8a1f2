"""Camera images of every common encoding to RGB, without cv_bridge (which breaks under NumPy 2)."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from pomato_ros.ros.conversions.input_error import InputError

Bytes = NDArray[np.uint8]
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
TRAILER_BYTES = 4096  # some cameras pad a file after its end marker


@dataclass(frozen=True, slots=True)
class Encoding:
    """How one encoding lays out its bytes: ``to_rgb`` turns its rows, padding removed, into an (h, w, 3) image."""

    bytes_per_pixel: int
    to_rgb: Callable[[Bytes], Bytes]
    bytes_per_sample: int = 1
    rows_per_line: tuple[int, int] = (1, 1)  # numerator, denominator: nv12 stores 3 rows for 2 lines
    even_width: bool = False


def decode_image(message: Image, max_pixels: int) -> Bytes:
    """The (h, w, 3) uint8 RGB pixels of a raw image.

    Honours ``step`` and ``is_bigendian``; 16-bit samples keep their upper 8 bits.

    Raises:
        InputError: Unknown encoding, no pixels, more than ``max_pixels``, or too little data.
    """
    encoding = ENCODINGS.get(message.encoding.lower())
    if encoding is None:
        raise InputError(
            f"image encoding: expected one of {', '.join(ENCODINGS)}; got '{message.encoding}'. "
            "Convert it upstream or open an issue that names it"
        )
    check_size(message.width, message.height, max_pixels)
    check_even(message, encoding)
    return np.ascontiguousarray(encoding.to_rgb(image_rows(message, encoding)))


def decode_compressed_image(message: CompressedImage, max_pixels: int) -> Bytes:
    """The (h, w, 3) uint8 RGB pixels of a JPEG or PNG image; EXIF rotation is ignored, as calibration expects.

    Raises:
        InputError: Neither JPEG nor PNG, cut short, undecodable, or more than ``max_pixels``.
    """
    data = bytes(message.data)
    check_complete(data, message.format)
    check_size(*size_in_header(data, message.format), max_pixels)  # before the memory for all pixels is asked for
    image_bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image_bgr is None:
        raise InputError(f"compressed image: {len(data)} bytes of format '{message.format}' do not decode")
    return np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), np.uint8)


def size_in_header(data: bytes, file_format: str) -> tuple[int, int]:
    """Width and height that a JPEG or PNG file says it has.

    Raises:
        InputError: The header cannot be read.
    """
    try:
        with PIL.Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as file:
            return file.size
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise InputError(f"compressed image '{file_format}': its header cannot be read: {error}") from error


def check_size(width_px: int, height_px: int, max_pixels: int) -> None:
    """Refuse empty and oversized images."""
    if width_px < 1 or height_px < 1:
        raise InputError(f"image size: expected at least 1x1 pixels, got {width_px}x{height_px}")
    if width_px * height_px > max_pixels:
        raise InputError(
            f"image size: expected at most max_pixels = {max_pixels}, got {width_px}x{height_px} = "
            f"{width_px * height_px}; raise max_pixels if this is meant"
        )


def check_even(message: Image, encoding: Encoding) -> None:
    """Refuse odd sizes where the encoding shares colour between neighbours."""
    odd_height = encoding.rows_per_line[1] > 1 and message.height % encoding.rows_per_line[1]
    if (encoding.even_width and message.width % 2) or odd_height:
        raise InputError(f"{message.encoding} image: expected even sizes, got {message.width}x{message.height}")


def image_rows(message: Image, encoding: Encoding) -> Bytes:
    """The rows of an image as (rows, bytes) without padding, 16-bit samples reduced to their upper byte."""
    row_bytes = message.width * encoding.bytes_per_pixel
    if message.step < row_bytes:
        raise InputError(
            f"{message.encoding} image: expected a step of at least {row_bytes} bytes for width {message.width}, "
            f"got {message.step}"
        )
    rows = message.height * encoding.rows_per_line[0] // encoding.rows_per_line[1]
    if len(message.data) < rows * message.step:
        raise InputError(
            f"{message.encoding} image {message.width}x{message.height}: expected {rows} rows x step {message.step} = "
            f"{rows * message.step} bytes, got {len(message.data)}; the message was cut short"
        )
    data = np.frombuffer(message.data, np.uint8, count=rows * message.step)
    data = data.reshape(rows, message.step)[:, :row_bytes]
    if encoding.bytes_per_sample == 1:
        return data
    return data[:, 0 if message.is_bigendian else 1 :: 2]


def check_complete(data: bytes, file_format: str) -> None:
    """Refuse what is no JPEG or PNG, and files cut short: decoders fill the rest with grey without a word."""
    if data.startswith(JPEG_START):
        complete = JPEG_END in data[-TRAILER_BYTES:]
    elif data.startswith(PNG_START):
        complete = PNG_END in data[-TRAILER_BYTES:]
    else:
        raise InputError(f"compressed image: expected JPEG or PNG data, got format '{file_format}', {len(data)} bytes")
    if not complete:
        raise InputError(f"compressed image '{file_format}': no end marker after {len(data)} bytes; it was cut short")


def channels_to_rgb(rows: Bytes, *, channels: int, order: tuple[int, int, int]) -> Bytes:
    """Pick red, green and blue out of interleaved channels."""
    return rows.reshape(rows.shape[0], -1, channels)[..., list(order)]


def convert_colour(rows: Bytes, *, code: int, channels: int = 1) -> Bytes:
    """One OpenCV colour conversion to RGB."""
    pixels = np.ascontiguousarray(rows)
    if channels > 1:
        pixels = pixels.reshape(rows.shape[0], -1, channels)
    return np.asarray(cv2.cvtColor(pixels, code), np.uint8)


def make_encodings() -> dict[str, Encoding]:
    """Every supported encoding by its name in ``sensor_msgs/image_encodings``."""
    grey = partial(channels_to_rgb, channels=1, order=(0, 0, 0))
    rgb = partial(channels_to_rgb, channels=3, order=(0, 1, 2))
    bgr = partial(channels_to_rgb, channels=3, order=(2, 1, 0))
    uyvy = Encoding(2, partial(convert_colour, code=cv2.COLOR_YUV2RGB_UYVY, channels=2), even_width=True)
    yuyv = Encoding(2, partial(convert_colour, code=cv2.COLOR_YUV2RGB_YUY2, channels=2), even_width=True)
    encodings = {
        "rgb8": Encoding(3, rgb),
        "bgr8": Encoding(3, bgr),
        "rgba8": Encoding(4, partial(channels_to_rgb, channels=4, order=(0, 1, 2))),
        "bgra8": Encoding(4, partial(channels_to_rgb, channels=4, order=(2, 1, 0))),
        "mono8": Encoding(1, grey),
        "mono16": Encoding(2, grey, bytes_per_sample=2),
        "yuv422": uyvy,
        "uyvy": uyvy,
        "yuv422_yuy2": yuyv,
        "yuyv": yuyv,
        "nv12": Encoding(1, partial(convert_colour, code=cv2.COLOR_YUV2RGB_NV12), 1, (3, 2), even_width=True),
        "nv21": Encoding(1, partial(convert_colour, code=cv2.COLOR_YUV2RGB_NV21), 1, (3, 2), even_width=True),
    }
    # OpenCV names a Bayer pattern by the 2x2 block one pixel down and right of the one ROS names it by.
    bayer_codes = {
        "rggb": cv2.COLOR_BayerBG2RGB,
        "bggr": cv2.COLOR_BayerRG2RGB,
        "gbrg": cv2.COLOR_BayerGR2RGB,
        "grbg": cv2.COLOR_BayerGB2RGB,
    }
    for pattern, code in bayer_codes.items():
        encodings[f"bayer_{pattern}8"] = Encoding(1, partial(convert_colour, code=code))
        encodings[f"bayer_{pattern}16"] = Encoding(2, partial(convert_colour, code=code), bytes_per_sample=2)
    return encodings


ENCODINGS = make_encodings()
