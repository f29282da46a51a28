"""The planner that needs no model: rules from English sentences to a plan in the puppet world's words.

Sentences become shots, clauses become events, and everything it could not place is said in the notes with the
story's own words. Knows the word tables of `lexicon.py` and nothing of databases, models or pixels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from agents.brains import Brief
from agents.errors import PlanError
from agents.sentences import Act, Actor, Reader, quoted, split_sentences
from agents.storyboard import Storyboard
from agents.worldplan import WorldEvent, WorldPlan, WorldShot, WorldSubject, fits, storyboard
from generators.world.grammar import held_out_look
from generators.world.words import HUES, KINDS, VERBS

MOST_NOTES = 40
MOST_CHARACTERS = 2_000_000
EXAMPLE = "The red fox jumps in the meadow. Then it walks to the left."


class OfflinePlanner:
    """Plans within the bundled world by rules."""

    async def plan(self, story: str, brief: Brief) -> Storyboard:
        """A storyboard in the bundled model's own sentences; PlanError when nothing in the story can be shown."""
        plan = world_plan(story, brief)
        return storyboard(plan, brief.shot_seconds)


def world_plan(story: str, brief: Brief) -> WorldPlan:
    """The story in the world's words, at most `brief.max_shots` shots. Raises PlanError when nothing can be shown."""
    if not story.strip():
        raise PlanError(f"The story is empty. Write what happens, for example: {EXAMPLE}")
    title, body = split_title(story[:MOST_CHARACTERS])
    sentences = split_sentences(body)
    plan = _Plan(max_shots=_max_shots(brief))
    if brief.style:
        plan.notes.append(f"The style {brief.style!r} is not applied: the bundled world has one look")
    reader = Reader(plan.notes)
    for index, sentence in enumerate(sentences):
        plan.add(sentence, reader.read(sentence))
        if plan.full:
            _say_left_out(plan, sentences[index + 1 :])
            break
    if not plan.shots:
        raise PlanError(_nothing(story))
    cast = _dress(plan.cast, plan.notes)
    return WorldPlan(title=title, cast=cast, shots=plan.shots, notes=_short(plan.notes))


def split_title(story: str) -> tuple[str, str]:
    """The story's title (a short first line without a full stop, or its first words) and the rest."""
    lines = story.strip().splitlines()
    first = lines[0].strip().lstrip("#").strip()
    heading = len(lines) > 1 and len(first) <= 60 and not re.search(r"[.!?…:;,]$", first)
    if heading and first:
        return first, "\n".join(lines[1:])
    words = re.sub(r"\s+", " ", story.strip())
    short = re.split(r"[.!?…]", words)[0].strip()[:60].rsplit(" ", 1 if len(words) > 60 else 0)[0]
    return short or "Untitled", story


@dataclass(kw_only=True)
class _Plan:
    """Shots so far; acts are fitted into shots as the world can play them."""

    max_shots: int
    cast: list[Actor] = field(default_factory=list)
    shots: list[WorldShot] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def full(self) -> bool:
        return len(self.shots) >= self.max_shots

    def add(self, sentence: str, acts: Sequence[Act]) -> None:
        """One sentence: as few shots as hold its acts."""
        here: list[WorldEvent] = []
        scene: tuple[str, str] | None = None
        for act in acts:
            event = self._event(act)
            if event is None:
                continue
            joined = [*here, event]
            if here and (act.scene != scene or not fits(joined)):
                self._close(sentence, scene, here)
                joined = [event]
            here, scene = joined, act.scene
        self._close(sentence, scene, here)

    def _event(self, act: Act) -> WorldEvent | None:
        for actor in (act.actor, *((act.other,) if act.other else ())):
            if actor in self.cast:
                continue
            if len(self.cast) == len(HUES):
                self.notes.append(f"{actor.name!r} is left out: the world has {len(HUES)} colours, all are worn")
                return None
            self.cast.append(actor)
        return WorldEvent(
            actor=act.actor.name,
            verb=act.verb,
            side=act.side or "none",
            prop=act.prop or "none",
            other=act.other.name if act.other else "none",
        )

    def _close(self, sentence: str, scene: tuple[str, str] | None, events: Sequence[WorldEvent]) -> None:
        if not events or scene is None:
            return
        if self.full:
            self.notes.append(f"No room for the rest of {quoted(sentence)}: {self.max_shots} shots are planned")
            return
        self.shots.append(WorldShot(sentence=sentence[:300], place=scene[0], time=scene[1], events=list(events)))


def _max_shots(brief: Brief) -> int:
    if brief.seconds is None:
        return brief.max_shots
    return max(1, min(brief.max_shots, int(brief.seconds // brief.shot_seconds[0])))


def _say_left_out(plan: _Plan, rest: Sequence[str]) -> None:
    rest = [sentence for sentence in rest if sentence.strip()]
    if rest:
        plan.notes.append(
            f"{len(rest)} more sentences are left out, from {quoted(rest[0])} on: "
            f"the budget takes {plan.max_shots} shots"
        )


def _dress(cast: Sequence[Actor], notes: list[str]) -> list[WorldSubject]:
    """A hue of its own for everybody: the story's colour word when it is free, else one the model knows on them."""
    worn: dict[str, str] = {}
    for actor in cast:
        if actor.hue and actor.hue not in worn.values():
            worn[actor.name] = actor.hue
    for actor in cast:
        if actor.name in worn:
            continue
        free = [hue for hue in _favourites(actor.kind) if hue not in worn.values()]
        worn[actor.name] = free[0]
        if actor.hue:
            notes.append(f"{actor.name!r} is {free[0]} instead of {actor.hue}: somebody else wears that")
    return [WorldSubject(name=actor.name, kind=actor.kind, hue=worn[actor.name]) for actor in cast]


def _favourites(kind: str) -> list[str]:
    """Hues in the order in which a puppet of this kind takes them; what it never wore in training comes last."""
    first = list(HUES)[KINDS.index(kind) * 3 % len(HUES)]
    turned = list(HUES)[list(HUES).index(first) :] + list(HUES)[: list(HUES).index(first)]
    return sorted(turned, key=lambda hue: held_out_look(hue, kind))


def _nothing(story: str) -> str:
    letters = [c for c in story if c.isalpha()]
    foreign = sum(not c.isascii() for c in letters) > len(letters) / 2
    why = (
        "its words are not English ones"
        if foreign
        else f"it names no act that the world can show ({', '.join(verb.replace('_', ' ') for verb in VERBS)})"
    )
    return (
        f"Nothing in the story can be shown by the bundled world: {why}. Write plain English sentences about "
        f"{', '.join(KINDS)} and their like, for example: {EXAMPLE} Or plan with a language model "
        '(a profile with brains.kind = "endpoint")'
    )


def _short(notes: Sequence[str]) -> list[str]:
    unique = list(dict.fromkeys(notes))
    over = len(unique) - MOST_NOTES
    return [*unique[:MOST_NOTES], f"… and {over} more notes"] if over > 0 else unique
