"""What parity says about one fixture: a row for every array, none left out."""

from dataclasses import dataclass
from enum import Enum


class ParityError(ValueError):
    """A fixture that cannot be checked at all; the message says why."""


class Status(Enum):
    """What became of one array."""

    OK = "ok"
    OVER = "OVER"
    INFORMATION = "info"  # compared, but with no tolerance to hold
    INPUT = "input"  # fed to the package or used as truth; nothing to compare
    NOT_COVERED = "not covered"


@dataclass(frozen=True, slots=True)
class Measure:
    """One error beside its tolerance; None holds nothing, a NaN error is over any tolerance."""

    label: str
    error: float
    tolerance: float | None

    @property
    def is_over(self) -> bool:
        """Whether the tolerance is broken."""
        return self.tolerance is not None and not self.error <= self.tolerance


@dataclass(frozen=True, slots=True)
class Row:
    """One array of a fixture, or one of its published results."""

    name: str
    status: Status
    measures: tuple[Measure, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class FixtureReport:
    """All rows of one fixture."""

    fixture: str
    rows: tuple[Row, ...]

    def count(self, *statuses: Status) -> int:
        """Rows with one of the given statuses."""
        return sum(row.status in statuses for row in self.rows)

    @property
    def checked(self) -> int:
        """Rows that were compared."""
        return self.count(Status.OK, Status.OVER, Status.INFORMATION)

    @property
    def over(self) -> int:
        """Rows over tolerance."""
        return self.count(Status.OVER)

    @property
    def not_covered(self) -> int:
        """Rows of parts that this package does not have."""
        return self.count(Status.NOT_COVERED)
