"""The page of the oracle's trial: masks, ways, tracks and honesty beside the truth; PNGs and one HTML file."""

import colorsys
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import chi2

from pomato_ros.cli.demo_picture import (
    ACCENT,
    BACKGROUND,
    GOLDEN_RATIO,
    MUTED,
    PANEL,
    TEXT,
    TRUTH_COLOUR,
    mask_overlay,
)
from pomato_ros.evaluation.oracle_report import DEMANDS, middle, span, verdict
from pomato_ros.evaluation.oracle_sets import KINDS, OracleSequence
from pomato_ros.evaluation.oracle_trial import OracleResult, OracleRun, first_from_camera, normalised_errors
from pomato_ros.evaluation.report import FlatValue, plain, ratio, shown
from pomato_ros.structures import PoseArray

PAGE = "index.html"
OVERVIEW = "overview.png"
MOST_OF_A_KIND = 4  # sequences of one kind that are drawn
STRIP_FRAMES = 6
TRAIL_FRAMES = 20
MOST_TRAILS = 150
FREEDOM = 6  # of a pose
BELIEVED = (0.025, 0.975)  # between which quantiles NEES should lie for 95 of 100 frames
LEAST_NEES = 0.05  # drawn
KIND_NAMES = {
    "ordinary": "camera and objects move",
    "nothing": "only the camera moves",
    "majority": "most of the image moves",
    "still": "the camera stands still for a minute",
    "blind": "ten frames of noise",
}
STYLE = f"""
body {{ background: {BACKGROUND}; color: {TEXT}; font: 15px/1.5 system-ui, sans-serif; max-width: 1320px;
  margin: 2em auto; padding: 0 1em }}
h1, h2 {{ font-weight: 600 }} h2 {{ margin-top: 2em }} p, figcaption {{ color: {MUTED} }}
table {{ border-collapse: collapse }} td, th {{ padding: .25em 1em .25em 0; text-align: right }}
td:first-child, th:first-child {{ text-align: left }} th {{ color: {MUTED}; font-weight: 400 }}
.goal {{ color: #7ddc8a }} .floor {{ color: {TRUTH_COLOUR} }} .below {{ color: #ff6a5e }}
img {{ width: 100%; border-radius: 6px }} figure {{ margin: 1em 0 2em }}
"""


@dataclass(frozen=True, slots=True)
class Sheet:
    """What is drawn of one sequence."""

    result: OracleResult
    frames: tuple[int, ...]  # of the strip
    images: NDArray[np.uint8]  # (k, h, w, 3)
    true_moving: NDArray[np.bool_]  # (k, h, w)
    moving: NDArray[np.bool_]  # (k, h, w)
    true_poses: PoseArray  # (t, 4, 4), world is the first camera
    poses: PoseArray  # (t, 4, 4), NaN where there is none
    position_std: PoseArray  # (t,) of the position, all axes together, metres
    nees: PoseArray  # (t,)
    blind: range
    trail_image: NDArray[np.uint8]  # (h, w, 3)


