"""The truth of pairs, against geometry and slow twins, for rendered and recorded clips."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from pomato_ros.datasets.recording import RecordedClip
from pomato_ros.geometry.camera import project
from pomato_ros.geometry.grid import pixel_grid
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip
from pomato_ros.training.targets import Targets, mirrored, pair_targets, share_patches, stack_targets, thinned

PATCH = 8


@pytest.fixture(scope="module")
def clip() -> Clip:
    """Three frames with movers."""
    clip = render_clip(5, dataclasses.replace(TRAIN_WORLD, mover_probability=1.0), 3, (48, 32))
    assert clip.moving_mask(0, 2).any()
    return clip


def recorded(clip: Clip, **changes: object) -> RecordedClip:
    """The same clip as a dataset gives it, depth unknown in a corner."""
    depth_m = clip.depth_m.clone()
    depth_m[:, :5, :9] = 0
    given = RecordedClip(clip.images, depth_m, clip.world_from_camera, (clip.intrinsics,) * len(clip))
    return dataclasses.replace(given, **changes)


def test_thinned_truth_is_truth_at_evenly_spread_pixels_from_corner_to_corner(clip: Clip) -> None:
    targets = stack_targets([pair_targets(clip, 0, 2, PATCH)])
    for stride in (2, 4):
        thin = thinned(targets, stride)
        assert thin.points_1.shape == (1, 32 // stride, 48 // stride, 3)
        for item in dataclasses.fields(Targets):
            if item.name == "patch_matches":
                continue
            some, every = getattr(thin, item.name), getattr(targets, item.name)
            assert torch.equal(some[:, [0, 0, -1, -1], [0, -1, 0, -1]], every[:, [0, 0, -1, -1], [0, -1, 0, -1]])
        pixels = project(thin.points_1[0].numpy(), clip.intrinsics.matrix())
        assert np.abs(np.diff(pixels[..., 0], axis=1) - 47 / (48 // stride - 1)).max() < 1
        assert np.abs(np.diff(pixels[..., 1], axis=0) - 31 / (32 // stride - 1)).max() < 1


@pytest.mark.parametrize(("one", "two"), [(0, 2), (2, 0), (1, 1)])
def test_targets_are_the_truth_of_the_pair(clip: Clip, one: int, two: int) -> None:
    targets = pair_targets(clip, one, two, PATCH)
    matrix = clip.intrinsics.matrix()
    np.testing.assert_allclose(project(targets.points_1.numpy(), matrix), pixel_grid(32, 48), atol=1e-3)
    camera_1_from_2 = torch.linalg.inv(clip.world_from_camera[one]) @ clip.world_from_camera[two]
    moved = clip.points_camera(two).double() @ camera_1_from_2[:3, :3].T + camera_1_from_2[:3, 3]
    torch.testing.assert_close(targets.points_2.double(), moved, atol=1e-4, rtol=1e-4)
    distance = (targets.points_match - targets.points_2).norm(dim=-1)
    assert (distance[targets.moving] > 1e-5).all()
    assert (distance[~targets.moving] < 1e-3).all()
    visible = targets.points_match[clip.visible(two, one)]
    pixels = np.rint(project(visible.numpy(), matrix)).astype(int)
    same_place = (clip.points_camera(one)[pixels[:, 1], pixels[:, 0]] - visible).norm(dim=-1)
    assert same_place.median() < 0.05  # half a pixel of the surface


def test_mirrored_truth_is_what_a_mirrored_image_sees(clip: Clip) -> None:
    targets = pair_targets(clip, 0, 2, PATCH)
    seen = mirrored(targets)
    matrix = clip.intrinsics.matrix()
    np.testing.assert_allclose(project(seen.points_1.numpy(), matrix), pixel_grid(32, 48), atol=1e-3)
    torch.testing.assert_close(seen.points_1[..., 2], targets.points_1[..., 2].flip(-1))
    for name in ("points_2", "points_match"):
        pixels = project(getattr(targets, name).numpy(), matrix)
        expected = np.stack((47 - pixels[..., 0], pixels[..., 1]), axis=-1)[:, ::-1]
        np.testing.assert_allclose(project(getattr(seen, name).numpy(), matrix), expected, atol=1e-2)
    assert torch.equal(seen.moving, targets.moving.flip(-1))
    for item in dataclasses.fields(Targets):
        assert torch.equal(getattr(mirrored(seen), item.name), getattr(targets, item.name))


# --- where patches are in the other view


def slow_patch_matches(clip: Clip, view_1: int, view_2: int) -> Tensor:
    """Pixel by pixel, with the clip's own sight."""
    height, width = clip.depth_m.shape[1:]
    shares = torch.zeros(height // PATCH, width // PATCH, height // PATCH, width // PATCH)
    seen, pixels = clip.visible(view_2, view_1), clip.pixels_matched(view_2, view_1)
    for y in range(height):
        for x in range(width):
            if seen[y, x]:
                column, row = (int(np.rint(float(value))) // PATCH for value in pixels[y, x])
                shares[y // PATCH, x // PATCH, row, column] += 1 / PATCH**2
    return shares


@pytest.mark.parametrize(("one", "two"), [(0, 2), (2, 0), (1, 1)])
def test_patch_matches_are_what_each_pixel_says(clip: Clip, one: int, two: int) -> None:
    found = pair_targets(clip, one, two, PATCH).patch_matches
    torch.testing.assert_close(found, slow_patch_matches(clip, one, two))
    assert found.any()


@pytest.mark.parametrize(("one", "two"), [(0, 2), (2, 0)])
def test_a_patchs_shares_sum_to_what_of_it_is_seen(clip: Clip, one: int, two: int) -> None:
    found = pair_targets(clip, one, two, PATCH).patch_matches
    seen = clip.visible(two, one).float()
    shares = seen.unflatten(0, (-1, PATCH)).unflatten(-1, (-1, PATCH)).mean((1, 3))
    torch.testing.assert_close(found.sum((-2, -1)), shares)


@pytest.mark.parametrize(
    ("right", "down"), [(0, 0), (PATCH, 0), (-2 * PATCH, PATCH), (PATCH // 2, 0), (0, -PATCH // 4)]
)
def test_a_shifted_image_matches_patches_that_far_away(right: int, down: int) -> None:
    size = (4 * PATCH, 6 * PATCH)
    grid = torch.from_numpy(pixel_grid(*size)).float()
    pixels = grid + torch.tensor([right, down])
    seen = ((pixels >= 0) & (pixels < torch.tensor([size[1], size[0]]))).all(-1)
    found = share_patches(pixels, seen, PATCH)
    for row in range(4):
        for column in range(6):
            expected = torch.zeros(4, 6)
            for y in range(PATCH):
                for x in range(PATCH):
                    there = (row * PATCH + y + down, column * PATCH + x + right)
                    if 0 <= there[0] < size[0] and 0 <= there[1] < size[1]:
                        expected[there[0] // PATCH, there[1] // PATCH] += 1 / PATCH**2
            torch.testing.assert_close(found[row, column], expected)


def test_a_view_of_itself_matches_every_patch_with_itself(clip: Clip) -> None:
    found = pair_targets(clip, 1, 1, PATCH).patch_matches.flatten(2, 3).flatten(0, 1)
    torch.testing.assert_close(found, torch.eye(len(found)))


# --- recorded clips


@pytest.mark.parametrize("still", [True, False])
def test_recorded_truth_is_the_rendered_where_it_is_known(clip: Clip, still: bool) -> None:
    targets, truth = (pair_targets(of, 0, 2, PATCH) for of in (recorded(clip, still=still), clip))
    known = clip.depth_m[0].clone().bool()
    known[:5, :9] = False
    assert torch.equal(targets.valid_1, known)
    assert torch.equal(targets.valid_2, known)
    for name in ("points_1", "points_2"):
        torch.testing.assert_close(getattr(targets, name)[known], getattr(truth, name)[known], atol=1e-4, rtol=1e-4)
        assert not getattr(targets, name)[~known].any()
    assert torch.equal(targets.valid_match, known if still else torch.zeros_like(known))
    assert not targets.moving.any()
    assert bool(targets.patch_matches.any()) == still


def test_patches_of_a_recorded_clip_that_stands_still_are_matched_like_the_rendered(clip: Clip) -> None:
    world = dataclasses.replace(TRAIN_WORLD, mover_probability=0.0)
    still = render_clip(6, world, 3, (48, 32))
    targets = pair_targets(recorded(still, still=True), 0, 2, PATCH)
    truth = pair_targets(still, 0, 2, PATCH)
    # what hides is told from depth alone here, from instances and neighbours there
    unknown = torch.zeros(32, 48, dtype=torch.bool)
    unknown[:5, :9] = True
    untouched = ~unknown.unflatten(0, (-1, PATCH)).unflatten(-1, (-1, PATCH)).any(3).any(1)
    untouched &= truth.patch_matches[..., :1, :2].sum((-2, -1)) == 0  # the hole of the other view
    difference = (targets.patch_matches - truth.patch_matches).abs().sum((-2, -1))[untouched]
    assert len(difference) > 8
    assert difference.median() < 0.1


def test_both_kinds_of_clips_make_one_batch(clip: Clip) -> None:
    rows = [pair_targets(clip, 0, 2, PATCH), pair_targets(recorded(clip), 0, 2, PATCH)]
    batch = stack_targets(rows)
    for item in dataclasses.fields(Targets):
        one, two = (getattr(row, item.name) for row in rows)
        assert one.dtype is two.dtype
        assert torch.equal(getattr(batch, item.name)[1], two)


def test_a_point_hidden_by_a_nearer_surface_is_not_seen() -> None:
    depth_m = torch.full((2, 16, 16), 4.0)
    depth_m[0, :, 8:] = 2.0  # a wall before the right half, in view 1 only
    poses = torch.eye(4, dtype=torch.float64).expand(2, 4, 4)
    clip = render_clip(5, TRAIN_WORLD, 1, (16, 16))
    images = torch.zeros(2, 16, 16, 3, dtype=torch.uint8)
    pair = RecordedClip(images, depth_m, poses, (clip.intrinsics,) * 2, still=True).pair(0, 1)
    assert pair.seen[:, :8].all()
    assert not pair.seen[:, 8:].any()
    found = share_patches(pair.pixels_match, pair.seen, PATCH).flatten(2, 3).flatten(0, 1)
    torch.testing.assert_close(found, torch.diag(torch.tensor([1.0, 0.0, 1.0, 0.0])))
