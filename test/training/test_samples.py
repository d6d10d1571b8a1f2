"""Training windows: reproducible from their step, and their targets the clip's own truth."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from pomato_ros.geometry.camera import project
from pomato_ros.geometry.grid import pixel_grid
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip
from pomato_ros.training.config import Stage, TrainConfig
from pomato_ros.training.losses import swap_order
from pomato_ros.training.samples import (
    Targets,
    WindowBatch,
    WindowDataset,
    augment_colour,
    mirrored,
    pair_targets,
    pick_frames,
    stack_targets,
    thinned,
)

STEPS = range(9)


@pytest.fixture(scope="module")
def batches(recipe: TrainConfig) -> list[WindowBatch]:
    dataset = WindowDataset(recipe)
    return [dataset[step] for step in STEPS]


@pytest.fixture(scope="module")
def clip() -> Clip:
    """Three frames with movers."""
    clip = render_clip(5, dataclasses.replace(TRAIN_WORLD, mover_probability=1.0), 3, (48, 32))
    assert clip.moving_mask(0, 2).any()
    return clip


def tensors(batch: WindowBatch) -> list[Tensor]:
    return [batch.images, *(getattr(batch.targets, item.name) for item in dataclasses.fields(Targets))]


def test_a_batch_depends_on_its_step_only(recipe: TrainConfig, batches: list[WindowBatch]) -> None:
    other = WindowDataset(recipe)
    for step in reversed(STEPS):
        again = other[step]
        assert again.key == batches[step].key
        assert all(torch.equal(*pair) for pair in zip(tensors(again), tensors(batches[step]), strict=True))


def test_steps_and_runs_differ(recipe: TrainConfig, batches: list[WindowBatch]) -> None:
    assert len({batch.images.double().sum().item() for batch in batches}) == len(batches)
    other_run = WindowDataset(dataclasses.replace(recipe, seed=recipe.seed + 1))[0]
    assert other_run.images.shape != batches[0].images.shape or not torch.equal(other_run.images, batches[0].images)


def test_processes_share_a_step_out_among_themselves(recipe: TrainConfig, batches: list[WindowBatch]) -> None:
    for step in range(3):  # of three windows
        whole = batches[step]
        parts = [WindowDataset(recipe, process, 2)[step] for process in (0, 1)]
        assert [len(part.images) for part in parts] == [2, 1]
        for process, part in enumerate(parts):
            assert (part.key, part.paired) == (whole.key, whole.paired)
            assert torch.equal(part.images, whole.images[process::2])
            rows = torch.arange(len(whole.targets.moving)).unflatten(0, (2, 3, -1))[:, process::2].flatten()
            assert torch.equal(part.targets.points_1, whole.targets.points_1[rows])


def test_a_step_has_a_window_for_every_process(recipe: TrainConfig) -> None:
    parts = [WindowDataset(recipe, process, 2)[3] for process in (0, 1)]  # a stage of one window a step
    assert [len(part.images) for part in parts] == [1, 1]
    assert not torch.equal(parts[0].images, parts[1].images)


def test_scenes_move_on_and_old_ones_are_forgotten(recipe: TrainConfig) -> None:
    dataset = WindowDataset(dataclasses.replace(recipe, shapes=recipe.shapes[:1]))
    stage = dataclasses.replace(recipe.stages[0], steps=40)
    dataset.config = dataclasses.replace(dataset.config, stages=(stage,))
    seen: set[int] = set()
    for step in range(40):
        dataset[step]
        known = {number for _, number in dataset._clips}
        assert known <= set(range(stage.new_clips * step, stage.new_clips * step + stage.clips + stage.windows))
        seen |= known
    assert len(seen) > 40


def test_thinned_truth_is_truth_at_evenly_spread_pixels_from_corner_to_corner(clip: Clip) -> None:
    targets = stack_targets([pair_targets(clip, 0, 2)])
    for stride in (2, 4):
        thin = thinned(targets, stride)
        assert thin.points_1.shape == (1, 32 // stride, 48 // stride, 3)
        for item in dataclasses.fields(Targets):
            some, every = getattr(thin, item.name), getattr(targets, item.name)
            assert torch.equal(some[:, [0, 0, -1, -1], [0, -1, 0, -1]], every[:, [0, 0, -1, -1], [0, -1, 0, -1]])
        pixels = project(thin.points_1[0].numpy(), clip.intrinsics.matrix())
        assert np.abs(np.diff(pixels[..., 0], axis=1) - 47 / (48 // stride - 1)).max() < 1
        assert np.abs(np.diff(pixels[..., 1], axis=0) - 31 / (32 // stride - 1)).max() < 1


def test_a_batch_has_the_shape_of_its_stage(recipe: TrainConfig, batches: list[WindowBatch]) -> None:
    sizes = {shape.size_wh for shape in recipe.shapes}
    for step, batch in enumerate(batches):
        stage = recipe.stage_at(step)
        windows, frames, channels, height, width = batch.images.shape
        assert frames in stage.window_frames
        assert (width, height) in sizes
        assert channels == 3
        assert batch.images.abs().max() <= 1
        assert batch.key in (0, frames - 1)
        frames_in_mean = sum(stage.window_frames) / len(stage.window_frames)
        assert windows == max(1, round(stage.windows * frames_in_mean / frames))
        assert batch.targets.moving.dtype is torch.bool
        assert set(batch.paired) == set(range(frames)) - ({batch.key} if stage.pairwise else set())
        assert batch.targets.points_match.shape == (2 * windows * len(batch.paired), height, width, 3)
    assert {batch.key == 0 for batch in batches} == {True, False}
    assert {batch.images.shape[-1] for batch in batches} == {32, 48}


def test_rows_are_frames_against_the_key_and_then_the_key_against_frames(batches: list[WindowBatch]) -> None:
    for batch in batches:
        shape = (2, len(batch.images), len(batch.paired))
        names = [item.name for item in dataclasses.fields(Targets)]
        halves = {name: getattr(batch.targets, name).unflatten(0, shape) for name in names}
        from_key, to_key = ({name: value[half] for name, value in halves.items()} for half in (0, 1))
        # X^{k,k} is view 1 of every pair to the key
        assert torch.equal(to_key["points_1"], to_key["points_1"][:, :1].expand_as(to_key["points_1"]))
        if batch.key not in batch.paired:
            continue
        # a frame paired with itself stands still
        own = batch.paired.index(batch.key)
        for half in (from_key, to_key):
            for name in ("points_1", "points_2", "points_match"):
                assert torch.equal(half[name][:, own], to_key["points_1"][:, 0])
            assert not half["moving"][:, own].any()


def test_swapping_the_order_finds_the_same_pixels_in_the_other_camera(batches: list[WindowBatch]) -> None:
    for batch in batches:
        seen, own = batch.targets.points_2, swap_order(batch.targets.points_1)
        assert torch.equal(swap_order(own), batch.targets.points_1)
        for rows in (seen, own):  # a rigid motion keeps distances between points
            rows -= rows[:, :1, :1].clone()
        torch.testing.assert_close(seen.norm(dim=-1), own.norm(dim=-1), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("one", "two"), [(0, 2), (2, 0), (1, 1)])
def test_targets_are_the_truth_of_the_pair(clip: Clip, one: int, two: int) -> None:
    targets = pair_targets(clip, one, two)
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
    targets = pair_targets(clip, 0, 2)
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


def test_half_of_the_windows_are_mirrored_images_with_mirrored_truth(recipe: TrainConfig, clip: Clip) -> None:
    class Unmirrored(WindowDataset):
        def _clip(self, stage: Stage, shape_index: int, number: int) -> Clip:
            return clip

    dataset = Unmirrored(dataclasses.replace(recipe, stages=recipe.stages[:1], shapes=recipe.shapes[:1]))
    found = set()
    for step in range(3):
        batch = dataset[step]
        images = batch.images[:, list(batch.paired)].flatten(0, 1)
        for image, points in zip(images, batch.targets.points_1[: len(images)], strict=True):
            # whichever frame and side it is: an image and its truth come from the same one
            truths = [(t, side) for t in range(3) for side in (False, True) if same(points, clip, t, side)]
            (frame, side), *others = truths
            assert not others
            grey = clip.images[frame].float().mean(-1)
            grey = grey.flip(-1) if side else grey
            assert torch.corrcoef(torch.stack((image.mean(0).flatten(), grey.flatten())))[0, 1] > 0.9
            found.add(side)
    assert found == {True, False}


def same(points: Tensor, clip: Clip, frame: int, side: bool) -> bool:
    targets = pair_targets(clip, frame, frame)
    return torch.equal(points, (mirrored(targets) if side else targets).points_1)


def test_colours_change_alike_in_all_frames_of_a_window() -> None:
    image = torch.rand(1, 3, 8, 9, generator=torch.Generator().manual_seed(0)) * 2 - 1
    results = []
    for seed in range(8):
        changed = augment_colour(torch.Generator().manual_seed(seed), image.expand(4, -1, -1, -1))
        assert torch.equal(changed, changed[:1].expand_as(changed))
        assert changed.abs().max() <= 1
        results.append(changed[0])
    assert len({result.sum().item() for result in results}) == len(results)


@pytest.mark.parametrize("clip_frames", [3, 4, 12])
def test_frames_of_pairs_are_distinct_and_of_windows_evenly_spaced_both_ways(clip_frames: int) -> None:
    generator = torch.Generator().manual_seed(0)
    steps = set()
    for _ in range(60):
        for in_order in (True, False):
            picked = pick_frames(generator, clip_frames, 3, in_order)
            assert len(set(picked)) == 3
            assert set(picked) <= set(range(clip_frames))
            if in_order:
                steps |= set(np.diff(picked).tolist())
                assert len(set(np.diff(picked).tolist())) == 1
    longest = (clip_frames - 1) // 2
    assert steps == set(range(-longest, longest + 1)) - {0}
