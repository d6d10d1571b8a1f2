import sys
from types import ModuleType

import pytest
import typer

from pomato_ros.cli.main import COMMANDS, USAGE_ERROR, Command, main, with_bare_values


def install_command(monkeypatch: pytest.MonkeyPatch, function: object, *, ros: bool = False) -> None:
    module = ModuleType("probe_module")
    module.__dict__["probe"] = function
    monkeypatch.setitem(sys.modules, "probe_module", module)
    monkeypatch.setitem(COMMANDS, "probe", Command("probe_module:probe", "a command of the test", ros=ros))


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


def test_options_come_from_the_signature_and_the_result_is_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def probe(count: int = 1, fast: bool = typer.Option(False, "--fast")) -> int:
        return count + fast

    install_command(monkeypatch, probe)
    assert main(["probe", "--count", "40", "--fast"]) == 41
    assert main(["probe"]) == 1


def test_a_command_without_a_result_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    def probe() -> None:
        return

    install_command(monkeypatch, probe)
    assert main(["probe"]) == 0


def test_a_wrong_option_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def probe() -> None:
        return

    install_command(monkeypatch, probe)
    assert main(["probe", "--nonsense"]) == USAGE_ERROR
    assert "nonsense" in capsys.readouterr().err


def test_a_ros_command_reads_its_arguments_from_argv(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    install_command(monkeypatch, lambda: seen.extend(sys.argv), ros=True)
    monkeypatch.setattr(sys, "argv", ["pomato"])
    assert main(["probe", "--ros-args", "-p", "rate:=5.0"]) == 0
    assert seen == ["pomato probe", "--ros-args", "-p", "rate:=5.0"]


def test_an_unknown_command_suggests_a_close_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctr"]) == USAGE_ERROR
    assert "did you mean 'doctor'" in capsys.readouterr().err


def test_a_command_whose_module_is_missing_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(COMMANDS, "probe", Command("pomato_ros.cli.no_such_module:probe", "missing"))
    assert main(["probe"]) == USAGE_ERROR
    assert "pomato_ros.cli.no_such_module" in capsys.readouterr().err


def test_a_command_that_lacks_a_library_says_how_to_mend_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(COMMANDS, "probe", Command("probe_module.inner:probe", "needs probe_module"))
    assert main(["probe"]) == USAGE_ERROR
    assert "make doctor" in capsys.readouterr().err


def test_an_option_that_may_stand_alone_gets_its_value() -> None:
    bare = {"--preview": "out/world.png"}
    assert with_bare_values(["--preview"], bare) == ["--preview", "out/world.png"]
    assert with_bare_values(["--preview", "--seeds", "0", "4"], bare) == [
        "--preview",
        "out/world.png",
        "--seeds",
        "0",
        "4",
    ]
    assert with_bare_values(["--preview", "a.png"], bare) == ["--preview", "a.png"]
    assert with_bare_values([], bare) == []


def test_help_is_the_first_sentence_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--help"]) == 0
    text = capsys.readouterr().out
    assert "Print what is installed" in text
    assert "Returns" not in text
