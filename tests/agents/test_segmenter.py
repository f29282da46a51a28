"""Events get their times."""

from __future__ import annotations

import pytest

from agents.errors import ModelRefused
from agents.scripted import ScriptedModel
from agents.segmenter import ModelSegmenter, RuleSegmenter, Share, Shares, Synopsis, provisional
from agents.storyboard import PlannedEvent, PlannedShot


def shot(*phrases: str, seconds: float = 4.0, times: list[tuple[float, float]] | None = None) -> PlannedShot:
    spans = times or [(0.0, seconds)] * len(phrases)
    return PlannedShot(
        prompt=f"The red fox {' and '.join(phrases)}.",
        subjects=("fox",),
        seconds=seconds,
        events=tuple(
            PlannedEvent(subject="fox", phrase=p, start=a, end=b) for p, (a, b) in zip(phrases, spans, strict=True)
        ),
    )


def shares(*values: float) -> Shares:
    return Shares(shares=[Share(event=n, share=v) for n, v in enumerate(values, 1)])


async def test_rules_give_long_verbs_more_time_and_fill_the_shot() -> None:
    timed = await RuleSegmenter().segment(shot("jumps up", "walks to the left"))
    jump, walk = timed.events
    assert (jump.start, jump.end, walk.start, walk.end) == (0.0, walk.start, jump.end, 4.0)
    assert walk.end - walk.start > jump.end - jump.start >= 1.5


async def test_verbs_nobody_knows_share_alike() -> None:
    timed = await RuleSegmenter().segment(shot("sings", "weeps"))
    assert [event.end for event in timed.events] == [2.0, 4.0]


async def test_times_that_a_person_wrote_stay() -> None:
    mine = shot("jumps up", "walks to the left", times=[(0.5, 1.0), (1.0, 3.5)])
    model = ScriptedModel([])
    assert await RuleSegmenter().segment(mine) == mine
    assert await ModelSegmenter(model).segment(mine) == mine
    assert not provisional(mine)


async def test_a_single_event_takes_the_whole_shot_without_a_question() -> None:
    model = ScriptedModel([])
    timed = await ModelSegmenter(model).segment(shot("jumps up"))
    assert (timed.events[0].start, timed.events[0].end) == (0.0, 4.0)


async def test_shares_that_nearly_sum_to_one_are_put_right() -> None:
    timed = await ModelSegmenter(ScriptedModel([shares(0.33, 0.33, 0.33)])).segment(
        shot("sings", "weeps", "sleeps", seconds=6.0)
    )
    assert [event.start for event in timed.events] == pytest.approx([0, 2, 4], abs=0.02)
    assert timed.events[-1].end == 6.0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (shares(1.0), "events 1 to 2 once each"),
        (shares(0.5, 0.9), "sum to 1.40"),
        (shares(1.0, 0.0), "more than 0"),
        (shares(0.95, 0.05), "event 2 would last less than 0.5 s"),
    ],
)
async def test_wrong_shares_go_back(wrong: Shares, said: str) -> None:
    model = ScriptedModel([wrong, shares(0.5, 0.5)])
    timed = await ModelSegmenter(model).segment(shot("sings", "weeps"))
    assert said in model.asked[1].turns[0].objection
    assert timed.events[0].end == 2.0


async def test_a_segmenter_that_never_learns_is_refused() -> None:
    with pytest.raises(ModelRefused, match="segment"):
        await ModelSegmenter(ScriptedModel([shares(1.0)] * 3)).segment(shot("sings", "weeps"))


TWO = PlannedShot(
    prompt="In the meadow by day, the red fox jumps up. Then the blue cat spins around.",
    subjects=("fox", "cat"),
    seconds=4.0,
    events=(
        PlannedEvent(subject="fox", phrase="jumps up", start=0.0, end=4.0),
        PlannedEvent(subject="cat", phrase="spins around", start=0.0, end=4.0),
    ),
)


async def test_rules_write_a_state_for_every_event_where_the_sentences_come_apart() -> None:
    told = await RuleSegmenter(synopsis=True).segment(TWO)
    assert told.synopsis == (
        "In the meadow by day, the red fox jumps up.",
        "In the meadow by day, the blue cat spins around.",
    )
    assert (await RuleSegmenter().segment(TWO)).synopsis == ()
    assert (await RuleSegmenter(synopsis=True).segment(shot("jumps up", "walks to the left"))).synopsis == ()
    mine = TWO.model_copy(update={"synopsis": ("a", "b")})
    assert (await RuleSegmenter(synopsis=True).segment(mine)).synopsis == ("a", "b")


async def test_a_model_is_asked_for_the_states_of_every_shot_and_asked_again() -> None:
    model = ScriptedModel([Synopsis(states=["one"]), Synopsis(states=["a fox sits", "a fox jumps"])])
    told = await ModelSegmenter(model, synopsis=True).segment(shot("jumps up"))
    assert told.synopsis == ("a fox sits", "a fox jumps")
    assert "expected 2 to 8 states, got 1" in str(model.asked[-1])
