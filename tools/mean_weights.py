"""The mean of two weights, one of which began from the other: often better than either.

    python tools/mean_weights.py OLDER.safetensors NEWER.safetensors OUT.safetensors

The third head is NEWER's where it tells motion and OLDER's tells points (``relative_matching``): these have no mean.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

from pomato_ros.model.checkpoint import Checkpoint, load_checkpoint, save_weights
from pomato_ros.model.pomato import Pomato

THIRD_HEAD = "downstream_head3."


def mean_network(older: Pomato, newer: Pomato) -> Pomato:
    """A network of ``newer``'s shape with the mean of both's parameters.

    Raises:
        ValueError: their shapes differ.
    """
    if dataclasses.replace(older.config, relative_matching=newer.config.relative_matching) != newer.config:
        raise ValueError(f"expected two networks of one shape, got {older.config} and {newer.config}")
    alike = older.config == newer.config
    given, mean = older.state_dict(), newer.state_dict()
    for name, value in mean.items():
        if alike or not name.startswith(THIRD_HEAD):
            mean[name] = 0.5 * (value + given[name])
    network = Pomato(newer.config)
    network.load_state_dict(mean)
    return network


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name in ("older", "newer", "out"):
        parser.add_argument(name, type=Path)
    words = parser.parse_args()
    older, newer = (load_checkpoint(path) for path in (words.older, words.newer))
    network = mean_network(older.network, newer.network)
    sha256 = save_weights(words.out, network, newer.image_size_px, parents(older, newer))
    sys.stdout.write(f"{words.out}: SHA-256 {sha256}\n")


def parents(*checkpoints: Checkpoint) -> dict[str, str]:
    """What is told of the mean in its file."""
    return {"mean_of": " ".join(checkpoint.sha256 for checkpoint in checkpoints)}


if __name__ == "__main__":
    main()
