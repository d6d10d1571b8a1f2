"""What the machine has: devices, and the arithmetic that they are fast in."""

import torch

from pomato_ros.errors import ConfigError

CPU = torch.device("cpu")
CPU_BF16 = ("avx512_bf16", "amx_bf16", "bf16")  # torch's names: Intel and AMD, Intel, Arm


def choose_device(name: str) -> torch.device:
    """The device to run on; ``auto`` takes a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, got '{name}'") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, got '{name}'")
    seen = torch.cuda.device_count() if device.type == "cuda" else 1
    if (device.index or 0) >= seen:
        raise ConfigError(f"device '{name}' was asked for but torch sees {seen} of this kind; use device auto or cpu")
    return device


def accelerator_name(device: str) -> str:
    """The GPU's own name; empty for the CPU. ``device``: as :class:`torch.device` has it."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else ""


def choose_precision(name: str, device: torch.device) -> str:
    """The precision to run in; ``auto`` takes bf16 where the processor computes in it, else fp32."""
    if name != "auto":
        return name
    if computes_bf16(device):
        return "bf16"
    return "fp16" if device.type == "cuda" else "fp32"


def computes_bf16(device: torch.device) -> bool:
    """Whether the processor multiplies bf16 itself; one that must imitate it is some 80 times slower than in fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in CPU_BF16)


def instruction_set() -> str:
    """What torch computes with on this processor, such as avx2 or avx512bf16; processors of one name differ in it."""
    return torch.backends.cpu.get_cpu_capability().lower() + ("bf16" if computes_bf16(CPU) else "")
