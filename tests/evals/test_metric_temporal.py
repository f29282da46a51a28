"""TempoControl's accuracies, against the published rules and lists."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from evals.metrics.temporal import ALIASES, ENTRIES, one_object, onset_hits, read_mask, two_objects


def mask(onset: int) -> list[int]:
    return [int(i >= onset) for i in range(ENTRIES)]


def test_an_object_that_is_always_there_is_right_ten_of_21_times_over_the_four_onsets() -> None:
    found = [one_object(mask(onset), [True] * ENTRIES).accuracy for onset in (5, 9, 13, 17)]
    assert found == [16 / 21, 12 / 21, 8 / 21, 4 / 21]
    assert np.mean(found) == pytest.approx(10 / 21)


def test_presence_and_absence_are_told_apart() -> None:
    found = one_object([0, 0, 1, 1], [True, False, True, True])
    assert (found.accuracy, found.present, found.absent) == (0.75, 1.0, 0.5)
    assert one_object([1, 1], [True, False]).absent is None


def test_two_objects_need_the_constant_one_throughout() -> None:
    timed = [False, False, True, True]
    assert two_objects([0, 0, 1, 1], [True] * 4, timed).accuracy == 1
    assert two_objects([0, 0, 1, 1], [True, False, True, False], timed).accuracy == 0.5
    assert two_objects([0, 0, 1, 1], [True] * 4, [True] * 4).accuracy == 0.5


def test_masks_are_read_strictly() -> None:
    assert read_mask("0 1 1") == (0, 1, 1)
    for broken in ("", "0 2", "0,1"):
        with pytest.raises(ValueError, match="0 and 1"):
            read_mask(broken)
    with pytest.raises(ValueError, match="one answer an entry"):
        one_object([0, 1], [True])


def slow_hits(envelope: list[float], energy: list[float]) -> float:
    """Entry by entry: a peak starts where it rises (or the list begins) and ends where it falls (or the list ends)."""

    def peaks(values: list[float]) -> list[range]:
        found, mean = [], sum(values) / len(values)
        for first in range(len(values)):
            last = first
            while last + 1 < len(values) and values[last + 1] == values[first]:
                last += 1
            rises = first == 0 or values[first - 1] < values[first]
            falls = last == len(values) - 1 or values[last + 1] < values[first]
            if rises and falls and values[first] > mean:
                found.append(range(first, last + 1))
        return found

    met = [any(abs(i - j) <= 1 for mine in peaks(energy) for i in mine for j in asked) for asked in peaks(envelope)]
    return sum(met) / len(met)


def test_every_peak_of_a_sound_is_met_or_missed_within_an_entry() -> None:
    assert onset_hits([0, 0, 1, 0, 0], [0.1, 0.2, 0.3, 0.9, 0.1])[1] == 1
    assert onset_hits([1, 0, 0, 0, 0], [0.1, 0.2, 0.3, 0.9, 0.1])[1] == 0
    twice = [0, 9, 0, 0, 0, 0, 5, 0, 0]  # the second peak counts as much as the greatest
    assert onset_hits(twice, [0, 0, 3, 0, 0, 0, 0, 0, 0])[1] == 0.5
    assert onset_hits(twice, [0, 0, 3, 0, 0, 2, 0, 0, 0])[1] == 1
    assert onset_hits(twice, [0, 0, 0, 3, 2, 1, 0, 0, 0])[1] == 0
    assert onset_hits([0, 1], [0.0, 5.0])[0] == pytest.approx(1)
    assert onset_hits([1, 1], [0.0, 5.0]) == (None, None)


@pytest.mark.parametrize("seed", range(40))
def test_the_hit_rate_agrees_with_a_slow_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    envelope, energy = (rng.integers(0, 4, 21).astype(float).tolist() for _ in range(2))
    pearson, hits = onset_hits(envelope, energy)
    assert hits == pytest.approx(slow_hits(envelope, energy))
    assert pearson == pytest.approx(np.cov(envelope, energy)[0, 1] / np.std(envelope, ddof=1) / np.std(energy, ddof=1))


def test_aliases_make_every_row_of_the_released_list_visible_to_a_detector() -> None:
    folder = Path(os.environ.get("FABULA_EVAL_DATA", Path(__file__).parents[3] / "shared" / "data")) / "tempocontrol"
    if not (folder / "two_objects.csv").is_file():
        pytest.skip("the released lists are not here; FABULA_EVAL_DATA names their folder")
    with (folder / "one_object.csv").open() as file:
        vocabulary = {row["temp_object"].lower() for row in csv.DictReader(file)}
    with (folder / "two_objects.csv").open() as file:
        rows = [(r["temp_object"].lower(), r["static_object"].lower()) for r in csv.DictReader(file)]
    assert len(vocabulary) == 80
    blind = [row for row in rows if set(row) - vocabulary]
    assert len(blind) == 17
    assert not {ALIASES.get(word, word) for row in rows for word in row} - vocabulary
    stuck = sum(row[1] not in vocabulary for row in blind)
    ceiling = (len(rows) - len(blind) + 10 / 21 * (len(blind) - stuck)) / len(rows)
    assert (stuck, round(100 * ceiling, 1)) == (12, 82.2)
