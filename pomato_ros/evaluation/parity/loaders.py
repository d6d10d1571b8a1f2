"""Fixtures of the published image loaders: output size and sampled values of a generated image."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pomato_ros.evaluation.parity.fixture import Fixture, Ledger
from pomato_ros.evaluation.parity.measures import Measures, absolute_measure, exact_measure
from pomato_ros.sources.dust3r.preprocess import PublishedRule, fast_reconstruction_rule, pairwise_rule, tracking_rule

SAMPLE_TOLERANCE = 1e-5  # the fixtures hold five decimals; one grey level is 8e-3
STATISTIC_TOLERANCE = 1e-6
OPTIONS: Mapping[str, tuple[str, bool]] = {
    "square_ok": ("square_ok", True),
    "nocrop": ("crop", False),
    "no_crop": ("crop", False),
    "crop_false": ("crop", False),
}


def loader_rows(fixture: Fixture) -> list[str]:
    """A name for each loader of each row: ``640x480/pairwise_512``."""
    return [f"{_size_name(row)}/{key}" for row in fixture.about["rows"] for key in row if key != "in_wh"]


def check_loaders(ledger: Ledger) -> None:
    """Every loader of every row whose name is understood."""
    for row in ledger.about["rows"]:
        image = Image.fromarray(generated_image(*row["in_wh"]))
        for key, expected in row.items():
            rule = published_rule(key)
            if rule is not None:
                ledger.record(f"{_size_name(row)}/{key}", _loader_measures(rule, image, expected))


def published_rule(name: str) -> PublishedRule | None:
    """The loader that a fixture calls ``<loader>_<size>[_<option>...]``; None if unknown."""
    parsed = re.fullmatch(r"(pairwise|fast_recon|tracking)_(\d+)((?:_(?:square_ok|nocrop|no_crop|crop_false))*)", name)
    if parsed is None:
        return None
    loader, size_px = parsed[1], int(parsed[2])
    options = dict(OPTIONS[option] for option in re.findall("|".join(OPTIONS), parsed[3]))
    if loader == "pairwise":
        return pairwise_rule(size_px, **options)
    if loader == "fast_recon" and "square_ok" not in options:
        return fast_reconstruction_rule(size_px, **options)
    return tracking_rule(size_px) if loader == "tracking" and not options else None


def generated_image(width: int, height: int) -> NDArray[np.uint8]:
    """(height, width, 3): the fixtures' image formula, waves of three directions over a checkerboard."""
    y, x = np.mgrid[:height, :width]
    checker = np.where((x // 5 + y // 7) % 2, 20, 0)
    channels = [128 + 100 * np.sin((x * (3 + c) + y * (5 - 2 * c)) / (23 + 4 * c)) + checker - 10 for c in range(3)]
    return np.clip(np.stack(channels, axis=-1), 0, 255).astype(np.uint8)


def _loader_measures(rule: PublishedRule, image: Image.Image, expected: Mapping[str, Any]) -> Measures:
    """Size, sampled values, mean and standard deviation."""
    ours = rule(image)
    size = exact_measure(ours.shape[1:], expected["out_hw"])
    if size[0].is_over:
        return size
    y, x = np.array(expected["sample_yx"]).T
    return (
        *size,
        *absolute_measure(ours[:, y, x].T, expected["sample_rgb"], SAMPLE_TOLERANCE, "samples"),
        *absolute_measure(ours.mean(), expected["mean"], STATISTIC_TOLERANCE, "mean"),
        *absolute_measure(ours.std(), expected["std"], STATISTIC_TOLERANCE, "std"),
    )


def _size_name(row: Mapping[str, Any]) -> str:
    """``640x480``."""
    return "x".join(str(side) for side in row["in_wh"])
