"""`pomato train`: what its options become, and what it refuses."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from pomato_ros.cli.train import parse_folders, parse_mixture, train
from pomato_ros.config import NetworkConfig
from pomato_ros.training import config as recipes
from pomato_ros.training import launch as launcher
from pomato_ros.training.config import PRESETS, ImageShape, RunOptions, Stage, TrainConfig

APP = typer.Typer()
APP.command()(train)


def test_folders_and_weights_are_read_by_name() -> None:
    assert parse_folders(["carla=/data/a=b", "tartanair=t"]) == {"carla": Path("/data/a=b"), "tartanair": Path("t")}
    assert parse_mixture(["world=3", "carla=0.5"]) == {"world": 3.0, "carla": 0.5}


@pytest.mark.parametrize("text", ["carla", "=5", "carla=", ""])
def test_a_setting_without_name_or_value_is_refused(text: str) -> None:
    for parse, what in ((parse_folders, "FOLDER"), (parse_mixture, "WEIGHT")):
        with pytest.raises(typer.BadParameter, match=f"expected NAME={what}, got '{text}'"):
            parse([text])


def test_a_weight_that_is_no_number_is_refused() -> None:
    with pytest.raises(typer.BadParameter, match="expected a number as the weight of carla, got 'much'"):
        parse_mixture(["carla=much"])


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    result = CliRunner().invoke(APP, ["--preset", "huge"])
    assert result.exit_code != 0
    assert all(name in result.output for name in PRESETS)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TrainConfig, RunOptions, int]]:
    """What would be trained."""
    calls: list[tuple[TrainConfig, RunOptions, int]] = []
    monkeypatch.setattr(
        launcher, "launch", lambda config, options, _start, processes: calls.append((config, options, processes))
    )
    return calls


def test_options_become_the_run(asked: list[tuple[TrainConfig, RunOptions, int]], tmp_path: Path) -> None:
    given = {
        "--preset": "tiny",
        "--out": str(tmp_path),
        "--seconds": "50",
        "--share": "0.5",
        "--seed": "2",
        "--device": "cpu",
        "--processes": "1",
        "--data": "carla=/data/carla",
    }
    more = ["--mix", "world=1", "--mix", "carla=1", "--no-tensorboard"]
    result = CliRunner().invoke(APP, [*(text for item in given.items() for text in item), *more])
    assert result.exit_code == 0, result.output
    ((config, options, processes),) = asked
    assert config.network == PRESETS["tiny"].network
    assert config.total_steps == PRESETS["tiny"].total_steps // 2
    assert config.seed == 2
    assert config.mixture == {"world": 1.0, "carla": 1.0}
    assert config.data == {"carla": Path("/data/carla")}
    assert (options.folder, options.seconds, options.tensorboard, options.workers) == (tmp_path, 50, False, 1)
    assert processes == 1


def test_a_recipe_keeps_its_mixture_unless_told_another(asked: list[tuple[TrainConfig, RunOptions, int]]) -> None:
    folders = [text for name in PRESETS["paper"].mixture for text in ("--data", f"{name}=/data/{name}")]
    given = ["--preset", "paper", "--device", "cpu", "--start", "monst3r.pth", *folders]
    result = CliRunner().invoke(APP, given)
    assert result.exit_code == 0, result.output
    assert asked[0][0].mixture == PRESETS["paper"].mixture


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--preset", "paper"], "give a MonST3R or DUSt3R checkpoint with --start"),
        (["--preset", "paper", "--start", "monst3r.pth"], "give each one's folder with --data NAME=FOLDER"),
        (["--data", "carla=/data/carla"], "the recipe does not draw from carla"),
        (["--mix", "world=-1"], "expected a mixture of positive weights"),
    ],
)
def test_a_run_that_cannot_begin_is_refused_before_any_process_is_started(
    asked: list[tuple[TrainConfig, RunOptions, int]], tmp_path: Path, given: list[str], message: str
) -> None:
    result = CliRunner().invoke(APP, [*given, "--device", "cpu", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())
    assert not asked


def test_calls_in_pieces_go_on_with_one_another(
    tiny_config: NetworkConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    stage = Stage("pairs", 30, 1e-3, 1, (2,), 2, 1, 0, pairwise=True, matching=True, stride=4)
    recipe = TrainConfig(network=tiny_config, stages=(stage,), shapes=(ImageShape((48, 32), 1.0),))
    presets: Mapping[str, TrainConfig] = {"small": recipe}
    monkeypatch.setattr(recipes, "PRESETS", presets)
    options = ["--preset", "small", "--out", str(tmp_path), "--device", "cpu", "--processes", "1", "--workers", "0"]
    weights = tmp_path / "weights.safetensors"
    for share in ("0.4", "1.0"):
        result = CliRunner().invoke(APP, [*options, "--validate-every", "0", "--share", share, "--no-tensorboard"])
        assert result.exit_code == 0, result.output
        assert str(weights) in result.output.replace("\n", "")
        assert weights.is_file()
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert steps == [10, 20, 30]
