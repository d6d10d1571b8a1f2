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
SYNONYMS = {"8uc1": "mono8", "8uc3": "bgr8", "8uc4": "bgra8"}  # OpenCV's channels are blue, green, red
SAMPLE_BITS = (8, 10, 12, 14, 16)
SAMPLED_EVERY = 4  # rows and columns, to read the range of samples
BRIGHT_SHARE = 0.999  # of the samples lie in the range: hot pixels do not
TRAILER_BYTES = 4096  # some cameras pad a file after its end marker


@dataclass(frozen=True, slots=True)
class Encoding:
    """How one encoding lays out its bytes: ``to_rgb`` turns its rows, padding removed, into an (h, w, 3) image."""

    bytes_per_pixel: int
    to_rgb: Callable[[Bytes], Bytes]
    bytes_per_sample: int = 1
    rows_per_line: tuple[int, int] = (1, 1)  # numerator, denominator: nv12 stores 3 rows for 2 lines
    even_width: bool = False


class SampleRange:
    """How many of their 16 bits a camera's samples use: 10- and 12-bit cameras leave the upper ones empty.

    Read from the data, and only ever widened, so that brightness does not flicker.
    """

    def __init__(self, bits: int = 0) -> None:
        """``bits`` used, 8 to 16; 0: read from the data."""
        self._given = bits
        self.bits = max(bits, SAMPLE_BITS[0])

    def upper_byte(self, samples: NDArray[np.uint16]) -> Bytes:
        """The upper 8 of the bits that are used, of (rows, samples); brighter ones are white."""
        if not self._given:
            brightest = np.sort(samples[::SAMPLED_EVERY, ::SAMPLED_EVERY], axis=None)
            level = int(brightest[int(BRIGHT_SHARE * (len(brightest) - 1))])
            self.bits = max(self.bits, min(bits for bits in SAMPLE_BITS if level < 1 << bits))
        return np.minimum(samples >> (self.bits - 8), 255).astype(np.uint8)


def decode_image(message: Image, max_pixels: int, sample_range: SampleRange | None = None) -> Bytes:
    """The (h, w, 3) uint8 RGB pixels of a raw image.

    Honours ``step`` and ``is_bigendian``; of 16-bit samples the upper 8 of the bits in ``sample_range`` are kept, by
    default of all 16.

    Raises:
        InputError: Unknown encoding, no pixels, more than ``max_pixels``, or too little data.
    """
    encoding = ENCODINGS.get(meaning_of(message.encoding))
    if encoding is None:
        raise InputError(
            f"image encoding: expected one of {', '.join(ENCODINGS)}; got '{message.encoding}'. "
            f"{hint_for(message.encoding)}"
        )
    check_size(message.width, message.height, max_pixels)
    check_even(message, encoding)
    rows = image_rows(message, encoding)
    if encoding.bytes_per_sample == 2:
        rows = (sample_range or SampleRange(16)).upper_byte(samples_16(message, rows))
    return np.ascontiguousarray(encoding.to_rgb(rows))


def samples_16(message: Image, rows: Bytes) -> NDArray[np.uint16]:
    """The 16-bit samples of rows of bytes."""
    order = ">u2" if message.is_bigendian else "<u2"
    return np.ascontiguousarray(rows).view(order).astype(np.uint16)


def meaning_of(encoding: str) -> str:
    """The name of the encoding that this one stands for; `cv2_to_imgmsg` names images by their type where not told."""
    name = encoding.lower()
    return SYNONYMS.get(name, name)


def hint_for(encoding: str) -> str:
    """What to do about an encoding that is none of an image's."""
    if encoding in ("16UC1", "32FC1"):
        return f"{encoding} is depth: it belongs on depth/image"
    return "Convert it upstream or open an issue that names it"


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
    """The rows of an image as (rows, bytes) without padding."""
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
    return data.reshape(rows, message.step)[:, :row_bytes]


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
        "rgb16": Encoding(6, rgb, bytes_per_sample=2),
        "bgr16": Encoding(6, bgr, bytes_per_sample=2),
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
