"""Parity passes on true numbers, fails on changed ones, and never leaves an array out."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pomato_ros.cli.main import main
from pomato_ros.cli.parity import format_report
from pomato_ros.config import NetworkConfig
from pomato_ros.evaluation.parity.engine import check_fixture
from pomato_ros.evaluation.parity.fixture import unique_fixtures
from pomato_ros.evaluation.parity.loaders import generated_image, published_rule
from pomato_ros.evaluation.parity.networks import PAIRWISE_OUTPUTS, TEMPORAL_OUTPUTS, intermediates
from pomato_ros.evaluation.parity.report import FixtureReport, ParityError, Status
from pomato_ros.evaluation.published_masks import adjacent_masks, mirrored_masks
from pomato_ros.pointmap_scene.motion_mask import motion_mask
from pomato_ros.sources.dust3r.pomato import Pomato
from pomato_ros.sources.dust3r.preprocess import normalise
from pomato_ros.sources.dust3r.stitching import stitch_windows, window_schedule
from pomato_ros.sources.dust3r.wiring import Wiring, predict_wiring

SHAPE = {
    "enc_embed_dim": 16,
    "enc_depth": 1,
    "enc_num_heads": 2,
    "dec_embed_dim": 16,
    "dec_depth": 4,
    "dec_num_heads": 2,
    "dpt_feature_dim": 8,
    "dpt_last_dim": 4,
    "dpt_layer_dims": [4, 4, 8, 8],
}
HEIGHT, WIDTH = 48, 32
FIXTURES = ("pairwise_tiny", "temporal_tiny", "pose_helpers", "eval_helpers", "preprocess")

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small only wait for each other's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def save(folder: Path, name: str, about: dict, arrays: Arrays) -> Path:
    file = folder / f"{name}.npz"
    np.savez(file, **{key: np.asarray(value) for key, value in arrays.items()})
    file.with_suffix(".json").write_text(json.dumps(about), encoding="utf-8")
    return file


def random_network(**extra: int) -> Pomato:
    torch.manual_seed(0)
    config = {**SHAPE, "dpt_layer_dims": tuple(SHAPE["dpt_layer_dims"]), "group_norm_groups": 4, **extra}
    network = Pomato(NetworkConfig(**config)).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network


def random_images(*leading: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(*leading, HEIGHT, WIDTH, 3), dtype=np.uint8)


@torch.no_grad()
def pairwise_arrays(network: Pomato) -> Arrays:
    images_u8 = random_images(3)
    images = normalise(images_u8)
    pairs = torch.tensor([[1, 0], [2, 0], [2, 1], [0, 1], [0, 2], [1, 2]])
    prediction = network(images[pairs[:, 0]], images[pairs[:, 1]])
    maps = pairs, prediction.points_2, prediction.points_match
    mask_ij = mirrored_masks(*maps, factor=0.4)
    inside = intermediates(network, images[1:2], images[0:1])
    wanted = ("pos", "enc_view2", "patch_embed_view1", "dec1_after_block1", "dec2_hook3", "dec1_hook4", "head3_raw")
    return {
        "img_u8": images_u8,
        "img": images,
        "pairs": pairs,
        **{f"out/{theirs}": getattr(prediction, ours) for theirs, ours in PAIRWISE_OUTPUTS.items()},
        **{f"mid/{name}": inside[f"mid/{name}"] for name in wanted},
        "dyn/edges": pairs,
        "dyn/mask_ij": mask_ij,
        "dyn/mask_ji": torch.cat((mask_ij[3:], mask_ij[:3])),
        "dyn/adjacent_masks": adjacent_masks(*maps, factor=1.1),
        "dyn/paper_mask": motion_mask(*maps[1:], alpha=3.0, floor=0.0),
        **{f"sd/{name}": value for name, value in network.state_dict().items()},
    }


@torch.no_grad()
def temporal_arrays(network: Pomato, batch: int, frames: int) -> Arrays:
    images_u8 = random_images(batch, frames)
    images = normalise(images_u8)
    arrays: Arrays = {"img_u8": images_u8, "img": images, "mid/enc": network.encode(images.flatten(0, 1))}
    for wiring in Wiring:
        prediction = predict_wiring(network, images, wiring)
        for theirs, ours in TEMPORAL_OUTPUTS.items():
            arrays[f"out/{wiring.value}/{theirs}"] = getattr(prediction, ours)
    maps = torch.randn(batch * frames, 16, 3, 2)
    module = network.downstream_head2.dpt.motion_modules[1]
    arrays["unit/motion1_head2_in"] = maps
    arrays["unit/motion1_head2_out"] = module(maps, frames)
    return {**arrays, **{f"sd/{name}": value for name, value in network.state_dict().items()}}


@pytest.fixture
def pairwise(tmp_path: Path) -> tuple[dict, Arrays]:
    about = {"config": {"pos_embed": "RoPE100", **SHAPE}, "thr_global": 0.4, "thr_adjacent": 1.1}
    return about, pairwise_arrays(random_network())


def statuses(report: FixtureReport, status: Status) -> list[str]:
    return [row.name for row in report.rows if row.status is status]


def test_a_portrait_pairwise_network_is_covered_completely(tmp_path: Path, pairwise: tuple[dict, Arrays]) -> None:
    report = check_fixture(save(tmp_path, "portrait", *pairwise))
    assert (report.over, report.not_covered) == (0, 0), format_report(report)
    compared = set(pairwise[1]) - {"img_u8", "pairs"}
    weights = {name for name in compared if name.startswith("sd/")}
    assert compared - weights <= set(statuses(report, Status.OK))
    assert f"sd/* ({len(weights)} tensors)" in statuses(report, Status.OK)


@pytest.mark.parametrize(("batch", "frames"), [(1, 5), (2, 3)])
def test_temporal_networks_of_other_lengths_and_batches_are_covered(tmp_path: Path, batch: int, frames: int) -> None:
    network = random_network(temporal_length=frames, temporal_num_heads=4)
    about = {
        "config": {"pos_embed": "RoPE100", **SHAPE, "temporal_length": frames},
        "temporal_heads": 4,
        "group_norm_groups": 4,
        "conf_mode": ["exp", 1, "inf"],
    }
    report = check_fixture(save(tmp_path, "temporal", about, temporal_arrays(network, batch, frames)))
    assert (report.over, report.not_covered) == (0, 0), format_report(report)
    assert report.checked == 3 * 6 + 5  # three wirings; weights, tables, images, encoder, motion module


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("out/pts3d_m", lambda array: array * (1 + 2e-5 * np.sign(np.random.default_rng(0).normal(size=array.shape)))),
        ("out/conf_1", lambda array: np.where(np.arange(array.shape[-1]) == 3, np.nan, array)),
        ("mid/head3_raw", lambda array: array[..., ::-1]),
        ("mid/pos", lambda array: array[..., ::-1]),
        ("dyn/paper_mask", lambda array: ~array),
        ("out/pts3d_2", lambda array: array[:-1]),
        ("img", lambda array: array + 1e-4),
    ],
)
def test_a_changed_array_is_over_and_the_command_fails(
    tmp_path: Path, pairwise: tuple[dict, Arrays], capsys: pytest.CaptureFixture[str], name: str, change
) -> None:
    about, arrays = pairwise
    good = save(tmp_path, "good", about, arrays)
    bad = save(tmp_path, "bad", about, {**arrays, name: change(np.asarray(arrays[name]))})
    assert main(["parity", str(good)]) == 0
    assert main(["parity", str(good), str(bad), "--json"]) == 1
    assert name in statuses(check_fixture(bad), Status.OVER)
    totals = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert totals["fixtures"] == 2
    assert totals["over_tolerance"] >= 1


def test_weights_are_loaded_strictly(tmp_path: Path, pairwise: tuple[dict, Arrays]) -> None:
    about, arrays = pairwise
    without = {name: value for name, value in arrays.items() if name != "sd/enc_norm.bias"}
    extra = {**arrays, "sd/one_too_many": np.zeros(3)}
    for name, changed in (("without", without), ("extra", extra)):
        over = statuses(check_fixture(save(tmp_path, name, about, changed)), Status.OVER)
        assert any(row.startswith("sd/*") for row in over)


def test_an_unknown_array_is_not_covered(tmp_path: Path, pairwise: tuple[dict, Arrays]) -> None:
    about, arrays = pairwise
    file = save(tmp_path, "more", about, {**arrays, "mid/new": np.zeros(3), "ga_flow/loss": np.zeros(())})
    report = check_fixture(file)
    assert statuses(report, Status.NOT_COVERED) == ["mid/new", "ga_flow/loss"]
    assert main(["parity", str(file)]) == 0


def test_every_array_has_a_row(tmp_path: Path, pairwise: tuple[dict, Arrays]) -> None:
    about, arrays = pairwise
    rows = {row.name for row in check_fixture(save(tmp_path, "rows", about, arrays)).rows}
    assert {name for name in arrays if not name.startswith("sd/")} <= rows


def test_a_network_that_cannot_be_built_is_an_error_not_a_pass(
    tmp_path: Path, pairwise: tuple[dict, Arrays], capsys: pytest.CaptureFixture[str]
) -> None:
    about, arrays = pairwise
    other = {**about, "depth_mode": ["linear", "-inf", "inf"]}
    assert main(["parity", str(save(tmp_path, "linear", other, arrays))]) == 1
    assert "depth_mode" in capsys.readouterr().err
    wrong = {**about, "config": {**about["config"], "enc_embed_dim": 32}}
    with pytest.raises(ParityError, match="do not fit"):
        check_fixture(save(tmp_path, "wrong", wrong, arrays))


def test_files_that_are_no_fixtures_fail_with_a_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{", encoding="utf-8")
    alone = tmp_path / "alone.npz"
    np.savez(alone, a=np.zeros(1))
    for file in (broken, alone, tmp_path / "missing.npz", tmp_path):
        assert main(["parity", str(file)]) == 1
        assert file.name in capsys.readouterr().err


def test_arrays_and_sidecar_are_one_fixture(tmp_path: Path, pairwise: tuple[dict, Arrays]) -> None:
    file = save(tmp_path, "one", *pairwise)
    assert unique_fixtures([file, file.with_suffix(".json")]) == [file]


def test_stitching_of_other_clips_windows_and_overlaps(tmp_path: Path) -> None:
    arrays: Arrays = {}
    for frames, overlap, window in ((17, 2, 6), (31, 7, 12)):
        case = f"stitch/frames{frames}_overlap{overlap}"
        schedule = window_schedule(frames, window, overlap)
        predictions = np.random.default_rng(frames).normal(size=(*schedule.shape, 4, 3))
        arrays[f"{case}/window_frames"] = schedule
        arrays[f"{case}/window_preds"] = predictions
        arrays[f"{case}/tracks"] = stitch_windows(schedule, predictions, overlap)
    report = check_fixture(save(tmp_path, "stitch", {}, arrays))
    assert (report.checked, report.over, report.not_covered) == (4, 0, 0)
    arrays["stitch/frames17_overlap2/tracks"] = arrays["stitch/frames17_overlap2/tracks"] + 1e-6
    assert check_fixture(save(tmp_path, "off", {}, arrays)).over == 1


def test_other_loader_rows_are_checked_and_unknown_ones_are_not_covered(tmp_path: Path) -> None:
    def row(name: str, width: int, height: int) -> dict:
        rule = published_rule(name)
        assert rule is not None
        tensor = rule(Image.fromarray(generated_image(width, height)))
        return {
            "out_hw": list(tensor.shape[1:]),
            "mean": tensor.mean().item(),
            "std": tensor.std().item(),
            "sample_yx": [[3, 5], [40, 17]],
            "sample_rgb": [tensor[:, 3, 5].tolist(), tensor[:, 40, 17].tolist()],
        }

    names = ("pairwise_256_square_ok_nocrop", "fast_recon_224", "tracking_384")
    rows = [{"in_wh": [200, 300], **{name: row(name, 200, 300) for name in names}, "someone_else_512": {}}]
    file = tmp_path / "rows.json"
    file.write_text(json.dumps({"rows": rows}), encoding="utf-8")
    report = check_fixture(file)
    assert (report.checked, report.over, report.not_covered) == (3, 0, 1), format_report(report)
    rows[0]["tracking_384"]["sample_rgb"][0][0] += 0.0078
    file.write_text(json.dumps({"rows": rows}), encoding="utf-8")
    assert check_fixture(file).over == 1


@pytest.mark.parametrize("name", FIXTURES)
def test_published_numbers(fixtures_dir: Path, name: str) -> None:
    files = sorted(fixtures_dir.glob(f"pomato_{name}.*"))
    if not files:
        pytest.skip(f"no pomato_{name} in {fixtures_dir}")
    report = check_fixture(files[0])
    assert report.checked > 10
    assert report.over == 0, format_report(report)
    assert all(row.startswith("ga_") for row in statuses(report, Status.NOT_COVERED)), format_report(report)
