"""A plan in the words of the puppet world, and how it becomes a storyboard in the bundled model's own sentences.

Both brains of the bundled profile end here: the rules of `offline.py` and an endpoint that must choose among the
world's words. Captions are written by the world itself (`generators.world.captions`), never re-invented.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated

import numpy as np
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from agents.storyboard import Place, PlannedEvent, PlannedShot, Shape, Storyboard, Subject
from generators.world.captions import predicates, tell
from generators.world.grammar import LEAD, SHORTEST, clip_frames, possible
from generators.world.motion import LEFT_MOST, REACH, RIGHT_MOST, play
from generators.world.script import Actor, Prop, Script, ScriptEvent
from generators.world.words import FPS, HUES, KINDS, PLACES, PROPS, SIDES, TIMES, VERBS

MOST_EVENTS = 2
"""Events a shot: the bundled model is trained on one and two."""
MOST_ACTORS = 2
_PLACINGS = 200


@dataclass(frozen=True)
class OneOf:
    """Marks a text field that takes only these words; in a JSON schema it reads as an enum."""

    words: tuple[str, ...]

    def __get_pydantic_core_schema__(self, _source: object, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.literal_schema(list(self.words))


class WorldSubject(Shape):
    """A member of the cast: its name in the story, the puppet that plays it, and its own colour."""

    name: str
    kind: Annotated[str, OneOf(KINDS)]
    hue: Annotated[str, OneOf(tuple(HUES))]


class WorldEvent(Shape):
    """One act. `side`, `prop` and `other` are "none" unless the verb takes them."""

    actor: str
    verb: Annotated[str, OneOf(tuple(VERBS))]
    side: Annotated[str, OneOf((*SIDES, "none"))]
    prop: Annotated[str, OneOf((*PROPS, "none"))]
    other: str


class WorldShot(Shape):
    """One shot: the sentence of the story it tells, where, when, and one or two acts."""

    sentence: str
    place: Annotated[str, OneOf(PLACES)]
    time: Annotated[str, OneOf(TIMES)]
    events: list[WorldEvent]


class WorldPlan(Shape):
    """What a planner chooses; every word from the world's tables."""

    title: str
    cast: list[WorldSubject]
    shots: list[WorldShot]
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a predicate says: the verb and the sentence template it was written with."""

    verb: str
    template: str


def tidied(plan: WorldPlan) -> WorldPlan:
    """The plan without harmless slips, and with a shot of their own for acts that cannot share one.

    Small models make these all the time and mean no harm by them; whatever changes the story stays to be refused.
    """
    plan = _straightened(plan)
    shots: list[WorldShot] = []
    for shot in plan.shots:
        groups: list[list[WorldEvent]] = []
        for event in shot.events:
            if groups and _sound([*groups[-1], event]) and fits([*groups[-1], event]):
                groups[-1].append(event)
            else:
                groups.append([event])
        shots += [shot.model_copy(update={"events": group}) for group in groups or [[]]]
    return plan.model_copy(update={"shots": shots})


def _straightened(plan: WorldPlan) -> WorldPlan:
    """Slots a verb does not take emptied, what has only one reading filled in, names spelt as in the cast.

    Shots and events keep their numbers: what is still wrong is told to the model by them.
    """
    names = [subject.name for subject in plan.cast]
    shots = []
    for shot in plan.shots:
        here = [_spelt(event.actor, names) for event in shot.events]
        events = [_straight(event, names, here) for event in shot.events]
        shots.append(shot.model_copy(update={"events": events}))
    return plan.model_copy(update={"shots": shots})


def _straight(event: WorldEvent, names: Sequence[str], here: Sequence[str]) -> WorldEvent:
    slot = VERBS[event.verb].slot
    side = event.side if event.side != "none" else SIDES[1]
    actor, other = _spelt(event.actor, names), _spelt(event.other, names)
    if other in ("none", ""):
        partners = [{*group} - {actor} for group in (here, names)]
        other = next((min(group) for group in partners if len(group) == 1), "none")  # nobody else can be meant
    return event.model_copy(
        update={
            "actor": actor,
            "side": side if slot == "side" else "none",
            "prop": event.prop if slot == "prop" else "none",
            "other": other if slot == "other" else "none",
        }
    )


def _spelt(name: str, names: Sequence[str]) -> str:
    """The name as the cast spells it, when it differs only in case or in an article."""
    plain = re.sub(r"^(?:the|a|an)\s+", "", name.strip().casefold())
    same = [known for known in names if known.casefold() == plain]
    return same[0] if name not in names and len(same) == 1 else name


def _sound(events: Sequence[WorldEvent]) -> bool:
    return not any(_event_problems(event, actors_of(events)) for event in events)


def problems(plan: WorldPlan, max_shots: int) -> list[str]:
    """What a schema cannot check about a plan, harmless slips aside, as sentences a model can act on.

    Shots and events are numbered as the model wrote them.
    """
    names = [subject.name for subject in plan.cast]
    found = _cast_problems(plan.cast)
    for number, shot in enumerate(_straightened(plan).shots, 1):
        if not shot.events:
            found.append(f"shot {number}: expected 1 to {MOST_EVENTS} events, got 0")
        for at, event in enumerate(shot.events, 1):
            where = f"shot {number}, event {at} ({event.actor} {event.verb})"
            found += [f"{where}: {problem}" for problem in _event_problems(event, names)]
    if not plan.shots:
        found.append(f"expected 1 to {max_shots} shots, got 0")
    if not found and (count := len(tidied(plan).shots)) > max_shots:
        split = (
            "" if count == len(plan.shots) else f" ({len(plan.shots)} as you wrote them, some hold too much for one)"
        )
        found.append(f"expected 1 to {max_shots} shots, got {count}{split}; leave the least important out")
    return found


def _cast_problems(cast: Sequence[WorldSubject]) -> list[str]:
    found: list[str] = []
    worn: dict[str, str] = {}
    names = [subject.name for subject in cast]
    found += [f"two members of the cast share the name {n!r}; name them apart" for n in {*names} if names.count(n) > 1]
    for subject in cast:
        if subject.hue in worn:
            free = [hue for hue in HUES if hue not in {other.hue for other in cast}]
            found.append(
                f"every member of the cast needs a hue of its own: {subject.name} and {worn[subject.hue]} are both "
                f"{subject.hue}; free are {', '.join(free) or 'none, have fewer members'}"
            )
        worn.setdefault(subject.hue, subject.name)
    return found


def _event_problems(event: WorldEvent, names: Sequence[str]) -> list[str]:
    slot = VERBS[event.verb].slot
    others = [name for name in names if name != event.actor]
    choices = {"side": SIDES, "prop": PROPS, "other": others}
    given = {"side": event.side, "prop": event.prop, "other": event.other}
    found = [
        f'{event.verb} needs {name}, got none; write one of {", ".join(choices[name]) or "the cast"} into "{name}"'
        for name, value in given.items()
        if name == slot and value in ("none", "")
    ]
    if not found and slot == "other" and event.other == event.actor:
        return [f'{event.actor} cannot {event.verb} itself; write whom into "other": {", ".join(others) or "nobody"}']
    for who in dict.fromkeys([event.actor, *((event.other,) if slot == "other" and not found else ())]):
        if who not in names:
            found.append(
                f"unknown cast member {who!r}; the cast is {', '.join(names)}: add it there or use one of them"
            )
    return found


def actors_of(events: Sequence[WorldEvent]) -> list[str]:
    """Names of everybody in these events, in order of appearance."""
    names: list[str] = []
    for event in events:
        for name in (event.actor, event.other):
            if name not in ("none", "", *names):
                names.append(name)
    return names


def fits(events: Sequence[WorldEvent]) -> bool:
    """Whether the world can play these events in one shot, in this order."""
    if len(events) > MOST_EVENTS or len(actors_of(events)) > MOST_ACTORS:
        return False
    if len({event.prop for event in events if event.prop != "none"}) > 1:
        return False
    cast = {n: WorldSubject(name=n, kind=KINDS[0], hue=list(HUES)[i]) for i, n in enumerate(actors_of(events))}
    return _playable(_script("meadow", "day", events, cast))


def storyboard(plan: WorldPlan, shot_seconds: Sequence[float]) -> Storyboard:
    """The plan in the bundled model's own sentences; the segmenter has still to time its events."""
    cast = {subject.name: subject for subject in plan.cast}
    used = {name for shot in plan.shots for name in actors_of(shot.events)}
    places = dict.fromkeys(shot.place for shot in plan.shots)
    return Storyboard(
        title=plan.title or "Untitled",
        cast=tuple(Subject(name=s.name, description=f"the {s.hue} {s.kind}") for s in plan.cast if s.name in used),
        places=tuple(Place(name=place, description=f"the {place}") for place in places),
        shots=tuple(_planned(shot, cast, shot_seconds) for shot in plan.shots),
        notes=tuple(plan.notes),
    )


