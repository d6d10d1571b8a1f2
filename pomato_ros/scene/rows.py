"""Records of equally long arrays, one row an item."""

import dataclasses
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Record = TypeVar("Record")


def pick(record: Record, index: NDArray[np.int64] | NDArray[np.bool_]) -> Record:
    """The rows ``index`` of every array of a dataclass, and of dataclasses in it, copied."""
    return type(record)(
        *(pick(value, index) if dataclasses.is_dataclass(value) else value[index] for value in _of(record))
    )


def append(record: Record, more: Record) -> Record:
    """The rows of two dataclasses of the same kind, one after the other."""
    pairs = zip(_of(record), _of(more), strict=True)
    return type(record)(*(append(a, b) if dataclasses.is_dataclass(a) else np.concatenate((a, b)) for a, b in pairs))


def _of(record: Any) -> list[Any]:
    return [getattr(record, field.name) for field in dataclasses.fields(record)]
