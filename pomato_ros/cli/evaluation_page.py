"""The page of pictures of an evaluation: a row for each sequence, truth beside answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pomato_ros.cli.demo_picture import ACCENT, BACKGROUND, MUTED, PANEL, TEXT, TRUTH_COLOUR, mask_overlay
from pomato_ros.evaluation.evaluate import SequenceResult
from pomato_ros.evaluation.grading import SequenceRun
from pomato_ros.evaluation.metrics.trajectory import align_trajectory
from pomato_ros.evaluation.report import FlatValue, plain, sequence_value, shown
from pomato_ros.geometry.alignment import DegenerateAlignmentError
from pomato_ros.synthetic.clip import Clip

COLUMNS = ("frame", "true depth", "depth", "truly moving", "moving", "way from above")
ROW_INCHES, COLUMN_INCHES, HEAD_INCHES = 1.75, 2.35, 1.1
FIGURES = ("depth_absrel", "ate_over_path", "rpe_rot_ratio", "mask_iou", "apd12")


@dataclass(frozen=True, slots=True)
class Row:
    """What is drawn of one sequence: one of its frames, and its whole way."""

    result: SequenceResult
    image_rgb: NDArray[np.uint8]  # (h, w, 3)
    true_depth: NDArray[np.float32]  # (h, w)
    depth: NDArray[np.float32]  # (h, w), NaN where nothing was said
    true_moving: NDArray[np.bool_]  # (h, w)
    moving: NDArray[np.bool_]  # (h, w)
    true_poses: NDArray[np.float64]  # (t, 4, 4)
    poses: NDArray[np.float64]  # (t, 4, 4)


def picture_row(result: SequenceResult, clip: Clip, run: SequenceRun) -> Row:
    """The frame at three quarters of a sequence, when windows are full."""
    t = 3 * len(clip) // 4
    return Row(
        result=result,
        image_rgb=clip.images[t].numpy(),
        true_depth=clip.depth_m[t].numpy(),
        depth=run.depth[t],
        true_moving=clip.moving(t).numpy(),
        moving=run.moving[t],
        true_poses=clip.world_from_camera.numpy(),
        poses=run.world_from_camera,
    )


def draw_page(rows: list[Row], summary: Mapping[str, FlatValue], path: Path) -> None:
    """Draw all rows and write the PNG; its folder is made if need be."""
    height = HEAD_INCHES + ROW_INCHES * len(rows)
    figure = Figure(figsize=(COLUMN_INCHES * len(COLUMNS), height), facecolor=BACKGROUND)
    top = 1.0 - HEAD_INCHES / height
    grid = figure.add_gridspec(
        len(rows), len(COLUMNS), left=0.01, right=0.99, top=top, bottom=0.01, wspace=0.04, hspace=0.22
    )
    for number, row in enumerate(rows):
        axes = [figure.add_subplot(grid[number, column]) for column in range(len(COLUMNS))]
        draw_row(axes, row)
    parts = [f"{name} {shown(summary[name])} ({shown(summary[f'baseline_{name}'])})" for name in FIGURES]
    figure.text(
        0.012, 1.0 - 0.42 / height, f"{len(rows)} of {summary['sequences']} held-out sequences", color=TEXT, fontsize=17
    )
    figure.text(0.012, 1.0 - 0.75 / height, "   ".join(parts) + "   (baseline)", color=MUTED, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, facecolor=BACKGROUND)


def draw_row(axes: list[Axes], row: Row) -> None:
    """Six panels, with the sequence's own figures over the first."""
    figures = [f"{name} {shown(plain(sequence_value(row.result, 'system', name)))}" for name in FIGURES]
    titles = (f"seed {row.result.seed}", "true depth", "depth", "truly moving", "moving", "way from above")
    for panel, title in zip(axes, titles, strict=True):
        panel.set_facecolor(PANEL)
        panel.set_title(title, color=MUTED, fontsize=8, loc="left", pad=3)
        panel.set_xticks([])
        panel.set_yticks([])
    axes[2].set_title(figures[0], color=MUTED, fontsize=8, loc="left", pad=3)
    axes[4].set_title(f"{figures[3]}  {figures[4]}", color=MUTED, fontsize=8, loc="left", pad=3)
    axes[5].set_title(f"{figures[1]}  {figures[2]}", color=MUTED, fontsize=8, loc="left", pad=3)
    axes[0].imshow(row.image_rgb)
    draw_depths(axes[1], axes[2], row)
    axes[3].imshow(mask_overlay(row.image_rgb, row.true_moving))
    axes[4].imshow(mask_overlay(row.image_rgb, row.moving))
    draw_way(axes[5], row)


def draw_depths(true_axes: Axes, axes: Axes, row: Row) -> None:
    """Both depths in the same colours, the answer brought to the truth's median."""
    low, high = np.quantile(row.true_depth, (0.01, 0.99))
    valid = np.isfinite(row.depth)
    factor = np.median(row.true_depth[valid]) / np.median(row.depth[valid]) if valid.any() else 1.0
    true_axes.imshow(np.log(row.true_depth), cmap="turbo_r", vmin=np.log(low), vmax=np.log(high))
    axes.imshow(np.log(factor * row.depth), cmap="turbo_r", vmin=np.log(low), vmax=np.log(high))


def draw_way(axes: Axes, row: Row) -> None:
    """The camera's way seen from above (the rendered world's z is up), fitted to the truth by one similarity."""
    axes.plot(*row.true_poses[:, :2, 3].T, color=TRUTH_COLOUR, linewidth=4, alpha=0.55, solid_capstyle="round")
    try:
        fitted = align_trajectory(row.poses, row.true_poses)
        axes.plot(*fitted[:, :2, 3].T, color=ACCENT, linewidth=1.5, marker="o", markersize=2)
    except DegenerateAlignmentError:
        axes.text(0.5, 0.5, "no way to fit", color=MUTED, ha="center", va="center", transform=axes.transAxes)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.15)
