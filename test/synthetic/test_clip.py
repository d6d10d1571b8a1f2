import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import WorldConfig, render_clip

PAIRS = [(0, 4), (3, 1), (2, 2)]


def sample(image: Tensor, pixels: Tensor) -> Tensor:
    """Bilinear values (n, c) of ``image`` (h, w, c) at ``pixels`` (n, 2), pixel centres at integers."""
    height, width = image.shape[:2]
    grid = 2.0 * pixels / torch.tensor([width - 1.0, height - 1.0]) - 1.0
    planes = image.permute(2, 0, 1)[None].float()
    return torch.nn.functional.grid_sample(planes, grid[None, None], align_corners=True)[0, :, 0].T


def grid(clip: Clip) -> Tensor:
    height, width = clip.depth_m.shape[1:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((x, y), dim=-1).float()


def test_shapes_and_types_are_as_documented(clip: Clip) -> None:
    assert clip.images.shape == (5, 48, 72, 3)
    assert clip.images.dtype == torch.uint8
    assert clip.depth_m.shape == clip.instance.shape == (5, 48, 72)
    assert (clip.depth_m.dtype, clip.instance.dtype) == (torch.float32, torch.int16)
    assert clip.world_from_camera.dtype == clip.world_from_object.dtype == torch.float64
    assert (clip.intrinsics.width_px, clip.intrinsics.height_px) == (72, 48)
    assert bool(torch.isfinite(clip.depth_m).all())
    assert int(clip.instance.max()) < clip.world_from_object.shape[1]


def test_points_project_to_their_own_pixel_by_the_camera_matrix(clip: Clip) -> None:
    points = clip.points_camera(1).numpy()
    projected = points @ clip.intrinsics.matrix().T
    np.testing.assert_allclose(projected[..., :2] / projected[..., 2:], grid(clip), atol=1e-4)
    assert torch.equal(clip.points_camera(1)[..., 2], clip.depth_m[1])


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_matched_points_are_transferred_points_where_nothing_moves(clip: Clip, source: int, target: int) -> None:
    still = ~clip.moving_mask(source, target)
    matched, transferred = clip.points_matched(source, target), clip.points_transferred(source, target)
    torch.testing.assert_close(matched[still], transferred[still], atol=2e-4, rtol=0.0)
    gap = (matched - transferred)[~still].norm(dim=-1)
    assert bool((gap > 5e-5).all())


def test_clips_have_movers_and_the_mask_is_theirs(clip: Clip) -> None:
    mask = clip.moving_mask(0, 4)
    assert bool(mask.any())
    moved = (clip.world_from_object[0] != clip.world_from_object[4]).flatten(1).any(1)
    assert bool(moved[clip.instance[0][mask].long()].all())
    assert not bool(mask[clip.instance[0] == 0].any())


def test_a_frame_against_itself_is_at_rest(clip: Clip) -> None:
    assert not bool(clip.moving_mask(2, 2).any())
    torch.testing.assert_close(clip.points_matched(2, 2), clip.points_camera(2), atol=1e-5, rtol=0.0)
    assert float(clip.optical_flow(2, 2).abs().max()) < 1e-3
    assert bool(clip.visible(2, 2).all())


def test_moving_is_the_union_over_the_neighbours(clip: Clip) -> None:
    assert torch.equal(clip.moving(2), clip.moving_mask(2, 1) | clip.moving_mask(2, 3))
    assert torch.equal(clip.moving(0), clip.moving_mask(0, 1))
    assert torch.equal(clip.moving(4), clip.moving_mask(4, 3))


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_following_a_point_and_coming_back_ends_where_it_began(clip: Clip, source: int, target: int) -> None:
    pixels = clip.pixels_matched(source, target)
    seen = clip.visible(source, target)
    nearest = pixels[seen].round().long()
    same = clip.instance[target][nearest[:, 1], nearest[:, 0]] == clip.instance[source][seen]
    back = sample(clip.pixels_matched(target, source), pixels[seen])[same]
    error = (back - grid(clip)[seen][same]).norm(dim=-1)
    assert float(error.median()) < 1e-3
    assert float((error < 0.1).float().mean()) > 0.9, "all but pixels at the edge of a surface"


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_depth_of_a_visible_matched_point_is_seen_in_the_target(clip: Clip, source: int, target: int) -> None:
    seen = clip.visible(source, target)
    assert float(seen.float().mean()) > 0.3
    expected = clip.points_matched(source, target)[..., 2][seen]
    depth = sample(clip.depth_m[target][..., None], clip.pixels_matched(source, target)[seen])[:, 0]
    assert float((depth / expected - 1.0).abs().median()) < 1e-3


@pytest.mark.parametrize(("source", "target"), [(0, 4), (4, 0)])
def test_visible_points_keep_their_colour_under_even_light(clip: Clip, source: int, target: int) -> None:
    seen = clip.visible(source, target)
    colour = clip.images[source][seen].float()
    planes = clip.images[target].permute(2, 0, 1)[None].float()
    brightest = torch.nn.functional.max_pool2d(planes, 3, 1, 1)[0].permute(1, 2, 0)
    darkest = -torch.nn.functional.max_pool2d(-planes, 3, 1, 1)[0].permute(1, 2, 0)

    def explained(pixels: Tensor) -> float:
        """Share of colours within those of the 3 x 3 pixels around ``pixels``, but for rounding and resampling."""
        x, y = pixels.round().long().unbind(-1)
        return float(((colour > darkest[y, x] - 6.0) & (colour < brightest[y, x] + 6.0)).all(-1).float().mean())

    followed = explained(clip.pixels_matched(source, target)[seen])
    assert followed > 0.97
    assert 1.0 - followed < 0.5 * (1.0 - explained(grid(clip)[seen])), "staying put explains less"


def test_points_that_leave_the_view_or_are_covered_are_not_visible(clip: Clip) -> None:
    pixels = clip.pixels_matched(0, 4)
    limits = torch.tensor([71.0, 47.0])
    outside = ((pixels < -0.5) | (pixels >= limits + 0.5)).any(-1)
    assert not bool(clip.visible(0, 4)[outside].any())
    nearest = pixels.round().nan_to_num(0.0).long()
    nearest = torch.minimum(nearest.clamp(min=0), limits.long())
    hidden = clip.points_matched(0, 4)[..., 2] > 1.3 * clip.depth_m[4][nearest[..., 1], nearest[..., 0]]
    other = clip.instance[4][nearest[..., 1], nearest[..., 0]] != clip.instance[0]
    assert float((hidden & other & clip.visible(0, 4)).float().mean()) < 0.02, "only beside an edge"


def test_matched_points_of_a_rigid_object_keep_their_distances(clip: Clip) -> None:
    before, after = clip.points_camera(0), clip.points_matched(0, 4)
    for index in clip.instance[0].unique():
        pixels = clip.instance[0] == index
        chosen = slice(None, None, max(int(pixels.sum()) // 50, 1))
        torch.testing.assert_close(
            torch.cdist(*[before[pixels][chosen].double()] * 2),
            torch.cdist(*[after[pixels][chosen].double()] * 2),
            atol=1e-4,
            rtol=1e-4,
        )


def test_nothing_moves_without_movers(even_light: WorldConfig) -> None:
    clip = render_clip(3, dataclasses.replace(even_light, mover_probability=0.0), 4, (40, 56))
    for t in range(4):
        assert not bool(clip.moving(t).any())
        assert torch.equal(clip.points_matched(0, t), clip.points_transferred(0, t))


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_scene_flow_is_the_way_of_what_moves_in_the_world(clip: Clip, source: int, target: int) -> None:
    flow = clip.scene_flow(source, target).double()
    still = clip.instance[source] == 0
    assert float(flow[still].abs().max()) == 0.0
    turn = clip.world_from_camera[source, :3, :3]
    moved = clip.moving_mask(source, target)
    assert bool((flow.norm(dim=-1)[moved] > 5e-5).all())
    in_target = clip.points_matched(source, target).double()
    camera = clip.world_from_camera[target]
    world_after = in_target @ camera[:3, :3].T + camera[:3, 3]
    camera = clip.world_from_camera[source]
    world_before = clip.points_camera(source).double() @ camera[:3, :3].T + camera[:3, 3]
    torch.testing.assert_close(flow @ turn.T, world_after - world_before, atol=2e-5, rtol=0.0)


def test_tracks_are_matched_points_pair_by_pair(clip: Clip) -> None:
    pixels = torch.tensor([[x, y] for x in range(2, 72, 7) for y in range(1, 48, 6)])
    tracks = clip.tracks(2, pixels)
    assert tracks.points_world.shape == (5, len(pixels), 3)
    x, y = pixels.unbind(1)
    for t in range(5):
        torch.testing.assert_close(tracks.pixels[t], clip.pixels_matched(2, t)[y, x], atol=2e-3, rtol=0.0)
        agree = tracks.visible[t] == clip.visible(2, t)[y, x]
        assert float(agree.double().mean()) > 0.98, "all but those at a limit, by rounding"
    assert bool(tracks.visible[2].all())


def test_a_track_goes_on_where_its_point_is_hidden(clip: Clip) -> None:
    pixels = torch.tensor([[x, y] for x in range(0, 72, 3) for y in range(0, 48, 3)])
    tracks = clip.tracks(0, pixels)
    assert bool(torch.isfinite(tracks.points_world).all())
    assert not bool(tracks.visible.all())
    still = clip.instance[0][pixels[:, 1], pixels[:, 0]] == 0
    torch.testing.assert_close(tracks.points_world[4][still], tracks.points_world[0][still])
