"""Draws how the bundled network learned, run after run, and tells what the ends of the runs extrapolate to.

    python tools/learning_curves.py benchmarks/nano-learning.jsonl docs/images/nano_learning.png
    python tools/learning_curves.py benchmarks/nano-learning.jsonl --add out/train/log.jsonl --run 6 --after 496

Every line of the file is one quick look at 24 held-out scenes (``pomato train --validate-every``): the run, minutes of
training in all runs so far, and its scores. ``--add`` takes those of a further run's log.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

SCORES = {
    "absrel": "depth AbsRel of the newest frame",
    "motion": "motion of moving pixels: error / no motion",
}
FLOORS = {"absrel": 0.15}  # what is asked for


def read_looks(path: Path) -> list[dict[str, Any]]:
    """The lines of the file, oldest first."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def looks_of_log(path: Path, run: int, minutes_before: float) -> list[dict[str, Any]]:
    """What a run's log says of held-out scenes; the first of its lines is about when it began."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    began = lines[0]["time"]
    return [
        {
            "run": run,
            "minutes": round(minutes_before + (line["time"] - began) / 60),
            "step": line["step"],
            **{name: round(line["validation"][name], 4) for name in SCORES},
        }
        for line in lines
        if "validation" in line
    ]


def power_law(minutes: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """``score = factor * minutes ** -power``, least squares of the logarithms: factor, power."""
    slope, offset = np.polyfit(np.log(minutes), np.log(scores), 1)
    return float(np.exp(offset)), float(-slope)


def draw(looks: list[dict[str, Any]], path: Path) -> str:
    """The picture; what it extrapolates to, in words."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    runs = sorted({look["run"] for look in looks})
    ends = [[look for look in looks if look["run"] == run][-1] for run in runs]
    factor, power = power_law(np.array([end["minutes"] for end in ends]), np.array([end["absrel"] for end in ends]))
    hours = (factor / FLOORS["absrel"]) ** (1.0 / power) / 60.0
    figure, axes = plt.subplots(1, len(SCORES), figsize=(11, 3.6), dpi=110, layout="constrained")
    for axis, (name, label) in zip(axes, SCORES.items(), strict=True):
        for run in runs:
            own = [look for look in looks if look["run"] == run and name in look]
            axis.plot([look["minutes"] for look in own], [look[name] for look in own], "o-", ms=3, label=f"run {run}")
        axis.set(xlabel="minutes of training on two cores", title=label)
        axis.grid(alpha=0.3)
    along = np.linspace(ends[0]["minutes"], 1.1 * ends[-1]["minutes"])
    axes[0].plot(along, factor * along**-power, "k--", lw=1, label=f"ends: {factor:.2f} t^-{power:.2f}")
    axes[1].axhline(1.0, color="k", ls=":", lw=1, label="saying that nothing moves")
    for axis in axes:
        axis.legend(fontsize=8)
    figure.savefig(path)
    return (
        f"AbsRel at the ends of the runs falls as {factor:.3f} * minutes^-{power:.3f}: "
        f"{FLOORS['absrel']} after {hours:.0f} hours on such a machine, if it went on like this"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", type=Path, help="JSON lines of all runs")
    parser.add_argument("picture", type=Path, nargs="?", help="PNG to write")
    parser.add_argument("--add", type=Path, help="log.jsonl of one more run")
    parser.add_argument("--run", type=int, default=0, help="its number")
    parser.add_argument("--after", type=float, default=0.0, help="minutes of training before it")
    words = parser.parse_args()
    looks = read_looks(words.file) if words.file.exists() else []
    if words.add:
        looks += looks_of_log(words.add, words.run, words.after)
        words.file.write_text("".join(json.dumps(look) + "\n" for look in looks), encoding="utf-8")
    if words.picture:
        sys.stdout.write(draw(looks, words.picture) + "\n")


if __name__ == "__main__":
    main()
