"""A rendered clip to write in every dataset's format, its tracks, and the comparison of what comes back with it."""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pomato_ros.datasets.recording import RecordedClip
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.poses import invert
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip

SIZE_WH = (48, 32)
FRAMES = 5
TRACKED_FROM = (0, 2)  # every pixel of these frames begins a track


@dataclass(frozen=True)
class PointTracks:
    """Tracks of a clip."""

    points_world: NDArray[np.float64]  # (t, n, 3)
    visible: NDArray[np.bool_]  # (t, n)


@pytest.fixture(scope="session")
def clip() -> Clip:
    """Five frames with movers, seen by a camera of 90 degrees (TartanAir has no other)."""
    world = dataclasses.replace(TRAIN_WORLD, mover_probability=1.0, fov_deg=(90.0, 90.0))
    clip = render_clip(5, world, FRAMES, SIZE_WH)
    assert clip.moving_mask(0, FRAMES - 1).float().mean() > 0.02
    return clip


@pytest.fixture(scope="session")
def sky() -> NDArray[np.bool_]:
    """(h, w): pixels whose depth the miniatures leave unknown, in whatever way their format has."""
    mask = np.zeros(SIZE_WH[::-1], dtype=bool)
    mask[:3, :7] = True
    return mask


@pytest.fixture(scope="session")
def point_tracks(clip: Clip) -> PointTracks:
    """What the pixels of some frames see, followed through all."""
    points, visible = [], []
    for start in TRACKED_FROM:
        instance = clip.instance[start].flatten().long()
        points_camera = clip.points_camera(start).double().reshape(-1, 3)
        start_world = move(clip.world_from_camera[start], points_camera)
        object_from_world = invert(clip.world_from_object[start])[instance]
        points_object = move(object_from_world, start_world)
        points.append(torch.stack([move(clip.world_from_object[t][instance], points_object) for t in range(FRAMES)]))
        seen = [clip.visible(start, t).flatten() | (t == start) for t in range(FRAMES)]
        visible.append(torch.stack(seen))
    return PointTracks(torch.cat(points, dim=1).numpy(), torch.cat(visible, dim=1).numpy())


@pytest.fixture(scope="session")
def write_rgb(clip: Clip) -> Callable[..., None]:
    """``write_rgb(paths, alpha)``: the clip's images, in the format that the names say."""

    def write(paths: Iterable[Path], alpha: bool = False) -> None:
        for path, image in zip(paths, clip.images.numpy(), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGRA if alpha else cv2.COLOR_RGB2BGR)
            assert cv2.imwrite(str(path), bgr)

    return write


@pytest.fixture(scope="session")
def assert_same(clip: Clip, sky: NDArray[np.bool_]) -> Callable[..., None]:
    """``assert_same(recorded, frames, error_m, error_share)``: depth, camera, relative pose and pairs are the clip's.

    Points may differ by ``error_m`` and ``error_share`` of their distance (the format's precision).
    """

    def check(
        recorded: RecordedClip, frames: list[int], error_m: float, error_share: float, lossy_rgb: bool = False
    ) -> None:
        assert len(recorded) == len(frames)
        assert recorded.images.dtype is torch.uint8
        difference = (recorded.images.float() - clip.images[frames].float()).abs()
        assert difference.mean() < 12 if lossy_rgb else difference.max() == 0
        known = torch.from_numpy(~sky)

        def bound_of(points_own: Tensor) -> Tensor:
            """Depth is what a format rounds, so that the error grows with the distance from the own camera."""
            return error_m + error_share * points_own.norm(dim=-1)

        for place, frame in enumerate(frames):
            assert torch.equal(recorded.valid(place), known)
            assert dataclasses.asdict(recorded.intrinsics[place]) == pytest.approx(dataclasses.asdict(clip.intrinsics))
            for other, other_frame in enumerate(frames):
                truth = clip.points_transferred(frame, other_frame)
                pair = recorded.pair(other, place)
                assert torch.equal(pair.valid_2, known)
                assert torch.equal(pair.valid_1, known)
                assert ((pair.points_2 - truth).norm(dim=-1) < bound_of(clip.points_camera(frame)))[known].all()
                own = clip.points_camera(other_frame)
                assert ((pair.points_1 - own).norm(dim=-1) < bound_of(own))[known].all()
                assert not pair.points_1[~known].any()
                assert not pair.points_2[~known].any()
                assert not pair.points_match[~pair.valid_match].any()
                assert not pair.moving[~pair.valid_match].any()

    return check


@pytest.fixture(scope="session")
def assert_same_motion(clip: Clip, sky: NDArray[np.bool_]) -> Callable[..., None]:
    """``assert_same_motion(recorded, error_m, error_share)`` of all frames: tracks give the clip's matching truth."""

    def check(recorded: RecordedClip, error_m: float, error_share: float) -> None:
        known = torch.from_numpy(~sky)
        for source in TRACKED_FROM:
            for target in range(FRAMES):
                pair = recorded.pair(target, source)
                assert torch.equal(pair.valid_match, known)
                truth = clip.points_matched(source, target)
                bound = error_m + error_share * clip.points_camera(source).norm(dim=-1)
                assert ((pair.points_match - truth).norm(dim=-1) < bound)[known].all()
                moved_m = (truth - clip.points_transferred(source, target)).norm(dim=-1)
                assert pair.moving[known & (moved_m > 2e-3)].all()
                assert not pair.moving[known & (moved_m < 5e-4)].any()

    return check


def move(b_from_a: Tensor, points: Tensor) -> Tensor:
    """Points (n, 3) by one pose or a pose each."""
    return (b_from_a[..., :3, :3] @ points[..., None])[..., 0] + b_from_a[..., :3, 3]
