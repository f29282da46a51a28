"""The planner that needs no model: rules from English sentences to a plan in the puppet world's words.

Sentences become shots, clauses become events, and what becomes of every sentence is said in the notes with the story's
own words (`fates.py`). Knows nothing of databases, models or pixels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from agents.brains import Brief
from agents.errors import PlanError, UnfilmableStory
from agents.fates import Act, Actor, Fates, Part, Why
from agents.reading import Reader
from agents.sentences import Sentence, quoted, split_sentences
from agents.storyboard import Storyboard
from agents.titles import split_title
from agents.worldplan import WorldEvent, WorldPlan, WorldShot, WorldSubject, fits, storyboard
from generators.world.grammar import held_out_look
from generators.world.words import HUES, KINDS, VERBS

MOST_CHARACTERS = 2_000_000
EXAMPLE = "The red fox jumps in the meadow. Then it walks to the left."
_ENGLISH = frozenset("the and he she they it his her their with of".split())  # noqa: SIM905 (reads better as text)
"""One of them stands in any few sentences of English, and hardly in those of another language."""


class OfflinePlanner:
    """Plans within the bundled world by rules."""

    async def plan(self, story: str, brief: Brief) -> Storyboard:
        """A storyboard in the bundled model's own sentences. Raises UnfilmableStory when it would hold no shot."""
        plan = world_plan(story, brief)
        return storyboard(plan, brief.shot_seconds)


def check_story(story: str) -> None:
    """Raise UnfilmableStory where the rules find nothing to film, before a run is begun that could never go on."""
    world_plan(story, Brief(shot_seconds=(4.0,), max_shots=1))


def world_plan(story: str, brief: Brief) -> WorldPlan:
    """The story in the world's words, at most `brief.max_shots` shots. Raises UnfilmableStory when there is none."""
    if not story.strip():
        raise PlanError(f"The story is empty. Write what happens, for example: {EXAMPLE}")
    title, body = split_title(story[:MOST_CHARACTERS])
    sentences = split_sentences(body)
    plan, reader, fates = _Plan(max_shots=_max_shots(brief)), Reader(), Fates()
    told = 0
    while told < len(sentences) and not plan.full:
        sentence = sentences[told]
        fates.settle(sentence.text, plan.add(sentence.text, reader.read(sentence)))
        told += 1
    if not plan.shots:
        raise UnfilmableStory(_nothing(story, fates))
    cast = _dress(fates.cast)
    notes = [
        *_about(story, title if body != story else "", brief),
        *fates.notes(reader.cast, reader.places),
        *_rest(sentences[told:], plan.max_shots, brief),
    ]
    return WorldPlan(title=title, cast=cast, shots=plan.shots, notes=notes)


@dataclass(kw_only=True)
class _Plan:
    """Shots so far; acts are fitted into shots as the world can play them."""

    max_shots: int
    shots: list[WorldShot] = field(default_factory=list)
    dressed: set[Actor] = field(default_factory=set)
    """Everybody who has a colour."""

    @property
    def full(self) -> bool:
        return len(self.shots) >= self.max_shots

    def add(self, sentence: str, parts: Sequence[Part]) -> list[Part]:
        """One sentence in as few shots as hold its acts; gives its parts back with only those acts that are filmed."""
        acts = [act for part in parts for act in part.acts]
        lost = {id(act): Why.COLOURS for act in acts if not self._dress(act)}
        groups = _groups([act for act in acts if id(act) not in lost])
        room = self.max_shots - len(self.shots)
        self.shots += [_shot(sentence, group) for group in groups[:room]]
        lost |= {id(act): Why.BUDGET for group in groups[room:] for act in group}
        return [_filmed(part, lost) for part in parts]

    def _dress(self, act: Act) -> bool:
        """Whether there are colours enough for those who act; they keep theirs."""
        wearing = self.dressed | {who for who in (act.actor, act.other) if who is not None}
        if len(wearing) > len(HUES):
            return False
        self.dressed = wearing
        return True