def _planned(shot: WorldShot, cast: dict[str, WorldSubject], shot_seconds: Sequence[float]) -> PlannedShot:
    script = _script(shot.place, shot.time, shot.events, cast)
    caption = tell(script, _templates([event.verb for event in shot.events]))
    need = len(shot.events) * SHORTEST + 2 * LEAD
    seconds = next((s for s in shot_seconds if s + 0.5 >= need), shot_seconds[-1])
    events = tuple(  # the segmenter times them
        PlannedEvent(subject=event.actor, phrase=phrase, start=0.0, end=seconds)
        for event, phrase in zip(shot.events, caption.phrases, strict=True)
    )
    return PlannedShot(
        prompt=caption.text,
        subjects=tuple(actors_of(shot.events)),
        place=shot.place,
        seconds=seconds,
        events=events,
    )


def timed(events: Sequence[PlannedEvent], weights: Sequence[float], seconds: float) -> tuple[PlannedEvent, ...]:
    """Events one after the other over the whole shot, each as long as its weight asks, centiseconds."""
    edges = np.concatenate([[0.0], np.cumsum(weights) / sum(weights)]) * seconds
    marks = [round(float(edge), 2) for edge in edges[:-1]] + [seconds]
    return tuple(
        event.model_copy(update={"start": start, "end": end})
        for event, start, end in zip(events, marks[:-1], marks[1:], strict=True)
    )


