"""The evaluation report: every benchmark in a folder of results, methods side by side, as HTML and as Markdown.

Reads what `evals.suite` wrote (manifest.json, table.json, rows.jsonl, strips/) and measures nothing. Every text on
the page is untrusted and escaped. The HTML is one file; the Markdown has its pictures beside it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from evals import plots
from evals.benchmarks.protocol import ALL, MATRICES
from evals.comparison import LAYOUTS, Cell, Comparison, comparable, compare, forests, paired_with
from evals.metrics.curves import jointly_normalised, mean_matrix
from evals.metrics.score import NotMeasured, Summary, difference
from evals.plots import Point
from evals.results import Method, read_results
from evals.rows import Row
from evals.sheets import best_and_worst
from evals.slices import slices
from evals.suite import slug

AXES = {"distance": "shots apart", "spend": "first takes' worth of work", "threshold": "sure of at least, percent",
        "shot": "number of the shot", "gap": "shots away",
        "interval": "frames apart"}  # fmt: skip
"""Groups of a table that are points of a curve, and what they count."""
_POINT = re.compile(rf"({'|'.join(AXES)}) (\d+)")


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """A metric over all methods, and the units that it is over."""

    metric: str
    over: str = ALL
    cells: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class TimingMap:
    """When things were seen that were asked for. `names` are those of the lines, empty where their numbers tell."""

    cells: np.ndarray
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A plot or sheet. `file` is its place beside the Markdown."""

    caption: str
    file: str
    png: bytes = field(repr=False)

    @property
    def data(self) -> str:
        """For the HTML."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True, kw_only=True)
class Part:
    """One benchmark on the page."""

    name: str
    methods: tuple[str, ...]
    notes: tuple[str, ...]
    table: tuple[TableRow, ...]
    differences: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    """In the place of table and differences, where the benchmark has a layout."""
    grouped: tuple[TableRow, ...]
    """Every line that is not over all units: classes, sets, verbs, points of curves."""
    pictures: tuple[Picture, ...]
    manifests: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Page:
    """The whole report."""

    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True)
class ReportFiles:
    """What was written."""

    html: Path
    markdown: Path


def write_report(results: Path, out: Path, title: str = "Evaluation") -> ReportFiles:
    """Render every benchmark under `results` into `out`. Raises ValueError when there is none."""
    return write_page(page_of(results, title), out)


def page_of(results: Path, title: str = "Evaluation", only: str | None = None) -> Page:
    """Everything on the page: every benchmark under `results`, or only the one of that name. Raises as above."""
    benchmarks = {name: methods for name, methods in read_results(results).items() if only in (None, name)}
    if not benchmarks:
        raise ValueError(f"No results under {results}: expected <benchmark>/<method>/table.json; run a benchmark first")
    return Page(title=title, parts=tuple(_part(name, methods) for name, methods in benchmarks.items()))


def write_page(page: Page, out: Path) -> ReportFiles:
    """The page in both forms, its pictures beside the Markdown."""
    out.mkdir(parents=True, exist_ok=True)
    for picture in (one for part in page.parts for one in part.pictures):
        (out / picture.file).parent.mkdir(parents=True, exist_ok=True)
        (out / picture.file).write_bytes(picture.png)
    files = ReportFiles(html=out / "report.html", markdown=out / "report.md")
    files.html.write_text(_engine(True).get_template("evals.html.j2").render(page=page), encoding="utf-8")
    files.markdown.write_text(_engine(False).get_template("evals.md.j2").render(page=page), encoding="utf-8")
    return files


def _part(name: str, methods: Sequence[Method]) -> Part:
    metrics = list(dict.fromkeys(line.summary.metric for m in methods for line in m.lines if line.group == ALL))
    compared = compare(methods, LAYOUTS[name]) if name in LAYOUTS else ()
    return Part(
        name=name,
        methods=tuple(method.name for method in methods),
        notes=_notes(methods),
        table=tuple(TableRow(metric=m, cells=tuple(cell_of(one.line(m)) for one in methods)) for m in metrics),
        differences=() if compared else _differences(methods, metrics),
        comparisons=compared,
        grouped=_grouped(methods),
        pictures=tuple(_pictures(name, methods)),
        manifests=tuple(_manifest_line(method) for method in methods),
    )


def _grouped(methods: Sequence[Method]) -> tuple[TableRow, ...]:
    lines = [(line.summary.metric, line.group) for m in methods for line in m.lines if line.group != ALL]
    return tuple(
        TableRow(metric=metric, over=group, cells=tuple(cell_of(one.line(metric, group)) for one in methods))
        for metric, group in dict.fromkeys(lines)
    )


def cell_of(one: Summary | None) -> Cell:
    """Mean ± error; beneath it interval, count, and what was not measured and why."""
    if one is None:
        return Cell(value="–")
    why = one.beside
    if one.mean is None:
        return Cell(value="not measured", beside=why)
    error = "" if one.error is None else f" ± {one.error:.3f}"
    count = f"n={one.count} of {one.total}"
    bounds = count if one.low is None or one.high is None else f"{one.low:.3f} to {one.high:.3f}, {count}"
    return Cell(value=f"{one.mean:.3f}{error}", beside=f"{bounds}; {why}" if why else bounds)


def _notes(methods: Sequence[Method]) -> tuple[str, ...]:
    if len({method.manifest["digest"] for method in methods}) > 1:
        return ("These methods were measured under different settings or models: their numbers do not compare.",)
    if len({method.manifest["seed"] for method in methods}) > 1:
        return ("These methods began from different seeds: their means compare, their single items do not.",)
    return ()


def _differences(methods: Sequence[Method], metrics: Sequence[str]) -> tuple[str, ...]:
    """Every method against the first, where both were measured under the same settings and from the same seed."""
    found = []
    for other in methods[1:]:
        if not paired_with(methods[0], other):
            continue
        for metric in metrics:
            apart = difference(other.outcomes(metric), methods[0].outcomes(metric))
            if not isinstance(apart, NotMeasured):
                found.append(f"{metric}: {other.name} − {methods[0].name} = {apart}")
    return tuple(found)


def _pictures(name: str, methods: Sequence[Method]) -> list[Picture]:
    metric, beside = _headline(methods), _side_by_side(name, methods)
    found: list[Picture] = []

    def add(caption: str, kind: str, png: bytes) -> None:
        found.append(Picture(caption=caption, file=f"pictures/{slug(name)}-{kind}.png", png=png))

    if name in LAYOUTS:
        for number, one in enumerate(forests(methods, LAYOUTS[name])):
            add(one.title, f"forest-{number}", plots.forest(one.title, "difference [95 %]", one.differences))
        for number, (across, up) in enumerate(LAYOUTS[name].trade_offs):
            pairs = {m.name: (_point(m.line(across)), _point(m.line(up))) for m in beside}
            both = {one: (x, y) for one, (x, y) in pairs.items() if x.mean is not None and y.mean is not None}
            caption = f"{up} against {across}"
            if both:
                add(caption, f"trade-off-{number}", plots.trade_off(caption, across, up, both))
    else:
        for barred in (*([metric] if metric is not None else []), *_only_grouped(methods)):
            if groups := _groups(methods, barred):
                series = {m.name: {g: _point(m.line(barred, g)) for g in groups} for m in methods}
                kind = "classes" if barred == metric else slug(f"classes-{barred}")
                add(f"{barred}, by class", kind, plots.bars(barred, groups, series))
    if metric is not None:
        costs = {m.name: (m.seconds, _point(m.line(metric))) for m in beside}
        known = {one: (spent, point) for one, (spent, point) in costs.items() if spent is not None}
        if known:
            add("Cost beside quality", "cost", plots.costs("Cost beside quality", metric, known))
    for (curve, axis), lines in _curves(beside).items():
        add(f"{curve} over {axis}", slug(f"{axis}-{curve}"), plots.curves(curve, AXES[axis], lines))
    for encoder, panels in scaled_matrices(beside).items():
        alike = f"Similarity of all pairs of frames ({encoder}), from the least to the greatest of all"
        add(alike, f"matrices-{slug(encoder)}", plots.matrices(alike, panels))
    for unit, png in slices(beside):
        add(f"A column of pixels over time, {unit}", f"slice-{slug(unit)}", png)
    for method in methods:
        seen = timing(method.rows)
        if seen is not None:
            caption = f"Timing, {method.name}: asked for (rows), seen (columns)"
            drawn = plots.heat(caption, "asked for", "seen", seen.cells, seen.names)
            add(caption, f"timing-{slug(method.name)}", drawn)
        sheet = best_and_worst(method, metric) if metric is not None else None
        if sheet is not None:
            add(f"Best, median and worst, {method.name}", f"sheet-{slug(method.name)}", sheet)
    return found


def _side_by_side(name: str, methods: Sequence[Method]) -> Sequence[Method]:
    """Methods that may share a picture: those that the tables compare, all of them where nothing is compared."""
    compared = comparable(methods, LAYOUTS[name]) if name in LAYOUTS else ()
    return compared or methods


def _headline(methods: Sequence[Method]) -> str | None:
    """The metric that benchmarks name; the first measured one where that was not measured."""
    named = [row["headline"] for m in methods for row in m.rows[:1]]
    listed = [*named, *(line.summary.metric for m in methods for line in m.lines)]
    measured = {line.summary.metric for m in methods for line in m.lines if line.summary.mean is not None}
    return next((metric for metric in listed if metric in measured), None)


def _groups(methods: Sequence[Method], metric: str) -> list[str]:
    """Classes of a metric in which any method was measured; what was not, and why, stands in the table."""
    lines = [line for m in methods for line in m.lines if line.summary.metric == metric]
    measured = {line.group for line in lines if line.summary.mean is not None}
    return [g for g in dict.fromkeys(line.group for line in lines) if g in measured and not _POINT.fullmatch(g)]


def _only_grouped(methods: Sequence[Method]) -> list[str]:
    """Metrics that have no line over all units, such as completion of a verb."""
    lines = [line for m in methods for line in m.lines]
    whole = {line.summary.metric for line in lines if line.group == ALL}
    return [metric for metric in dict.fromkeys(line.summary.metric for line in lines) if metric not in whole]


def _point(one: Summary | None) -> Point:
    return Point(mean=None) if one is None else Point(mean=one.mean, low=one.low, high=one.high)


def _curves(methods: Sequence[Method]) -> dict[tuple[str, str], dict[str, dict[int, Point]]]:
    """Metrics that the table has over an axis: by metric and axis, then by method and place on it."""
    found: dict[tuple[str, str], dict[str, dict[int, Point]]] = {}
    for method in methods:
        for line in method.lines:
            if at := _POINT.fullmatch(line.group):
                curve = found.setdefault((line.summary.metric, at[1]), {}).setdefault(method.name, {})
                curve[int(at[2])] = _point(line.summary)
    return found


def scaled_matrices(methods: Sequence[Method]) -> dict[str, dict[str, np.ndarray]]:
    """By encoder, the mean matrix of the real videos and of every method, on one scale."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for method in methods:
        kept = [row["facts"][MATRICES] for row in method.rows if row["facts"].get(MATRICES)]
        for known in dict.fromkeys(name for one in kept for name in one):
            panels, some = found.setdefault(known, {}), [one[known] for one in kept if known in one]
            if some[0]["real"]:
                panels.setdefault("real videos", np.array(some[0]["real"]))
            panels[method.name] = mean_matrix([np.array(one["film"]) for one in some])
    scaled = {known: jointly_normalised([[one] for one in panels.values()]) for known, panels in found.items()}
    return {known: dict(zip(found[known], (one for (one,) in groups), strict=True)) for known, groups in scaled.items()}


