"""Which device and which arithmetic is chosen, and the choices that are refused."""

import pytest
import torch

from pomato_ros.errors import ConfigError
from pomato_ros.hardware import choose_device, choose_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "meta", "mps", "cuda:x", ""])
def test_a_device_of_another_kind_is_refused_with_the_choices(name: str) -> None:
    with pytest.raises(ConfigError, match=f"device must be auto, cpu, cuda or cuda:N, got '{name}'"):
        choose_device(name)


@pytest.mark.parametrize(("count", "name"), [(0, "cuda"), (0, "cuda:0"), (1, "cuda:1")])
def test_a_gpu_that_is_not_there_is_refused_with_advice(monkeypatch: pytest.MonkeyPatch, count: int, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(
        ConfigError, match=f"device '{name}' was asked for but torch sees {count}.*use device auto or cpu"
    ):
        choose_device(name)


def test_the_device_is_chosen_where_it_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for available, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert choose_device("auto").type == device
    assert choose_device("cuda:1") == torch.device("cuda:1")
    assert choose_device("cpu") == CPU


def test_precision_is_as_asked_or_what_the_processor_computes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fp32", "bf16", "fp16"):
        assert choose_precision(name, CPU) == name
    for name in ("avx512_bf16", "amx_bf16", "bf16"):
        for has_it, precision in ((True, "bf16"), (False, "fp32")):
            monkeypatch.setattr(torch.cpu, "get_capabilities", lambda name=name, has_it=has_it: {name: has_it})
            assert choose_precision("auto", CPU) == precision
    for has_it, precision in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has_it=has_it: has_it)
        assert choose_precision("auto", torch.device("cuda")) == precision
