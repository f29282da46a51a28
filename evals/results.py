"""Finished runs of the suite, read back from their folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evals.benchmarks.protocol import ALL, Line, from_json
from evals.metrics.score import Outcome, Summary
from evals.rows import KEYS, ROWS, Row, read_rows


@dataclass(frozen=True, kw_only=True)
class Method:
    """One method's results under one benchmark."""

    name: str
    folder: Path
    manifest: Mapping[str, Any]
    lines: tuple[Line, ...]
    rows: tuple[Row, ...]

    def line(self, metric: str, group: str = ALL) -> Summary | None:
        """A line of the table, where it has it."""
        return next((one.summary for one in self.lines if (one.summary.metric, one.group) == (metric, group)), None)

    def outcomes(self, metric: str) -> dict[str, Outcome]:
        """By unit."""
        return {row["unit"]: from_json(row["outcomes"][metric]) for row in self.rows if metric in row["outcomes"]}

    @property
    def seconds(self) -> float | None:
        """Mean time to make a clip."""
        known = [spent for row in self.rows for spent in row["seconds"] if spent is not None]
        return float(np.mean(known)) if known else None


def read_results(results: Path) -> dict[str, list[Method]]:
    """Finished runs by benchmark, both sorted by name; a run without a table is not finished and left out."""
    found: dict[str, list[Method]] = {}
    for table in sorted(results.glob("*/*/table.json")):
        method = read_method(table.parent)
        found.setdefault(method.manifest["benchmark"], []).append(method)
    return found


def read_method(folder: Path) -> Method:
    """One finished run. Raises ValueError naming a folder whose files are not the suite's."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        table = json.loads((folder / "table.json").read_text(encoding="utf-8"))
        lines = tuple(Line(group=one["group"], summary=Summary(**one["summary"])) for one in table)
        named = {key: manifest.get(key) for key in KEYS} | {key: manifest[key] for key in ("method", "benchmark")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(
            f"{folder} is no result of the suite ({reason}): expected manifest.json and table.json as `eval` writes "
            "them; run its benchmark again or move the folder away"
        ) from error
    rows = [row for row in read_rows(folder / ROWS) if "unit" in row and all(row.get(k) == named[k] for k in KEYS)]
    last = {row["unit"]: row for row in rows}
    in_order = tuple(last[unit] for unit in sorted(last))  # not as processes that share units finished them
    return Method(name=named["method"], folder=folder, manifest=manifest, lines=lines, rows=in_order)
