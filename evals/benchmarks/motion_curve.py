"""The trade-off of Motion by Queries over the share of injected steps: a picture and a table of finished arms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from evals.benchmarks.motion import LEAK, OTHER, POINTS, PUPPETS, SAME
from evals.benchmarks.protocol import ALL
from evals.plots import Point, curves
from evals.suite import Result

CURVES = (PUPPETS, POINTS, LEAK)
"""What is shown over the share."""


def trade_off(results: Mapping[float, Result], group: str = ALL) -> dict[str, dict[int, Point]]:
    """Every curve of the plot: its points by per cent of the steps."""
    found: dict[str, dict[int, Point]] = {name: {} for name in CURVES}
    for share, result in sorted(results.items()):
        for line in result.lines:
            if line.group == group and line.summary.metric in found:
                one = line.summary
                found[one.metric][round(100 * share)] = Point(mean=one.mean, low=one.low, high=one.high)
    return found


def write_trade_off(results: Mapping[float, Result], folder: Path) -> tuple[Path, Path]:
    """The curves as a picture and as a table, `trade-off.png` and `trade-off.md`."""
    folder.mkdir(parents=True, exist_ok=True)
    picture, table = folder / "trade-off.png", folder / "trade-off.md"
    across = "per cent of the steps with the source's queries"
    picture.write_bytes(curves("Motion and identity over the injected share", across, trade_off(results)))
    head = "| share | over | " + " | ".join(CURVES) + " |\n" + "|---" * (len(CURVES) + 2) + "|\n"
    rows = [
        f"| {share:g} | {group} | " + " | ".join(_cell(result, name, group) for name in CURVES) + " |\n"
        for share, result in sorted(results.items())
        for group in (ALL, SAME, OTHER)
    ]
    table.write_text(head + "".join(rows), encoding="utf-8")
    return picture, table


def _cell(result: Result, metric: str, group: str) -> str:
    one = next((r.summary for r in result.lines if (r.summary.metric, r.group) == (metric, group)), None)
    if one is None or one.mean is None:
        return "not measured"
    bounds = "" if one.low is None else f"{one.low:.3f} to {one.high:.3f}, "
    return f"{one.mean:.3f} ({bounds}n={one.count})"
