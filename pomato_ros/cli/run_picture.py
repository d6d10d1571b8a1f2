"""The picture of a run: image with what moves, depth, the map from above with the camera's path."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pomato_ros.cli.demo_picture import (
    ACCENT,
    BACKGROUND,
    MUTED,
    PANEL,
    TEXT,
    TRUTH_COLOUR,
    draw_image,
    mask_overlay,
    seen_from_above,
    style_panel,
)
from pomato_ros.evaluation.report import FlatValue
from pomato_ros.structures import PoseArray, SceneEstimate

MAP_LIMITS = (2.0, 98.0)  # percentiles of the map that are shown
MARGIN_M = 0.1
HEADING = ("backend", "frames", "frames_with_pose", "path_length_m", "ate_m", "moving_share", "rate_hz")


def draw_run(
    scene: SceneEstimate,
    poses: PoseArray,
    truth: PoseArray | None,
    map_vertices: NDArray[np.void],
    summary: Mapping[str, FlatValue],
    path: Path,
) -> None:
    """Draw a run and write it to ``path``.

    Args:
        scene: one of its scenes.
        poses: (n, 4, 4) of all scenes with a pose, in the first camera.
        truth: (n, 4, 4) true poses, moved onto ``poses``; None: not known.
        map_vertices: points at rest, see :data:`pomato_ros.sinks.scene_cloud.PLY_DTYPE`.
        summary: figures for the heading.
        path: of a PNG file.
    """
    shape = scene.image_rgb.shape[0] / scene.image_rgb.shape[1]
    figure = Figure(figsize=(16.0, 1.4 + 10.4 * shape / 2 + 0.3), facecolor=BACKGROUND)
    grid = figure.add_gridspec(1, 3, left=0.02, right=0.98, top=0.82, bottom=0.06, wspace=0.06)
    panels = [figure.add_subplot(grid[0, column]) for column in range(3)]
    for axes, title in zip(panels, ("what moves", "depth, m", "from above, m"), strict=True):
        style_panel(axes, title)
    draw_image(panels[0], mask_overlay(scene.image_rgb, scene.dynamic_mask))
    draw_metres(panels[1], scene.depth)
    draw_map(panels[2], poses, truth, map_vertices)
    parts = [f"{name} {summary[name]}" for name in HEADING if summary.get(name) is not None]
    figure.text(0.02, 0.93, "    ".join(parts), color=MUTED, fontsize=11)
    figure.savefig(path, dpi=110, facecolor=BACKGROUND)


def draw_metres(axes: Axes, depth: NDArray[np.float32]) -> None:
    """Depth in colours with a scale."""
    finite = depth[np.isfinite(depth)]
    low, high = np.percentile(finite, (2, 98)) if finite.size else (0.0, 1.0)
    picture = axes.imshow(depth, cmap="turbo_r", vmin=low, vmax=high, interpolation="nearest")
    inset = axes.inset_axes((0.3, -0.06, 0.4, 0.03))
    bar = axes.figure.colorbar(picture, cax=inset, orientation="horizontal")
    bar.ax.tick_params(colors=TEXT, labelsize=8, length=0)


def draw_map(axes: Axes, poses: PoseArray, truth: PoseArray | None, vertices: NDArray[np.void]) -> None:
    """Points at rest and the path, right and forward of the first camera."""
    axes.set_aspect("equal", adjustable="box")
    axes.tick_params(colors=MUTED, labelsize=8)
    if len(vertices):
        colours = np.stack([vertices[name] for name in ("red", "green", "blue")], axis=-1) / 255.0
        axes.scatter(vertices["x"], vertices["z"], s=1.5, c=colours, linewidths=0)
        for limits, values in ((axes.set_xlim, vertices["x"]), (axes.set_ylim, vertices["z"])):
            low, high = np.percentile(values, MAP_LIMITS)
            limits(low - MARGIN_M, high + MARGIN_M)
    origin = np.eye(4)
    if truth is not None and len(truth):
        axes.plot(*seen_from_above(truth, origin).T, color=TRUTH_COLOUR, linewidth=3, alpha=0.6, label="truth")
    if len(poses):
        axes.plot(*seen_from_above(poses, origin).T, color=ACCENT, linewidth=1.6, label="odometry")
        axes.legend(facecolor=PANEL, edgecolor="none", labelcolor=TEXT, fontsize=9)