class OraclePage:
    """Collects sequences as they are done, the first few of each kind, and writes the page."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.sheets: list[Sheet] = []
        self.results: list[OracleResult] = []

    def watch(self, result: OracleResult, sequence: OracleSequence, run: OracleRun) -> None:
        """Take in one sequence."""
        self.results.append(result)
        if sum(sheet.result.kind == result.kind for sheet in self.sheets) < MOST_OF_A_KIND:
            self.sheets.append(sheet_of(result, sequence, run))

    def write(self, folder: Path, summary: Mapping[str, FlatValue], command: str) -> Path:
        """All pictures and the page; its path. ``command``: what makes the figures again."""
        folder.mkdir(parents=True, exist_ok=True)
        draw_overview(self.results, folder / OVERVIEW)
        pictures = [f"{sheet.result.kind}-{sheet.result.seed}.png" for sheet in self.sheets]
        for sheet, name in zip(self.sheets, pictures, strict=True):
            draw_sheet(sheet, folder / name)
        page = folder / PAGE
        page.write_text(page_text(self.sheets, pictures, summary, command), encoding="utf-8")
        return page


def sheet_of(result: OracleResult, sequence: OracleSequence, run: OracleRun) -> Sheet:
    """What is kept of a sequence; strips show frames of all of it, also some of noise if there are."""
    clip = sequence.clip
    frames = strip_frames(len(clip), sequence.blind)
    truth = first_from_camera(clip)
    last = len(clip) - 1
    return Sheet(
        result=result,
        frames=frames,
        images=clip.images[list(frames)].numpy(),
        true_moving=np.stack([clip.moving(t).numpy() for t in frames]),
        moving=run.moving[list(frames)],
        true_poses=truth,
        poses=run.world_from_camera,
        position_std=np.sqrt(np.trace(run.covariance[:, :3, :3], axis1=1, axis2=2)),
        nees=normalised_errors(run.world_from_camera, run.covariance, truth),
        blind=sequence.blind,
        trail_image=draw_trails(clip.images[last].numpy(), run, last),
    )


def strip_frames(count: int, blind: range) -> tuple[int, ...]:
    """Evenly spread frames; one of them blind, where some are."""
    seeing = np.setdiff1d(np.arange(count), blind)
    told = STRIP_FRAMES - bool(len(blind))
    frames = set(seeing[np.linspace(0, len(seeing) - 1, told + 1).round().astype(int)[1:]].tolist())
    return tuple(sorted(frames | ({blind[len(blind) // 2]} if len(blind) else set())))


def draw_trails(image_rgb: NDArray[np.uint8], run: OracleRun, last: int) -> NDArray[np.uint8]:
    """The frame ``last``, darkened and twice as large, with where its visible tracks were in the frames before."""
    canvas = cv2.resize(image_rgb, None, fx=2.0, fy=2.0, interpolation=cv2.INTER_LINEAR) // 2
    record = run.tracks
    if not record.ids:
        return np.asarray(canvas, np.uint8)
    ids, frames = np.concatenate(record.ids), np.concatenate(record.frames)
    pixels, visible = np.concatenate(record.pixels), np.concatenate(record.visible)
    alive = ids[(frames == last) & visible]
    alive = alive[:: 1 + len(alive) // MOST_TRAILS]
    shown_rows = visible & (frames > last - TRAIL_FRAMES) & np.isin(ids, alive) & np.isfinite(pixels).all(axis=-1)
    order = np.flatnonzero(shown_rows)[np.lexsort((frames[shown_rows], ids[shown_rows]))]
    for rows in np.split(order, np.flatnonzero(np.diff(ids[order])) + 1) if len(order) else []:
        colour = tuple(round(255 * part) for part in colorsys.hsv_to_rgb((ids[rows[0]] * GOLDEN_RATIO) % 1, 0.75, 1.0))
        path = np.rint(2.0 * pixels[rows] + 0.5).astype(np.int32)
        cv2.polylines(canvas, [path[:, None]], False, colour, 1, cv2.LINE_AA)
        cv2.circle(canvas, path[-1].tolist(), 2, colour, -1, cv2.LINE_AA)
    return np.asarray(canvas, np.uint8)


def draw_sheet(sheet: Sheet, path: Path) -> None:
    """One sequence: a strip of masks above; way, error of position, tracks and NEES below."""
    height, width = sheet.images.shape[1:3]
    columns = len(sheet.frames)
    cell = 12.8 / columns
    strip = 3 * cell * height / width + 0.5
    below = 3.1
    figure = Figure(figsize=(13.4, strip + below + 0.3), facecolor=BACKGROUND)
    tall = figure.get_figheight()
    upper = figure.add_gridspec(
        3, columns, left=0.045, right=0.995, top=1 - 0.62 / tall, bottom=1 - strip / tall, wspace=0.03, hspace=0.04
    )
    rows = ("image", "moves", "found")
    for column, frame in enumerate(sheet.frames):
        pictures = (
            sheet.images[column],
            mask_overlay(sheet.images[column], sheet.true_moving[column]),
            mask_overlay(sheet.images[column], sheet.moving[column]),
        )
        for row, picture in enumerate(pictures):
            axes = figure.add_subplot(upper[row, column])
            plain_panel(axes)
            axes.imshow(picture, aspect="auto")
            if row == 0:
                axes.set_title(f"frame {frame}", color=MUTED, fontsize=8, loc="left", pad=3)
            if column == 0:
                axes.set_ylabel(rows[row], color=MUTED, fontsize=9)
    lower = figure.add_gridspec(
        1,
        4,
        left=0.045,
        right=0.985,
        top=(below - 0.1) / tall,
        bottom=0.42 / tall,
        wspace=0.24,
        width_ratios=(0.9, 1.05, 1.6, 1.05),
    )
    draw_way(styled(figure.add_subplot(lower[0]), "way from above, m"), sheet)
    draw_error(styled(figure.add_subplot(lower[1]), "position error, m; band: 3 sigma"), sheet)
    trails = figure.add_subplot(lower[2])
    plain_panel(trails)
    trails.set_title(f"tracks, last {TRAIL_FRAMES} frames", color=MUTED, fontsize=9, loc="left", pad=4)
    trails.imshow(sheet.trail_image)
    trails.set_anchor("N")
    draw_nees(styled(figure.add_subplot(lower[3]), "NEES; band: 95 % of frames if honest"), sheet)
    figure.text(
        0.045,
        1 - 0.3 / tall,
        f"{KIND_NAMES[sheet.result.kind]}, seed {sheet.result.seed}",
        color=TEXT,
        fontsize=14,
    )
    figure.text(0.995, 1 - 0.3 / tall, "   ".join(facts(sheet.result)), color=MUTED, fontsize=10, ha="right")
    figure.savefig(path, dpi=100, facecolor=BACKGROUND)


def facts(result: OracleResult) -> list[str]:
    """The sequence's own figures, where they say something."""
    values: dict[str, FlatValue] = {
        "ATE/path": plain(result.ate_over_path),
        "scale error": plain(middle(result.scale_errors)),
        "NEES": plain(float(np.nanmean(result.nees))) if np.isfinite(result.nees).any() else None,
        "mask IoU": plain(ratio(result.mask.both, result.mask.either)) if result.mask.moving else None,
        "false positives": plain(ratio(result.mask.either - result.mask.moving, result.mask.total)),
        "same id": plain(ratio(result.tracks.right_id, result.tracks.asked_id)),
        "APD": plain(result.tracks.apd),
    }
    return [f"{name} {shown(value)}" for name, value in values.items() if value is not None]


