"""A run's folder holds what its scenes said: poses, masks at the source's size, clouds in the world, tracks by row."""

from pathlib import Path

import cv2
import numpy as np

from pomato_ros.geometry.camera import resize_homography
from pomato_ros.geometry.rigid import pose_from, rotation_exp
from pomato_ros.sinks.scene_cloud import PLY_DTYPE, cloud_vertices
from pomato_ros.sinks.scene_folder import TRACKS_HEADER, SceneFolder
from pomato_ros.sinks.trajectory_files import read_tum
from pomato_ros.structures import Intrinsics, PoseArray, SceneEstimate, TrackingState, TrackSet

SIZE_WH, SOURCE_WH = (16, 12), (32, 24)


def scene(stamp_ns: int, pose: PoseArray | None, state: TrackingState = TrackingState.TRACKING) -> SceneEstimate:
    height, width = SIZE_WH[1], SIZE_WH[0]
    points = np.ones((height, width, 3), np.float32) * (0.0, 0.0, 2.0)
    points[..., 0] = np.linspace(-1, 1, width)
    points[0] = np.nan
    moving = np.zeros((height, width), bool)
    moving[4:8, 4:8] = True
    tracks = TrackSet(
        *(
            np.array([7, 9]),
            np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]),
            np.zeros((2, 3)),
            np.zeros((2, 2), np.float32),
        ),
        *(np.ones(2, np.float32), np.array([True, False]), np.array([False, True]), np.array([3, 4])),
    )
    return SceneEstimate(
        stamp_ns=stamp_ns,
        state=state,
        frames_in_window=1,
        image_rgb=np.full((height, width, 3), 100, np.uint8),
        intrinsics=Intrinsics(10.0, 10.0, 7.5, 5.5, width, height),
        intrinsics_known=True,
        model_from_source=resize_homography(0.5, 0.5),
        source_size_wh=SOURCE_WH,
        points_camera=points.astype(np.float32),
        confidence=np.ones((height, width), np.float32),
        dynamic_mask=moving,
        world_from_camera=pose,
        pose_covariance=None if pose is None else np.eye(6),
        pose_inlier_ratio=1.0,
        metres_per_unit=1.0,
        tracks=tracks,
        stage_seconds={},
    )


POSES = [pose_from(rotation_exp([0.0, 0.1 * t, 0.0]), [0.1 * t, 0.0, 0.0]) for t in range(3)]


def test_the_trajectory_has_every_pose_but_those_of_a_lost_camera(tmp_path: Path) -> None:
    folder = SceneFolder(tmp_path)
    folder.add(scene(10, POSES[0]))
    folder.add(scene(20, None))
    folder.add(scene(30, POSES[1], TrackingState.LOST))
    folder.add(scene(1_000_000_040, POSES[2]))
    folder.close()
    stamps, poses = read_tum(tmp_path / "trajectory.tum")
    assert stamps.tolist() == [10, 1_000_000_040]
    np.testing.assert_allclose(poses, [POSES[0], POSES[2]], atol=1e-8)


def test_masks_have_the_size_of_the_source_image(tmp_path: Path) -> None:
    SceneFolder(tmp_path).add(scene(10, POSES[0]))
    mask = cv2.imread(str(tmp_path / "masks" / "10.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == SOURCE_WH[::-1]
    assert set(np.unique(mask)) == {0, 255}
    assert (mask[9:15, 9:15] == 255).all()
    assert not mask[:7].any()


def test_clouds_are_in_the_world_and_the_map_holds_what_rests(tmp_path: Path) -> None:
    folder = SceneFolder(tmp_path, cloud_every=2)
    for t, pose in enumerate(POSES):
        folder.add(scene(t + 1, pose))
    folder.close()
    assert sorted(path.name for path in (tmp_path / "clouds").iterdir()) == ["1.ply", "3.ply"]
    vertices = cloud_vertices(scene(3, POSES[2]), POSES[2])
    assert len(vertices) == (SIZE_WH[1] - 1) * SIZE_WH[0]
    first = POSES[2][:3, :3] @ [-1.0, 0.0, 2.0] + POSES[2][:3, 3]
    np.testing.assert_allclose([vertices[0][name] for name in "xyz"], first, atol=1e-6)
    assert len(folder.map_vertices)
    assert not folder.map_vertices["dynamic"].any()
    assert folder.map_vertices.dtype == PLY_DTYPE


def test_tracks_are_one_line_each(tmp_path: Path) -> None:
    folder = SceneFolder(tmp_path)
    folder.add(scene(10, POSES[0]))
    folder.close()
    lines = (tmp_path / "tracks.csv").read_text().splitlines()
    assert lines[0] == TRACKS_HEADER
    assert lines[1].startswith("10,7,0,1,2,0,0,0,1,1,0,3")
    assert len(lines) == 3
