"""Small questions to a curve over time: where does it move, when did an eased movement begin and end.

Pure arithmetic; knows nothing of puppets. A *run* is (first, last), indices of the samples between which a curve
keeps going one way.
"""

from __future__ import annotations

import numpy as np

from evals.world.detectors import Curve

Run = tuple[int, int]
_LOW, _HIGH = 0.2, 0.8
_U_LOW = 0.28714
"""Where smoothstep 3u^2 - 2u^3 passes a fifth; it passes four fifths at 1 - _U_LOW."""


def crossing(times: Curve, values: Curve, level: float, first: int, last: int) -> float:
    """The first time between two samples at which the curve passes `level`; the nearer end when it never does."""
    return _crossing(times, values, level, range(first, last), last)


def last_crossing(times: Curve, values: Curve, level: float, first: int, last: int) -> float:
    """The last such time."""
    return _crossing(times, values, level, range(last - 1, first - 1, -1), last)


def _crossing(times: Curve, values: Curve, level: float, steps: range, last: int) -> float:
    for i in steps:
        a, b = values[i] - level, values[i + 1] - level
        if a * b <= 0 and a != b:
            return float(times[i] + (times[i + 1] - times[i]) * a / (a - b))
    first = min([*steps, last])
    return float(times[first] if abs(values[first] - level) < abs(values[last] - level) else times[last])


def eased(times: Curve, values: Curve, first: int, last: int, start: float, end: float) -> tuple[float, float]:
    """Start and end in seconds of a smoothstep from value `start` to `end`, judged by its middle three fifths.

    Never more than a sample outside the samples `first` to `last`; that sample alone when they are one.
    """
    if first >= last:
        return float(times[last]), float(times[last])
    high = crossing(times, values, start + _HIGH * (end - start), first, last)
    until = int(np.searchsorted(times, high - 1e-9))
    low = last_crossing(times, values, start + _LOW * (end - start), first, max(min(until, last), first + 1))
    length = max(high - low, 1e-3) / (1 - 2 * _U_LOW)
    begin = low - _U_LOW * length
    margin = float(times[1] - times[0]) * 1.2
    return max(begin, float(times[first]) - margin), min(begin + length, float(times[last]) + margin)


def runs(values: Curve, still: float) -> list[Run]:
    """Maximal stretches that go one way; steps below `still` are rest, and one of them does not end a run."""
    steps = np.diff(values)
    way = np.where(np.abs(steps) < still, 0, np.sign(steps)).astype(int)
    found: list[Run] = []
    first, last, going = 0, -1, 0
    for i, now in enumerate([*way, 2]):
        goes_on = going != 0 and (now == going or (now == 0 and i - last < 2))
        if not goes_on:
            if going != 0:
                found.append((first, last + 1))
            first, going = i, now
        if now == going and going != 0:
            last = i
    return found


def pieces(values: Curve, run: Run, least: float) -> list[Run]:
    """The run cut at its clear slow-downs, where both sides still travel at least `least`; [run] without one."""
    first, last = run
    speed = np.abs(np.diff(values[first : last + 1]))
    best: int | None = None
    for k in range(1, len(speed) - 1):
        before, after = abs(values[first + k] - values[first]), abs(values[last] - values[first + k + 1])
        slow = speed[k] < 0.45 * min(speed[:k].max(), speed[k + 1 :].max())
        if slow and before >= least and after >= least and (best is None or speed[k] < speed[best]):
            best = k
    if best is None:
        return [run]
    cut = first + best
    return [*pieces(values, (first, cut), least), *pieces(values, (cut + 1, last), least)]


def stretches(flags: np.ndarray) -> list[Run]:
    """(first, last) of every stretch of true samples."""
    edges = np.diff(np.concatenate([[0], flags.astype(int), [0]]))
    return [(int(a), int(b) - 1) for a, b in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True)]