def draw_way(axes: Axes, sheet: Sheet) -> None:
    """Seen from above: x to the right of the first camera, z ahead of it."""
    for poses, style in (
        (sheet.true_poses, {"color": TRUTH_COLOUR, "linewidth": 4.0, "alpha": 0.55, "label": "true"}),
        (sheet.poses, {"color": ACCENT, "linewidth": 1.5, "label": "found"}),
    ):
        axes.plot(poses[:, 0, 3], poses[:, 2, 3], solid_capstyle="round", **style)  # type: ignore[arg-type]
    axes.plot(0.0, 0.0, "o", color=TEXT, markersize=4)
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.12)
    legend(axes)


def draw_error(axes: Axes, sheet: Sheet) -> None:
    """How far each pose is from the true one, and how far it says it may be."""
    error = np.linalg.norm(sheet.poses[:, :3, 3] - sheet.true_poses[:, :3, 3], axis=-1)
    frames = np.arange(len(error))
    axes.fill_between(frames, 0.0, 3.0 * sheet.position_std, color=ACCENT, alpha=0.18, linewidth=0.0)
    axes.plot(frames, error, color=ACCENT, linewidth=1.5)
    shade_blind(axes, sheet)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("frame", color=MUTED, fontsize=8, labelpad=1)


def draw_nees(axes: Axes, sheet: Sheet) -> None:
    """Squared error in its own measure, frame by frame."""
    low, high = chi2.ppf(BELIEVED, FREEDOM)
    frames = np.arange(len(sheet.nees))
    axes.axhspan(low, high, color=TRUTH_COLOUR, alpha=0.16, linewidth=0.0)
    axes.axhline(FREEDOM, color=TRUTH_COLOUR, linewidth=1.0, alpha=0.8)
    axes.plot(frames[1:], np.maximum(sheet.nees[1:], LEAST_NEES), color=ACCENT, linewidth=1.5)
    axes.set_yscale("log")
    top = np.nanmax(sheet.nees[1:], initial=high) if np.isfinite(sheet.nees[1:]).any() else high
    axes.set_ylim(LEAST_NEES, max(2.0 * high, 1.5 * top))
    shade_blind(axes, sheet)
    axes.set_xlabel("frame", color=MUTED, fontsize=8, labelpad=1)


def shade_blind(axes: Axes, sheet: Sheet) -> None:
    """Frames of noise."""
    if len(sheet.blind):
        axes.axvspan(sheet.blind.start - 0.5, sheet.blind.stop - 0.5, color=MUTED, alpha=0.25, linewidth=0.0)


def draw_overview(results: Sequence[OracleResult], path: Path) -> None:
    """All sequences: error of the way, NEES of all frames beside what it should be, masks, tracks."""
    figure = Figure(figsize=(13.4, 3.5), facecolor=BACKGROUND)
    grid = figure.add_gridspec(1, 4, left=0.045, right=0.985, top=0.87, bottom=0.15, wspace=0.24)
    ordinary = [result for result in results if result.kind == "ordinary"]
    ranked(
        styled(figure.add_subplot(grid[0]), "ATE / path, % of the way, sequences in order"),
        [100.0 * result.ate_over_path for result in ordinary],
        (1.0, 0.3),
    )
    draw_nees_spread(styled(figure.add_subplot(grid[1]), "NEES of all frames; line: if honest"), ordinary)
    ranked(
        styled(figure.add_subplot(grid[2]), "IoU of the moving mask, sequences in order"),
        [ratio(result.mask.both, result.mask.either) for result in ordinary if result.mask.moving],
        (0.80, 0.92),
    )
    ranked(
        styled(figure.add_subplot(grid[3]), "tracks with the right id after 5 windows"),
        [ratio(result.tracks.right_id, result.tracks.asked_id) for result in ordinary if result.tracks.asked_id],
        (0.85, 0.97),
    )
    figure.savefig(path, dpi=100, facecolor=BACKGROUND)


