"""Fixtures on disk, and the ledger that sees to it that no array of one is forgotten."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomato_ros.evaluation.parity.measures import Measures
from pomato_ros.evaluation.parity.report import FixtureReport, ParityError, Row, Status

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Fixture:
    """Reference arrays and the JSON that explains them."""

    name: str
    about: Mapping[str, Any]
    arrays: Mapping[str, Array]


def unique_fixtures(files: Iterable[Path]) -> list[Path]:
    """Files in order, an array file and its sidecar only once."""
    return list(dict.fromkeys(_main_file(file) for file in files))


def load_fixture(file: Path) -> Fixture:
    """Read an .npz with its JSON sidecar, or a .json that stands alone.

    Raises:
        ParityError: missing, unreadable, or without its sidecar.
    """
    file = _main_file(file)
    sidecar = file.with_suffix(".json")
    if file.suffix not in (".npz", ".json") or not file.is_file():
        raise ParityError(f"expected an existing .npz or .json fixture, got {file}")
    if not sidecar.is_file():
        raise ParityError(f"{file} has no sidecar {sidecar.name}; put the JSON that explains it beside it")
    try:
        about = json.loads(sidecar.read_text(encoding="utf-8"))
        arrays = _read_arrays(file) if file.suffix == ".npz" else {}
    except (ValueError, OSError, EOFError) as error:
        raise ParityError(f"{file} cannot be read: {error}") from error
    if not isinstance(about, dict):
        raise ParityError(f"{sidecar} must hold a JSON object, got {type(about).__name__}")
    return Fixture(name=file.name, about=about, arrays=arrays)


class Ledger:
    """Keeps a row for each array of a fixture; what nobody asked for in the end is not covered."""

    def __init__(self, fixture: Fixture, results: Sequence[str] = ()) -> None:
        """``results``: names of published results outside the arrays, to be checked as well."""
        self.about = fixture.about
        self._fixture = fixture
        self._arrays = fixture.arrays
        self._rows: dict[str, Row] = {}
        self._expected = [*fixture.arrays, *results]

    def __contains__(self, name: str) -> bool:
        """Whether the fixture has an array."""
        return name in self._arrays

    def names(self, prefix: str) -> list[str]:
        """Arrays whose name starts with ``prefix``, in the fixture's order."""
        return [name for name in self._arrays if name.startswith(prefix)]

    def take(self, name: str) -> Array:
        """An array to feed to the package or to use as truth.

        Raises:
            ParityError: the fixture lacks it.
        """
        if name not in self._arrays:
            raise ParityError(f"{self._fixture.name} lacks the array {name}, which others of it need")
        self._rows.setdefault(name, Row(name, Status.INPUT))
        return self._arrays[name]

    def reference(self, name: str) -> Array:
        """An array to compare with; :meth:`record` must follow."""
        return self._arrays[name]

    def record(self, name: str, measures: Measures, note: str = "") -> None:
        """The outcome of a comparison."""
        if any(measure.is_over for measure in measures):
            status = Status.OVER
        elif all(measure.tolerance is None for measure in measures):
            status = Status.INFORMATION
        else:
            status = Status.OK
        self._rows[name] = Row(name, status, measures, note)

    def mark_not_covered(self, name: str, note: str) -> None:
        """An array that cannot be compared, and why."""
        self._rows[name] = Row(name, Status.NOT_COVERED, note=note)

    def stand_in(self, prefix: str, row_name: str, measures: Measures) -> None:
        """One row for all arrays whose name starts with ``prefix``, in place of theirs."""
        self._expected = [row_name, *(name for name in self._expected if not name.startswith(prefix))]
        self._rows = {name: row for name, row in self._rows.items() if not name.startswith(prefix)}
        self.record(row_name, measures)

    def report(self) -> FixtureReport:
        """All rows: the fixture's order, then what was checked beyond its arrays."""
        order = dict.fromkeys([*self._expected, *self._rows])
        return FixtureReport(
            fixture=self._fixture.name,
            rows=tuple(self._rows.get(name, Row(name, Status.NOT_COVERED)) for name in order),
        )


def _main_file(file: Path) -> Path:
    """The .npz beside a .json, if there is one."""
    arrays = file.with_suffix(".npz")
    return arrays if file.suffix == ".json" and arrays.is_file() else file


def _read_arrays(file: Path) -> dict[str, Array]:
    """All arrays of an .npz; pickled objects are refused."""
    with np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
