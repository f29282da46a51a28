"""Contact sheets and timelines of scripts show what was promised and what was seen."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evals.world import controls
from evals.world.pictures import Shown, draw, timeline, write_sheet
from evals.world.scores import judge_clip
from generators.pictures import MISSED, SEEN
from generators.world.script import Actor, Prop, Script, ScriptEvent

SCRIPT = Script(
    place="beach",
    time="day",
    actors=(Actor(hue="red", kind="fox", x=36.0),),
    props=(Prop(kind="ball", x=49.0),),
    events=(
        ScriptEvent(verb="jump", actor=0, start=0.4, end=1.9),
        ScriptEvent(verb="spin", actor=0, start=2.1, end=3.7),
    ),
)


def holds(picture: Image.Image, colour: str) -> bool:
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return bool((np.asarray(picture.convert("RGB")) == rgb).all(-1).any())


def test_the_timeline_has_a_promised_and_a_seen_bar_for_every_event() -> None:
    lanes = timeline(SCRIPT, judge_clip(controls.film(SCRIPT), SCRIPT))
    assert [(lane.text, lane.promised) for lane in lanes] == [
        ("red fox: jump", (0.4, 1.9)),
        ("red fox: spin", (2.1, 3.7)),
    ]
    for lane in lanes:
        assert lane.seen == pytest.approx(lane.promised, abs=0.4)


def test_an_event_that_was_not_seen_has_no_seen_bar() -> None:
    lanes = timeline(SCRIPT, judge_clip(controls.film(controls.without_event(SCRIPT, 1)), SCRIPT))
    assert lanes[0].seen is not None
    assert lanes[1].seen is None


@pytest.mark.slow
def test_a_sheet_grows_by_a_band_a_clip_and_shows_seen_green_and_missed_red(tmp_path: Path) -> None:
    truth = Shown(script=SCRIPT, title="truth")
    one = Image.open(write_sheet(tmp_path / "sheets" / "one.png", [truth], "One"))
    frozen = Shown(script=SCRIPT, title="frozen", frames=controls.frozen(controls.film(SCRIPT)))
    two = Image.open(io.BytesIO(draw([truth, frozen], "Two")))
    assert one.format == "PNG"
    assert two.width == one.width
    assert two.height > 1.5 * one.height
    assert holds(one, SEEN)
    assert not holds(one, MISSED)
    assert holds(two, MISSED)


def test_nothing_to_show_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one script"):
        draw([], "Nothing")
