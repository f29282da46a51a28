"""What a metric is: a clip and its case to a score, or to "not measured" with the reason; and how many become one line.

An item that could not be measured is counted and named, never a zero and never left out in silence. Knows no model
and no benchmark.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from evals.metrics.bootstrap import Interval, interval, paired
from generators.clip import Frames


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a clip was to show, and where it stands in its benchmark."""

    name: str
    prompt: str
    events: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    group: str = ""
    """Shots of one story share it."""
    shot: int = 0
    """Its place in the group."""
    subject: str = ""
    spec: Mapping[str, str] = field(default_factory=dict)
    """What only its own benchmark understands."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """A number read from one clip. `details` are further numbers of the same reading, by name."""

    value: float
    details: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"Score.value: expected a finite number, got {self.value}; say NotMeasured instead")


@dataclass(frozen=True, kw_only=True)
class NotMeasured:
    """Why there is no number."""

    reason: str


Outcome = Score | NotMeasured
NOTHING: Mapping[str, int] = MappingProxyType({})


@runtime_checkable
class Metric(Protocol):
    """Reads one clip. A clip it cannot read is NotMeasured; missing infrastructure found late raises."""

    @property
    def name(self) -> str:
        """What the tables call it, with its variant: two numbers compare only under one name."""
        ...

    @property
    def higher_is_better(self) -> bool | None:
        """None where neither end is better."""
        ...

    def measure(self, frames: Frames, fps: float, case: Case) -> Outcome:
        """Frames (T, H, W, 3) uint8 RGB at `fps` frames a second."""
        ...


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One metric over many items. `mean`, `error` and the bounds are None when none could be measured.

    `error` is the standard error of the mean over items (None for one); `low` and `high` bound the mean with 95 %
    confidence (None for one, and where all are alike); `unmeasured` counts items by the reason they have no number.
    """

    metric: str
    mean: float | None
    error: float | None
    low: float | None
    high: float | None
    total: int
    count: int
    unmeasured: Mapping[str, int]
    note: str = ""
    """What must be read beside the number, such as that there were too few items."""

    def __str__(self) -> str:
        if self.mean is None:
            return f"not measured ({', '.join(self.unmeasured) or 'no items'})"
        spread = "" if self.error is None else f" ± {self.error:.3f}"
        said = f"; {self.note}" if self.note else ""
        return f"{self.mean:.3f}{spread} (n={self.count} of {self.total}{said})"

    @property
    def beside(self) -> str:
        """Its small print: what was not measured, how often and why, and the note."""
        why = [f"{count} not measured: {reason}" for reason, count in self.unmeasured.items()]
        return "; ".join([*why, *([self.note] if self.note else [])])


def summarise(metric: str, outcomes: Sequence[Outcome], seed: int = 0) -> Summary:
    """Mean ± standard error and an interval over the items that could be measured.

    Bounds are a seeded bootstrap's. Where all items are alike it would close, and there are none.
    """
    values = [one.value for one in outcomes if isinstance(one, Score)]
    reasons = Counter(one.reason for one in outcomes if isinstance(one, NotMeasured))
    over = interval(values, seed=seed) if len(set(values)) > 1 else None
    return Summary(
        metric=metric,
        mean=math.fsum(values) / len(values) if values else None,
        error=standard_error(values),
        low=None if over is None else over.low,
        high=None if over is None else over.high,
        total=len(outcomes),
        count=len(values),
        unmeasured=dict(sorted(reasons.items())),
    )


def together(
    metric: str,
    found: Outcome,
    count: int,
    note: str = "",
    *,
    error: float | None = None,
    absent: Mapping[str, int] = NOTHING,
) -> Summary:
    """A number that belongs to `count` items at once, such as a distance of two crowds, so it has no bounds.

    `absent` counts the items that are not among them, by reason.
    """
    missing = isinstance(found, NotMeasured)
    unmeasured = Counter(absent)
    if isinstance(found, NotMeasured) and count:
        unmeasured[found.reason] += count
    return Summary(
        metric=metric,
        mean=None if isinstance(found, NotMeasured) else found.value,
        error=error,
        low=None,
        high=None,
        total=count + sum(absent.values()),
        count=0 if missing else count,
        unmeasured=dict(sorted(unmeasured.items())),
        note=note,
    )


def standard_error(values: Sequence[float]) -> float | None:
    """Sample deviation over the root of the count; None for fewer than two values."""
    count = len(values)
    if count < 2:
        return None
    mean = math.fsum(values) / count
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1) / count)


def difference(ours: Mapping[str, Outcome], theirs: Mapping[str, Outcome], seed: int = 0) -> Interval | NotMeasured:
    """Paired interval of `ours - theirs` over the items that both measured, by item name; two at least."""
    pairs = [
        (one.value, other.value)
        for name, one in ours.items()
        if isinstance(one, Score) and isinstance(other := theirs.get(name), Score)
    ]
    if len(pairs) < 2:
        return NotMeasured(reason="one item alone" if pairs else "no item was measured for both methods")
    return paired([a for a, _ in pairs], [b for _, b in pairs], seed=seed)
