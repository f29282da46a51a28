"""What every language model must do, be it scripted, behind an endpoint or in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import cast

import pytest
from pydantic import BaseModel, ConfigDict

from agents.answers import ask
from agents.brains import LanguageModel, Question, Turn
from agents.errors import ModelError, ModelRefused, ModelUnavailable
from agents.llm import Endpoint, EndpointModel, Server
from agents.local_llm import LocalModel
from agents.scripted import ScriptedModel
from generators.chat import ChatCheckpoint, Continuation, Message
from generators.errors import OutOfMemory
from prompts.catalog import load
from tests.loopback import Answer, ChatServer, fails, says

Opened = AbstractAsyncContextManager[LanguageModel]
Open = Callable[[Sequence[str | None]], Opened]
"""Opens a model that gives these answers; None stands for one that never comes."""


class Shares(BaseModel):
    model_config = ConfigDict(extra="forbid")
    shares: list[float]


@asynccontextmanager
async def scripted(answers: Sequence[str | None]) -> AsyncIterator[LanguageModel]:
    yield ScriptedModel([ModelUnavailable("gone") if a is None else a for a in answers], name="small")


@asynccontextmanager
async def endpoint(answers: Sequence[str | None]) -> AsyncIterator[LanguageModel]:
    replies: list[Answer] = [fails(503) if a is None else says(a) for a in answers]
    with ChatServer(replies).running() as url:
        server = Server(Endpoint(base_url=url, attempts=1, first_wait=0.01))
        try:
            yield EndpointModel(server, "small")
        finally:
            await server.close()


class Checkpoint:
    """Says what it is told to; a real one is in tests/generators/test_chat.py."""

    sees, name = True, "small"

    def __init__(self, answers: Sequence[str | None]) -> None:
        self.answers = list(answers)

    def answer(self, talk: Sequence[Message], *, most: int, **_: object) -> Continuation:
        text = self.answers.pop(0)
        if text is None:
            raise OutOfMemory("no memory is left")
        return Continuation(text=text, tokens_in=len(talk), tokens_out=min(most, 9), cut_off=False)


@asynccontextmanager
async def local(answers: Sequence[str | None]) -> AsyncIterator[LanguageModel]:
    model = LocalModel("small", lambda: cast(ChatCheckpoint, Checkpoint(answers)))
    try:
        yield model
    finally:
        model.close()


@pytest.fixture(params=[scripted, endpoint, local], ids=["scripted", "endpoint", "local"])
def open_model(request: pytest.FixtureRequest) -> Open:
    found: Open = request.param
    return found


def question(**changes: object) -> Question:
    prompt = load("segment").render(prompt="A fox jumps.", seconds=4, events=["jumps"])
    return Question(role="segmenter", prompt=prompt, shape=Shares, **changes)  # type: ignore[arg-type]


async def test_it_has_a_name_and_is_a_language_model(open_model: Open) -> None:
    async with open_model(["x"]) as model:
        assert isinstance(model, LanguageModel)
        assert model.name == "small"


async def test_it_gives_back_the_text_as_it_is_and_says_what_it_cost(open_model: Open) -> None:
    text = '  {"shares": [1.0]} \n— naïve 狐'
    async with open_model([text]) as model:
        reply = await model.complete(question())
    assert reply.text == text
    assert reply.tokens_in > 0
    assert reply.tokens_out > 0
    assert reply.cost >= 0


async def test_a_wrong_answer_can_be_put_right(open_model: Open) -> None:
    async with open_model(["no", '{"shares": "all"}', '{"shares": [1.0]}']) as model:
        assert (await ask(model, question(), Shares)).shares == [1.0]


async def test_a_model_that_never_answers_well_is_refused(open_model: Open) -> None:
    async with open_model(["no"] * 3) as model:
        with pytest.raises(ModelRefused, match="small"):
            await ask(model, question(), Shares)


async def test_an_answer_that_never_comes_is_unavailable(open_model: Open) -> None:
    async with open_model([None, '{"shares": [1.0]}']) as model:
        with pytest.raises(ModelUnavailable):
            await model.complete(question())
        assert "shares" in (await model.complete(question())).text


async def test_images_and_earlier_turns_are_taken(open_model: Open) -> None:
    async with open_model(["fine"]) as model:
        asked = question(images=(b"\xff\xd8",), turns=(Turn(answer="a", objection="b"),), vote=1)
        assert (await model.complete(asked)).text == "fine"


@pytest.mark.slow
async def test_questions_may_be_put_side_by_side(open_model: Open) -> None:
    async with open_model(["a"] * 8) as model:
        replies = await asyncio.gather(*(model.complete(question(vote=n)) for n in range(8)))
    assert [reply.text for reply in replies] == ["a"] * 8


async def test_what_it_raises_is_a_model_error(open_model: Open) -> None:
    async with open_model([None]) as model:
        with pytest.raises(ModelError):
            await model.complete(question())
