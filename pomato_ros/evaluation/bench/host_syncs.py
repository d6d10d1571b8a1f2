"""How often a step has the host wait for its device: counted by operation without a GPU, and by torch on one."""

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# a value that the host reads, or an output whose size only the values tell
READING = ("_local_scalar_dense", "item", "nonzero", "masked_select", "unique", "is_nonzero", "equal", "allclose")
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")  # a list of places is copied from the host first
SYNC_WARNING = "synchronizing CUDA operation"


class HostSyncWatch(TorchDispatchMode):
    """Counts operations after which the host of a GPU would have to wait, by name.

    Meant for tensors on torch's ``meta`` device, which stands for the GPU: it computes nothing, and what moves between
    it and the CPU is recognised.
    """

    def __init__(self) -> None:
        """Nothing seen yet."""
        cast(Any, super()).__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do it, and see what it was."""
        found = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        tensors = [leaf for leaf in tree_leaves((args, kwargs, found)) if isinstance(leaf, Tensor)]
        # numbers that torch wraps as tensors without an axis lie on the CPU and are handed over by value
        crosses = len({tensor.device.type for tensor in tensors if tensor.ndim}) > 1
        if crosses or name in READING or name in INDEXING:
            self.seen[name] += 1
        return found


def count_cuda_syncs(step: Callable[[], object]) -> int:
    """Times that ``step`` has the host wait for a GPU, as torch reports; waits for our own events are not counted."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    return sum(SYNC_WARNING in str(warning.message) for warning in caught)
