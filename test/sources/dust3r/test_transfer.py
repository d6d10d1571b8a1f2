"""Both ways between host and device: staged copies say what plain ones say, and nothing is written over."""

import dataclasses

import pytest
import torch

from pomato_ros.sources.dust3r.prediction import PairPrediction, WindowPrediction
from pomato_ros.sources.dust3r.transfer import HostLane, PlainTransfer, StagedTransfer, transfer_to

CPU = torch.device("cpu")
SIZE_HW = (4, 6)


def images(count: int, seed: int, size_hw: tuple[int, int] = SIZE_HW) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(3, *size_hw, generator=generator) for _ in range(count)]


def order_of(seed: int, rows: tuple[int, int, int], dtype: torch.dtype = torch.float32) -> PairPrediction:
    """Random maps of the three heads, with so many rows each."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(count, *SIZE_HW, *last) for count in rows for last in ((3,), ())]
    return PairPrediction(*(torch.randn(shape, generator=generator).to(dtype) for shape in shapes))


def prediction(seed: int, dtype: torch.dtype = torch.float32) -> WindowPrediction:
    return WindowPrediction(3, order_of(seed, (2, 0, 2), dtype), order_of(seed + 1, (0, 2, 2), dtype), (1, 5))


def maps(found: WindowPrediction) -> list[torch.Tensor]:
    orders = (found.from_key, found.to_key)
    return [getattr(order, item.name) for order in orders for item in dataclasses.fields(order)]


@pytest.mark.parametrize("count", [1, 3])
def test_staged_images_are_the_images(count: int) -> None:
    staged = StagedTransfer(HostLane())
    for seed in range(3):
        torch.testing.assert_close(staged.up(images(count, seed)), torch.stack(images(count, seed)), atol=0, rtol=0)


def test_buffers_are_made_once_for_a_size() -> None:
    staged = StagedTransfer(HostLane())
    first = staged.up(images(1, 0)).data_ptr()
    staged.up(images(4, 0))
    assert staged.up(images(1, 1)).data_ptr() == first
    assert len(staged._staging) == 2
    staged.up(images(1, 2, (8, 2)))
    assert len(staged._staging) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_copy_brings_every_map_in_single_precision(dtype: torch.dtype) -> None:
    lane = HostLane()
    found = StagedTransfer(lane).down(prediction(1, dtype))
    expected = PlainTransfer(CPU).down(prediction(1, dtype))
    assert lane.waits == 1
    assert (found.key, found.slots) == (expected.key, expected.slots)
    for own, other in zip(maps(found), maps(expected), strict=True):
        assert own.dtype is torch.float32
        torch.testing.assert_close(own, other, atol=0, rtol=0)


def test_what_was_handed_out_is_never_written_to_again() -> None:
    staged = StagedTransfer(HostLane())
    kept = staged.down(prediction(1))
    before = [part.clone() for part in maps(kept)]
    for seed in range(2, 6):
        staged.down(prediction(seed))
    for part, copy in zip(maps(kept), before, strict=True):
        torch.testing.assert_close(part, copy, atol=0, rtol=0)


def test_a_cpu_needs_no_staging() -> None:
    assert isinstance(transfer_to(CPU), PlainTransfer)
    whole = prediction(1)
    assert PlainTransfer(CPU).down(whole).from_key.points_1 is whole.from_key.points_1
