"""Everything the package raises on purpose.

PomatoError
├── ConfigError          an option, or a combination of options, cannot be met
├── CheckpointError      a weights file cannot be used
├── DataError            recorded data is missing, damaged or of another layout
├── UnusableFrame        one frame cannot be used; the next one may be
└── OutOfMemory          the device has no room for a step of this size

A programming error stays what it is (`TypeError`, NumPy's shape errors) and shows with its traceback.
"""


class PomatoError(Exception):
    """Root of all errors of the package; the message says what was expected, what came and what to do."""


class ConfigError(PomatoError, ValueError):
    """An option, or a combination of options, cannot be met."""


class CheckpointError(PomatoError, ValueError):
    """A weights file cannot be used."""


class DataError(PomatoError, ValueError):
    """Recorded data is missing, damaged or of another layout."""


class UnusableFrame(PomatoError, ValueError):  # noqa: N818 - it is about the frame, not an error of the program
    """One frame cannot be used: out of order, of another size, too small; the state is as before it came."""


class OutOfMemory(PomatoError, RuntimeError):  # noqa: N818
    """The device has no room for a step of this size."""
