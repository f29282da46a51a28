"""What a case asks a backend for: its sentence, and its event behind the frames that were given."""

from __future__ import annotations

import pytest

from evals.world.chains import chain
from evals.world.requests import asked_after, request_of
from evals.world.splits import cases
from generators.world.words import FPS


def test_an_event_is_asked_for_after_the_given_frames() -> None:
    shot = chain(2, 0).shots[1]
    (was,), (moved,) = shot.script.events, asked_after(shot, 5).script.events
    assert asked_after(shot, 0).script.events[0].start == pytest.approx(was.start)
    assert 5 / FPS <= moved.start < moved.end <= shot.script.seconds
    assert moved.end - moved.start < was.end - was.start


def test_a_case_asks_for_its_caption_and_its_events_in_their_order() -> None:
    case = cases("both", 2, 1)[0]
    request = request_of(case, seed=5)
    assert (request.prompt, request.seed, request.frames) == (case.caption.text, 5, case.script.frames)
    assert tuple(event.phrase for event in request.events) == case.caption.phrases
    assert [event.start for event in request.events] == sorted(event.start for event in case.script.events)
