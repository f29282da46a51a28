"""Footage for the world benchmark that is wrong in one known way: what each score must do is known beforehand.

Rendered truth gives everything, its round trip through the autoencoder the ceiling; the others lose the score that
names their fault and keep the rest. Knows the renderer, no score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from evals.benchmarks.protocol import ABSENT, AUTOENCODER, Film
from evals.benchmarks.world import Autoencoder
from evals.metrics.score import Case as Shown
from evals.metrics.score import NotMeasured
from evals.world import controls
from evals.world.detectors import Frames
from evals.world.splits import Case
from generators.world.words import FPS, HUES, PLACES

Wrong = Callable[[Case, Case], Frames | NotMeasured]
"""A case and its partner to frames, or why there are none."""
Cases = Mapping[str, tuple[Case, Case]]
DROPPED, SHOT = "shot missing", 2
"""The control whose stories lack their second shot; the others are as they were written."""


def _swapped(case: Case, other: Case) -> Frames | NotMeasured:
    if len(case.script.events) != 2:
        return NotMeasured(reason="only two events can be swapped")
    return controls.film(controls.swapped_events(case.script))


def _recoloured(case: Case, other: Case) -> Frames:
    free = next(hue for hue in HUES if hue not in {actor.hue for actor in case.script.actors})
    return controls.recoloured(case.script, 0, free, case.script.seconds / 2)


def _leaping(case: Case, other: Case) -> Frames:
    """Whoever acts first is somewhere else from two fifths of it on (half-way through a spin it is edge on)."""
    first = min(case.script.events, key=lambda event: event.start)
    return controls.leaping(case.script, first.actor, 0.6 * first.start + 0.4 * first.end)


def _another_place(case: Case, other: Case) -> Frames:
    place = next(place for place in PLACES if place != case.script.place)
    return controls.film(replace(case.script, place=place))


def _noisy(spread: float) -> Wrong:
    return lambda case, other: controls.noisy(controls.film(case.script), spread, case.number)


CONTROLS: Mapping[str, Wrong] = {
    "truth": lambda case, other: controls.film(case.script),
    "another clip": lambda case, other: controls.film(other.script),
    "frozen": lambda case, other: controls.frozen(controls.film(case.script)),
    "reversed": lambda case, other: controls.reversed_in_time(controls.film(case.script)),
    "swapped": _swapped,
    "recoloured": _recoloured,
    "leaping": _leaping,
    "twin": lambda case, other: controls.with_twin(case.script, case.script.events[0].actor),
    "another place": _another_place,
    "last event missing": lambda case, other: controls.film(controls.without_event(case.script, -1)),
    DROPPED: lambda case, other: controls.film(case.script),
    "noise 12": _noisy(12.0),
    "noise 30": _noisy(30.0),
    "noise 60": _noisy(60.0),
}


class ControlFootage:
    """Rendered clips under the name of their fault. Raises ValueError for a control that does not exist."""

    source = "rendered"

    def __init__(
        self, control: str, cases: Mapping[str, tuple[Case, Case]], autoencoder: Autoencoder | NotMeasured
    ) -> None:
        if control not in (*CONTROLS, AUTOENCODER):
            raise ValueError(f"control: expected one of {', '.join((*CONTROLS, AUTOENCODER))}; got {control!r}")
        self.name = f"control: {control}"
        self._control, self._cases, self._autoencoder = control, cases, autoencoder

    def digest(self, case: Shown, seed: int) -> str:
        """Of the autoencoder, for the control that is its round trip; the others are rendered."""
        if self._control != AUTOENCODER or isinstance(self._autoencoder, NotMeasured):
            return ""
        return self._autoencoder.digest

    def film(self, case: Shown, seed: int) -> Film | NotMeasured:
        """The clip of a case; its seed decides nothing."""
        if self._control == DROPPED and case.shot in (0, SHOT):
            return ABSENT if case.shot else NotMeasured(reason="a film of one shot has none to spare")
        found = self._frames(*self._cases[case.name])
        return found if isinstance(found, NotMeasured) else Film(frames=found, fps=FPS)

    def _frames(self, case: Case, other: Case) -> Frames | NotMeasured:
        if self._control != AUTOENCODER:
            return CONTROLS[self._control](case, other)
        truth = controls.film(case.script)
        return self._autoencoder if isinstance(self._autoencoder, NotMeasured) else self._autoencoder.roundtrip(truth)
