"""Which words TempoControl reads: whole ones or letters, every mention or one, each event's at a place of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from generators.clip import Event
from generators.controls.config import TempoControl, Word
from generators.controls.tempo_readout import WordColumns
from generators.controls.tempocontrol import TempoSteering
from generators.errors import ControlRejected
from tests.generators.test_tempocontrol import CAT_IDS, PROMPT, filmed, model, request, shot


def test_words_are_whole_words_unless_asked_otherwise() -> None:
    described = shot(request())
    whole = TempoSteering(TempoControl(words=(Word(text="cat"),)), described)
    both = TempoSteering(TempoControl(words=(Word(text="cat"),), mentions="substrings"), described)
    second = TempoSteering(TempoControl(words=(Word(text="cat", occurrence=1),)), described)
    assert both.columns.columns_C.tolist() == CAT_IDS
    assert whole.columns.columns_C.tolist() == [i for i in CAT_IDS if i > PROMPT.index("delicate") + 8]
    assert second.columns.columns_C.tolist() == CAT_IDS[-3:]
    assert WordColumns.of([[1, 2], [2]], torch.device("cpu")).share_CW.tolist() == [[0.5, 0], [0.5, 1]]


TWICE = "A fox walks, then the fox walks home and jumps, then jumps."


def told(*events: Event) -> TempoSteering:
    return TempoSteering(TempoControl(), shot(request(prompt=TWICE, events=events)))


def columns_of(control: TempoSteering) -> dict[str, list[int]]:
    columns, shares = control.columns.columns_C, control.columns.share_CW
    return {word.text: columns[shares[:, i] > 0].tolist() for i, word in enumerate(control.words)}


def test_events_read_the_places_that_separable_attention_steers() -> None:
    walks = Event(subject="fox", phrase="walks", start=0, end=1)
    home = Event(subject="Fox", phrase="walks home", start=1, end=2)
    jumps = Event(subject="fox", phrase="jumps", start=2, end=3, occurrence=1)
    found, text = columns_of(told(walks, home, jumps)), model().map_text(TWICE)
    assert list(found) == ["walks", "walks home", "jumps", "fox"]
    assert found["walks"] == list(text.columns("walks"))
    assert found["walks home"] == list(text.columns("walks home"))
    assert found["jumps"] == list(text.columns("jumps", occurrence=1))
    assert found["fox"] == [*text.columns("fox"), *text.columns("fox", occurrence=1)]
    with pytest.raises(ControlRejected, match="event 'jumps': expected occurrence 0 to 1, got 7"):
        told(replace(jumps, occurrence=7))


def test_an_events_occurrence_changes_the_clip() -> None:
    def clip(occurrence: int | None) -> Tensor:
        jumps = Event(subject="fox", phrase="jumps", start=1.5, end=3, occurrence=occurrence)
        return filmed(request(TempoControl(rate=0.05), prompt=TWICE, events=(jumps,)), steps=2).latents

    first = clip(0)
    assert torch.equal(clip(None), first)
    assert not torch.equal(clip(1), first)


@pytest.mark.parametrize("mentions", ["words", "substrings"])
def test_a_word_that_the_tokenizer_cuts_off_at_one_place_is_refused(mentions: Any) -> None:
    config = TempoControl(words=(Word(text="fox"),), mentions=mentions)
    kept, cut = (shot(request(prompt=f"fox {'x' * more} fox and on", events=())) for more in (503, 504))
    assert kept.text.cut
    assert TempoSteering(config, kept).columns.columns_C.tolist() == [0, 1, 2, 508, 509, 510]
    with pytest.raises(ControlRejected, match="TempoControl word 'fox': the tokenizer cuts the prompt after 512"):
        TempoSteering(config, cut)