def timing(rows: Sequence[Row]) -> TimingMap | None:
    """The mean of the rows' `timing` facts, cell by cell; NaN where no clip was asked. None without any.

    Where the facts name the lines (`asked`), those that no clip was asked for are left out.
    """
    told = [row["facts"] for row in rows if row["facts"].get("timing")]
    facts: list[list[list[float] | None]] = [one["timing"] for one in told]
    width = max((len(line) for one in facts for line in one if line), default=0)
    usable = [[[np.nan] * width if line is None else line for line in one] for one in facts]
    same = [np.array(one, float) for one in usable if len(one) == len(usable[0])]
    if not same or width == 0:
        return None
    stack = np.stack(same)
    asked = ~np.isnan(stack)
    counts = asked.sum(0)
    cells = np.where(counts > 0, np.where(asked, stack, 0).sum(0) / np.maximum(counts, 1), np.nan)
    names = told[0].get("asked")
    if names is None:
        return TimingMap(cells=cells)
    kept = np.flatnonzero(counts.any(1))
    return TimingMap(cells=cells[kept], names=tuple(names[line] for line in kept))


def _manifest_line(method: Method) -> str:
    one = method.manifest
    versions = ", ".join(f"{name} {number}" for name, number in one["versions"].items())
    settings = json.dumps(one["settings"], sort_keys=True, ensure_ascii=False)
    return (
        f"{method.name}: {one['units']} units, seed {one['seed']}, pixels from {one['source']}, "
        f"settings {one['digest']} = {settings}; {versions}"
    )


def _engine(html: bool) -> Environment:
    folder = FileSystemLoader(Path(__file__).parent / "templates")
    engine = Environment(
        loader=folder, autoescape=html, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    engine.filters["cell"] = _markdown_text
    return engine


def _markdown_text(text: str) -> str:
    """Text that Markdown neither obeys nor breaks a table over."""
    return re.sub(r"([\\`*_\[\]<>|#!$])", r"\\\1", " ".join(text.split()))
