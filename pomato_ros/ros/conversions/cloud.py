"""Points to PointCloud2: organised with every attribute, or a plain list for planners."""

import sys

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from pomato_ros.ros.conversions.images import packed_bytes

POINT_DTYPE = np.dtype(
    {
        "names": ["x", "y", "z", "rgb", "confidence", "dynamic"],
        "formats": [np.float32, np.float32, np.float32, np.float32, np.float32, np.uint8],
        "offsets": [0, 4, 8, 12, 16, 20],
        "itemsize": 24,
    }
)
FIELD_TYPES = {np.dtype(np.float32): PointField.FLOAT32, np.dtype(np.uint8): PointField.UINT8}


def point_records(
    points: NDArray[np.float32],
    image_rgb: NDArray[np.uint8],
    confidence: NDArray[np.float32],
    dynamic: NDArray[np.bool_],
) -> NDArray[np.void]:
    """Points (..., 3) with colour (..., 3), confidence (...) and moving flag (...) as records of the same shape."""
    records = np.zeros(points.shape[:-1], POINT_DTYPE)
    for axis, name in enumerate("xyz"):
        records[name] = points[..., axis]
    records["rgb"] = packed_rgb(image_rgb)
    records["confidence"] = confidence
    records["dynamic"] = dynamic
    return records


def packed_rgb(image_rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Colours (..., 3) as the FLOAT32 whose bits are 0x00RRGGBB, as RViz and PCL read them."""
    channels = image_rgb.astype(np.uint32)
    return ((channels[..., 0] << 16) | (channels[..., 1] << 8) | channels[..., 2]).view(np.float32)


def unpacked_rgb(packed: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Colours (..., 3) of :func:`packed_rgb`."""
    bits = packed.view(np.uint32)
    return np.stack([(bits >> shift) & 255 for shift in (16, 8, 0)], axis=-1).astype(np.uint8)


def cloud_message(records: NDArray[np.void], header: Header) -> PointCloud2:
    """A PointCloud2 of (h, w) records, organised, row by row; or of (n,) records, unorganised."""
    height, width = records.shape if records.ndim == 2 else (1, records.shape[0])
    message = PointCloud2(header=header, height=int(height), width=int(width))
    message.fields = point_fields()
    message.is_bigendian = sys.byteorder == "big"
    message.point_step = int(POINT_DTYPE.itemsize)
    message.row_step = int(POINT_DTYPE.itemsize * width)
    message.is_dense = records.ndim == 1  # organised clouds keep NaN where there is no point
    message.data = packed_bytes(records.reshape(-1).view(np.uint8))
    return message


def point_fields() -> list[PointField]:
    """The fields of :data:`POINT_DTYPE`."""
    return [
        PointField(name=name, offset=int(offset), datatype=int(FIELD_TYPES[dtype]), count=1)
        for name, (dtype, offset, *_) in (POINT_DTYPE.fields or {}).items()
    ]


def cloud_records(message: PointCloud2) -> NDArray[np.void]:
    """The (h, w) records of a cloud this package made; the inverse of :func:`cloud_message`."""
    records = np.frombuffer(message.data, POINT_DTYPE)
    return records.reshape(message.height, message.width)
