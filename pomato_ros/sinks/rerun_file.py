"""A reconstruction as a Rerun recording (.rrd): static map, cameras with images, moving points, on one time line."""

from pathlib import Path

import numpy as np

from pomato_ros.errors import ConfigError
from pomato_ros.geometry.rigid import quaternion_xyzw_from_matrix
from pomato_ros.mapping.reconstruct import Reconstruction
from pomato_ros.mapping.static_map import PointCloud
from pomato_ros.sinks.reconstruction_files import MovingPoints

TIME_LINE = "camera"


def write_rerun(
    path: Path, reconstruction: Reconstruction, static: PointCloud, moving: MovingPoints, name: str
) -> None:
    """Write the recording; open it with ``rerun FILE``.

    Raises:
        ConfigError: Rerun's SDK is not installed.
    """
    try:
        import rerun
    except ImportError as error:
        raise ConfigError("a .rrd file needs Rerun's SDK; run: pip install 'pomato_ros[viewer]'") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    recording = rerun.RecordingStream(f"pomato_ros/{name}")
    recording.save(str(path))
    recording.log("world", rerun.ViewCoordinates.RIGHT_HAND_Y_DOWN, static=True)
    recording.log("world/static", rerun.Points3D(static.points_world, colors=static.colours_rgb), static=True)
    positions = []
    frames = zip(reconstruction.frames(), moving.points, moving.colours, strict=True)
    for frame, points, colours in frames:
        recording.set_time(TIME_LINE, timestamp=np.datetime64(frame.stamp_ns, "ns"))
        pose, height, width = frame.world_from_camera, *frame.depth.shape
        positions.append(pose[:3, 3])
        turn = rerun.Quaternion(xyzw=quaternion_xyzw_from_matrix(pose[:3, :3]))
        recording.log("world/camera", rerun.Transform3D(translation=pose[:3, 3], quaternion=turn))
        recording.log("world/camera", rerun.Pinhole(image_from_camera=frame.camera_matrix, width=width, height=height))
        recording.log("world/camera/image", rerun.Image(frame.image_rgb).compress())
        recording.log("world/camera/moving", rerun.SegmentationImage(frame.moving.astype(np.uint8)))
        recording.log("world/path", rerun.LineStrips3D([np.stack(positions)]))
        recording.log("world/moving", rerun.Points3D(points, colors=colours))
    recording.flush()
    recording.disconnect()