def ranked(axes: Axes, values: Sequence[float], marks: tuple[float, float]) -> None:
    """Values from the smallest to the largest, with the floor and the goal."""
    ordered = np.sort([value for value in values if np.isfinite(value)])
    axes.bar(np.arange(len(ordered)), ordered, width=0.8, color=ACCENT)
    for mark, name, colour in zip(marks, ("floor", "goal"), (TRUTH_COLOUR, "#7ddc8a"), strict=True):
        axes.axhline(mark, color=colour, linewidth=1.2, label=name)
    axes.set_xticks([])
    legend(axes)


def draw_nees_spread(axes: Axes, results: Sequence[OracleResult]) -> None:
    """How often NEES has which size, on a logarithmic axis, beside a chi-square distribution's density there."""
    values = np.concatenate([result.nees for result in results]) if results else np.zeros(0)
    values = np.maximum(values[np.isfinite(values)], LEAST_NEES)
    edges = np.geomspace(LEAST_NEES, max(200.0, float(values.max(initial=1.0))), 40)
    if len(values):
        weights = np.full(len(values), 1.0 / (len(values) * np.log(edges[1] / edges[0])))
        axes.hist(values, bins=edges.tolist(), weights=weights, color=ACCENT)
    axes.plot(edges, edges * chi2.pdf(edges, FREEDOM), color=TRUTH_COLOUR, linewidth=1.5)
    axes.set_xscale("log")
    axes.set_yticks([])


def styled(axes: Axes, title: str) -> Axes:
    """A dark panel with quiet axes."""
    axes.set_facecolor(PANEL)
    axes.set_title(title, color=MUTED, fontsize=9, loc="left", pad=4)
    axes.tick_params(colors=MUTED, labelsize=8, length=2)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.grid(color=MUTED, alpha=0.15, linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def plain_panel(axes: Axes) -> None:
    """A panel that only holds a picture."""
    axes.set_facecolor(PANEL)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def legend(axes: Axes) -> None:
    """Small, without a frame."""
    axes.legend(fontsize=8, frameon=False, labelcolor=MUTED, loc="best")


def page_text(sheets: Sequence[Sheet], pictures: Sequence[str], summary: Mapping[str, FlatValue], command: str) -> str:
    """The HTML page."""
    head = (
        f"<h1>Scene layer on an oracle</h1><p>{summary['sequences']} held-out rendered sequences, "
        f"{summary['frames']} frames, {html.escape(str(summary['scale_prior']))}. True pointmaps err "
        f"as a network's do; what is left is the scene layer's own error. Made by "
        f"<code>{html.escape(command)}</code>.</p>"
    )
    parts = [head, score_table(summary), figure_text(OVERVIEW, "All ordinary sequences.")]
    for kind in KINDS:
        shown_here = [(sheet, name) for sheet, name in zip(sheets, pictures, strict=True) if sheet.result.kind == kind]
        if shown_here:
            parts.append(f"<h2>{html.escape(KIND_NAMES[kind].capitalize())}</h2>")
        parts += [figure_text(name, f"Seed {sheet.result.seed}.") for sheet, name in shown_here]
    body = "\n".join(parts)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Scene layer on an oracle</title>'
        f"<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def figure_text(name: str, caption: str) -> str:
    """A picture and what it is."""
    caption = html.escape(caption)
    return f'<figure><img src="{html.escape(name)}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'


def score_table(summary: Mapping[str, FlatValue]) -> str:
    """Each score beside its floor and its goal."""
    lines = ["<table><tr><th>score</th><th>value</th><th>floor</th><th>goal</th><th></th></tr>"]
    for demand in DEMANDS:
        value = summary[demand.key]
        word = str(verdict(demand, value))
        style = {"goal": "goal", "floor": "floor", "BELOW THE FLOOR": "below"}.get(word, "")
        cells = (html.escape(demand.meaning), shown(value), span(demand.floor), span(demand.goal))
        lines.append(
            "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + f'<td class="{style}">{word.lower()}</td></tr>'
        )
    return "".join([*lines, "</table>"])
