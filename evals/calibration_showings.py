"""What a critic is calibrated on: rendered clips, whose truth is known, each shown with right and with wrong words.

A *showing* is a viewing and, for each promise in it, whether the clip keeps it. Promises that a fair judge might see
either way (who chases also walks) are not counted. Knows the world and the renderer, no critic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from agents.brains import Viewing
from agents.storyboard import Subject
from evals.benchmarks.world import wrong_promises
from evals.world import controls
from evals.world.detectors import Frames
from evals.world.events import Promise, promised
from evals.world.splits import Case
from generators.clip import Event
from generators.world.captions import Caption, write_caption
from generators.world.script import Prop, Script, ScriptEvent
from generators.world.words import FPS, HUES

BLUR = 0.7
"""Pixels of blur that a decoder leaves."""
NOISE = 12.0
"""Grey levels of noise on every pixel."""
SMEAR = 2
"""Frames on both sides that a smeared frame is the mean of."""
RIGHT = ("right caption", "right caption, blurred clip", "right caption, noisy clip")
"""Kinds whose every promise is kept."""
WRONG_CAPTIONS = ("another caption", "another verb", "another verb, smeared clip", "another puppet")
BACKWARDS: dict[str, bool] = {
    **dict.fromkeys(("jump", "spin", "dance", "hop_over"), True),
    **dict.fromkeys(("walk", "grow", "shrink", "lie_down", "float", "vanish", "enter", "leave", "approach"), False),
}
"""Whether a verb is still to be seen when its clip runs backwards; the others may be argued about."""
_ALIKE = (
    ("walk", "approach", "chase", "push", "enter", "leave", "lift"),
    ("jump", "hop_over", "float"),
    ("shrink", "vanish", "leave", "float"),
)
"""Verbs of which one may be taken for another."""


@dataclass(frozen=True, kw_only=True)
class Showing:
    """One clip with one set of words. `kept` holds a truth a promise, None where it may be argued about.

    `ordered` says whether the promises stand in the order of the clip; None where that is no question.
    """

    kind: str
    viewing: Viewing
    kept: tuple[bool | None, ...]
    ordered: bool | None = None


Told = tuple[Frames, Script, Caption, Sequence[bool | None], bool | None]
"""Frames, the script that is promised, its words, what of it is kept, and whether it is in order."""


def showings(case: Case, other: Case) -> Iterator[Showing]:
    """Every kind of showing that the case allows, one at a time; `other` lends a caption that is wrong here."""
    truth = controls.film(case.script)
    makers: dict[str, Callable[[], Told]] = {
        "right caption": lambda: _right(case, truth),
        "right caption, blurred clip": lambda: _right(case, controls.blurred(truth, BLUR)),
        "right caption, noisy clip": lambda: _right(case, controls.noisy(truth, NOISE, case.number)),
        "another caption": lambda: _another_caption(case, other, truth),
        "another verb": lambda: _another_verb(case, truth),
        "another verb, smeared clip": lambda: _another_verb(case, controls.smeared(truth, SMEAR)),
        "another puppet": lambda: _another_puppet(case, truth),
        "events swapped": lambda: _swapped(case, truth),
        "clip reversed": lambda: _reversed(case, truth),
        "clip frozen": lambda: _frozen(case, truth),
        "last event missing": lambda: _missing(case),
    }
    for kind, make in makers.items():
        if kind == "events swapped" and len(case.script.events) != 2:
            continue
        frames, told, caption, kept, ordered = make()
        yield Showing(kind=kind, viewing=viewing(kind, frames, told, caption), kept=tuple(kept), ordered=ordered)


def viewing(shot: str, frames: Frames, script: Script, caption: Caption) -> Viewing:
    """The clip as a critic gets it, its promises those of the script in the caption's words."""
    told = zip(caption.subjects, caption.phrases, _in_order(script), strict=True)
    return Viewing(
        shot=shot,
        take=0,
        frames=frames,
        fps=FPS,
        events=tuple(Event(subject=s, phrase=p, start=e.start, end=e.end) for s, p, e in told),
        prompt=caption.text,
        subjects=tuple(Subject(name=actor.words, description=f"the {actor.words}") for actor in script.actors),
    )


