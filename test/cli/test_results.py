import json
from pathlib import Path

import pytest

from pomato_ros.cli.results import flat_line, machine_name, save_result, slug


def test_a_result_is_saved_with_machine_and_commit(tmp_path: Path) -> None:
    path = save_result(tmp_path / "new", "bench", {"step_ms_p50": 12.5, "messages_ms": None}, "Intel(R) Core(TM) i7 x4")
    assert path.name == "bench-intel-core-i7-x4.json"
    saved = json.loads(path.read_text())
    assert (saved["kind"], saved["machine"], saved["step_ms_p50"]) == ("bench", "Intel(R) Core(TM) i7 x4", 12.5)
    assert saved["messages_ms"] is None
    assert saved["commit"]


def test_a_machine_without_a_name_is_its_processor_and_cores(tmp_path: Path) -> None:
    assert save_result(tmp_path, "evaluate", {}).name == f"evaluate-{slug(machine_name())}.json"
    assert machine_name().rpartition(" x")[2].isdigit()


def test_a_line_is_strict_json() -> None:
    assert flat_line({"a": None, "b": 1}) == '{"a": null, "b": 1}'
    with pytest.raises(ValueError, match="JSON"):
        flat_line({"a": float("nan")})
