"""How scripts are told: one sentence an event, in the words of `words.py`, with the event's phrase marked.

Every verb has twenty predicates: five ways to begin times four ways to go on. Half of the grid, a checkerboard, is
kept from training, so held-out sentences are new but every word of them was seen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from generators.world.grammar import Split
from generators.world.script import Script, ScriptEvent
from generators.world.words import HUES, KINDS, PLACES, PROPS, SIDES, TIMES, VERBS

_HEADS: dict[str, tuple[str, str, str, str, str]] = {
    "walk": ("walks", "strolls", "goes", "marches", "wanders"),
    "jump": ("jumps", "leaps", "bounces", "springs", "bounds"),
    "spin": ("spins", "twirls", "turns", "whirls", "rotates"),
    "grow": ("grows", "gets", "becomes", "swells and gets", "stretches and gets"),
    "shrink": ("shrinks and becomes", "gets", "becomes", "dwindles and gets", "wilts and gets"),
    "dance": ("dances", "sways", "boogies", "wiggles", "rocks"),
    "lie_down": ("lies down", "falls down", "drops down", "flops down", "sinks down"),
    "float": ("floats", "rises", "drifts", "flies", "lifts off"),
    "vanish": ("vanishes", "disappears", "fades away", "melts away", "dissolves"),
    "enter": ("enters", "comes in", "arrives", "walks in", "steps in"),
    "leave": ("leaves", "walks off", "walks away", "goes out", "exits"),
    "push": ("pushes", "shoves", "rolls", "moves", "slides"),
    "lift": ("lifts", "picks up", "raises", "hoists", "takes"),
    "approach": ("approaches", "walks up to", "comes near", "goes to", "steps up to"),
    "chase": ("chases", "runs after", "follows", "hunts", "pursues"),
    "hop_over": ("hops over", "jumps over", "leaps over", "vaults over", "bounds over"),
}
_TAILS: dict[str, tuple[str, str, str, str]] = {
    "walk": ("to the {side}", "over to the {side}", "toward the {side}", "to the {side} side"),
    "jump": ("up", "high up", "into the air", "up and lands again"),
    "spin": ("around", "round and round", "on the spot", "in a circle"),
    "grow": ("big", "very big", "much bigger", "large and tall"),
    "shrink": ("small", "very small", "much smaller", "little and tiny"),
    "dance": ("from side to side", "left and right", "to the music", "happily"),
    "lie_down": ("on the ground", "flat", "to sleep", "for a rest"),
    "float": ("up into the sky", "up in the air", "slowly upward", "above the ground"),
    "vanish": ("completely", "into thin air", "from the scene", "without a trace"),
    "enter": ("from the {side}", "from the {side} side", "from the {side} edge", "from far {side}"),
    "leave": ("to the {side}", "on the {side} side", "out on the {side}", "far to the {side}"),
    "push": ("the {prop}", "the {prop} along", "the {prop} forward", "the {prop} over the ground"),
    "lift": ("the {prop}", "the {prop} high", "the {prop} overhead", "the {prop} off the ground"),
    "approach": ("the {other}", "the {other} slowly", "the {other} and stops", "the {other} to say hello"),
    "chase": ("the {other}", "the {other} quickly", "the {other} across the stage", "the {other} along"),
    "hop_over": (
        "the {other}",
        "the {other} in one go",
        "the {other} and lands",
        "the {other} with a big jump",
    ),
}
_PLACE_WORDS = {
    "meadow": "in the meadow", "beach": "on the beach", "forest": "in the forest",
    "city": "in the city", "desert": "in the desert", "snow": "in the snow",
}  # fmt: skip
_TIME_WORDS = {"day": ("by day", "in the daytime"), "night": ("at night", "in the nighttime")}
_THEN = ("Then", "After that", "Next", "And then")


@dataclass(frozen=True, kw_only=True)
class Caption:
    """A told script: `phrases[i]` is event i's predicate, verbatim in `text`; `subjects[i]` its actor's words."""

    text: str
    phrases: tuple[str, ...]
    subjects: tuple[str, ...]


def predicates(verb: str, split: Split | None = None) -> list[str]:
    """The verb's predicates with `{side}`, `{prop}`, `{other}` open: all twenty, or one half of them."""
    return [
        f"{head} {tail}"
        for i, head in enumerate(_HEADS[verb])
        for j, tail in enumerate(_TAILS[verb])
        if split is None or (i + j) % 2 == (split == "heldout")
    ]


def phrase(script: Script, event: ScriptEvent, template: str) -> str:
    """Fill a predicate's open places from the event."""
    return template.format(
        side=event.side,
        prop=None if event.prop is None else script.props[event.prop].kind,
        other=None if event.other is None else script.actors[event.other].words,
    )


def scene(place: str, time: str, style: int) -> str:
    """Where and when, in one of eight ways: `style` 0..3 are trained, 4..7 held out."""
    where, when = _PLACE_WORDS[place], _TIME_WORDS[time][style % 2]
    if style in (0, 5):
        return f"{where} {when},"
    if style in (1, 4):
        return f"{when} {where},"
    if style in (2, 7):
        return f"this happens {where} {when}."
    return f"this happens {when} {where}."


def tell(script: Script, templates: tuple[str, ...], style: int = 0, joiner: int = 0) -> Caption:
    """Write the caption from chosen predicates, one an event in order of start."""
    events = sorted(script.events, key=lambda e: e.start)
    if len(templates) != len(events):
        raise ValueError(f"tell: expected {len(events)} predicates, one an event, got {len(templates)}")
    phrases = tuple(phrase(script, e, t) for e, t in zip(events, templates, strict=True))
    subjects = tuple(script.actors[e.actor].words for e in events)
    opening = scene(script.place, script.time, style)
    sentences = [f"the {subjects[0]} {phrases[0]}." if events else ""]
    sentences += [f"{_THEN[joiner % len(_THEN)]} the {s} {p}." for s, p in zip(subjects[1:], phrases[1:], strict=True)]
    if opening.endswith("."):
        sentences[0] = _capital(sentences[0])
    return Caption(text=_capital(" ".join([opening, *sentences])), phrases=phrases, subjects=subjects)


def write_caption(script: Script, rng: np.random.Generator, split: Split = "train") -> Caption:
    """Tell the script in random sentences of that split's templates."""
    templates = tuple(str(rng.choice(predicates(e.verb, split))) for e in script.events)
    style = int(rng.integers(4)) + (4 if split == "heldout" else 0)
    order = sorted(range(len(templates)), key=lambda i: script.events[i].start)
    return tell(script, tuple(templates[i] for i in order), style, int(rng.integers(len(_THEN))))


def vocabulary() -> list[str]:
    """Every word captions may hold, lower case, sorted: what the bundled tokenizer knows."""
    text = [*HUES, *KINDS, *PLACES, *PROPS, *SIDES, *TIMES, *_THEN, *_PLACE_WORDS.values()]
    text += [word for words in _TIME_WORDS.values() for word in words]
    text += [p for verb in VERBS for p in predicates(verb)]
    text += ["this happens the a an and , ."]
    return sorted(set(re.findall(r"[a-z]+|[,.]", re.sub(r"\{\w+\}", " ", " ".join(text)).lower())))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
