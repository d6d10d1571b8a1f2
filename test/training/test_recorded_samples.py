"""Training windows from recorded datasets: miniature copies on disk, drawn from in the mixture's shares."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pomato_ros.datasets.carla import UNREAL_FROM_OPTICAL, WORLD_FROM_UNREAL_WORLD
from pomato_ros.datasets.mixture import PAPER_MIXTURE, RecordedFrames
from pomato_ros.datasets.tartanair import BODY_FROM_OPTICAL, find_sequences
from pomato_ros.geometry.rigid import compose, invert, quaternion_xyzw_from_matrix
from pomato_ros.synthetic.clip import Clip
from pomato_ros.synthetic.world import TRAIN_WORLD, render_clip
from pomato_ros.training.config import PRESETS, WORLD, RunOptions, TrainConfig
from pomato_ros.training.samples import WindowDataset, open_datasets
from pomato_ros.training.targets import Targets, pair_targets
from pomato_ros.training.train import train

FRAMES = 6
SIZE_WH = (48, 32)


@pytest.fixture(scope="module")
def clip() -> Clip:
    """Six frames of a camera of 90 degrees; nothing moves."""
    world = dataclasses.replace(TRAIN_WORLD, mover_probability=0.0, fov_deg=(90.0, 90.0))
    return render_clip(5, world, FRAMES, SIZE_WH)


@pytest.fixture(scope="module")
def folders(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """TartanAir, whose world stands still, and Carla, which tells nothing of motion, as they lie on disk."""
    root = tmp_path_factory.mktemp("datasets")
    write_tartanair(clip, root / "tartanair" / "room" / "Easy" / "P000", FRAMES)
    write_tartanair(clip, root / "tartanair" / "room" / "Easy" / "P001", 2)  # too short for windows of four
    write_carla(clip, root / "carla" / "town")
    return {name: root / name for name in ("tartanair", "carla")}


def write_png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def write_tartanair(clip: Clip, folder: Path, frames: int) -> None:
    lines = []
    (folder / "depth_left").mkdir(parents=True)
    for t in range(frames):
        write_png(folder / "image_left" / f"{t:06d}_left.png", clip.images[t].numpy()[..., ::-1])
        np.save(folder / "depth_left" / f"{t:06d}_left_depth.npy", clip.depth_m[t].numpy())
        pose = compose(clip.world_from_camera[t].numpy(), invert(BODY_FROM_OPTICAL))
        lines.append(" ".join(f"{value:.12f}" for value in (*pose[:3, 3], *quaternion_xyzw_from_matrix(pose[:3, :3]))))
    (folder / "pose_left.txt").write_text("\n".join(lines))


def write_carla(clip: Clip, folder: Path) -> None:
    for t in range(FRAMES):
        write_png(folder / "Middle_RGB" / f"{t + 1:06d}.png", clip.images[t].numpy()[..., ::-1])
        code = np.rint(clip.depth_m[t].numpy().astype(np.float64) / 1000 * (2**24 - 1)).astype(np.int64)
        rgb = np.stack([code % 256, code // 256 % 256, code // 65536], axis=-1).astype(np.uint8)
        write_png(folder / "Middle_RawDepth" / f"{t + 1:06d}.png", rgb[..., ::-1])
    (folder / "camera_data").mkdir()
    camera = clip.intrinsics.matrix()
    camera[:2, 2] += 0.5
    np.save(folder / "camera_data" / "intrinsics.npy", camera)
    world = clip.world_from_camera.numpy()
    poses = np.linalg.inv(WORLD_FROM_UNREAL_WORLD) @ world @ np.linalg.inv(UNREAL_FROM_OPTICAL)
    np.save(folder / "camera_data" / "extrinsics.npy", poses)


@pytest.fixture
def mixed(recipe: TrainConfig, folders: Mapping[str, Path]) -> TrainConfig:
    """Rendered and recorded windows, half of the latter of each dataset."""
    shapes = recipe.shapes[:1]
    return dataclasses.replace(recipe, mixture={WORLD: 2, "tartanair": 1, "carla": 1}, data=folders, shapes=shapes)


def only(config: TrainConfig, dataset: str, stage: int) -> TrainConfig:
    """The stage alone, on one dataset."""
    folder = {dataset: config.data[dataset]}
    stages = (dataclasses.replace(config.stages[stage], windows=2),)
    return dataclasses.replace(config, mixture={dataset: 1.0}, data=folder, stages=stages)


@pytest.mark.parametrize("stage", [0, 2])
def test_windows_of_a_dataset_have_its_truth(mixed: TrainConfig, clip: Clip, stage: int) -> None:
    dataset = WindowDataset(only(mixed, "tartanair", stage))
    truths = [pair_targets(clip, a, b, 16) for a in range(FRAMES) for b in range(FRAMES)]
    for step in range(3):
        targets = dataset[step].targets
        assert targets.valid_match.all()
        assert not targets.moving.any()
        for row in range(len(targets.moving)):
            points = {name: getattr(targets, name)[row] for name in ("points_1", "points_2", "points_match")}
            assert any(all(agree(points[name], getattr(truth, name)) for name in points) for truth in truths)


def agree(found: torch.Tensor, truth: torch.Tensor) -> bool:
    """Up to half floats' and files' rounding, as they are or mirrored."""
    mirrored = truth.flip(-2) * torch.tensor([-1.0, 1.0, 1.0])
    return any(torch.allclose(found, side, atol=2e-3, rtol=1e-3) for side in (truth, mirrored))


def test_what_a_dataset_does_not_tell_is_not_valid(mixed: TrainConfig) -> None:
    targets = WindowDataset(only(mixed, "carla", 0))[0].targets
    assert targets.valid_1.all()
    assert targets.valid_2.all()
    assert not targets.valid_match.any()
    assert not targets.patch_matches.any()


def test_a_batch_of_a_mixture_depends_on_its_step_only(mixed: TrainConfig) -> None:
    datasets = WindowDataset(mixed), WindowDataset(mixed)
    datasets[1][3]
    one, two = (dataset[0] for dataset in datasets)
    assert torch.equal(one.images, two.images)
    for item in dataclasses.fields(Targets):
        assert torch.equal(getattr(one.targets, item.name), getattr(two.targets, item.name))


def test_sources_come_in_the_shares_of_the_mixture(mixed: TrainConfig) -> None:
    dataset = WindowDataset(mixed)
    generator = torch.Generator().manual_seed(0)
    drawn = [dataset._draw_source(generator) for _ in range(2000)]
    for name, share in ((WORLD, 0.5), ("tartanair", 0.25), ("carla", 0.25)):
        assert drawn.count(name) / len(drawn) == pytest.approx(share, abs=0.04)


def test_a_run_on_a_mixture_learns(mixed: TrainConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(mixed, stages=(mixed.stages[0], mixed.stages[2]))
    options = RunOptions(tmp_path, torch.device("cpu"), 0.0, 0, checkpoint_every=99, validate_every=0, log_every=1)
    assert train(config, options).is_file()


def test_sequences_too_short_for_a_window_are_left_out(folders: Mapping[str, Path]) -> None:
    assert len(find_sequences(folders["tartanair"])) == 2
    frames = RecordedFrames("tartanair", folders["tartanair"], 4)
    assert [len(sequence) for sequence in frames.sequences] == [FRAMES]
    with pytest.raises(ValueError, match="none of tartanair's 2 sequences has the 7 frames"):
        RecordedFrames("tartanair", folders["tartanair"], 7)


@pytest.mark.parametrize("frames", [1, 4, 6, 20])
def test_stretches_are_consecutive_and_from_everywhere(folders: Mapping[str, Path], frames: int) -> None:
    source = RecordedFrames("tartanair", folders["tartanair"], 4)
    generator = torch.Generator().manual_seed(0)
    drawn = [source.stretch(generator, frames)[1] for _ in range(200)]
    count = min(frames, FRAMES)
    assert {(stretch.start, stretch.stop) for stretch in drawn} == {
        (first, first + count) for first in range(FRAMES - count + 1)
    }


# --- mixtures that cannot be drawn from


def test_a_dataset_without_a_folder_is_named(recipe: TrainConfig) -> None:
    with pytest.raises(ValueError, match="draws from tartanair, carla: give each one's folder with --data NAME=FOLDER"):
        open_datasets(dataclasses.replace(recipe, mixture={WORLD: 1, "tartanair": 1, "carla": 1}))


def test_a_folder_that_nothing_draws_from_is_named(recipe: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not draw from carla: say how often with --mix NAME=WEIGHT"):
        open_datasets(dataclasses.replace(recipe, data={"carla": tmp_path}))


@pytest.mark.parametrize("mixture", [{}, {WORLD: 0.0}, {WORLD: 1.0, "carla": -1.0}])
def test_a_mixture_needs_positive_weights(recipe: TrainConfig, mixture: Mapping[str, float]) -> None:
    with pytest.raises(ValueError, match="expected a mixture of positive weights"):
        dataclasses.replace(recipe, mixture=mixture)


def test_the_paper_preset_draws_from_the_five_datasets_in_the_papers_ratios() -> None:
    assert PRESETS["paper"].mixture == PAPER_MIXTURE
    with pytest.raises(ValueError, match="draws from point_odyssey, tartanair, dynamic_replica, parallel_domain_4d"):
        open_datasets(PRESETS["paper"])
