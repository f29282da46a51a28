"""Captions of training shots: what a vision model is asked, and what counts as an answer."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from agents.captioner import ModelCaptioner, ShotCaption
from agents.errors import ModelRefused
from agents.scripted import ScriptedModel

FRAMES = np.zeros((16, 48, 64, 3), np.uint8)
GOOD = "A woman in a red coat\n walks across a grey bridge."


def test_a_model_sees_key_frames_and_the_captions_before() -> None:
    model = ScriptedModel([ShotCaption(caption=GOOD)])
    earlier = [f"Caption number {i} of this run." for i in range(6)]
    with closing(ModelCaptioner(model)) as captioner:
        told = captioner.caption(FRAMES, 8.0, earlier)
    assert told == "A woman in a red coat walks across a grey bridge."
    (question,) = model.asked
    assert len(question.images) == 4
    assert "2.00 seconds" in question.prompt.user
    assert all(caption in question.prompt.user for caption in earlier[-4:])
    assert "number 1 of" not in question.prompt.user


def test_the_first_shot_of_a_run_hears_of_no_other() -> None:
    model = ScriptedModel([ShotCaption(caption=GOOD)])
    with closing(ModelCaptioner(model)) as captioner:
        captioner.caption(FRAMES, 8.0, [])
    assert "shots before" not in model.asked[0].prompt.user


def test_what_is_no_caption_is_sent_back_and_then_refused() -> None:
    model = ScriptedModel([ShotCaption(caption="A fox."), ShotCaption(caption=GOOD)])
    with closing(ModelCaptioner(model)) as captioner:
        assert captioner.caption(FRAMES, 8.0, []).startswith("A woman")
    assert "at least 20 characters" in model.asked[1].turns[0].objection
    with (
        closing(ModelCaptioner(ScriptedModel(lambda question: ShotCaption(caption=" ")))) as captioner,
        pytest.raises(ModelRefused, match="at least 20 characters"),
    ):
        captioner.caption(FRAMES, 8.0, [])


def test_closing_closes_the_models_connections() -> None:
    closed: list[bool] = []

    async def close() -> None:
        closed.append(True)

    ModelCaptioner(ScriptedModel([]), close).close()
    assert closed == [True]
