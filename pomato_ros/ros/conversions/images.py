"""NumPy images to Image messages, and between the network's image and the source image."""

import sys
from array import array

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

IMAGE_DTYPES = {"mono8": np.uint8, "bgr8": np.uint8, "rgb8": np.uint8, "32FC1": np.float32}
MOVING_LEVEL = 255


def packed_bytes(values: NDArray[np.generic]) -> "array[int]":
    """The bytes of an array in the one type that fills a message's ``data`` without a slow copy."""
    data = array("B")
    data.frombytes(np.ascontiguousarray(values).data.cast("B"))
    return data


def image_message(pixels: NDArray[np.generic], encoding: str, header: Header) -> Image:
    """An Image of (h, w) or (h, w, 3) pixels in one of the encodings this package publishes."""
    pixels = np.ascontiguousarray(pixels, dtype=IMAGE_DTYPES[encoding])
    height, width = pixels.shape[:2]
    message = Image(header=header, height=int(height), width=int(width), encoding=encoding)
    message.is_bigendian = int(sys.byteorder == "big")
    message.step = int(pixels.strides[0])
    message.data = packed_bytes(pixels)
    return message


def mask_levels(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A boolean mask as 0 (static) and 255 (moving)."""
    return mask.astype(np.uint8) * np.uint8(MOVING_LEVEL)


def to_source_size(
    pixels: NDArray[np.generic], model_from_source: np.ndarray, source_size_wh: tuple[int, int], outside: float
) -> NDArray[np.generic]:
    """Resample (h, w) values of the network's image to the source image, nearest pixel; ``outside`` where cropped."""
    return np.asarray(
        cv2.warpPerspective(
            np.ascontiguousarray(pixels),
            np.asarray(model_from_source, np.float64),
            source_size_wh,
            flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=outside,
        )
    )
