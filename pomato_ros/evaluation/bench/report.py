"""A benchmark as tables for people."""

from rich.table import Table

from pomato_ros.evaluation.bench.steps import STAGES, SteadyRun, percentiles, stage_seconds
from pomato_ros.evaluation.report import FlatValue, shown


def step_table(steady: SteadyRun) -> Table:
    """Where the time of a step goes."""
    table = Table(title=f"{len(steady.timings)} steps, one after the other")
    for heading in ("part", "p50 ms", "p95 ms", "share of the step"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    whole = sum(timing.total for timing in steady.timings)
    for stage in STAGES:
        add_row(table, stage, stage_seconds(steady, stage), whole)
    named = [sum(timing.stages.values()) for timing in steady.timings]
    rest = [timing.total - part for timing, part in zip(steady.timings, named, strict=True)]
    add_row(table, "the rest", rest, whole)
    table.add_section()
    add_row(table, "step", [timing.total for timing in steady.timings], whole)
    messages = [timing.messages for timing in steady.timings if timing.messages is not None]
    if messages:
        add_row(table, "all ROS messages, after it", messages, whole)
    else:
        table.add_row("all ROS messages, after it", "-", "-", "ROS cannot be imported here")
    return table


def add_row(table: Table, name: str, seconds: list[float], whole: float) -> None:
    """Percentiles of one part, and its share of all the steps' time."""
    p50, p95 = percentiles(seconds)
    table.add_row(name, shown(p50), shown(p95), f"{100 * sum(seconds) / whole:.1f} %")


def run_table(summary: dict[str, FlatValue]) -> Table:
    """The replay in real time, memory, and the yardstick."""
    table = Table(title="in real time: the newest frame wins", show_header=False)
    offered = f"{summary['frames_in']} at {shown(summary['offered_hz'])} Hz"
    table.add_row("frames offered", offered)
    table.add_row("steps", f"{summary['steps']}, {shown(summary['rate_hz'])} Hz")
    table.add_row("frames passed over", str(summary["frames_passed_over"]))
    table.add_row("latency p50, p95", f"{shown(summary['latency_ms_p50'])}, {shown(summary['latency_ms_p95'])} ms")
    table.add_section()
    table.add_row("peak memory", f"{shown(summary['peak_rss_mib'])} MiB")
    table.add_row("growth after the warm-up", f"{shown(summary['rss_growth_mib'])} MiB")
    table.add_section()
    table.add_row("matrix products, same run", f"{shown(summary['matrix_gflops'])} GFLOP/s fp32")
    table.add_row("a step in such products", f"{shown(summary['step_gflop_equivalent'])} GFLOP")
    return table
