"""One HTML page of a batch run: what ran, what failed, how well."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = {
    "uri": "recording",
    "frames": "frames",
    "seconds": "length, s",
    "frames_per_second": "rate, Hz",
    "lost_share": "lost",
    "path_length": "path",
    "position_sigma_at_end": "σ at the end",
    "moving_share": "moving",
    "inlier_ratio": "inliers",
    "seams": "breaks",
}
STYLE = (
    "body{font:14px/1.5 system-ui,sans-serif;margin:32px;color:#222}table{border-collapse:collapse}"
    "td,th{padding:4px 12px;border-bottom:1px solid #ddd;text-align:right}"
    "td:first-child,th:first-child{text-align:left}"
    ".bad{color:#a40000}"
)


def summary_page(done: Sequence[Mapping[str, Any]], quarantined: Mapping[str, str]) -> str:
    """The page; lengths are in each recording's own unit."""
    head = "".join(f"<th>{html.escape(title)}</th>" for title in COLUMNS.values())
    rows = "".join("<tr>" + "".join(_cell(row, name) for name in COLUMNS) + "</tr>" for row in done)
    failures = "".join(
        f"<tr><td>{html.escape(uri)}</td><td class='bad' style='text-align:left'>{html.escape(reason)}</td></tr>"
        for uri, reason in quarantined.items()
    )
    frames = sum(int(row["frames"]) for row in done)
    return (
        f"<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>Batch</title><style>{STYLE}</style></head>"
        f"<body><h1>{len(done)} recordings, {frames} frames, {len(quarantined)} in quarantine</h1>"
        f"<table><tr>{head}</tr>{rows}</table>"
        + (f"<h2>Quarantine</h2><table>{failures}</table>" if failures else "")
        + "</body></html>\n"
    )


def _cell(row: Mapping[str, Any], name: str) -> str:
    value = row[name]
    if name == "uri":
        return f"<td><a href='{html.escape(str(row['folder']))}/'>{html.escape(str(value))}</a></td>"
    if value is None:
        return "<td></td>"
    return f"<td>{value:.3g}</td>" if isinstance(value, float) else f"<td>{html.escape(str(value))}</td>"
