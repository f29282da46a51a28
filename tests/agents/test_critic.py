"""The vision critic: StoryEval's two turns, several votes, evidence."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from agents.brains import Critic, Question, Viewing
from agents.critic import CriticOptions, Description, EventScore, ModelCritic, Scores, count_votes, key_frames
from agents.errors import ModelRefused
from agents.scripted import Line, ScriptedCritic, ScriptedModel
from agents.storyboard import Subject
from generators.clip import Event

EVENTS = (
    Event(subject="red fox", phrase="jumps up", start=0.0, end=2.0),
    Event(subject="red fox", phrase="walks to the left", start=2.0, end=4.0),
)


def viewing(frames: int = 33) -> Viewing:
    pixels = np.zeros((frames, 16, 24, 3), dtype=np.uint8)
    pixels[:, :, :, 0] = np.arange(frames)[:, None, None] * 7 % 256
    return Viewing(
        shot="1",
        take=1,
        frames=pixels,
        fps=8,
        events=EVENTS,
        prompt="The red fox jumps up. Then the red fox walks to the left.",
        subjects=(Subject(name="Pim", description="the red fox"),),
    )


def score(event: int, done: bool, **changes: object) -> EventScore:
    values = {
        "event": event,
        "evidence": f"saw {event}",
        "start": 0.5,
        "end": 1.5,
        "confidence": 0.8,
        "done": done,
    }
    return EventScore(**values | changes)  # type: ignore[arg-type]


def scores(*done: bool, identity: float = 1.0, quality: float = 0.9) -> Scores:
    return Scores(events=[score(n, d) for n, d in enumerate(done, 1)], identity=identity, quality=quality)


def votes(*cast: Scores) -> list[Line]:
    return [line for vote in cast for line in (Description(description="A fox jumps."), vote)]


async def test_every_vote_describes_first_and_then_scores_with_its_own_description() -> None:
    model = ScriptedModel(votes(scores(True, True), scores(True, True)))
    verdict = await ModelCritic(model, CriticOptions(votes=2)).judge(viewing())
    assert [q.prompt.name for q in model.asked] == ["describe", "score"] * 2
    assert [q.vote for q in model.asked] == [0, 0, 1, 1]
    assert "jumps up" not in model.asked[0].prompt.user
    assert "A fox jumps." in model.asked[1].prompt.user
    assert "Pim: the red fox" in model.asked[1].prompt.user
    assert "the later event is not done" in model.asked[1].prompt.system
    assert verdict.failed == ()
    assert verdict.critic == "scripted"


async def test_an_event_is_done_only_when_every_vote_says_so() -> None:
    model = ScriptedModel(votes(scores(True, True), scores(True, False), scores(True, True)))
    verdict = await ModelCritic(model, CriticOptions(votes=3)).judge(viewing())
    assert [event.done for event in verdict.events] == [True, False]
    assert verdict.events[1].evidence == "saw 2 (2 of 3 votes)"
    assert (verdict.events[0].start, verdict.events[0].end) == (0.5, 1.5)
    assert verdict.events[1].start is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (scores(True), "events 1 to 2 once each"),
        (scores(True, True, identity=7.0), "identity: expected 0 to 1, got 7.0"),
        (
            Scores(events=[score(1, True), score(2, True, evidence=" ")], identity=1, quality=1),
            "evidence is empty",
        ),
        (Scores(events=[score(1, True), score(2, True, end=0.1)], identity=1, quality=1), "are no interval"),
    ],
)
async def test_votes_without_evidence_or_order_go_back(wrong: Scores, said: str) -> None:
    model = ScriptedModel([Description(description="x"), wrong, scores(True, True)])
    await ModelCritic(model, CriticOptions(votes=1)).judge(viewing())
    assert said in model.asked[2].turns[0].objection


async def test_a_critic_that_cannot_vote_is_an_error_and_no_verdict() -> None:
    model = ScriptedModel([Description(description="x"), *["?"] * 3])
    with pytest.raises(ModelRefused):
        await ModelCritic(model, CriticOptions(votes=1)).judge(viewing())


@pytest.mark.parametrize(("frames", "shown"), [(2, 2), (9, 4), (33, 8), (81, 20), (500, 32)])
def test_frames_are_sampled_evenly_and_always_the_first_and_last(frames: int, shown: int) -> None:
    pictures = key_frames(viewing(frames).frames, CriticOptions())
    assert len(pictures) == shown
    first = np.asarray(Image.open(io.BytesIO(pictures[0])))
    assert first.shape == (320, 512, 3)
    assert pictures[0][:2] == b"\xff\xd8"
    last = np.asarray(Image.open(io.BytesIO(pictures[-1])))
    assert abs(float(last[..., 0].mean()) - (frames - 1) * 7 % 256) < 4


def test_medians_are_taken_over_votes() -> None:
    verdict = count_votes("c", [scores(True, identity=i, quality=q) for i, q in ((0.2, 1.0), (0.9, 0.5), (0.8, 0.0))])
    assert (verdict.identity, verdict.quality) == (0.8, 0.5)


async def test_the_scripted_critic_sees_what_it_was_told() -> None:
    critic = ScriptedCritic({("1", 1): [True, False]})
    assert isinstance(critic, Critic)
    assert (await critic.judge(viewing())).failed == (1,)
    with pytest.raises(ValueError, match="expected 2 flags, got 1"):
        await ScriptedCritic({("1", 1): [True]}).judge(viewing())


async def test_the_images_a_critic_sends_are_the_same_for_every_vote() -> None:
    seen: list[Question] = []

    def say(question: Question) -> Line:
        seen.append(question)
        return Description(description="x") if question.shape is Description else scores(True, True)

    await ModelCritic(ScriptedModel(say), CriticOptions(votes=2)).judge(viewing())
    assert len({q.images for q in seen}) == 1
    assert len({q.digest("m") for q in seen}) == 4