def _filmed(part: Part, lost: Mapping[int, Why]) -> Part:
    acts = tuple(act for act in part.acts if id(act) not in lost)
    return replace(part, acts=acts, why=next((lost[id(act)] for act in part.acts if id(act) in lost), part.why))


def _groups(acts: Sequence[Act]) -> list[list[Act]]:
    """Acts in groups that the world can play in one shot each."""
    groups: list[list[Act]] = []
    for act in acts:
        if groups and act.scene == groups[-1][-1].scene and fits([*map(_event, groups[-1]), _event(act)]):
            groups[-1].append(act)
        else:
            groups.append([act])
    return groups


def _shot(sentence: str, acts: Sequence[Act]) -> WorldShot:
    place, time = acts[0].scene
    return WorldShot(sentence=sentence[:300], place=place, time=time, events=list(map(_event, acts)))


def _event(act: Act) -> WorldEvent:
    return WorldEvent(
        actor=act.actor.name,
        verb=act.verb,
        side=act.side or "none",
        prop=act.prop or "none",
        other=act.other.name if act.other else "none",
    )


def _max_shots(brief: Brief) -> int:
    if brief.seconds is None:
        return brief.max_shots
    return max(1, min(brief.max_shots, int(brief.seconds // brief.shot_seconds[0])))


def _about(story: str, heading: str, brief: Brief) -> list[str]:
    """What is lost before the first sentence is read."""
    notes: list[str] = []
    if brief.style:
        notes.append(f"The style {brief.style!r} is not applied: the bundled world has one look")
    if heading and any(part.acts for part in Reader().read(Sentence(text=heading))):
        notes.append(f"The first line is taken for the title and not filmed: {quoted(heading)}")
    if len(story) > MOST_CHARACTERS:
        notes.append(f"Only the first {MOST_CHARACTERS} of the story's {len(story)} characters were read")
    return notes


def _rest(sentences: Sequence[Sentence], shots: int, brief: Brief) -> list[str]:
    """What is never read, because the film is full."""
    if not sentences:
        return []
    count = "1 more sentence is" if len(sentences) == 1 else f"{len(sentences)} more sentences are"
    room = "1 shot" if shots == 1 else f"{shots} shots"
    limit = f"the budget takes {room}" if shots == brief.max_shots else f"{brief.seconds:g} s hold {room}"
    return [f"{count} left out, from {quoted(sentences[0].text)} on: {limit}"]


def _dress(cast: Sequence[Actor]) -> list[WorldSubject]:
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
            actor.note(f"{actor.name!r} is {free[0]} instead of {actor.hue}: somebody else wears that")
    return [WorldSubject(name=actor.name, kind=actor.kind, hue=worn[actor.name]) for actor in cast]


def _favourites(kind: str) -> list[str]:
    """Hues in the order in which a puppet of this kind takes them; what it never wore in training comes last."""
    first = list(HUES)[KINDS.index(kind) * 3 % len(HUES)]
    turned = list(HUES)[list(HUES).index(first) :] + list(HUES)[: list(HUES).index(first)]
    return sorted(turned, key=lambda hue: held_out_look(hue, kind))


def _nothing(story: str, fates: Fates) -> str:
    words = set(re.findall(r"\w+", story.lower()))
    foreign = "" if words & _ENGLISH else " It does not seem to be English, and the rules read nothing else."
    acts = ", ".join(verb.replace("_", " ") for verb in VERBS)
    return "\n".join(
        [
            f"Nothing in the story can be filmed by the bundled world.{foreign}",
            *fates.left_out(most=3),
            f"The world knows {len(VERBS)} acts ({acts}) and words like them. Write plain English sentences in which "
            f"somebody ({', '.join(KINDS)} or their like) does one of them, for example: {EXAMPLE}",
            "Or let a language model plan, which finds the nearest act itself: docs/planning.md",
        ]
    )
