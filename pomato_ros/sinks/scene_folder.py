"""A folder with everything that a run said: trajectory, masks, clouds, a map, tracks and a picture."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pomato_ros.sinks.point_files import write_whole
from pomato_ros.sinks.scene_cloud import PLY_DTYPE, cloud_vertices, ply_bytes
from pomato_ros.sinks.trajectory_files import write_tum
from pomato_ros.structures import MaskArray, PoseArray, SceneEstimate, TrackingState

TRACKS_HEADER = "stamp_ns,id,x_m,y_m,z_m,vx_m_s,vy_m_s,vz_m_s,confidence,visible,dynamic,age_frames"
VOXEL_SHARE = 0.01  # side of the map's voxels, share of the first scene's median depth
MAP_EVERY = 2  # clouds of the map are taken at every n-th row and column


class SceneFolder:
    """Takes scenes one by one; :meth:`close` writes what needs all of them. All positions in the first camera."""

    def __init__(self, folder: Path, cloud_every: int = 10) -> None:
        """Make the folder.

        Args:
            folder: where files go; those of an earlier run with the same names are replaced.
            cloud_every: a cloud file for every n-th scene with a pose; 0 for none.
        """
        self.folder, self._cloud_every = folder, cloud_every
        for name in ("masks", "clouds"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.trajectory: list[tuple[int, PoseArray]] = []
        self._tracks = [TRACKS_HEADER]
        self._map = VoxelMap()

    def add(self, scene: SceneEstimate) -> None:
        """Write the files of one scene and keep what the others need."""
        write_png(self.folder / "masks" / f"{scene.stamp_ns}.png", source_mask(scene).astype(np.uint8) * 255)
        self._tracks += track_rows(scene)
        if scene.world_from_camera is None or scene.state is TrackingState.LOST:
            return
        if self._cloud_every and len(self.trajectory) % self._cloud_every == 0:
            vertices = cloud_vertices(scene, scene.world_from_camera)
            write_whole(self.folder / "clouds" / f"{scene.stamp_ns}.ply", ply_bytes(vertices))
            self._map.add(scene, scene.world_from_camera)
        self.trajectory.append((scene.stamp_ns, scene.world_from_camera))

    def close(self) -> None:
        """Write trajectory, tracks and the map of everything at rest."""
        stamps_ns, poses = [stamp_ns for stamp_ns, _ in self.trajectory], [pose for _, pose in self.trajectory]
        write_tum(self.folder / "trajectory.tum", stamps_ns, np.array(poses).reshape(-1, 4, 4))
        write_whole(self.folder / "tracks.csv", "\n".join([*self._tracks, ""]).encode("ascii"))
        write_whole(self.folder / "map.ply", ply_bytes(self._map.vertices()))

    @property
    def map_vertices(self) -> NDArray[np.void]:
        """The map so far, see :data:`pomato_ros.sinks.scene_cloud.PLY_DTYPE`."""
        return self._map.vertices()


class VoxelMap:
    """Points at rest, the newest of each voxel."""

    def __init__(self) -> None:
        """Start empty; the first cloud decides the size of voxels."""
        self._voxel_m = 0.0
        self._points: dict[tuple[int, int, int], NDArray[np.void]] = {}

    def add(self, scene: SceneEstimate, world_from_camera: PoseArray) -> None:
        """Take in what rests in a scene."""
        vertices = cloud_vertices(scene, world_from_camera)
        vertices = vertices[vertices["dynamic"] == 0][:: MAP_EVERY**2]
        if not len(vertices):
            return
        if not self._voxel_m:
            self._voxel_m = VOXEL_SHARE * float(np.nanmedian(scene.depth))
        places = np.stack([vertices[name] for name in "xyz"], axis=-1)
        keys = np.floor(places / self._voxel_m).astype(np.int64)
        _, first = np.unique(keys, axis=0, return_index=True)
        self._points |= {(int(a), int(b), int(c)): vertices[i] for (a, b, c), i in zip(keys[first], first, strict=True)}

    def vertices(self) -> NDArray[np.void]:
        """(n,) of :data:`PLY_DTYPE`."""
        return np.array(list(self._points.values()), PLY_DTYPE)


def source_mask(scene: SceneEstimate) -> MaskArray:
    """(H, W) moving pixels of the source image; at rest where the working image does not reach."""
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    mask = scene.dynamic_mask.astype(np.uint8)
    return np.asarray(cv2.warpPerspective(mask, scene.model_from_source, scene.source_size_wh, flags=flags), bool)


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an image (h, w) or (h, w, 3) BGR.

    Raises:
        OSError: it cannot be written.
    """
    done, content = cv2.imencode(".png", image)
    if not done:
        raise OSError(f"could not encode {path}; expected an 8-bit image, got {image.shape} of {image.dtype}")
    write_whole(path, content.tobytes())


def track_rows(scene: SceneEstimate) -> list[str]:
    """One line of :data:`TRACKS_HEADER` for each track of a scene."""
    tracks = scene.tracks
    return [
        ",".join(
            [
                str(scene.stamp_ns),
                str(int(tracks.ids[row])),
                *(f"{value:.6g}" for value in (*tracks.positions_world[row], *tracks.velocities_world[row])),
                f"{tracks.confidence[row]:.4g}",
                *(str(int(flag)) for flag in (tracks.visible[row], tracks.dynamic[row], tracks.age_frames[row])),
            ]
        )
        for row in range(len(tracks.ids))
    ]
