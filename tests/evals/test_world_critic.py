"""The puppet world's critic reads promises from words and their keeping from pixels."""

from __future__ import annotations

import numpy as np
import pytest

from agents.brains import Critic, VerdictResult, Viewing
from agents.storyboard import Place, Subject
from evals.world.critic import WorldCritic
from evals.world.phrases import Look, Unreadable, read_look, read_promise
from generators.clip import Event, Frames
from generators.world.captions import predicates, tell
from generators.world.renderer import render
from generators.world.script import Actor, Prop, Script, ScriptEvent
from generators.world.words import FPS, VERBS

CAST = {"Mia": Look(hue="red", kind="fox"), "Tom": Look(hue="blue", kind="robot")}
JUMP = Script(
    place="meadow",
    time="day",
    actors=(Actor(hue="red", kind="fox", x=40.0),),
    events=(ScriptEvent(verb="jump", actor=0, start=0.6, end=2.4),),
)


def film(script: Script) -> Frames:
    return render([script])[0].permute(0, 2, 3, 1).numpy()


async def judged(
    phrase: str, frames: Frames, description: str = "the red fox", place: Place | None = None
) -> VerdictResult:
    viewing = Viewing(
        shot="1",
        take=0,
        frames=frames,
        fps=FPS,
        events=(Event(subject="Mia", phrase=phrase, start=0.5, end=2.5),),
        prompt=f"In the meadow by day, the red fox {phrase}.",
        subjects=(Subject(name="Mia", description=description),),
        place=place,
    )
    return await WorldCritic().judge(viewing)


def test_the_world_critic_is_a_critic() -> None:
    assert isinstance(WorldCritic(), Critic)


async def test_a_kept_promise_is_seen_with_its_times_and_evidence() -> None:
    verdict = await judged("leaps into the air", film(JUMP))
    (event,) = verdict.events
    assert event.done
    assert event.start == pytest.approx(0.6, abs=0.3)
    assert event.end == pytest.approx(2.4, abs=0.3)
    assert "rises 0.7" in event.evidence
    assert verdict.identity == 1.0
    assert verdict.quality > 0.9
    assert verdict.failed == ()


async def test_another_verb_on_the_same_take_is_not_seen() -> None:
    verdict = await judged("spins around", film(JUMP))
    assert verdict.failed == (0,)
    assert verdict.events[0].evidence


async def test_a_phrase_from_outside_the_world_is_not_judged() -> None:
    verdict = await judged("breathes fire", film(JUMP))
    assert verdict.events[0].done is None
    assert verdict.failed == ()
    assert verdict.events[0].confidence == 0.0
    assert verdict.events[0].evidence.startswith("not judged: 'breathes fire'")


async def test_a_subject_without_a_colour_is_not_judged_and_noted() -> None:
    verdict = await judged("leaps into the air", film(JUMP), description="a dragon")
    assert verdict.events[0].done is None
    assert any("not judged" in note for note in verdict.notes)


async def test_the_wrong_puppet_lowers_identity() -> None:
    right = await judged("leaps into the air", film(JUMP))
    wrong = await judged("leaps into the air", film(JUMP), description="the red robot")
    assert wrong.identity < right.identity
    assert any("looks like a fox" in note for note in wrong.notes)


async def test_the_wrong_place_is_noted() -> None:
    verdict = await judged("leaps into the air", film(JUMP), place=Place(name="beach", description="the beach"))
    assert "the place looks like the meadow, not the beach" in verdict.notes


async def test_noise_lowers_quality() -> None:
    frames = film(JUMP)
    noise = np.random.default_rng(0).normal(0, 25, frames.shape)
    noisy = (frames + noise).clip(0, 255).astype(np.uint8)
    assert (await judged("leaps into the air", noisy)).quality < (await judged("leaps into the air", frames)).quality


@pytest.mark.parametrize("verb", VERBS)
def test_every_sentence_of_a_verb_reads_back_as_that_verb(verb: str) -> None:
    slot = VERBS[verb].slot
    event = ScriptEvent(
        verb=verb,
        actor=0,
        start=0.5,
        end=2.0,
        side="left" if slot == "side" else None,
        prop=0 if slot == "prop" else None,
        other=1 if slot == "other" else None,
    )
    script = Script(
        place="city",
        time="night",
        actors=(Actor(hue="red", kind="fox"), Actor(hue="blue", kind="robot")),
        events=(event,),
        props=(Prop(kind="box", x=60.0),),
    )
    for template in predicates(verb):
        caption = tell(script, (template,))
        promise = read_promise("Mia", caption.phrases[0], CAST)
        assert (promise.verb, promise.hue) == (verb, "red")
        assert (promise.side, promise.prop, promise.other) == (
            "left" if slot == "side" else None,
            "box" if slot == "prop" else None,
            "blue" if slot == "other" else None,
        )


def test_a_friend_may_be_called_by_name_or_by_kind() -> None:
    assert read_promise("Mia", "approaches the robot", CAST).other == "blue"
    assert read_promise("Mia", "Approaches Tom slowly!", CAST).other == "blue"


def test_an_actor_may_be_called_as_the_prompt_calls_it() -> None:
    assert read_promise("red fox", "spins around", CAST).hue == "red"
    assert read_promise("the blue robot", "spins around", CAST).hue == "blue"


def test_unknown_words_are_refused_with_a_reason() -> None:
    with pytest.raises(Unreadable, match="'the dragon' means 0|'dragon' means 0"):
        read_promise("Mia", "approaches the dragon", CAST)
    with pytest.raises(Unreadable, match="'ann' means 0 members"):
        read_promise("Ann", "spins around", CAST)
    with pytest.raises(Unreadable, match="'green cat' means 0 members"):
        read_promise("green cat", "spins around", CAST)
    with pytest.raises(Unreadable, match="names not one colour"):
        read_look("Ann", "a tall woman")
