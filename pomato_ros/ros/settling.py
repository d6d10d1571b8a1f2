"""Keeps the garbage collector from stopping steps: a round over all that is loaded takes a quarter of a second."""

import gc


def settle() -> None:
    """Leave all objects that exist now out of the collector's rounds; call when everything is loaded."""
    gc.collect()
    gc.freeze()


def unsettle() -> None:
    """Let the collector see them again, as before loading something else."""
    gc.unfreeze()
