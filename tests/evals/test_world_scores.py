"""Order, time and bleeding of events, on judgements made by hand: against loops, SciPy and matrices one can read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from evals.world.controls import film
from evals.world.events import AUTOMATA, Promise
from evals.world.scores import (
    SOON,
    ClipJudgement,
    EventJudgement,
    allen,
    firing,
    frame_accuracy,
    in_order,
    judge_clip,
    leak,
    mean_iou,
    onset_error,
    prefix,
    relation,
    strict,
    tau,
    timing,
)
from evals.world.settings import CRITIC, SCORE, Setting
from evals.world.sightings import Seen, View, kept
from evals.world.splits import cases
from generators.world.script import Actor, Script, ScriptEvent
from generators.world.words import FPS

Span = tuple[float, float]
JUMP, SPIN, GROW = (Promise(verb=verb, hue="red") for verb in ("jump", "spin", "grow"))
ONSETS = st.lists(st.one_of(st.none(), st.integers(0, 80).map(lambda n: n / 10)), min_size=2, max_size=5)


def judged(
    *events: tuple[Span, Span | None],
    promises: Sequence[Promise] = (),
    sights: Sequence[Sequence[Span]] | None = None,
) -> ClipJudgement:
    """A clip of (promised window, span seen or None) events; `sights` are all of each event, by default that span."""
    spans = [[seen] if seen else [] for _, seen in events] if sights is None else sights
    return ClipJudgement(
        setting="by hand",
        seconds=max(window[1] for window, _ in events) + 1,
        events=tuple(
            EventJudgement(
                promise=promises[number] if promises else (JUMP, SPIN, GROW)[number % 3],
                window=window, done=seen is not None, same_look=True, confidence=1.0, evidence="",
                start=seen[0] if seen else None, end=seen[1] if seen else None, sights=tuple(spans[number]),
            )
            for number, (window, seen) in enumerate(events)
        ),
        actors=(), intruders=(), place=True, time=True, sharpness=1.0, backdrop_misfit=0.0,
    )  # fmt: skip


def from_onsets(onsets: Sequence[float | None]) -> ClipJudgement:
    """Events a second apart, each seen for a second from its onset, or not done."""
    return judged(*(((n, n + 1.0), None if at is None else (at, at + 1.0)) for n, at in enumerate(onsets)))


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        ((0.0, 1.0), (2.0, 3.0), "before"),
        ((2.0, 3.0), (0.0, 1.0), "after"),
        ((0.0, 1.0), (1.0, 2.0), "before"),
        ((0.0, 1.0), (1.0 - SOON, 2.0), "before"),
        ((0.0, 2.0), (1.0, 3.0), "during"),
        ((0.0, 3.0), (1.0, 2.0), "during"),
        ((1.0, 2.0), (1.0, 2.0), "during"),
        ((1.0, 2.0), (0.0, 1.5), "during"),
    ],
)
def test_relations_in_time_are_before_during_and_after(one: Span, other: Span, found: str) -> None:
    assert relation(one, other) == found
    back = {"before": "after", "after": "before", "during": "during"}
    assert one == other or relation(other, one) == back[found]


def test_allen_counts_the_pairs_that_stand_as_promised() -> None:
    promised = ((0.0, 1.0), (1.0, 2.0), (2.0, 3.0))
    assert allen(judged(*((window, window) for window in promised))) == 1.0
    together = [(0.0, 1.0), (0.1, 1.1), (2.0, 3.0)]
    assert allen(judged(*zip(promised, together, strict=True))) == pytest.approx(2 / 3)
    backwards = [(4.0, 5.0), (2.0, 3.0), (0.0, 1.0)]
    assert allen(judged(*zip(promised, backwards, strict=True))) == 0.0
    assert allen(judged((promised[0], promised[0]), (promised[1], None), (promised[2], promised[2]))) == 1.0
    assert allen(judged((promised[0], promised[0]), (promised[1], None))) is None
    overlapping = ((0.0, 2.0), (1.0, 3.0))
    assert allen(judged(*((window, window) for window in overlapping))) == 1.0
    assert allen(judged((overlapping[0], (0.0, 1.0)), (overlapping[1], (2.0, 3.0)))) == 0.0


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_tau_is_kendalls_over_the_events_that_were_done(order: tuple[int, ...]) -> None:
    onsets: list[float | None] = [float(n) for n in order]
    expected = float(kendalltau(range(4), order).statistic)
    assert tau(from_onsets(onsets)) == pytest.approx(expected)
    assert tau(from_onsets([*onsets[:2], None, *onsets[2:]])) == pytest.approx(expected)


def test_onsets_at_once_are_neither_in_order_nor_out_of_it() -> None:
    assert tau(from_onsets([1.0, 1.0])) == 0
    assert tau(from_onsets([1.0, 1.0, 2.0])) == pytest.approx(2 / 3)
    assert tau(from_onsets([1.0, None])) is None


@given(ONSETS)
def test_order_prefix_and_strict_completion_agree_with_slow_loops(onsets: list[float | None]) -> None:
    clip = from_onsets(onsets)
    count, before = 0, -np.inf
    for onset in onsets:
        if onset is None or onset < before - SOON:
            break
        count, before = count + 1, onset
    assert prefix(clip) == count / len(onsets)
    assert in_order(clip) is (count == len(onsets))
    in_time = [
        onset is not None and all(onset >= earlier - SOON for earlier in onsets[:n] if earlier is not None)
        for n, onset in enumerate(onsets)
    ]
    assert strict(clip) == sum(in_time) / len(onsets)


def test_an_onset_may_come_too_early_by_soon_and_by_no_more() -> None:
    at_most = 2.0 - SOON
    for onset, fine in ((at_most, True), (np.nextafter(at_most, 0), False)):
        clip = from_onsets([2.0, float(onset)])
        assert (in_order(clip), prefix(clip), strict(clip)) == (fine, 1.0 if fine else 0.5, 1.0 if fine else 0.5)


def test_strict_completion_looks_at_all_earlier_events_and_prefix_ends_with_the_first_miss() -> None:
    clip = from_onsets([3.0, 1.0, 2.9, None, 4.0])
    assert (strict(clip), prefix(clip), in_order(clip)) == (3 / 5, 1 / 5, False)
    assert prefix(from_onsets([None, 1.0])) == 0
    assert in_order(from_onsets([1.0])) is None


def test_times_are_compared_over_done_events_alone() -> None:
    clip = judged(((0, 2), (1, 3)), ((2, 4), (2, 4)), ((4, 6), None), ((6, 8), (7, 8)))
    assert mean_iou(clip) == pytest.approx((1 / 3 + 1 + 1 / 2) / 3)
    assert timing(clip) == pytest.approx(2 / 3)  # an overlap of exactly a half counts
    assert onset_error(clip) == pytest.approx((1 + 0 + 1) / 3)
    nothing = judged(((0, 2), None))
    assert (mean_iou(nothing), timing(nothing), onset_error(nothing)) == (None, None, None)


def test_frame_accuracy_is_the_share_of_moments_that_show_an_event_exactly_where_it_was_promised() -> None:
    clip = judged(((0, 2), (1, 3)), ((2, 4), None), ((4, 5), (4, 5)))
    shares = []
    for event in clip.events:
        right, moments, at = 0, 0, 0.0
        while at < clip.seconds:
            asked = event.window[0] <= at < event.window[1]
            shown = event.start is not None and event.end is not None and event.start <= at < event.end
            right, moments, at = right + (asked == shown), moments + 1, at + 1 / FPS
        shares.append(right / moments)
    assert shares == [4 / 6, 4 / 6, 1]
    assert frame_accuracy(clip) == pytest.approx(np.mean(shares), abs=1e-12)


WINDOWS: tuple[Span, ...] = ((0.5, 1.5), (2.5, 3.5), (4.5, 6.0))


@pytest.mark.parametrize(
    ("sights", "matrix", "leaked"),
    [
        ([[(0.5, 1.5)], [(2.5, 3.5)], [(4.5, 6.0)]], [[1, 0, 0], [0, 1, 0], [0, 0, 1]], 0.0),
        ([[(0.5, 1.5), (2.4, 3.4)], [(2.5, 3.5)], []], [[1, 1, 0], [0, 1, 0], [0, 0, 0]], 1 / 3),
        ([[(2.5, 3.5)], [], []], [[0, 1, 0], [0, 0, 0], [0, 0, 0]], 1.0),
        ([[(1.0, 2.9)], [(1.0, 3.1)], [(0.0, 0.1), (7.0, 9.0)]], [[1, 0, 0], [0, 1, 0], [1, 0, 1]], 1 / 4),
        ([[(0.5, 0.9), (1.0, 1.5)], [(4.4, 5.0), (5.1, 6.0)], []], [[1, 0, 0], [0, 0, 1], [0, 0, 0]], 1 / 2),
        ([[], [], []], [[0, 0, 0]] * 3, None),
    ],
    ids=["in its own", "also elsewhere", "only elsewhere", "by its greater part", "once a segment", "nothing"],
)
def test_leak_is_the_firing_off_the_diagonal(
    sights: list[list[Span]], matrix: list[list[int]], leaked: float | None
) -> None:
    clip = judged(*((window, None) for window in WINDOWS), sights=sights)
    assert firing(clip).astype(int).tolist() == matrix
    assert leak(clip) == (None if leaked is None else pytest.approx(leaked))


def test_an_event_that_is_promised_twice_leaks_into_neither_of_its_segments() -> None:
    both = [WINDOWS[0], WINDOWS[1]]
    clip = judged(*((window, None) for window in WINDOWS), promises=(JUMP, JUMP, SPIN), sights=[both, both, []])
    assert leak(clip) == 0
    assert leak(judged((WINDOWS[0], WINDOWS[0]))) is None  # one segment has nothing beside it


def story(*jumps: float) -> Script:
    """A red fox that jumps at these seconds."""
    return Script(
        place="meadow", time="day", actors=(Actor(hue="red", kind="fox"),),
        events=tuple(ScriptEvent(verb="jump", actor=0, start=at, end=at + 1.0) for at in jumps),
    )  # fmt: skip


def promising(second: str) -> Script:
    """The fox jumps from 0.4 to 1.4 s, and does something else from 2.4 to 3.4 s."""
    told = story(0.4)
    other = ScriptEvent(verb=second, actor=0, start=2.4, end=3.4)
    return Script(place=told.place, time=told.time, actors=told.actors, events=(*told.events, other))


@pytest.mark.parametrize("setting", [CRITIC, SCORE], ids=lambda s: s.name)
@pytest.mark.parametrize(
    ("drawn", "promised", "leaked"),
    [
        ((0.4, 2.4), "spin", 0.5),
        ((2.4,), "spin", 1.0),
        ((0.4,), "spin", 0.0),
        ((0.4, 2.4), "jump", 0.0),
    ],
    ids=["in both segments", "in the wrong one", "in its own", "where both promise it"],
)
def test_an_event_drawn_in_another_events_time_leaks(
    setting: Setting, drawn: tuple[float, ...], promised: str, leaked: float
) -> None:
    clip = judge_clip(film(story(*drawn)), promising(promised), setting)
    assert leak(clip) == leaked


def test_sights_that_share_their_time_are_one_happening(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second begins in the first and lies mostly in the other event's segment; the third stands alone."""

    def three(view: View) -> list[Seen]:
        return [kept("jumps", start, end, view.scene, 2.0) for start, end in ((0.9, 3.4), (0.4, 1.4), (3.5, 3.9))]

    monkeypatch.setitem(AUTOMATA, "jump", three)
    clip = judge_clip(film(story(0.4)), promising("spin"))
    assert clip.events[0].sights == ((0.4, 1.4), (3.5, 3.9))
    assert firing(clip).tolist() == [[True, True], [False, False]]


@pytest.mark.slow
def test_rendered_truth_does_not_leak() -> None:
    told = [case.script for events in (2, 3) for case in cases("both", events, 8, seed=5)]
    assert [leak(judge_clip(film(script), script)) for script in told] == [0.0] * len(told)


@pytest.mark.parametrize("read", [tau, mean_iou, timing, onset_error, leak], ids=lambda read: read.__name__)
def test_what_nothing_was_seen_of_cannot_be_read(read: Callable[[ClipJudgement], float | None]) -> None:
    assert read(from_onsets([None, None])) is None
