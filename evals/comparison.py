"""Methods as the papers print them: a row a method, a column a measure, and the paired difference to one of them.

A benchmark whose methods answer one question (which control, which retry) has a `Layout` here; every number in a
comparison is over the items that both methods measured. Reads finished results and measures nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from evals.benchmarks import cast_arms, cast_draw, extension_arms
from evals.benchmarks.protocol import ALL, AUTOENCODER
from evals.benchmarks.retry_policies import OFF, POLICIES
from evals.benchmarks.shot_measures import (
    BACKDROP,
    COLOUR,
    COLOUR_ALL,
    COMPARED,
    DYNAMICS,
    FLOOR,
    GATES,
    HOLD,
    JUMP,
    LEVELS,
    LOOK,
    LOOK_ALL,
    PACE,
    by_distance,
    by_shot,
)
from evals.benchmarks.steering_arms import ARMS, NONE
from evals.metrics.bootstrap import Interval
from evals.metrics.score import NotMeasured, Outcome, difference, summarise
from evals.plots import Point
from evals.results import Method
from evals.world import chains

TRUTH = f"control: {AUTOENCODER}"
"""How the ceiling is called among the methods."""
PAIRS = 6
"""Fewer of them prove nothing even where all agree: by the sign test five in five have 2 / 2^5 = .06."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A number as people read it, and its small print."""

    value: str
    beside: str = ""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a benchmark's methods stand side by side: against which, over which measures, in which order."""

    baseline: str
    columns: tuple[str, ...]
    forest: tuple[str, ...]
    """Measures whose differences are drawn."""
    order: tuple[str, ...]
    """Methods by name; others come last."""
    detail: tuple[str, ...] = ()
    """Measures of a second table, over all items."""
    less: frozenset[str] = frozenset()
    """Measures of which less is better."""
    neither: frozenset[str] = frozenset()
    """Measures of which neither is: floors."""
    trade_offs: tuple[tuple[str, str], ...] = ()
    """Pairs of measures that are drawn against one another, the first one across."""


