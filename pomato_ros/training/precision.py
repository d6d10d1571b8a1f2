"""The arithmetic that networks learn in."""

import torch

from pomato_ros.hardware import computes_bf16


def training_precision(device: torch.device) -> torch.autocast:
    """A context: bf16 where the processor computes in it, else fp32; norms, exponentials and losses always fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=computes_bf16(device))
