"""`pomato export` with a network that nobody trained."""

import contextlib
import importlib.util
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pomato_ros.cli import export as command
from pomato_ros.cli.export import default_size
from pomato_ros.cli.main import main
from pomato_ros.config import NetworkConfig
from pomato_ros.sources.dust3r.checkpoint import file_sha256, save_weights
from pomato_ros.sources.dust3r.pomato import Pomato


@pytest.fixture(scope="module")
def weights(
    tiny_config: NetworkConfig, make_network: Callable[..., Pomato], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, make_network(tiny_config), 64, {})
    return path


@pytest.fixture(scope="module")
def folder(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one run leaves behind, and its words in `shown.txt`."""
    pytest.importorskip("onnxruntime")
    out = tmp_path_factory.mktemp("graphs")
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        assert main(["export", "--weights", str(weights), "--out", str(out), "--size", "48x32", "--window", "3"]) == 0
    (out / "shown.txt").write_text(shown.getvalue())
    return out


def test_the_last_line_is_one_flat_object_with_every_error(folder: Path) -> None:
    summary = json.loads((folder / "shown.txt").read_text().strip().splitlines()[-1])
    assert all(isinstance(value, int | float | str) for value in summary.values())
    graphs = json.loads((folder / "manifest.json").read_text())["graphs"]
    errors = [summary[f"{name}_max_rel_error"] for name in (*graphs, "window")]
    assert max(errors) == summary["max_rel_error"] <= 1e-5


def test_the_folder_holds_the_graphs_and_what_they_are(weights: Path, folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["checkpoint_sha256"] == file_sha256(weights)
    assert (manifest["image"]["size_wh"], manifest["window_size"], manifest["frames"]) == ([48, 32], 3, "newest")
    assert {path.name for path in folder.glob("*.onnx")} == {item["file"] for item in manifest["graphs"].values()}
    for entry in manifest["graphs"].values():
        file = folder / entry["file"]
        assert (entry["bytes"], entry["sha256"]) == (file.stat().st_size, file_sha256(file))
    assert_ports(folder, manifest)


def assert_ports(folder: Path, manifest: dict) -> None:
    """Names and shapes are those that onnxruntime sees."""
    import onnxruntime

    for entry in manifest["graphs"].values():
        session = onnxruntime.InferenceSession(str(folder / entry["file"]))
        for told, ports in ((entry["inputs"], session.get_inputs()), (entry["outputs"], session.get_outputs())):
            assert [port["name"] for port in told] == [port.name for port in ports]
            for port, seen in zip(told, ports, strict=True):
                sizes = zip(port["shape"], seen.shape, strict=True)
                assert all(size == known for size, known in sizes if isinstance(known, int))


def test_an_error_above_the_bound_is_a_failure(
    weights: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["graphs"]["decoder"]["max_rel_error"] = 1.1e-4
    monkeypatch.setattr(command, "export_checked", lambda *_: manifest)
    assert main(["export", "--weights", str(weights), "--out", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "do not use these graphs" in shown
    summary = json.loads(shown.strip().splitlines()[-1])
    assert (summary["ok"], summary["max_rel_error"]) == (0, 1.1e-4)


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["--size", "64"], "expected a size like 512x288, got '64'"),
        (["--size", "65x48"], "whole patches of 16 px, got 65x48"),
        (["--window", "7"], "window must be 1 to 6 with these weights; got 7"),
        (["--frames", "middle"], "frames must be one of newest, oldest, all; got 'middle'"),
        (["--weights", "nowhere.safetensors"], "no weights file at nowhere.safetensors"),
    ],
)
def test_what_cannot_be_exported_says_why(
    words: list[str], advice: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    assert main(["export", "--weights", str(weights), "--out", str(tmp_path), *words]) == 1
    assert advice in " ".join(capsys.readouterr().out.split())
    assert not list(tmp_path.iterdir())


def test_without_onnxruntime_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "onnxruntime" else find_spec(name, *rest)
    )
    assert main(["export"]) == 1
    shown = capsys.readouterr().out
    assert "onnxruntime not installed" in shown
    assert ".[export]" in shown


@pytest.mark.parametrize(("long_side_px", "size_wh"), [(128, (128, 96)), (512, (512, 384)), (224, (224, 160))])
def test_the_size_is_that_of_training_in_whole_patches(long_side_px: int, size_wh: tuple[int, int]) -> None:
    assert default_size(long_side_px, 16) == size_wh