def natural(verbs: Sequence[str | None]) -> list[float]:
    """Natural lengths of verbs in seconds, the middle of their range; an unknown verb takes a middling one."""
    return [sum(VERBS[verb].seconds) / 2 if verb else 2.5 for verb in verbs]


def _templates(verbs: Sequence[str]) -> tuple[str, ...]:
    """A trained predicate for each verb; a verb that comes again is told in other words, none inside another."""
    chosen: list[str] = []
    for verb in verbs:
        chosen.append(next(t for t in predicates(verb, "train") if not any(t in c or c in t for c in chosen)))
    return tuple(chosen)


def read_phrase(phrase: str) -> Told | None:
    """Which verb and template a predicate in the world's words was written with; None for other text."""
    for template, pattern, verb in _patterns():
        if pattern.fullmatch(phrase):
            return Told(verb=verb, template=template)
    return None


def other_wording(phrase: str, taken: Sequence[str] = ()) -> str | None:
    """The same act in the next of the world's trained sentences, or None when the phrase is not the world's."""
    told = read_phrase(phrase)
    if told is None:
        return None
    match = _pattern(told.template).fullmatch(phrase)
    words = match.groupdict() if match else {}
    options = predicates(told.verb, "train")
    start = options.index(told.template) if told.template in options else 0
    for step in range(1, len(options)):
        wording = options[(start + step) % len(options)].format(**words)
        if not any(wording in other or other in wording for other in (*taken, phrase)):
            return wording
    return None


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str], str], ...]:
    return tuple((t, _pattern(t), verb) for verb in VERBS for t in predicates(verb))


def _pattern(template: str) -> re.Pattern[str]:
    slots = {
        "side": "|".join(SIDES),
        "prop": "|".join(PROPS),
        "other": f"(?:{'|'.join(HUES)}) (?:{'|'.join(KINDS)})",
    }
    text = re.escape(template).replace(r"\{", "{").replace(r"\}", "}")
    return re.compile(text.format(**{name: f"(?P<{name}>{words})" for name, words in slots.items()}))


def _script(place: str, time: str, events: Sequence[WorldEvent], cast: dict[str, WorldSubject]) -> Script:
    """The events as the world's own script; positions are still to be found, and no caption tells them."""
    names = actors_of(events)
    frames = clip_frames(len(events))
    props = tuple(dict.fromkeys(event.prop for event in events if event.prop != "none"))
    room = (frames / FPS - 2 * LEAD) / max(len(events), 1)
    acts = []
    for index, event in enumerate(events):
        start = LEAD + index * room
        slot = VERBS[event.verb].slot
        acts.append(
            ScriptEvent(
                verb=event.verb,
                actor=names.index(event.actor),
                start=start,
                end=start + min(room, VERBS[event.verb].seconds[1]),
                side=event.side if slot == "side" else None,
                prop=props.index(event.prop) if slot == "prop" else None,
                other=names.index(event.other) if slot == "other" else None,
            )
        )
    return Script(
        place=place,
        time=time,
        actors=tuple(Actor(hue=cast[name].hue, kind=cast[name].kind) for name in names),
        events=tuple(acts),
        props=tuple(Prop(kind=kind, x=48.0) for kind in props),
        frames=frames,
    )


def _playable(script: Script) -> bool:
    """Whether some placing of the puppets lets every event happen in its turn."""
    rng = np.random.default_rng(0)
    return any(_plays(_placed(rng, script), script.events) for _ in range(_PLACINGS))


def _placed(rng: np.random.Generator, script: Script) -> Script:
    low, high = LEFT_MOST + 4, RIGHT_MOST - 4
    if len(script.actors) == 2:
        gap = rng.uniform(19, 52)
        left = rng.uniform(low, high - gap)
        places = [left, left + gap]
        rng.shuffle(places)
    else:
        places = [rng.uniform(low, high)]
    actors = tuple(replace(actor, x=float(x)) for actor, x in zip(script.actors, places, strict=True))
    return replace(script, actors=actors, events=(), props=())


def _plays(script: Script, events: Sequence[ScriptEvent]) -> bool:
    rng = np.random.default_rng(1)
    for event in events:
        if event.prop is not None and not script.props:
            frame = min(int(event.start * FPS), script.frames - 1)
            x = float(play(script).puppets[event.actor].x[frame]) + rng.choice([-1, 1]) * REACH
            script = replace(script, props=(Prop(kind=PROPS[0], x=x),))
        if not possible(script, event):
            return False
        script = replace(script, events=(*script.events, event))
    return True
