"""Images to the network's device and pointmaps back: on a GPU one upload and one download a step, one wait for both."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Protocol

import torch
from torch import Tensor

from pomato_ros.sources.dust3r.prediction import PairPrediction, WindowPrediction

MAPS = [item.name for item in fields(PairPrediction)]


class Lane(Protocol):
    """Copies between host and device, in order with what the device computes."""

    device: torch.device
    waits: int  # times that the host stood still for the device

    def host_buffer(self, shape: Sequence[int]) -> Tensor:
        """Memory of the host, fp32, that copies may run from and to while the host goes on."""

    def before_writing(self) -> None:
        """Return once no upload reads host memory any more."""

    def upload(self, host: Tensor, on_device: Tensor) -> None:
        """Copy; what the device computes from now on sees it, and what it computed before does not."""

    def download(self, on_device: Tensor, host: Tensor) -> None:
        """Copy when the device is done with it; it is there when this returns."""


class HostLane:
    """Where the device is the host: a copy is done when the call returns. The twin of :class:`CudaLane`."""

    def __init__(self) -> None:
        """Nothing to make."""
        self.device = torch.device("cpu")
        self.waits = 0

    def host_buffer(self, shape: Sequence[int]) -> Tensor:
        """Ordinary memory."""
        return torch.empty(*shape)

    def before_writing(self) -> None:
        """No copy is ever under way."""

    def upload(self, host: Tensor, on_device: Tensor) -> None:
        """Copy now."""
        on_device.copy_(host)

    def download(self, on_device: Tensor, host: Tensor) -> None:
        """Copy now."""
        host.copy_(on_device)
        self.waits += 1


class CudaLane:
    """Pinned memory, and a stream of its own for uploads, so that they need not wait for the host."""

    def __init__(self, device: torch.device) -> None:
        """``device``: a GPU."""
        self.device = device
        self.waits = 0
        self._uploads = torch.cuda.Stream(device)
        self._uploaded = torch.cuda.Event()
        self._landed = torch.cuda.Event()

    def host_buffer(self, shape: Sequence[int]) -> Tensor:
        """Pinned; torch reuses freed blocks for the next buffer once copies from them are done."""
        return torch.empty(*shape, pin_memory=True)

    def before_writing(self) -> None:
        """The upload of the step before is long done, unless that step was cut short."""
        if not self._uploaded.query():
            self.waits += 1
            self._uploaded.synchronize()

    def upload(self, host: Tensor, on_device: Tensor) -> None:
        """On the stream of uploads, after all that reads ``on_device`` now and before all that will."""
        computing = torch.cuda.current_stream(self.device)
        self._uploads.wait_stream(computing)
        with torch.cuda.stream(self._uploads):
            on_device.copy_(host, non_blocking=True)
            self._uploaded.record(self._uploads)
        computing.wait_event(self._uploaded)

    def download(self, on_device: Tensor, host: Tensor) -> None:
        """After all that was computed; the step's one wait."""
        computing = torch.cuda.current_stream(self.device)
        host.copy_(on_device, non_blocking=True)
        self._landed.record(computing)
        self.waits += 1
        self._landed.synchronize()


class Transfer(Protocol):
    """What the predictor needs: both ways of a step."""

    def up(self, images: Sequence[Tensor]) -> Tensor:
        """Images (3, h, w) of the host -> (b, 3, h, w) on the device, right until the next call."""

    def down(self, prediction: WindowPrediction) -> WindowPrediction:
        """The same in fp32 on the host; nobody writes to it again."""


class PlainTransfer:
    """By torch's own copies; on the CPU, where the network's output need not be copied at all."""

    def __init__(self, device: torch.device) -> None:
        """``device``: of the network."""
        self._device = device

    def up(self, images: Sequence[Tensor]) -> Tensor:
        """As :class:`Transfer`."""
        return torch.stack(tuple(images)).to(self._device)

    def down(self, prediction: WindowPrediction) -> WindowPrediction:
        """As :class:`Transfer`."""
        from_key, to_key = (
            PairPrediction(*(getattr(order, name).float().cpu() for name in MAPS))
            for order in (prediction.from_key, prediction.to_key)
        )
        return WindowPrediction(prediction.key, from_key, to_key, prediction.slots)


class StagedTransfer:
    """Over a :class:`Lane`: images through buffers made once for their size, all pointmaps as one copy."""

    def __init__(self, lane: Lane) -> None:
        """``lane``: to the network's device."""
        self._lane = lane
        self._staging: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}  # by shape: on the host, on the device

    def up(self, images: Sequence[Tensor]) -> Tensor:
        """As :class:`Transfer`; buffers of another image size are freed."""
        size, shape = images[0].shape, (len(images), *images[0].shape)
        if any(known[1:] != tuple(size) for known in self._staging):
            self._staging.clear()
        if shape not in self._staging:
            on_device = torch.empty(shape, device=self._lane.device)
            self._staging[shape] = self._lane.host_buffer(shape), on_device
        host, on_device = self._staging[shape]
        self._lane.before_writing()
        torch.stack(tuple(images), out=host)
        self._lane.upload(host, on_device)
        return on_device

    def down(self, prediction: WindowPrediction) -> WindowPrediction:
        """As :class:`Transfer`; all of it lies in one block of its own, which lasts as long as any map of it."""
        maps = [getattr(order, name) for order in (prediction.from_key, prediction.to_key) for name in MAPS]
        on_device = torch.cat([part.reshape(-1).float() for part in maps])
        host = self._lane.host_buffer(on_device.shape)
        self._lane.download(on_device, host)
        parts = host.split([part.numel() for part in maps])
        landed = [part.view(like.shape) for part, like in zip(parts, maps, strict=True)]
        from_key, to_key = PairPrediction(*landed[: len(MAPS)]), PairPrediction(*landed[len(MAPS) :])
        return WindowPrediction(prediction.key, from_key, to_key, prediction.slots)


def transfer_to(device: torch.device) -> Transfer:
    """The fastest for a device."""
    return StagedTransfer(CudaLane(device)) if device.type == "cuda" else PlainTransfer(device)
