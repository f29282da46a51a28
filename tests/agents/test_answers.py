"""From text to checked answers, asking again a bounded number of times."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict

from agents.answers import ask, extract_json, schema_text
from agents.brains import Question
from agents.errors import ModelRefused, ModelUnavailable
from agents.scripted import ScriptedModel
from prompts.catalog import Rendered


class Colour(BaseModel):
    model_config = ConfigDict(extra="forbid")
    colour: str


QUESTION = Question(role="planner", prompt=Rendered(name="colour", digest="d", system="s", user="u"), shape=Colour)


@pytest.mark.parametrize(
    "text",
    [
        '{"colour": "red"}',
        '```json\n{"colour": "red"}\n```',
        'Sure! Here it is:\n{"colour": "red"}\nAnything else?',
        '<think>{maybe "blue"}</think>{"colour": "red"}',
        'A set {x} of things, then {"colour": "red"}',
    ],
)
def test_the_object_is_found_in_what_models_write_around_it(text: str) -> None:
    assert extract_json(text) == {"colour": "red"}


@pytest.mark.parametrize("text", ["", "no", '{"colour": "re', "[1, 2]"])
def test_text_without_a_whole_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="JSON object"):
        extract_json(text)


async def test_a_wrong_answer_goes_back_with_what_is_wrong() -> None:
    model = ScriptedModel(['{"color": "red"}', '{"colour": "mauve"}', '{"colour": "red"}'])

    def check(answer: Colour) -> list[str]:
        return [] if answer.colour == "red" else [f"{answer.colour} is not allowed"]

    assert (await ask(model, QUESTION, Colour, check)).colour == "red"
    first, second = model.asked[2].turns
    assert first.answer == '{"color": "red"}'
    assert "colour: Field required" in first.objection
    assert "mauve is not allowed" in second.objection


async def test_asking_again_is_bounded_and_the_error_says_the_last_problem() -> None:
    model = ScriptedModel(["nonsense"] * 9, name="weak")
    with pytest.raises(ModelRefused, match=r"'weak'.*'colour' in 3 tries.*nonsense.*stronger"):
        await ask(model, QUESTION, Colour)
    assert len(model.asked) == 3


async def test_the_models_own_errors_are_not_repaired() -> None:
    model = ScriptedModel([ModelUnavailable("gone"), '{"colour": "red"}'])
    with pytest.raises(ModelUnavailable):
        await ask(model, QUESTION, Colour)
    assert len(model.asked) == 1


def test_a_shape_in_words_is_an_outline_of_the_answer() -> None:
    class Painting(BaseModel):
        base: Colour
        layers: list[Colour]
        finish: Literal["matt", "gloss"]
        hours: float
        owner: str | None

    outline = schema_text(Painting).splitlines()[-1]
    assert outline == (
        '{"base": {"colour": "text"}, "layers": [{"colour": "text"}, …], "finish": "matt | gloss", "hours": 0.5, '
        '"owner": "text" or null}'
    )