STEERING = Layout(
    baseline=NONE,
    columns=(
        "completion", "whole captions", "order", "in time", "onset error (s)", "leakage", "colour", "kind", "place",
        "identity",
    ),
    forest=("completion", "order", "in time"),
    detail=("event 1", "event 2", "event 3", "event 4", "tIoU", "completion of another caption"),
    order=(TRUTH, *ARMS),
    less=frozenset({"onset error (s)", "leakage"}),
    neither=frozenset({"completion of another caption"}),
)  # fmt: skip
RETRY = Layout(
    baseline=OFF,
    columns=(
        "completion", "whole captions", *(f"completion within {spend}" for spend in (2, 3, 4, 6)),
        "the critic's completion", "wrongly content", "spend", "saved", "lost", "cost of a retry", "saved a take",
        "the best take there was",
    ),
    forest=("completion", "completion within 2"),
    order=tuple(POLICIES),
    less=frozenset({"wrongly content", "spend", "lost", "cost of a retry"}),
)  # fmt: skip
CAST = Layout(
    baseline=cast_arms.ALONE,
    columns=(
        LOOK, PACE, "completion", LOOK_ALL, COLOUR, COLOUR_ALL, COMPARED, DYNAMICS.name, "place", "kind", "colour",
        "identity within shots",
    ),
    forest=(LOOK, LOOK_ALL, COLOUR, PACE, "completion", "place"),
    order=(TRUTH, *cast_arms.ARMS),
    detail=(*by_distance(GATES, cast_draw.SIZES[-1]), FLOOR),
    less=frozenset({COLOUR, COLOUR_ALL}),
    neither=frozenset({FLOOR}),
    trade_offs=((LOOK_ALL, PACE), (LOOK_ALL, "completion"), (LOOK, "completion")),
)  # fmt: skip
EXTENSION = Layout(
    baseline=extension_arms.CUT,
    columns=(
        HOLD, "completion", BACKDROP, JUMP, LEVELS, LOOK_ALL, LOOK, COLOUR_ALL, COMPARED, PACE, DYNAMICS.name, "place",
        "kind", "colour", "identity within shots",
    ),
    forest=(HOLD, BACKDROP, "completion", LOOK_ALL, PACE),
    order=(TRUTH, *extension_arms.ARMS),
    detail=(*by_shot(("completion", "kind"), range(1, chains.SIZES[-1] + 1)), FLOOR),
    less=frozenset({JUMP, LEVELS, BACKDROP, COLOUR_ALL}),
    neither=frozenset({FLOOR}),
    trade_offs=((HOLD, "completion"), (HOLD, PACE)),
)  # fmt: skip
LAYOUTS: Mapping[str, Layout] = {
    "steering": STEERING,
    "steering-tune": STEERING,
    "retry": RETRY,
    "cast": CAST,
    "cast-tune": CAST,
    "extension": EXTENSION,
    "extension-tune": EXTENSION,
}
"""By the benchmark's name."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One table: a class of items, the measures, and a row a method."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class Forest:
    """Differences to the baseline of one measure: by method, then by class of items."""

    title: str
    differences: Mapping[str, Mapping[str, Point]]


def compare(methods: Sequence[Method], layout: Layout) -> tuple[Comparison, ...]:
    """A table for every class of items; none without the baseline. Methods under other settings are left out."""
    baseline, ordered = _baseline(methods, layout), comparable(methods, layout)
    if baseline is None:
        return ()
    tables = [_comparison(baseline, ordered, group, layout, layout.columns) for group in _groups(baseline)]
    detail = [_comparison(baseline, ordered, ALL, layout, layout.detail)] if layout.detail else []
    return (*tables, *detail)


def forests(methods: Sequence[Method], layout: Layout) -> Iterator[Forest]:
    """The differences of every measure that is to be drawn."""
    baseline, ordered = _baseline(methods, layout), comparable(methods, layout)
    if baseline is None:
        return
    for metric in layout.forest:
        apart = {
            method.name: {
                group: Point(mean=one.mean, low=one.low, high=one.high)
                for group in _groups(baseline)
                if isinstance(one := _difference(method, baseline, metric, group), Interval)
            }
            for method in ordered
            if method is not baseline
        }
        if any(apart.values()):
            better = "less is better" if metric in layout.less else "more is better"
            yield Forest(title=f"{metric}: difference to {baseline.name}, {better}", differences=apart)


def comparable(methods: Sequence[Method], layout: Layout) -> tuple[Method, ...]:
    """The methods under the baseline's settings and seed, in the layout's order; none without the baseline."""
    baseline = _baseline(methods, layout)
    if baseline is None:
        return ()
    same = [method for method in methods if paired_with(baseline, method)]
    rank = {name: place for place, name in enumerate(layout.order)}
    return tuple(sorted(same, key=lambda method: (rank.get(method.name, len(rank)), method.name)))


def paired_with(one: Method, other: Method) -> bool:
    """Whether the same items of both methods were measured alike and began from the same noise."""
    return all(one.manifest[key] == other.manifest[key] for key in ("digest", "seed"))


def _baseline(methods: Sequence[Method], layout: Layout) -> Method | None:
    return next((method for method in methods if method.name == layout.baseline), None)


def _groups(baseline: Method) -> list[str]:
    """All items, then the classes that their rows name and that not all of them have."""
    named = sorted({name for row in baseline.rows for name in row["facts"].get("classes", ())})
    return [ALL, *(name for name in named if len(_inside(baseline, name)) < len(baseline.rows))]


def _comparison(
    baseline: Method, methods: Sequence[Method], group: str, layout: Layout, columns: Sequence[str]
) -> Comparison:
    count = len(_inside(baseline, group))
    measured = [metric for metric in columns if any(_outcomes(m, metric, group) for m in methods)]
    head = tuple(_head(metric, layout) for metric in measured)
    rows = tuple(
        (m.name, (*(_cell(m, baseline, metric, group) for metric in measured), _seconds(m, baseline, group)))
        for m in methods
    )
    title = f"{group}, {count} items; small: difference to {baseline.name} over the same items [95 %]"
    return Comparison(title=title, head=(*head, "seconds ↓"), rows=rows)


def _head(metric: str, layout: Layout) -> str:
    return metric if metric in layout.neither else f"{metric} {'↓' if metric in layout.less else '↑'}"


def _cell(method: Method, baseline: Method, metric: str, group: str) -> Cell:
    one = summarise(metric, list(_outcomes(method, metric, group).values()))
    if one.mean is None:
        return Cell(value="–", beside="; ".join(one.unmeasured))
    value = f"{one.mean:.3f}"
    short = f"n={one.count} of {one.total}" if one.count < one.total else ""
    apart = None if method is baseline else _difference(method, baseline, metric, group)
    bounds = "" if one.low is None else f"[{one.low:.3f}, {one.high:.3f}]"
    beside = signed(apart) if isinstance(apart, Interval) else bounds
    return Cell(value=value, beside=", ".join(filter(None, (beside, short))))


def signed(apart: Interval) -> str:
    """A difference with its interval, signs shown; a star where the interval leaves zero out and pairs are enough."""
    clear = "*" if apart.count >= PAIRS and (apart.low > 0 or apart.high < 0) else ""
    return f"{apart.mean:+.3f}{clear} [{apart.low:+.3f}, {apart.high:+.3f}]"


def _seconds(method: Method, baseline: Method, group: str) -> Cell:
    """Mean seconds an item took, and the median of the paired ratios."""
    ours, theirs = _spent(method, group), _spent(baseline, group)
    if not ours:
        return Cell(value="–")
    ratios = [ours[unit] / theirs[unit] for unit in ours if theirs.get(unit)]
    beside = f"× {median(ratios):.2f}" if ratios and method is not baseline else ""
    return Cell(value=f"{fmean(ours.values()):.2f}", beside=beside)


def _spent(method: Method, group: str) -> dict[str, float]:
    inside = _inside(method, group)
    known = {row["unit"]: [s for s in row["seconds"] if s is not None] for row in method.rows if row["unit"] in inside}
    return {unit: sum(seconds) for unit, seconds in known.items() if seconds}


def _inside(method: Method, group: str) -> set[str]:
    return {row["unit"] for row in method.rows if group == ALL or group in row["facts"].get("classes", ())}


def _outcomes(method: Method, metric: str, group: str) -> dict[str, Outcome]:
    inside = _inside(method, group)
    return {unit: outcome for unit, outcome in method.outcomes(metric).items() if unit in inside}


def _difference(method: Method, baseline: Method, metric: str, group: str) -> Interval | NotMeasured:
    return difference(_outcomes(method, metric, group), _outcomes(baseline, metric, group))
