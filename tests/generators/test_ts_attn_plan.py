"""Which words are lifted and lowered when: phrases, subjects and intervals of every kind."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from generators.clip import Event, ShotRequest
from generators.controls.base import Shot
from generators.controls.config import TSAttn
from generators.controls.ts_attn_flags import PRESETS, Flags
from generators.controls.ts_attn_plan import SubjectPlan, plan_subjects
from generators.errors import ControlRejected
from generators.models.base import Layout, Site
from generators.models.tiny import tiny_pipeline
from generators.timeline import Timeline
from generators.tokens import map_text

PROMPT = "A red fox jumps over the box, then the fox walks home while a cat sleeps and eats."


@cache
def tokenizer() -> Any:
    return tiny_pipeline("t2v-2.1").tokenizer


def event(phrase: str, start: float, end: float, subject: str = "fox", occurrence: int | None = None) -> Event:
    return Event(subject=subject, phrase=phrase, start=start, end=end, occurrence=occurrence)


FOX = (event("jumps over the box", 0, 1.0), event("walks home", 1.0, 2.125))


def shot(
    *events: Event, prompt: str = PROMPT, frames: int = 17, patch: tuple[int, int, int] = (1, 2, 2), lead: int = 0
) -> Shot:
    latents = (frames - 1) // 4 + 1
    layout = Layout(channels=16, frames=latents + lead, height=4, width=6, patch=patch, lead=lead)
    return Shot(
        request=ShotRequest(prompt=prompt, frames=frames, fps=8, width=48, height=32, seed=1, events=events or FOX),
        text=map_text(tokenizer(), prompt, 512),
        timeline=Timeline(frames=frames, fps=8),
        layout=layout,
        steps=10,
        sites=(Site(0, 1, "cross"),),
        device=torch.device("cpu"),
    )


def only(config: TSAttn, described: Shot) -> SubjectPlan:
    (plan,) = plan_subjects(config, described)
    return plan


def lifted(plan: SubjectPlan, described: Shot, events: tuple[Event, ...]) -> list[set[int]]:
    """For each row, whose first column is lifted."""
    first = {i: described.text.columns(e.phrase)[0] for i, e in enumerate(events)}
    columns = plan.columns.tolist()
    return [
        {i for i, column in first.items() if plan.lift[segment, columns.index(column)]}
        for segment in plan.segment.tolist()
    ]


def per_row(*owners: set[int]) -> list[set[int]]:
    return [mine for mine in owners for _ in range(6)]


def test_every_row_lifts_its_own_event_and_its_subject_and_lowers_the_others() -> None:
    described = shot()
    plan = only(TSAttn(), described)
    text = described.text
    jumps, walks = (set(text.columns(e.phrase)) for e in FOX)
    foxes = set(text.columns("fox")) | set(text.columns("fox", occurrence=1))
    assert set(plan.subject_columns.tolist()) == foxes
    for frame, (own, other) in enumerate([(jumps, walks)] * 3 + [(walks, jumps)] * 2):
        up = {c for c, on in zip(plan.columns.tolist(), plan.lift[frame].tolist(), strict=True) if on}
        down = {c for c, on in zip(plan.columns.tolist(), plan.lower[frame].tolist(), strict=True) if on}
        assert (up, down) == (own | foxes, other)


def test_events_with_one_phrase_stand_for_its_occurrences_in_order() -> None:
    events = (event("jumps", 0, 1), event("jumps", 1, 2.125))
    described = shot(*events, prompt="The fox jumps. The fox jumps.")
    plan = only(TSAttn(subject_tokens=False), described)
    first, second = described.text.columns("jumps"), described.text.columns("jumps", occurrence=1)
    assert plan.columns.tolist() == [*first, *second]
    assert plan.lift[0].tolist() == plan.lower[-1].tolist() == [1] * 5 + [0] * 5
    assert plan.lift[-1].tolist() == plan.lower[0].tolist() == [0] * 5 + [1] * 5


def test_a_chosen_occurrence_is_the_one_that_is_steered() -> None:
    prompt = "The fox jumps. The fox jumps."
    described = shot(event("jumps", 0, 2.125, occurrence=1), prompt=prompt)
    plan = only(TSAttn(subject_tokens=False), described)
    assert plan.columns.tolist() == list(described.text.columns("jumps", occurrence=1))
    with pytest.raises(ControlRejected, match="event 'jumps': expected occurrence 0 to 1, got 2"):
        only(TSAttn(), shot(event("jumps", 0, 2.125, occurrence=2), prompt=prompt))


def test_each_subject_has_its_own_events_in_its_own_time() -> None:
    cats = (event("sleeps", 0, 1.5, "cat"), event("eats", 1.5, 2.125, "cat"))
    described = shot(*FOX, *cats)
    fox, cat = plan_subjects(TSAttn(), described)
    assert lifted(fox, described, FOX) == per_row({0}, {0}, {0}, {1}, {1})
    assert lifted(cat, described, cats) == per_row({0}, {0}, {0}, {0}, {1})
    assert not set(fox.columns.tolist()) & set(cat.columns.tolist())


def test_the_last_subject_alone_acts_with_everyones_events_where_asked() -> None:
    plan = only(TSAttn(subjects="last"), shot(event("jumps over the box", 0, 1), event("sleeps", 1, 2.125, "cat")))
    text = shot().text
    assert set(plan.subject_columns.tolist()) == set(text.columns("cat"))
    assert set(text.columns("jumps over the box")) <= set(plan.columns.tolist())


@pytest.mark.parametrize(
    ("intervals", "owners"),
    [
        ("events", [{0}, {0}, {0}, {1}, {1}]),
        ("uniform", [{0}, {0}, {1}, {1}, {1}]),
        ((0.8, 0.2), [{0}, {0}, {0}, {0}, {1}]),
        ((0.99, 0.01), [{0}, {0}, {0}, {0}, {1}]),
    ],
)
def test_intervals_are_seconds_uniform_or_shares(intervals: Any, owners: list[set[int]]) -> None:
    described = shot()
    assert lifted(only(TSAttn(intervals=intervals), described), described, FOX) == per_row(*owners)


def test_events_given_in_frames_own_the_latent_frames_that_hold_them() -> None:
    clip = Timeline(frames=17, fps=8)
    first, second = clip.seconds_of(range(13)), clip.seconds_of(range(13, 17))
    events = (event(FOX[0].phrase, *first), event(FOX[1].phrase, *second))
    described = shot(*events)
    assert lifted(only(TSAttn(), described), described, events) == per_row({0}, {0}, {0}, {0}, {1})


def test_overlaps_are_shared_and_gaps_left_alone_where_asked() -> None:
    events = (event(FOX[0].phrase, 0, 1.2), event(FOX[1].phrase, 0.7, 1.5))
    described = shot(*events)
    one, shared = (only(TSAttn(ownership=o), described) for o in ("one", "shared"))
    assert lifted(one, described, events) == per_row({0}, {0}, {1}, {1}, {1})
    assert lifted(shared, described, events) == per_row({0}, {0}, {0, 1}, {1}, set())
    assert not shared.lift[-1].any()
    assert not shared.lower[-1].any()


def test_without_rearrangement_every_event_is_lifted_at_all_times() -> None:
    described = shot()
    plan = only(TSAttn(rearrangement=False), described)
    assert plan.lift.all()
    assert not plan.lower.any()


def test_a_column_of_two_events_is_lifted_or_has_both() -> None:
    events = (event("the fox walks", 0, 1), event("fox walks home", 1, 2.125))
    described = shot(*events)
    lift, add = (only(TSAttn(clash=c, subject_tokens=False), described) for c in ("lift", "add"))
    shared = [lift.columns.tolist().index(c) for c in described.text.columns("fox walks")]
    assert lift.lift[:, shared].all()
    assert not lift.lower[:, shared].any()
    assert add.lift[:, shared].all()
    assert add.lower[:, shared].all()


# ── token edges and the published offset ──


@given(st.integers(2, 5), st.lists(st.floats(0.1, 1), min_size=5, max_size=5))
def test_token_edges_round_shares_and_leave_the_rest_to_the_last(events: int, weights: list[float]) -> None:
    words = PROMPT.split()[:events]
    shares = tuple(w / sum(weights[:events]) for w in weights[:events])
    assume(sum(round(share * 30) for share in shares[:-1]) < 30)  # rounding may leave the last event nothing: refused
    told = tuple(event(word.strip(","), 0, 2) for word in words)
    plan = only(TSAttn(edges="token", intervals=shares), shot(*told))
    counts = [int((plan.segment == i).sum()) for i in range(events)]
    assert counts[:-1] == [round(share * 30) for share in shares[:-1]]
    assert sum(counts) == 30


def test_the_offset_reads_rows_from_the_number_of_the_event_on() -> None:
    plan = only(TSAttn(edges="token", statistics="offset", intervals=(0.5, 0.5)), shot())
    assert plan.source is not None
    assert plan.source.tolist() == [*range(15), *range(1, 16)]


def test_token_edges_refuse_events_that_do_not_follow_each_other() -> None:
    with pytest.raises(ControlRejected, match="expected events that follow each other"):
        only(TSAttn(preset="official"), shot(event(FOX[0].phrase, 0, 2.1), event(FOX[1].phrase, 1, 2.1)))


# ── grids that are not one step a latent frame ──


def test_padding_in_front_and_steps_of_two_latent_frames_keep_events_in_their_time() -> None:
    described = shot(patch=(2, 2, 2), lead=1)
    plan = only(TSAttn(), described)
    assert described.layout.grid[0] == len(plan.lift) == 3
    assert lifted(plan, described, FOX) == per_row({0}, {0}, {1})


def test_an_event_lost_between_the_steps_of_a_coarse_grid_is_refused() -> None:
    events = (FOX[0], event("walks", 1.0, 1.3), event("home", 1.3, 2.125))
    described = shot(*events, patch=(5, 2, 2))
    with pytest.raises(ControlRejected, match="event 'jumps over the box' .* holds no whole latent frame"):
        only(TSAttn(), described)


@given(st.data())
def test_any_intervals_give_every_event_rows_and_every_row_one_event(data: st.DataObject) -> None:
    words = ["jumps", "over", "walks", "home", "sleeps"]
    count = data.draw(st.integers(1, 5))
    moments = st.floats(0, 2.0, allow_nan=False)
    starts = data.draw(st.lists(moments, min_size=count, max_size=count))
    lengths = data.draw(st.lists(st.floats(0.01, 1), min_size=count, max_size=count))
    events = tuple(
        event(word, a, min(a + length, 2.125)) for word, a, length in zip(words[:count], starts, lengths, strict=True)
    )
    described = shot(*events)
    rows = lifted(only(TSAttn(subject_tokens=False), described), described, events)
    assert all(len(mine) == 1 for mine in rows)
    assert set().union(*rows) == set(range(count))


# ── search by ids ──


def test_a_search_by_ids_marks_every_place() -> None:
    events = (event("fox", 0, 1), event("walks home", 1, 2.125))
    plan = only(TSAttn(search="ids", subject_tokens=False), shot(*events))
    text = shot().text
    both = {*text.columns("fox"), *text.columns("fox", occurrence=1)}
    assert both | set(text.columns("walks home")) == set(plan.columns.tolist())


def test_a_search_by_ids_that_misses_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ControlRejected, match=r"event 'walked home'.*did you mean 'walks home'"):
        only(TSAttn(search="ids"), shot(event("walked home", 0, 2)))


def test_a_search_by_ids_knows_no_occurrence() -> None:
    for config in (TSAttn(search="ids"), TSAttn(preset="official", intervals="uniform")):
        with pytest.raises(ControlRejected, match=r"search='ids' .* no occurrence for event 'fox', got 1; use search"):
            plan_subjects(config, shot(event("walks home", 0, 1), event("fox", 1, 2, occurrence=1)))


# ── subjects in any case ──

MIXED = "The fox jumps over the box, then the fox walks home."
TWO = (event("jumps over the box", 0, 1, "The fox"), event("walks home", 1, 2.125, "the fox"))


def test_a_subject_in_another_case_is_the_same_one_and_every_mention_is_its_own() -> None:
    described = shot(*TWO, prompt=MIXED)
    plan = only(TSAttn(), described)
    mentions = (*described.text.columns("The fox"), *described.text.columns("the fox"))
    assert plan.subject == "The fox"
    assert tuple(plan.subject_columns.tolist()) == mentions
    assert lifted(plan, described, TWO) == per_row({0}, {0}, {0}, {1}, {1})


def test_a_search_by_ids_keeps_subjects_of_another_case_apart_as_published() -> None:
    described = shot(*TWO, prompt=MIXED)
    apart = plan_subjects(TSAttn(search="ids"), described)
    assert [plan.subject for plan in apart] == ["The fox", "the fox"]
    assert tuple(apart[0].subject_columns.tolist()) == described.text.columns("The fox")
    last = only(TSAttn(preset="official", intervals="uniform"), described)
    assert tuple(last.subject_columns.tolist()) == described.text.columns("the fox")


# ── settings ──


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "TSAttn.steps: expected a share"),
        ({"steps": 1.5}, "TSAttn.steps: expected a share"),
        ({"picture_steps": 2}, "TSAttn.picture_steps: expected a share"),
        ({"steps": True}, "TSAttn.steps: expected a share"),
        ({"strength": 0}, "TSAttn.strength: expected more than 0"),
        ({"strength": float("inf")}, "TSAttn.strength: expected more than 0, got inf"),
        ({"strength": True}, "TSAttn.strength: expected more than 0, got True"),
        ({"intervals": (0.5, float("nan"))}, "add up to 1"),
        ({"intervals": (float("nan"), 0.5)}, "add up to 1"),
        ({"preset": "published"}, "TSAttn.preset: expected one of 'default', 'official', 'paper'"),
        ({"intervals": "even"}, "TSAttn.intervals: expected one of"),
        ({"intervals": (0.5, 0.2)}, "add up to 1"),
        ({"intervals": (1.2, -0.2)}, "shares above 0"),
        ({"region": False, "erosion": "full"}, "erosion='full' would change nothing: region=False"),
        ({"reinforcement": False, "lowered": "mirrored"}, "lowered='mirrored' would change nothing"),
        ({"rearrangement": False, "clash": "add"}, "clash='add' would change nothing"),
        ({"rearrangement": False, "intervals": "uniform"}, "TSAttn.intervals would change nothing"),
        ({"ownership": "shared", "edges": "token"}, "divides the clip by shares"),
        ({"preset": "official", "ownership": "shared", "edges": "frame"}, "use statistics='own'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_by_name(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TSAttn(**wrong)


FLAGS = (
    "probe",
    "region_map",
    "threshold",
    "erosion",
    "lowered",
    "statistics",
    "subjects",
    "layers",
    "edges",
    "search",
)


@pytest.mark.parametrize("flag", [*FLAGS, "ownership", "clash", "region", "padding", "subject_tokens"])
def test_a_flag_of_no_allowed_value_is_refused_by_name(flag: str) -> None:
    with pytest.raises(ValueError, match=f"TSAttn.{flag}: expected one of .*, got 'x'"):
        TSAttn(**{flag: "x"})


def test_a_flag_stands_in_the_place_of_its_presets_and_survives_replacing() -> None:
    assert TSAttn().flags == Flags()
    mixed = TSAttn(preset="paper", layers="odd")
    assert mixed.flags == replace(PRESETS["paper"], layers="odd")
    assert replace(mixed, steps=0.35).flags == mixed.flags
    assert replace(mixed, preset="official").flags == PRESETS["official"]


def test_shares_for_another_number_of_events_are_refused() -> None:
    with pytest.raises(ControlRejected, match="expected a share for each of 2 events .*, got 3"):
        only(TSAttn(intervals=(0.2, 0.3, 0.5)), shot())


def test_a_subject_of_a_raw_prompt_is_found_as_it_stands_there() -> None:
    prompt = "The fox\u2019s cub jumps, then the fox\u2019s cub walks."
    events = (event("jumps", 0, 1.0, "fox\u2019s cub"), event("walks", 1.0, 2.125, " fox\u2019s cub"))
    described = shot(*events, prompt=prompt)
    described = replace(described, text=map_text(tokenizer(), prompt, 512, clean=False))
    plan = only(TSAttn(), described)
    mentions = [described.text.columns("fox\u2019s cub", occurrence=k) for k in (0, 1)]
    assert plan.subject_columns.tolist() == sorted({column for columns in mentions for column in columns})
