"""A recorded clip's truth, resizing and refusals, apart from any file."""

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pomato_ros.datasets.recording import RecordedClip, Tracks
from pomato_ros.geometry.camera import project
from pomato_ros.geometry.grid import pixel_grid
from pomato_ros.synthetic.clip import Clip


@pytest.fixture
def recorded(clip: Clip, point_tracks: object) -> RecordedClip:
    """The rendered clip as a recording, with its tracks."""
    points, visible = point_tracks.points_world, point_tracks.visible  # type: ignore[attr-defined]
    tracks = Tracks(torch.from_numpy(points), torch.ones(visible.shape, dtype=torch.bool), torch.from_numpy(visible))
    cameras = (clip.intrinsics,) * len(clip)
    return RecordedClip(clip.images, clip.depth_m, clip.world_from_camera, cameras, tracks=tracks)


def test_tracks_carry_movers_and_leave_the_rest_exactly_in_place(recorded: RecordedClip, clip: Clip) -> None:
    """Frame 1 begins no track: those of other frames fall between its pixels, and carry what is near."""
    pair = recorded.pair(4, 1)
    assert pair.valid_match.float().mean() > 0.5
    still = pair.valid_match & ~clip.moving_mask(1, 4)
    moving = pair.valid_match & clip.moving_mask(1, 4)
    assert moving.any()
    close = (pair.points_match - pair.points_2).norm(dim=-1) < 1e-5
    assert close[still].float().mean() > 0.95  # but for pixels on the edge of a mover
    error = (pair.points_match - clip.points_matched(1, 4)).norm(dim=-1)
    moved = (clip.points_matched(1, 4) - clip.points_transferred(1, 4)).norm(dim=-1)
    assert error[moving].median() < 0.1 * moved[moving].median()


def test_a_track_behind_the_surface_is_not_given_to_the_pixel_in_front_of_it(recorded: RecordedClip) -> None:
    tracks = recorded.tracks
    assert tracks is not None
    centre = recorded.world_from_camera[0, :3, 3]
    behind = centre + 1.2 * (tracks.points_world - centre)
    wrong = dataclasses.replace(tracks, points_world=behind)
    pixels = recorded.depth_m[0].numel()
    seen_from_0 = dataclasses.replace(wrong, visible=wrong.visible & (torch.arange(behind.shape[1]) < pixels))
    assert recorded.pair(1, 0).valid_match.all()
    assert not dataclasses.replace(recorded, tracks=seen_from_0).pair(1, 0).valid_match.any()


def test_a_far_track_may_miss_the_depth_by_a_share_of_it(recorded: RecordedClip) -> None:
    tracks = recorded.tracks
    assert tracks is not None
    far = recorded.world_from_camera.clone()
    far[:, :3, 3] *= 100
    missed = 1.01 * 100 * (tracks.points_world - recorded.world_from_camera[0, :3, 3]) + far[0, :3, 3]
    larger = dataclasses.replace(
        recorded,
        depth_m=100 * recorded.depth_m,
        world_from_camera=far,
        tracks=dataclasses.replace(tracks, points_world=missed),
    )
    assert larger.pair(1, 0).valid_match.all()


def test_of_two_tracks_in_a_pixel_the_one_nearest_to_its_centre_counts(recorded: RecordedClip) -> None:
    row, column = 20, 30
    own = recorded.points_camera(0)[row, column].double()
    beside = own + torch.tensor([0.4 * float(own[2]) / recorded.intrinsics[0].fx_px, 0.0, 0.0])
    camera = recorded.world_from_camera[0]
    start = torch.stack((beside, own, beside)) @ camera[:3, :3].T + camera[:3, 3]
    end = start + torch.tensor([[0.0, 0.0, 9.0], [0.0, 0.0, 1.0], [0.0, 0.0, 9.0]])
    always = torch.ones(2, 3, dtype=torch.bool)
    two = RecordedClip(
        recorded.images[:2],
        recorded.depth_m[:2],
        camera.expand(2, 4, 4),
        recorded.intrinsics[:2],
        tracks=Tracks(torch.stack((start, end)), always, always),
    )
    pair = two.pair(1, 0)
    assert pair.valid_match.sum() == 1
    moved = (pair.points_match - pair.points_2)[row, column].double()
    torch.testing.assert_close(camera[:3, :3] @ moved, torch.tensor([0.0, 0.0, 1.0]).double(), rtol=0, atol=1e-5)


