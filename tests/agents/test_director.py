"""What the director films next, and why; all of it plain data."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from agents.controls import controls_json, read_controls
from agents.director import (
    LADDER,
    Repairs,
    best_take,
    choose,
    guided_in_time,
    leaves_nothing,
    retimed,
    rewording_is_next,
    strengthened,
)
from agents.profile import load_profile
from agents.storyboard import Subject
from agents.takespec import (
    Kept,
    Look,
    TakeSpec,
    around,
    axis_of,
    clip_frames,
    first_spec,
    next_spec,
    split_spec,
    subject_words,
    take_seed,
    window,
)
from generators.backends import BUNDLED_LIMITS
from generators.clip import Limits
from generators.controls.config import VSTAR, TempoControl, TSAttn, Word
from storage.records import EventPlan, ShotPlan, ShotRecord, TakeRecord
from storage.tables import Event, Remedy, Shot, Take, TakeStatus, Verdict

LIMITS = Limits(width=96, height=64, fps=8, frame_counts=(33, 65), extends=True)
LOOK = Look(limits=LIMITS, seed=7)
CAST = (Subject(name="Pim", description="the red fox"),)


def shot(*phrases: str, seconds: float = 4.0, transition: str = "cut") -> ShotRecord:
    told = [f"{'In the meadow by day, the' if i == 0 else 'Then the'} red fox {p}." for i, p in enumerate(phrases)]
    row = Shot(
        id=1,
        run_id=1,
        number=1,
        prompt=" ".join(told),
        subjects=["Pim"],
        seconds=seconds,
        transition=transition,
    )
    step = seconds / len(phrases)
    events = tuple(
        Event(id=n, shot_id=1, number=n, subject="Pim", phrase=p, start=(n - 1) * step, end=n * step)
        for n, p in enumerate(phrases, 1)
    )
    return ShotRecord(shot=row, events=events, first=row, promised=events)


def take(
    record: ShotRecord,
    number: int,
    seen: list[bool] | None,
    remedy: dict[str, Any] | None = None,
    quality: float = 0.5,
    spec: TakeSpec | None = None,
) -> TakeRecord:
    spec = spec or first_spec(record, CAST, LOOK)
    row = Take(
        id=number,
        shot_id=1,
        number=number,
        status=TakeStatus.DONE,
        seed=spec.seed,
        model="m",
        controls=controls_json(spec.controls),
        request=spec.to_json(),
        request_digest=str(number),
    )
    verdict = None
    if seen is not None:
        events = [{"done": done, "evidence": "", "confidence": 1.0, "start": None, "end": None} for done in seen]
        verdict = Verdict(take_id=number, critic="c", events=events, identity=1.0, quality=quality)
    kept = None
    if remedy is not None:
        kept = Remedy(shot_id=1, after_take_id=number, kind=remedy["kind"], changes=remedy["changes"], reason="r")
    return TakeRecord(take=row, shot=record.shot, verdict=verdict, remedy=kept)


TWO = shot("jumps up", "walks to the left")


def ladder(record: ShotRecord, seen: list[bool], reworded: ShotPlan | None, look: Look = LOOK) -> list[str]:
    """Kinds of remedies, one after the other, while the takes stay as bad."""
    history: list[TakeRecord] = []
    kinds: list[str] = []
    for number in range(1, 9):
        spec = next_spec(record, CAST, look, history) if history else None
        history.append(take(record, number, seen, spec=spec))
        choice = choose(record, history, look, reworded)
        kinds.append(choice.kind)
        made = Remedy(shot_id=1, after_take_id=number, kind=choice.kind, changes=choice.changes, reason=choice.reason)
        history[-1] = replace(history[-1], remedy=made)
    return kinds


def test_remedies_escalate_rung_by_rung_and_then_begin_with_new_seeds() -> None:
    other = replace(TWO.plan, prompt=TWO.plan.prompt.replace("jumps up", "leaps up"))
    assert ladder(TWO, [True, False], other) == [
        "reseed", "strengthen", "retime", "reword", "refilm", "split", "reseed", "reseed",
    ]  # fmt: skip


def test_the_box_has_takes_enough_for_the_window_of_the_event_that_failed() -> None:
    other = replace(TWO.plan, prompt=TWO.plan.prompt.replace("jumps up", "leaps up"))
    tried = ladder(TWO, [True, False], other, replace(LOOK, limits=BUNDLED_LIMITS))
    assert tried[:7] == ["reseed", "strengthen", "retime", "reword", "guide", "refilm", "split"]
    assert tried.index("refilm") < load_profile("bundled").budget.takes_per_shot - 1, "the first take needs no remedy"


def test_a_single_event_has_nothing_to_be_kept_apart_from_and_the_reason_says_so() -> None:
    one = shot("jumps up")
    assert ladder(one, [False], None)[:3] == ["reseed", "reseed", "reseed"]
    history = [take(one, 1, [False], {"kind": "reseed", "changes": {"controls": []}}), take(one, 2, [False])]
    reason = choose(one, history, LOOK, None).reason
    assert "'jumps up' not seen" in reason
    for rung in LADDER[1:]:
        assert f"{rung} passed over" in reason


def test_fewer_remedies_leave_new_noise_and_one_may_come_again() -> None:
    history = [
        take(TWO, 1, [True, False], {"kind": "refilm", "changes": {"controls": []}}),
        take(TWO, 2, [True, False]),
    ]
    assert choose(TWO, history, LOOK, None, repairs=Repairs(ladder=())).kind == "reseed"
    assert choose(TWO, history, LOOK, None, repairs=Repairs(ladder=("refilm", "split"))).kind == "split"
    assert choose(TWO, history, LOOK, None, repairs=Repairs(ladder=("refilm",), again=True)).kind == "refilm"
    assert rewording_is_next(TWO, history, LOOK, [1], Repairs(ladder=("reword",)))
    assert not rewording_is_next(TWO, history, LOOK, [1], Repairs(ladder=("split", "reword")))
    with pytest.raises(ValueError, match="expected some of reseed"):
        Repairs(ladder=("pray",))  # type: ignore[arg-type]


def test_a_take_longer_than_its_shot_has_its_events_later_and_a_lead_has_none() -> None:
    one = first_spec(TWO, CAST, LOOK)
    assert (one.seconds, one.promised_in(TWO)) == (33 / 8, [(0.0, 2.0625), (2.0625, 4.125)])
    halves = split_spec(one, 1, LOOK)
    assert halves is not None
    first, second = halves.promised_in(TWO)
    assert (halves.seconds, first[0], second[1]) == (halves.total_frames / 8, 0.0, halves.seconds)
    assert halves.seconds > 1.5 * one.seconds
    led = replace(one, lead=8)
    assert led.promised_in(TWO) == [(1.0, 2.5625), (2.5625, 4.125)]
    assert axis_of(TWO, None) == (4.0, [(0.0, 2.0), (2.0, 4.0)])


def test_a_named_event_is_filmed_again_in_its_window_first() -> None:
    choice = choose(TWO, [take(TWO, 1, [True, True])], LOOK, None, failed=[1])
    assert choice.kind == "refilm"
    assert choice.changes["window"] == [13, 33]


def test_a_backend_that_cannot_keep_frames_passes_the_window_over() -> None:
    look = replace(LOOK, limits=replace(LIMITS, extends=False))
    history = [
        take(TWO, 1, [True, False], {"kind": "reword", "changes": {"controls": []}}),
        take(TWO, 2, [True, False]),
    ]
    choice = choose(TWO, history, look, None)
    assert choice.kind == "reseed"
    assert "refilm passed over: this backend cannot keep finished frames" in choice.reason


def test_a_synopsis_is_what_the_frames_read_each_state_in_its_event() -> None:
    told = shot("jumps up", "spins around")
    told.shot.synopsis = ["The red fox jumps up.", "The red fox spins around."]
    look = replace(LOOK, style="in oil")
    spec = first_spec(told, CAST, look)
    (vstar,) = spec.controls
    assert isinstance(vstar, VSTAR)
    assert vstar.synopsis == ("The red fox jumps up. Style: in oil.", "The red fox spins around. Style: in oil.")
    assert vstar.seconds == pytest.approx([(event.start + event.end) / 2 for event in spec.events], abs=1e-4)
    assert TakeSpec.from_json(spec.to_json()) == spec
    history = [take(told, 1, [True, False], spec=spec)]
    reason = choose(told, history, LOOK, None, repairs=Repairs(ladder=("strengthen", "guide"))).reason
    assert "strengthen passed over" in reason
    assert "guide passed over: its frames read a synopsis" in reason
    later = replace(told, events=tuple(event.model_copy() for event in told.events))
    later.events[0].end = later.events[1].start = 1.0
    remedy = {"kind": "retime", "changes": {"controls": controls_json(spec.controls)}}
    [again] = next_spec(later, CAST, look, [take(told, 1, [True, False], spec=spec, remedy=remedy)]).controls
    assert isinstance(again, VSTAR)
    assert again.seconds == pytest.approx((0.5, 2.5), abs=0.1)
    assert again.synopsis == vstar.synopsis


def test_a_window_of_a_take_with_a_synopsis_is_told_as_the_take_was() -> None:
    told = shot("jumps up", "spins around")
    told.shot.synopsis = ["The red fox jumps up.", "The red fox spins around."]
    spec = first_spec(told, CAST, LOOK)
    later = replace(told, events=tuple(event.model_copy() for event in told.events))
    later.events[0].end = later.events[1].start = 1.0  # timed anew since
    changes = {"controls": controls_json(spec.controls), "base": 1, "window": [17, 33]}
    record = take(told, 1, [True, False], spec=spec, remedy={"kind": "refilm", "changes": changes})
    assert next_spec(later, CAST, LOOK, [record]).controls == spec.controls


def test_remedies_that_a_synopsis_would_not_hear_are_passed_over() -> None:
    told = shot("jumps up", "spins around")
    told.shot.synopsis = ["The fox sits.", "The fox is in the air.", "The fox turns."]
    history = [take(told, 1, [True, False], spec=first_spec(told, CAST, LOOK))]
    ladder = Repairs(ladder=("retime", "reword", "split"))
    reason = choose(told, history, LOOK, replace(told.plan, prompt="other"), repairs=ladder).reason
    for passed in ("retime", "reword"):
        assert f"{passed} passed over: its frames read a synopsis that does not name" in reason
    assert "split passed over: its synopsis runs through the whole shot" in reason
    assert not rewording_is_next(told, history, LOOK, [1], repairs=ladder)


def test_a_synopsis_of_other_states_than_events_is_spread_evenly() -> None:
    told = shot("jumps up")
    told.shot.synopsis = ["The fox sits.", "The fox is in the air.", "The fox sits."]
    (vstar,) = first_spec(told, CAST, LOOK).controls
    assert isinstance(vstar, VSTAR)
    assert vstar.seconds == ()


def test_one_event_is_not_steered_and_several_are() -> None:
    assert first_spec(shot("jumps up"), CAST, LOOK).controls == ()
    assert first_spec(TWO, CAST, LOOK).controls == (TSAttn(),)


def test_a_first_take_fits_the_backends_lengths_and_stretches_its_events() -> None:
    spec = first_spec(TWO, CAST, LOOK)
    assert (spec.frames, spec.width, spec.height, spec.fps) == (33, 96, 64, 8)
    assert [(e.subject, e.start, e.end) for e in spec.events] == [
        ("red fox", 0.0, 2.0625),
        ("red fox", 2.0625, 4.125),
    ]
    assert first_spec(shot("jumps up", seconds=8.0), CAST, LOOK).frames == 65


def test_a_continuing_shot_takes_over_the_last_frames_and_its_events_come_after_them() -> None:
    before = take(TWO, 5, [True, True])
    spec = first_spec(shot("jumps up", transition="continues"), CAST, LOOK, before)
    assert spec.kept == (Kept(take=5, first=28, last=33, at=0),)
    assert spec.lead == 5
    assert spec.events[0].start == 5 / 8
    look = replace(LOOK, limits=replace(LIMITS, extends=False))
    assert first_spec(TWO, CAST, look, before).kept == ()


@pytest.mark.parametrize("kind", ["reseed", "refilm", "split"])
def test_take_specs_survive_json(kind: str) -> None:
    spec = first_spec(TWO, CAST, LOOK)
    if kind == "refilm":
        spec = replace(spec, kept=around(1, 13, 25, 33))
    if kind == "split":
        halves = split_spec(spec, 1, LOOK)
        assert halves is not None
        spec = halves
    import json

    assert TakeSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_a_window_remedy_keeps_everything_else_of_its_base() -> None:
    changes = {"controls": [], "window": [13, 25], "base": 1}
    history = [take(TWO, 1, [True, False], {"kind": "refilm", "changes": changes})]
    spec = next_spec(TWO, CAST, LOOK, history)
    assert spec.kept == (Kept(take=1, first=0, last=13, at=0), Kept(take=1, first=25, last=33, at=25))
    assert spec.seed != TakeSpec.from_json(history[0].take.request).seed


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0.0, 2.0, (1, 17)), (2.0, 4.125, (13, 33)), (1.1, 1.2, (5, 13)), (0.0, 0.1, (1, 5))],
)
def test_windows_are_whole_latent_frames_that_hold_the_event(
    start: float, end: float, expected: tuple[int, int]
) -> None:
    first, last = window(start, end, 33, 8, 4)
    assert (first, last) == expected
    assert (first - 1) % 4 == 0
    assert first <= max(start * 8, 1)
    assert last >= end * 8


def test_a_split_is_one_take_whose_second_half_goes_on_from_the_first() -> None:
    spec = split_spec(first_spec(TWO, CAST, LOOK), 1, LOOK)
    assert spec is not None
    assert spec.then is not None
    assert spec.prompt == "In the meadow by day, the red fox jumps up."
    assert spec.then.prompt == "In the meadow by day, the red fox walks to the left."
    assert [e.phrase for e in (*spec.events, *spec.then.events)] == ["jumps up", "walks to the left"]
    assert spec.then.kept == (Kept(take=0, first=28, last=33, at=0),)
    assert spec.total_frames == 33 + 28
    assert spec.then.events[0].start == 5 / 8


def test_takes_rank_by_events_then_identity_then_quality_then_the_earlier() -> None:
    worse, better, same = (
        take(TWO, 1, [True, False], quality=1.0),
        take(TWO, 2, [True, True], quality=0.1),
        None,
    )
    same = take(TWO, 3, [True, True], quality=0.1)
    unjudged = take(TWO, 4, None)
    best = best_take([worse, same, better, unjudged])
    assert best is not None
    assert best.take.number == 2
    assert best_take([unjudged]) is unjudged
    assert best_take([]) is None
    assert leaves_nothing([worse, better])
    assert not leaves_nothing([worse, unjudged])


def test_a_missed_event_gets_time_from_the_others_but_never_all() -> None:
    plan = retimed(TWO.plan, [1])
    assert plan is not None
    assert [(e.start, e.end) for e in plan.events] == [(0.0, 1.6), (1.6, 4.0)]
    assert retimed(TWO.plan, [0, 1]) is None
    short = ShotPlan(prompt="p", seconds=2.0, events=(EventPlan(subject="s", phrase="p", start=0, end=1.0),) * 2)
    assert retimed(short, [0]) is None


def test_steering_grows_to_half_of_the_steps_and_no_further() -> None:
    controls = strengthened((TSAttn(),))
    assert controls == (TSAttn(steps=0.35, picture_steps=0.65),)
    assert strengthened(controls) == (TSAttn(steps=0.5, picture_steps=0.8),)
    assert strengthened((TSAttn(steps=0.5),)) is None
    assert strengthened(()) is None


def test_a_backend_that_can_is_asked_to_guide_in_time_once() -> None:
    guides = replace(LIMITS, guides=True)
    controls = guided_in_time((TSAttn(),), guides)
    assert controls == (TSAttn(), TempoControl())
    assert guided_in_time(controls, guides) is None
    assert guided_in_time((TSAttn(),), LIMITS) is None


def test_rewording_is_asked_for_only_when_it_is_the_next_rung() -> None:
    fresh = [take(TWO, 1, [True, False])]
    assert not rewording_is_next(TWO, fresh, LOOK, [1])
    late = [
        take(TWO, 1, [True, False], {"kind": "retime", "changes": {"controls": []}}),
        take(TWO, 2, [True, False]),
    ]
    assert rewording_is_next(TWO, late, LOOK, [1])


def test_seeds_differ_by_take_shot_and_run_and_are_always_the_same() -> None:
    seeds = {take_seed(run, label, number) for run in (0, 1) for label in ("1", "2", "3a") for number in (1, 2)}
    assert len(seeds) == 12
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert take_seed(1, "3a", 2) == take_seed(1, "3a", 2)


def test_subjects_are_named_as_the_prompt_names_them() -> None:
    assert subject_words("Pim", "In the meadow, the Red fox jumps.", CAST) == "Red fox"
    assert subject_words("Pim", "Then Pim jumps.", CAST) == "Pim"
    assert subject_words("Oro", "Then Oro jumps.", CAST) == "Oro"
    assert subject_words("Oro", "Then somebody jumps.", CAST) == "", "nobody named: the whole picture is steered"


def test_unknown_controls_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="Unknown control 'Magic'"):
        read_controls([{"name": "Magic"}])


@pytest.mark.parametrize(("seconds", "frames"), [(0.5, 33), (4.0, 33), (5.9, 33), (7.0, 65), (60.0, 65)])
def test_the_nearest_length_is_filmed(seconds: float, frames: int) -> None:
    assert clip_frames(seconds, LIMITS) == frames


def test_style_and_camera_join_the_prompt_once() -> None:
    record = shot("jumps up")
    record.shot.camera = "slow pan"
    spec = first_spec(record, CAST, replace(LOOK, style="woodcut"))
    assert spec.prompt.endswith("jumps up. Camera: slow pan. Style: woodcut.")
    assert first_spec(shot("jumps up"), CAST, replace(LOOK, style="red fox")).prompt.endswith("jumps up.")


def test_controls_are_read_back_from_json_as_they_were() -> None:
    word = Word(text="fox", seconds=((0.0, 1.0),))
    asked = (
        TSAttn(intervals=(0.2, 0.8)),
        VSTAR(synopsis=("a", "b"), matrix=((1.0, 0.0), (0.0, 1.0))),
        TempoControl(words=(word,)),
    )
    assert read_controls(json.loads(json.dumps(controls_json(asked)))) == asked


def test_a_control_nobody_knows_is_named() -> None:
    with pytest.raises(ValueError, match="'Hypnosis'; there are TSAttn"):
        read_controls([{"name": "Hypnosis"}])
