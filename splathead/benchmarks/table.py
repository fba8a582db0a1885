"""Speed rows as lines for the terminal and as rows of the results contract."""

from __future__ import annotations

from collections.abc import Sequence

from splathead.benchmarks.raster import SpeedRow
from splathead.results import ResultRow, device_name, git_state


def to_lines(rows: Sequence[SpeedRow]) -> list[str]:
    """Aligned text, one line a row."""
    lines = []
    for row in rows:
        seconds = f"{1000 * row.seconds:10.2f} ms" if row.seconds is not None else f"{'not measured':>13s}"
        ratio = f"  {row.ratio:6.1f} x {row.ratio_to}" if row.ratio is not None else ""
        lines.append(f"{row.workload:28s} {row.phase:34s} {row.method:16s} {seconds}{ratio}  {row.note}".rstrip())
    return lines


def to_results(rows: Sequence[SpeedRow], device: str) -> list[ResultRow]:
    """Rows of the results contract: ``seconds`` of every measurement, ``speedup`` of every ratio, ``peak_memory`` where known.

    The workload and its phase stand in the ``dataset`` column. A row that was not measured is left out.
    """
    commit, dirty = git_state()
    common = {"experiment": "benchmark", "device": device_name(device), "commit": commit, "dirty": dirty}
    results: dict[tuple[str, ...], ResultRow] = {}
    for row in rows:
        if row.seconds is None:
            continue
        name = {"dataset": f"{row.workload}, {row.phase}", "method": row.method, **common}
        made = [ResultRow(**name, metric="seconds", unit="s", value=float(row.seconds))]
        if row.ratio is not None:
            made.append(ResultRow(**name, method_b=row.ratio_to, metric="speedup", unit="frac", value=float(row.ratio)))
        if row.peak_mib is not None:
            made.append(ResultRow(**name, metric="peak_memory", unit="MiB", value=float(row.peak_mib)))
        results.update({result.key(): result for result in made})  # a time that several ratios share is one row
    return list(results.values())