def test_far_points_can_be_left_out(recorded: RecordedClip) -> None:
    far_m = float(recorded.depth_m.median())
    nearer = recorded.nearer_than(far_m)
    for t in range(len(recorded)):
        assert torch.equal(nearer.valid(t), recorded.depth_m[t] < far_m)
        assert not nearer.pair(0, t).valid_match[recorded.depth_m[t] >= far_m].any()


@pytest.mark.parametrize("size_wh", [(48, 32), (24, 16), (96, 64), (30, 30), (47, 20)])
def test_fitting_keeps_rays_and_surfaces(recorded: RecordedClip, size_wh: tuple[int, int]) -> None:
    """Where a fitted pixel's point lands in the whole image, there is its depth, at most half a pixel away."""
    fitted = recorded.fitted(size_wh)
    assert fitted.images.shape[1:] == (size_wh[1], size_wh[0], 3)
    assert (fitted.intrinsics[0].width_px, fitted.intrinsics[0].height_px) == size_wh
    for t in range(len(recorded)):
        pixels = project(fitted.points_camera(t).double().numpy(), recorded.intrinsics[t].matrix())
        assert ((pixels > -0.6) & (pixels < (47.6, 31.6))).all()
        depth, found = recorded.depth_m[t].numpy(), fitted.depth_m[t].numpy()
        around = [depth[_row(pixels, dy, 32), _row(pixels[..., ::-1], dx, 48)] for dx in (0, 1) for dy in (0, 1)]
        assert (np.abs(np.stack(around) - found).min(axis=0) == 0).all()
    if size_wh == (48, 32):
        assert torch.equal(fitted.images, recorded.images)
        assert torch.equal(fitted.depth_m, recorded.depth_m)


def test_fitting_averages_colours_and_crops_the_middle(recorded: RecordedClip) -> None:
    half = recorded.fitted((24, 16)).images.float()
    blocks = recorded.images.float().reshape(5, 16, 2, 24, 2, 3).mean((2, 4))
    assert (half - blocks).abs().max() <= 1
    assert torch.equal(recorded.fitted((32, 32)).images, recorded.images[:, :, 8:40])


def test_fitting_leaves_the_truth_of_motion_in_place(recorded: RecordedClip, clip: Clip) -> None:
    pair = recorded.fitted((24, 16)).pair(4, 0)
    moving = clip.moving_mask(0, 4)
    blocks = moving.reshape(16, 2, 24, 2).float().mean((1, 3))
    assert pair.valid_match.float().mean() > 0.9
    assert pair.moving[pair.valid_match & (blocks == 1)].all()
    assert not pair.moving[pair.valid_match & (blocks == 0)].any()


def test_a_view_that_sees_nothing_of_the_other_agrees_with_nothing(recorded: RecordedClip) -> None:
    assert recorded.agreement(0, 0) == 1
    turned = recorded.world_from_camera.clone()
    turned[1] = turned[0] @ torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0], dtype=torch.float64))
    assert np.isnan(dataclasses.replace(recorded, world_from_camera=turned).agreement(0, 1))


def test_parts_that_do_not_belong_together_are_refused(recorded: RecordedClip) -> None:
    with pytest.raises(ValueError, match="one size"):
        dataclasses.replace(recorded, images=recorded.images[:, :-1])
    with pytest.raises(ValueError, match="expected images, poses and cameras"):
        dataclasses.replace(recorded, intrinsics=recorded.intrinsics[1:])
    with pytest.raises(ValueError, match="tracks through 4 frames, got 5"):
        dataclasses.replace(
            recorded,
            images=recorded.images[1:],
            depth_m=recorded.depth_m[1:],
            world_from_camera=recorded.world_from_camera[1:],
            intrinsics=recorded.intrinsics[1:],
        )


def test_the_pixel_grid_is_the_clips(recorded: RecordedClip, clip: Clip) -> None:
    points = recorded.points_camera(2)
    assert torch.allclose(points, clip.points_camera(2), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(project(points, clip.intrinsics.matrix()), pixel_grid(32, 48), atol=1e-3)


def _row(pixels: NDArray[np.float64], offset: int, size: int) -> NDArray[np.intp]:
    """One of the two rows (or columns) on either side of pixels, from their last coordinate."""
    return np.clip(np.floor(pixels[..., 1] + 1e-4).astype(np.intp) + offset, 0, size - 1)
