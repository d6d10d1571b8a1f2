"""The picture of a demonstration: frame, depth, moving mask, cloud from the side, tracks, trajectory against truth."""

import colorsys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pomato_ros.cli.point_render import draw_line, draw_points, frustum_lines, look_at
from pomato_ros.evaluation.recorded_run import (
    RecordedRun,
    RecordedStep,
    Showcase,
    Truth,
    aligned_trajectory,
    match_truth,
)

BACKGROUND, PANEL, TEXT, MUTED = "#0f1217", "#171c24", "#e8ecf1", "#8b96a5"
ACCENT, TRUTH_COLOUR = "#4cc2ff", "#ffb454"
MOVING_RGB = np.array([255, 70, 60], np.float32)
PANEL_RGB = (23, 28, 36)
CLOUD_WIDTH_PX = 1120
SIDE_VIEW = (-0.85, -0.65, -0.6)  # the eye, in multiples of the median depth, from the camera: left, above, behind
TRAIL_STEPS = 16
GOLDEN_RATIO = 0.618033988749895


def draw_scene(
    run: RecordedRun, showcase: Showcase, truth: Truth | None, summary: Mapping[str, Any], path: Path
) -> None:
    """Draw the six panels and write them to ``path``."""
    box_aspect = showcase.image_rgb.shape[0] / showcase.image_rgb.shape[1]
    figure = Figure(figsize=(16.0, 1.9 + 10.1 * box_aspect + 0.4), facecolor=BACKGROUND)
    panels: list[tuple[str, Callable[[Axes], None]]] = [
        ("frame", lambda axes: draw_image(axes, showcase.image_rgb)),
        ("depth", lambda axes: draw_depth(axes, showcase.step.depth)),
        ("what moves", lambda axes: draw_image(axes, mask_overlay(showcase.image_rgb, showcase.step.mask))),
        ("cloud from the side", lambda axes: draw_image(axes, cloud_picture(run, showcase))),
        ("3-D tracks", lambda axes: draw_image(axes, track_picture(run, showcase))),
        ("trajectory", lambda axes: draw_trajectory(axes, run, truth, box_aspect)),
    ]
    top = 1.0 - 1.25 / figure.get_figheight()
    grid = figure.add_gridspec(2, 3, left=0.02, right=0.98, top=top, bottom=0.03, wspace=0.05, hspace=0.12)
    for index, (title, draw) in enumerate(panels):
        axes = figure.add_subplot(grid[index // 3, index % 3])
        style_panel(axes, title)
        draw(axes)
    write_heading(figure, run, summary)
    figure.savefig(path, dpi=110, facecolor=BACKGROUND)


def style_panel(axes: Axes, title: str) -> None:
    """A dark panel with a quiet title."""
    axes.set_facecolor(PANEL)
    axes.set_title(title, color=TEXT, fontsize=12, loc="left", pad=6)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def write_heading(figure: Figure, run: RecordedRun, summary: Mapping[str, Any]) -> None:
    """Name of the package and the figures of the run."""
    parts = [f"{summary['steps']} steps of {len(run.image_stamps_ns)} frames"]
    for name, text in (
        ("rate_hz", "rate {:.2f} Hz"),
        ("latency_ms_p50", "latency p50 {:.0f} ms"),
        ("depth_absrel", "depth AbsRel {:.3f}"),
        ("ate_over_path", "ATE / path {:.3f}"),
        ("mask_iou", "mask IoU {:.2f}"),
    ):
        if summary[name] is not None:
            parts.append(text.format(summary[name]))
    inch = 1.0 / figure.get_figheight()
    figure.text(0.02, 1.0 - 0.48 * inch, "pomato_ros", color=TEXT, fontsize=20, fontweight="bold")
    figure.text(0.02, 1.0 - 0.78 * inch, "    ".join(parts), color=MUTED, fontsize=11)


def draw_image(axes: Axes, image_rgb: NDArray[np.uint8]) -> None:
    """An image that fills its panel."""
    axes.imshow(image_rgb, interpolation="lanczos", aspect="equal")


def draw_depth(axes: Axes, depth: NDArray[np.float32]) -> None:
    """Depth in turbo colours, near is warm, with a scale."""
    finite = depth[np.isfinite(depth)]
    low, high = np.percentile(finite, (2, 98)) if finite.size else (0.0, 1.0)
    colour_map = matplotlib.colormaps["turbo_r"].with_extremes(bad=PANEL)
    picture = axes.imshow(depth, cmap=colour_map, vmin=low, vmax=high, interpolation="nearest", aspect="equal")
    inset = axes.inset_axes((0.30, 0.05, 0.40, 0.035))
    bar = axes.figure.colorbar(picture, cax=inset, orientation="horizontal")
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors="white", labelsize=8, length=0, pad=2)
    bar.ax.set_title("m, up to scale", color="white", fontsize=8, pad=3)


def mask_overlay(image_rgb: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The image in grey, what moves in colour, tinted and outlined."""
    grey = np.repeat(image_rgb.mean(axis=-1, keepdims=True), 3, axis=-1) * 0.75
    picture = np.where(mask[..., None], 0.55 * image_rgb + 0.45 * MOVING_RGB, grey).astype(np.uint8)
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    width_px = max(1, round(image_rgb.shape[1] / 320))
    return np.asarray(
        cv2.drawContours(np.ascontiguousarray(picture), contours, -1, (255, 235, 230), width_px), np.uint8
    )


def cloud_picture(run: RecordedRun, showcase: Showcase) -> NDArray[np.uint8]:
    """The cloud from above and to the side, movers in red, with the camera and its way; in the camera's frame."""
    size_wh = (CLOUD_WIDTH_PX, round(CLOUD_WIDTH_PX * showcase.image_rgb.shape[0] / showcase.image_rgb.shape[1]))
    canvas = np.full((size_wh[1], size_wh[0], 3), PANEL_RGB, np.uint8)
    valid = np.isfinite(showcase.points).all(axis=-1)
    if not valid.any():
        return canvas
    points, dynamic = showcase.points[valid], showcase.dynamic[valid]
    colours = showcase.colours[valid].astype(np.float32)
    colours[dynamic] = 0.35 * colours[dynamic] + 0.65 * MOVING_RGB
    middle_m = float(np.median(points[:, 2]))
    height, width = showcase.step.depth.shape
    frustum = frustum_lines(np.eye(4), showcase.step.camera_matrix, (width, height), 0.16 * middle_m)
    eye = np.array(SIDE_VIEW) * middle_m
    view = look_at(eye, np.array([0.0, 0.0, middle_m]), np.array([0.0, -1.0, 0.0]), 60.0, size_wh)
    shown = points[points[:, 2] < np.percentile(points[:, 2], 97)]
    view = view.fitted(np.concatenate([shown, *frustum]), fill=0.94)
    draw_points(canvas, view, points, colours.astype(np.uint8), 1.3 * middle_m / showcase.step.camera_matrix[0, 0])
    for line in frustum:
        draw_line(canvas, view, line, (76, 194, 255), 2)
    draw_line(canvas, view, way_in_camera(run, showcase.step), (76, 194, 255), 2)
    return canvas


def way_in_camera(run: RecordedRun, step: RecordedStep) -> NDArray[np.float64]:
    """Positions (n, 3) of the camera up to a step, in that step's optical frame."""
    if step.odom_from_camera is None:
        return np.zeros((0, 3))
    camera_from_odom = np.linalg.inv(step.odom_from_camera)
    poses = [past.odom_from_camera for past in run.steps if past.stamp_ns <= step.stamp_ns]
    positions = np.array([pose[:3, 3] for pose in poses if pose is not None]).reshape(-1, 3)
    return positions @ camera_from_odom[:3, :3].T + camera_from_odom[:3, 3]


def track_picture(run: RecordedRun, showcase: Showcase) -> NDArray[np.uint8]:
    """The last positions of each live track, seen by the camera of the shown step; movers bright."""
    step, image_rgb = showcase.step, showcase.image_rgb
    scale = max(1, round(960 / image_rgb.shape[1]))
    canvas = cv2.resize((0.5 * image_rgb).astype(np.uint8), None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    if step.odom_from_camera is None:
        return canvas
    size_wh = (canvas.shape[1], canvas.shape[0])
    matrix = scaled_matrix(step, size_wh)
    trails = trails_until(run, step)
    moving = set(step.tracks.ids[step.tracks.dynamic].tolist())
    for track_id in sorted(trails, key=lambda track_id: track_id in moving):
        pixels = project(trails[track_id], step.odom_from_camera, matrix)
        draw_trail(canvas, pixels, trail_colour(track_id, moving=track_id in moving), moving=track_id in moving)
    return canvas


def scaled_matrix(step: RecordedStep, size_wh: tuple[int, int]) -> NDArray[np.float64]:
    """The depth image's camera matrix for a picture of the source image that is ``size_wh`` large.

    The depth image may be a centre crop: one factor for both axes, principal point kept in the middle.
    """
    height, width = step.depth.shape
    factor = max(size_wh[0] / width, size_wh[1] / height)
    matrix = step.camera_matrix.copy()
    matrix[:2] *= factor
    matrix[0, 2] += (size_wh[0] - factor * width) / 2
    matrix[1, 2] += (size_wh[1] - factor * height) / 2
    return matrix


def trails_until(run: RecordedRun, step: RecordedStep) -> dict[int, NDArray[np.float64]]:
    """The last positions (n, 3) in odom of each track that lives at a step."""
    past = [other for other in run.steps if other.stamp_ns <= step.stamp_ns][-TRAIL_STEPS:]
    trails: dict[int, list[NDArray[np.float64]]] = {int(track_id): [] for track_id in step.tracks.ids}
    for other in past:
        for track_id, position in zip(other.tracks.ids.tolist(), other.tracks.positions_odom, strict=True):
            if track_id in trails:
                trails[track_id].append(position)
    return {track_id: np.array(positions) for track_id, positions in trails.items()}


def project(
    points_odom: NDArray[np.float64], odom_from_camera: NDArray[np.float64], matrix: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Pixels (n, 2) of points (n, 3) in front of a camera; points behind it are left out."""
    points = (points_odom - odom_from_camera[:3, 3]) @ odom_from_camera[:3, :3]
    points = points[points[:, 2] > 1e-3]
    homogeneous = points @ matrix.T
    return homogeneous[:, :2] / homogeneous[:, 2:]


def draw_trail(
    canvas: NDArray[np.uint8], pixels: NDArray[np.float64], colour: tuple[int, int, int], *, moving: bool
) -> None:
    """A line through the positions and a dot at the newest."""
    pixels = pixels[np.abs(pixels).max(axis=1) < 1e4] if len(pixels) else pixels
    if not len(pixels):
        return
    line = np.rint(pixels).astype(np.int32).reshape(-1, 1, 2)
    cv2.polylines(canvas, [line], isClosed=False, color=colour, thickness=3 if moving else 1, lineType=cv2.LINE_AA)
    newest = tuple(int(value) for value in line[-1, 0])
    cv2.circle(canvas, newest, 5 if moving else 2, colour, -1, cv2.LINE_AA)


def trail_colour(track_id: int, *, moving: bool) -> tuple[int, int, int]:
    """A colour of its own for each id: bright for movers, pale for the rest."""
    red, green, blue = colorsys.hsv_to_rgb((track_id * GOLDEN_RATIO) % 1.0, 0.85 if moving else 0.3, 1.0)
    return int(255 * red), int(255 * green), int(255 * blue)


def draw_trajectory(axes: Axes, run: RecordedRun, truth: Truth | None, box_aspect: float) -> None:
    """The way from above, laid over the truth's by one similarity; ``box_aspect`` is height over width."""
    aligned = None if truth is None else aligned_trajectory(match_truth(run, truth), truth)
    if aligned is not None:
        predicted, true = (seen_from_above(poses, first=aligned[1][0]) for poses in aligned)
        axes.plot(*true.T, color=TRUTH_COLOUR, linewidth=4, alpha=0.55, solid_capstyle="round", label="truth")
        axes.plot(*predicted.T, color=ACCENT, linewidth=1.8, marker="o", markersize=3, label="odometry (fitted)")
    else:
        poses = [step.odom_from_camera for step in run.steps if step.odom_from_camera is not None]
        way = np.array([(-pose[1, 3], pose[0, 3]) for pose in poses]).reshape(-1, 2)
        axes.plot(*way.T, color=ACCENT, linewidth=1.8, marker="o", markersize=3, label="odometry")
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_box_aspect(box_aspect)
    axes.grid(color="#2a323d", linewidth=0.6)
    axes.tick_params(colors=MUTED, labelsize=8, length=0)
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6))
    axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6))
    axes.tick_params(axis="both", direction="in", pad=-16)
    axes.margins(0.15)
    axes.legend(facecolor=PANEL, edgecolor="none", labelcolor=TEXT, fontsize=9, loc="best")


def seen_from_above(world_from_camera: NDArray[np.float64], first: NDArray[np.float64]) -> NDArray[np.float64]:
    """The (n, 2) plan of camera positions (n, 4, 4): right and forward of the camera ``first`` (4, 4)."""
    positions = (world_from_camera[:, :3, 3] - first[:3, 3]) @ first[:3, :3]
    return positions[:, [0, 2]]
