import json
from pathlib import Path

import pytest

from pomato_ros.cli.results import flat_line, machine_name, save_result, slug
from pomato_ros.hardware import instruction_set


def test_a_result_is_saved_with_machine_and_commit(tmp_path: Path) -> None:
    path = save_result(tmp_path / "new", "bench", {"step_ms_p50": 12.5, "messages_ms": None}, "Intel(R) Core(TM) i7 x4")
    assert path.name == "bench-intel-core-i7-x4.json"
    saved = json.loads(path.read_text())
    assert (saved["kind"], saved["machine"], saved["step_ms_p50"]) == ("bench", "Intel(R) Core(TM) i7 x4", 12.5)
    assert saved["messages_ms"] is None
    assert saved["commit"]


def test_a_machine_without_a_name_is_its_processor_cores_and_instructions(tmp_path: Path) -> None:
    assert save_result(tmp_path, "evaluate", {}).name == f"evaluate-{slug(machine_name())}.json"
    cores, instructions = machine_name().rpartition(" x")[2].split()
    assert cores.isdigit()
    assert instructions == instruction_set()


@pytest.mark.parametrize(
    ("capability", "has_bf16", "name"),
    [
        ("AVX2", False, "avx2"),
        ("AVX512", False, "avx512"),
        ("AVX512", True, "avx512bf16"),
    ],
)
def test_processors_of_one_name_with_other_instructions_are_other_machines(
    monkeypatch: pytest.MonkeyPatch, capability: str, has_bf16: bool, name: str
) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": has_bf16})
    assert slug(machine_name()).endswith(f"-{name}")


def test_a_gpu_has_files_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: f"NVIDIA H200 {device}")
    path = save_result(tmp_path, "bench", {"device": "cuda:1"})
    assert path.name == f"bench-nvidia-h200-cuda-1-on-{slug(machine_name())}.json"
    assert save_result(tmp_path, "bench", {"device": "cpu"}).name == f"bench-{slug(machine_name())}.json"


def test_a_line_is_strict_json() -> None:
    assert flat_line({"a": None, "b": 1}) == '{"a": null, "b": 1}'
    with pytest.raises(ValueError, match="JSON"):
        flat_line({"a": float("nan")})
