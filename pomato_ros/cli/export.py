"""`pomato export`: the network as ONNX graphs, each checked with onnxruntime against torch."""

import importlib.metadata
import importlib.util
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from pomato_ros.cli.bench import parse_size
from pomato_ros.cli.results import flat_line
from pomato_ros.config import PomatoConfig
from pomato_ros.sources.dust3r.checkpoint import BUNDLED_WEIGHTS, Checkpoint, file_sha256, load_checkpoint
from pomato_ros.sources.dust3r.onnx_export import (
    FRAMES,
    OPSET,
    ExportPlan,
    Graph,
    Port,
    Run,
    graph_error,
    plan_graphs,
    window_error,
    write_graph,
)

MOST_REL_ERROR = 1e-4  # fp32 against fp32
MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
NEEDED = ("onnx", "onnxruntime")


def export(
    weights: Annotated[Path | None, typer.Option(help="Weights file; without it the bundled ones.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the graphs and their manifest.")] = Path("out/onnx"),
    size: Annotated[
        str, typer.Option(help="The network's input, WIDTHxHEIGHT in whole patches; empty: as trained, 4 to 3.")
    ] = "",
    window: Annotated[
        int, typer.Option(min=0, help="Longest window that is checked; 0: the engine's, 1 if pairwise.")
    ] = 0,
    frames: Annotated[
        str, typer.Option(help=f"Frames of a window whose pointmaps the heads give: {', '.join(FRAMES)}.")
    ] = "newest",
) -> int:
    """Write encoder, decoder pair and heads as ONNX and compare each with torch; exit 1 above 1e-4."""
    console = Console(soft_wrap=True)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        console.print(
            f"[bold red]export failed:[/] {' and '.join(missing)} not installed; they come with the extra 'export': "
            "make setup, or pip install --editable '.\\[export]'",
            highlight=False,
        )
        return 1
    try:
        checkpoint = load_checkpoint(weights or BUNDLED_WEIGHTS)
        plan = make_plan(checkpoint, size, window, frames)
        manifest = export_checked(checkpoint, plan, out, console)
    except (ValueError, OSError, RuntimeError) as error:
        console.print(f"[bold red]export failed:[/] {error}", highlight=False)
        return 1
    (out / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    console.print(table_of(manifest))
    summary = summarise(manifest)
    if not summary["ok"]:
        console.print(f"[bold red]over {MOST_REL_ERROR:.0e}:[/] do not use these graphs")
    typer.echo(flat_line(summary))
    return 0 if summary["ok"] else 1


def make_plan(checkpoint: Checkpoint, size: str, window: int, frames: str) -> ExportPlan:
    """What the options ask for, with the engine's window and the size of training where they are silent.

    Raises:
        ValueError: it does not suit the weights.
    """
    config = checkpoint.network.config
    longest = config.temporal_length or 1
    size_wh = parse_size(size) if size else default_size(checkpoint.image_size_px, config.patch_size)
    usual = min(PomatoConfig().window.window_size, longest)
    return ExportPlan(checkpoint.network.requires_grad_(False), size_wh, window or usual, frames)


def default_size(long_side_px: int, patch_px: int) -> tuple[int, int]:
    """Width and height, 4 to 3, in whole patches."""
    return max(1, long_side_px // patch_px) * patch_px, max(1, round(0.75 * long_side_px / patch_px)) * patch_px


def export_checked(checkpoint: Checkpoint, plan: ExportPlan, out: Path, console: Console) -> dict[str, Any]:
    """Write every graph, then run each with onnxruntime, alone and in a chain; the manifest.

    Raises:
        OSError: the folder cannot be written.
        RuntimeError: torch cannot express a graph, or onnxruntime cannot run it.
    """
    import onnx

    out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    graphs, runs, entries = plan_graphs(plan), {}, {}
    for graph in graphs:
        path = out / f"{graph.name}.onnx"
        with console.status(f"writing {path}"):
            write_graph(graph, plan, path)
            onnx.checker.check_model(str(path), full_check=True)
        with console.status(f"checking {path}"):
            runs[graph.name] = open_graph(path, graph)
            entries[graph.name] = describe(graph, path) | {"max_rel_error": graph_error(graph, plan, runs[graph.name])}
    with console.status("checking a whole window"):
        error = window_error(plan, runs)
    return {
        "format": "pomato_ros onnx",
        "version": MANIFEST_VERSION,
        "opset": OPSET,
        "made_with": {"torch": torch.__version__, **{name: version_of(name) for name in NEEDED}},
        "checkpoint": checkpoint.path.name,
        "checkpoint_sha256": checkpoint.sha256,
        "network": asdict(plan.network.config),
        "image": {"size_wh": list(plan.size_wh), "values": "RGB, 2 * value / 255 - 1"},
        "grid_hw": list(plan.grid_hw),
        "window_size": plan.window_size,
        "frames": plan.frames,
        "graphs": entries,
        "window_max_rel_error": error,
        "seconds": round(time.perf_counter() - started, 1),
    }


def version_of(module: str) -> str:
    """An installed package's version."""
    return importlib.metadata.version(module)


def open_graph(path: Path, graph: Graph) -> Run:
    """A file as a function of tensors, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [port.name for port in graph.outputs]

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        feed = {port.name: part.contiguous().numpy() for port, part in zip(graph.inputs, inputs, strict=True)}
        return [torch.from_numpy(part) for part in session.run(names, feed)]

    return run


def describe(graph: Graph, path: Path) -> dict[str, Any]:
    """The manifest's entry of one file."""
    return {
        "file": path.name,
        "bytes": path.stat().st_size,
        "sha256": file_sha256(path),
        "inputs": [describe_port(port) for port in graph.inputs],
        "outputs": [describe_port(port) for port in graph.outputs],
    }


def describe_port(port: Port) -> dict[str, Any]:
    """Name, type and shape; a word is a size that is free."""
    return {"name": port.name, "dtype": "float32", "shape": list(port.shape)}


def summarise(manifest: dict[str, Any]) -> dict[str, float | int | str | None]:
    """The flat object."""
    graphs = manifest["graphs"]
    errors = {f"{name}_max_rel_error": entry["max_rel_error"] for name, entry in graphs.items()}
    errors["window_max_rel_error"] = manifest["window_max_rel_error"]
    worst = max(errors.values())
    width, height = manifest["image"]["size_wh"]
    return {
        "graphs": len(graphs),
        "opset": manifest["opset"],
        "image_size": f"{width}x{height}",
        "window_size": manifest["window_size"],
        "frames": manifest["frames"],
        "checkpoint_sha256": manifest["checkpoint_sha256"],
        "mib": round(sum(entry["bytes"] for entry in graphs.values()) / 2**20, 2),
        **errors,
        "max_rel_error": worst,
        "max_rel_error_allowed": MOST_REL_ERROR,
        "ok": int(worst <= MOST_REL_ERROR),
        "seconds": manifest["seconds"],
    }


def table_of(manifest: dict[str, Any]) -> Table:
    """The graphs for people."""
    width, height = manifest["image"]["size_wh"]
    what = f"{width}x{height}, window {manifest['window_size']}, opset {manifest['opset']}"
    table = Table(title=f"{manifest['checkpoint']}, {what}")
    for heading in ("graph", "MiB", "largest relative error"):
        table.add_column(heading, justify="left" if heading == "graph" else "right")
    for name, entry in manifest["graphs"].items():
        table.add_row(name, f"{entry['bytes'] / 2**20:.2f}", f"{entry['max_rel_error']:.1e}")
    table.add_section()
    table.add_row("a whole window", "", f"{manifest['window_max_rel_error']:.1e}")
    return table
