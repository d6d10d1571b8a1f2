import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import setup
from tools.large_files import BUNDLED_LIMIT_KB, LIMIT_KB, limit_kb
from tools.ros_environment import PREPEND


@pytest.fixture
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the steps that ran, in order; stamps and log go to a folder of the test."""
    monkeypatch.setattr(setup, "STEPS", tmp_path / "steps")
    monkeypatch.setattr(setup, "LOG", tmp_path / "log")
    return []


def step(ran: list[str], name: str, *inputs: str | Path, action: Callable[[], None] | None = None) -> setup.Step:
    return setup.Step(name, inputs, action or (lambda: ran.append(name)), advice=f"mend {name}")


def test_a_second_run_does_nothing(ran: list[str]) -> None:
    steps = [step(ran, "first", "a"), step(ran, "second", "b")]
    assert setup.run_steps(steps)
    assert not setup.run_steps(steps)
    assert ran == ["first", "second"]


def test_a_changed_file_repeats_its_step_and_all_after_it(ran: list[str], tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("old")
    steps = [step(ran, "before", "a"), step(ran, "changed", source), step(ran, "after", "b")]
    setup.run_steps(steps)
    source.write_text("new")
    ran.clear()
    setup.run_steps(steps)
    assert ran == ["changed", "after"]


def test_a_step_that_failed_runs_again_and_says_what_to_do(ran: list[str]) -> None:
    def fail() -> None:
        raise subprocess.CalledProcessError(3, ["tool"])

    setup.run_steps([step(ran, "build", "a")])
    with pytest.raises(setup.SetupError, match=r"status 3[\s\S]*mend build"):
        setup.run_steps([step(ran, "build", "b", action=fail)])
    ran.clear()
    setup.run_steps([step(ran, "build", "a")])
    assert ran == ["build"]


def test_inputs_do_not_run_into_each_other() -> None:
    assert setup.digest("", "ab", "c") != setup.digest("", "a", "bc")


def test_the_chosen_torch_is_remembered_until_a_variable_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "TORCH_CHOICE", tmp_path / "torch_choice")
    monkeypatch.delenv("POMATO_TORCH_SPEC", raising=False)
    monkeypatch.setenv("POMATO_TORCH_INDEX", "cpu")
    chosen = setup.torch_arguments()
    assert chosen[-1] == "https://download.pytorch.org/whl/cpu"
    (tmp_path / "torch_choice").write_text("\n".join(chosen))
    monkeypatch.delenv("POMATO_TORCH_INDEX")
    assert setup.torch_arguments() == chosen
    monkeypatch.setenv("POMATO_TORCH_INDEX", "")
    assert setup.torch_arguments() == [setup.DEFAULT_TORCH]


def test_the_shell_prepends_a_folder_once() -> None:
    script = (
        PREPEND
        + '_pomato_prepend PLACES "/b"\n_pomato_prepend PLACES "/a"\n_pomato_prepend PLACES "/b"\necho "$PLACES"'
    )
    result = subprocess.run(["sh", "-c", script], env={}, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "/a:/b"


def test_only_the_bundled_files_may_be_large() -> None:
    assert limit_kb(Path("pomato_ros/weights/nano.safetensors")) == BUNDLED_LIMIT_KB
    assert limit_kb(Path("docs/picture.png")) == LIMIT_KB
