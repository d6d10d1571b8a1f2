"""Training windows: reproducible from their step, and their targets the clip's own truth."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip
from pomato_ros.training.config import Stage, Task, TrainConfig
from pomato_ros.training.losses import swap_order
from pomato_ros.training.samples import (
    WindowBatch,
    WindowDataset,
    augment_colour,
    draw_pairing,
    draw_turn,
    draw_window,
    pick_frames,
)
from pomato_ros.training.targets import Targets, mirrored, pair_targets

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
        assert again.pairs == batches[step].pairs
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
            assert part.pairs == whole.pairs
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


def test_a_batch_has_the_shape_of_its_stage(recipe: TrainConfig, batches: list[WindowBatch]) -> None:
    sizes = {shape.size_wh for shape in recipe.shapes}
    for step, batch in enumerate(batches):
        stage = recipe.stage_at(step)
        windows, frames, channels, height, width = batch.images.shape
        assert frames in stage.window_frames
        assert (width, height) in sizes
        assert channels == 3
        assert batch.images.abs().max() <= 1
        (key,) = set(batch.pairs.view_2)
        assert key in (0, frames - 1)
        frames_in_mean = sum(stage.window_frames) / len(stage.window_frames)
        assert windows == max(1, round(stage.windows * frames_in_mean / frames))
        assert batch.targets.moving.dtype is torch.bool
        assert set(batch.pairs.view_1) == set(range(frames)) - ({key} if stage.pairwise else set())
        assert batch.targets.points_match.shape == (2 * windows * len(batch.pairs.view_1), height, width, 3)
        assert all(getattr(batch.targets, name).all() for name in ("valid_1", "valid_2", "valid_match"))
    assert {batch.pairs.view_2[0] == 0 for batch in batches} == {True, False}
    assert {batch.images.shape[-1] for batch in batches} == {32, 48}


def test_rows_are_frames_against_the_key_and_then_the_key_against_frames(batches: list[WindowBatch]) -> None:
    for batch in batches:
        shape = (2, len(batch.images), len(batch.pairs.view_1))
        names = [item.name for item in dataclasses.fields(Targets)]
        halves = {name: getattr(batch.targets, name).unflatten(0, shape) for name in names}
        from_key, to_key = ({name: value[half] for name, value in halves.items()} for half in (0, 1))
        # X^{k,k} is view 1 of every pair to the key
        assert torch.equal(to_key["points_1"], to_key["points_1"][:, :1].expand_as(to_key["points_1"]))
        key = batch.pairs.view_2[0]
        if key not in batch.pairs.view_1:
            continue
        # a frame paired with itself stands still
        own = batch.pairs.view_1.index(key)
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


def test_half_of_the_windows_are_mirrored_images_with_mirrored_truth(recipe: TrainConfig, clip: Clip) -> None:
    class Unmirrored(WindowDataset):
        def _clip(self, stage: Stage, shape_index: int, number: int) -> Clip:
            return clip

    dataset = Unmirrored(dataclasses.replace(recipe, stages=recipe.stages[:1], shapes=recipe.shapes[:1]))
    found = set()
    for step in range(3):
        batch = dataset[step]
        images = batch.images[:, list(batch.pairs.view_1)].flatten(0, 1)
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
    targets = pair_targets(clip, frame, frame, 16)
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


# --- tasks and pairs


def test_every_task_of_a_stage_comes_as_often_as_it_is_named(recipe: TrainConfig) -> None:
    stage = dataclasses.replace(recipe.stages[2], tasks=(Task.ENGINE, Task.TRACKING, Task.TRACKING, Task.VIDEO_DEPTH))
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_pairing(generator, stage, 4) for _ in range(800)]
    assert sum(pairs.both_orders for pairs in drawn) == pytest.approx(200, abs=45)
    assert sum(pairs.view_1 == pairs.view_2 for pairs in drawn) == pytest.approx(200, abs=45)
    tracking = [pairs for pairs in drawn if not pairs.both_orders and pairs.view_2 == (0, 0, 0, 0)]
    assert len(tracking) == pytest.approx(400, abs=60)


@pytest.mark.parametrize("task", [Task.TRACKING, Task.VIDEO_DEPTH, Task.FAST_RECONSTRUCTION])
def test_a_batch_of_a_task_has_the_truth_of_its_pairs(recipe: TrainConfig, clip: Clip, task: Task) -> None:
    generator = torch.Generator().manual_seed(0)
    pairs = draw_pairing(generator, dataclasses.replace(recipe.stages[2], tasks=(task,)), 3)
    sides = set()
    for _ in range(6):
        _, (rows,) = draw_window(generator, clip, (2, 1, 0), pairs, 16)
        truth = [pair_targets(clip, 2 - a, 2 - b, 16) for a, b in zip(pairs.view_1, pairs.view_2, strict=True)]
        side = not torch.equal(rows[0].points_1, truth[0].points_1)
        sides.add(side)
        for found, expected in zip(rows, truth, strict=True):
            expected = mirrored(expected) if side else expected
            assert all(
                torch.equal(getattr(found, i.name), getattr(expected, i.name)) for i in dataclasses.fields(found)
            )
    assert sides == {True, False}


# --- scenes for many workers


@pytest.mark.parametrize(("first", "end"), [(0, 40), (13, 53), (5, 8), (7, 7)])
def test_a_turn_is_one_of_the_steps_own_lane_where_there_is_one(first: int, end: int) -> None:
    generator = torch.Generator().manual_seed(0)
    for lanes in (1, 4, 16):
        for step in range(20):
            drawn = {draw_turn(generator, first, end, lanes, step) for _ in range(500)}
            own = {turn for turn in range(first, end) if turn % lanes == step % lanes}
            assert drawn == (own or set(range(first, end)) or {first})


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_render_no_scene_twice(recipe: TrainConfig, workers: int) -> None:
    stage = dataclasses.replace(recipe.stages[0], steps=24, clips=24, new_clips=1, windows=1)
    config = dataclasses.replace(recipe, stages=(stage,), shapes=recipe.shapes[:1], lanes=4)
    seen: list[set[int]] = []
    for worker in range(workers):
        dataset = WindowDataset(config)
        numbers: set[int] = set()
        for step in range(worker, stage.steps, workers):
            dataset[step]
            numbers |= {number for _, number in dataset._clips}
        seen.append(numbers)
    assert sum(map(len, seen)) == len(set.union(*seen))
    assert all(len(numbers) >= 3 for numbers in seen)
