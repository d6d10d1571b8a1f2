"""A stitched recording as Parquet (a row a frame) and MCAP (poses for Foxglove); equal rows give equal bytes."""

import io
import json
from typing import Any

import numpy as np

from pomato_ros.batch.chunk_task import COVARIANCE_ENTRIES
from pomato_ros.batch.stitch import Stitched
from pomato_ros.errors import ConfigError
from pomato_ros.geometry.rigid import quaternion_xyzw_from_matrix

NS_PER_S = 1_000_000_000
POSITION, QUATERNION = ("x", "y", "z"), ("qx", "qy", "qz", "qw")
COUNTS = ("inlier_ratio", "moving_share", "depth_coverage", "median_depth", "tracks", "objects")
TIME_SCHEMA = {"type": "object", "properties": {"sec": {"type": "integer"}, "nsec": {"type": "integer"}}}
POSE_SCHEMA = {
    "title": "foxglove.PoseInFrame",
    "type": "object",
    "properties": {
        "timestamp": TIME_SCHEMA,
        "frame_id": {"type": "string"},
        "pose": {
            "type": "object",
            "properties": {
                "position": {"type": "object", "properties": {axis: {"type": "number"} for axis in "xyz"}},
                "orientation": {"type": "object", "properties": {axis: {"type": "number"} for axis in "xyzw"}},
            },
        },
    },
}
QUALITY_SCHEMA = {
    "title": "pomato.FrameQuality",
    "type": "object",
    "properties": {
        "timestamp": TIME_SCHEMA,
        "state": {"type": "string"},
        **{name: {"type": "number"} for name in COUNTS},
    },
}


def columns_of(result: Stitched) -> dict[str, Any]:
    """Columns of a row a frame, by name; poses are NaN while lost."""
    table = result.table
    known = np.isfinite(table.world_from_camera[:, 0, 0])
    quaternions = np.full((len(table), 4), np.nan)
    if known.any():
        quaternions[known] = quaternion_xyzw_from_matrix(table.world_from_camera[known, :3, :3])
    columns: dict[str, Any] = {"stamp_ns": table.stamp_ns, "state": table.state.astype(object)}
    columns |= {name: table.world_from_camera[:, axis, 3] for axis, name in enumerate(POSITION)}
    columns |= {name: quaternions[:, axis] for axis, name in enumerate(QUATERNION)}
    columns |= {f"covariance_{entry:02d}": table.covariance[:, entry] for entry in range(COVARIANCE_ENTRIES)}
    return columns | {name: getattr(table, name) for name in COUNTS} | {"chunk": result.chunk}


def parquet_bytes(columns: dict[str, Any]) -> bytes:
    """A Parquet file of columns of equal length.

    Raises:
        ConfigError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError("Parquet needs pyarrow; run: pip install 'pomato_ros[batch]'") from error
    table = pyarrow.table({name: pyarrow.array(list(values)) for name, values in columns.items()})
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


def mcap_bytes(result: Stitched) -> bytes:
    """An MCAP file with /pose and /quality in JSON; times are those of the frames."""
    from mcap.writer import CompressionType, Writer

    stream = io.BytesIO()
    writer = Writer(stream, compression=CompressionType.ZSTD)
    writer.start(library="pomato_ros")
    channels = {
        topic: writer.register_channel(topic, "json", writer.register_schema(title, "jsonschema", _json(schema)))
        for topic, title, schema in (
            ("/pose", "foxglove.PoseInFrame", POSE_SCHEMA),
            ("/quality", "pomato.FrameQuality", QUALITY_SCHEMA),
        )
    }
    columns = columns_of(result)
    for row, stamp in enumerate(result.table.stamp_ns.tolist()):
        time = {"sec": stamp // NS_PER_S, "nsec": stamp % NS_PER_S}
        quality = {name: _number(columns[name][row]) for name in COUNTS}
        _add(writer, channels["/quality"], stamp, {"timestamp": time, "state": columns["state"][row], **quality})
        if np.isfinite(columns["x"][row]):
            position = {name: float(columns[name][row]) for name in POSITION}
            turn = {name[1:]: float(columns[name][row]) for name in QUATERNION}
            pose = {"position": position, "orientation": turn}
            _add(writer, channels["/pose"], stamp, {"timestamp": time, "frame_id": "world", "pose": pose})
    writer.finish()
    return stream.getvalue()


def _add(writer: Any, channel: int, stamp_ns: int, message: dict[str, Any]) -> None:
    writer.add_message(channel, log_time=stamp_ns, publish_time=stamp_ns, data=_json(message))


def _json(content: object) -> bytes:
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def _number(value: Any) -> float | None:
    """A number that JSON knows, or None."""
    return float(value) if np.isfinite(value) else None
