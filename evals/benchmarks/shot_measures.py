"""How the measures of sets and chains of shots are called, and which of them are points of a curve.

Names alone: tables and reports are laid out by them without loading what measures. Knows no clip.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from evals.benchmarks.protocol import ALL, Judged, Line, lines_by_class
from evals.metrics.consistency import GATE
from evals.metrics.flow import DynamicDegree

LOOK, LOOK_ALL = "look kept across shots", "look kept across shots, ungated"
COLOUR, COLOUR_ALL = "colour drift (CIELAB)", "colour drift (CIELAB), ungated"
COMPARED, PACE, FLOOR = "shots compared", "displacement (px/s)", "completion of another shot"
JUMP, LEVELS, HOLD = "seam jump (medians)", "seam jump (levels)", "seams that hold"
BACKDROP = "backdrop drift (levels)"
DYNAMICS = DynamicDegree()
GATES: Mapping[str, float] = {LOOK: GATE, LOOK_ALL: 0.0}
"""How well its own shot must show what it promised for an appearance to be compared."""
DRIFTS: Mapping[str, float] = {COLOUR: GATE, COLOUR_ALL: 0.0}

Points = Mapping[str, tuple[str, str]]
"""Measures that are points of a curve: by name, the curve's measure and the place on it, as tables name groups."""


def apart(name: str, distance: int) -> str:
    """The measure over pairs of shots that are so far apart."""
    return f"{name}, {distance} apart"


def of_shot(name: str, number: int) -> str:
    """The measure of the shots with this number; of a seam, the shot that begins with it."""
    return f"{name}, shot {number}"


def by_distance(names: Iterable[str], shots: int) -> Points:
    """The measures over pairs of so many shots, by distance."""
    return {apart(name, away): (name, f"distance {away}") for name in names for away in range(1, shots)}


def by_shot(names: Iterable[str], numbers: Iterable[int]) -> Points:
    """The measures of shots by their number."""
    listed = list(numbers)
    return {of_shot(name, number): (name, f"shot {number}") for name in names for number in listed}


def class_of(size: int) -> str:
    """The class of sets and chains of so many shots."""
    return f"{size} shots"


def lines_by_size(judged: Sequence[Judged], sizes: Sequence[int], points: Points) -> list[Line]:
    """Over all, by size, and `points` over all under the name of their curve."""
    found: list[Line] = []
    for line in lines_by_class(judged, [class_of(size) for size in sorted(set(sizes))]):
        if line.summary.metric not in points:
            found.append(line)
        elif line.group == ALL:
            metric, place = points[line.summary.metric]
            found.append(Line(group=place, summary=replace(line.summary, metric=metric)))
    return found