def _in_order(script: Script) -> list[ScriptEvent]:
    return sorted(script.events, key=lambda event: event.start)


def _ordered(script: Script) -> bool | None:
    return True if len(script.events) == 2 else None


def _right(case: Case, frames: Frames) -> Told:
    return frames, case.script, case.caption, [True] * len(case.script.events), _ordered(case.script)


def _another_caption(case: Case, other: Case, truth: Frames) -> Told:
    kept = [keeps(case.script, promised(other.script, event)) for event in _in_order(other.script)]
    return truth, other.script, other.caption, kept, None


def _another_verb(case: Case, truth: Frames) -> Told:
    """Each event told with a verb that its actor never does in the clip."""
    rng = _rng(case, 1)
    told = case.script
    for index, event in enumerate(case.script.events):
        hue = case.script.actors[event.actor].hue
        free = [p for p in wrong_promises(case.script) if p.hue == hue and keeps(case.script, p) is False]
        told = _with_promise(told, index, free[int(rng.integers(len(free)))])
    return truth, told, write_caption(told, rng), [False] * len(told.events), None


def _another_puppet(case: Case, truth: Frames) -> Told:
    """The first event's actor told in a colour that nobody in the clip wears."""
    rng = _rng(case, 2)
    first = _in_order(case.script)[0].actor
    free = [hue for hue in HUES if hue not in {actor.hue for actor in case.script.actors}]
    hue = free[int(rng.integers(len(free)))]
    told = replace(
        case.script, actors=tuple(replace(a, hue=hue) if i == first else a for i, a in enumerate(case.script.actors))
    )
    kept = [first not in (event.actor, event.other) for event in _in_order(told)]
    return truth, told, write_caption(told, rng), kept, None


def _swapped(case: Case, truth: Frames) -> Told:
    told = controls.swapped_events(case.script)
    return truth, told, write_caption(told, _rng(case, 3)), [None] * len(told.events), False


def _reversed(case: Case, truth: Frames) -> Told:
    kept = [BACKWARDS.get(event.verb) for event in _in_order(case.script)]
    return controls.reversed_in_time(truth), case.script, case.caption, kept, None


def _frozen(case: Case, truth: Frames) -> Told:
    return controls.frozen(truth), case.script, case.caption, [False] * len(case.script.events), None


def _missing(case: Case) -> Told:
    less = controls.without_event(case.script, -1)
    gone = promised(case.script, _in_order(case.script)[-1])
    kept: list[bool | None] = [True] * len(less.events)
    return controls.film(less), case.script, case.caption, [*kept, keeps(less, gone)], None


def keeps(script: Script, promise: Promise) -> bool | None:
    """Whether the script's clip keeps a promise; None where something alike happens and a fair judge may say either."""
    made = [promised(script, event) for event in script.events]
    if promise in made:
        return True
    alike = {verb for group in _ALIKE if promise.verb in group for verb in group} | {promise.verb}
    return None if any(one.hue == promise.hue and one.verb in alike for one in made) else False


def _with_promise(script: Script, index: int, promise: Promise) -> Script:
    """The script with one event telling another promise, at the same time; a prop it lacks is put beside."""
    hues = [actor.hue for actor in script.actors]
    props = script.props
    if promise.prop is not None and promise.prop not in [prop.kind for prop in props]:
        props = (*props, Prop(kind=promise.prop, x=48.0))
    event = ScriptEvent(
        verb=promise.verb,
        actor=hues.index(promise.hue),
        start=script.events[index].start,
        end=script.events[index].end,
        side=promise.side,
        prop=None if promise.prop is None else [prop.kind for prop in props].index(promise.prop),
        other=None if promise.other is None else hues.index(promise.other),
    )
    return replace(script, props=props, events=(*script.events[:index], event, *script.events[index + 1 :]))


def _rng(case: Case, stream: int) -> np.random.Generator:
    return np.random.default_rng([case.number, len(case.script.events), stream])
