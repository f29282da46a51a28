"""A model in this process: votes, seeds, cancelling, errors and letting go, with a tiny checkpoint."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import BaseModel

from agents.brains import InProcess, LanguageModel, Priced, Question, Turn
from agents.errors import ModelMisconfigured, ModelRefused, ModelUnavailable
from agents.ledger import Ledger
from agents.local_llm import LocalModel
from agents.profile import Budget
from generators.chat import ChatCheckpoint, Continuation, Message
from generators.errors import OutOfMemory
from prompts.catalog import load
from storage.archive import Archive
from tests.tiny_chat import tiny_language_model


class Shares(BaseModel):
    shares: list[float]


QUESTION = Question(
    role="segmenter", prompt=load("segment").render(prompt="A fox jumps.", seconds=4, events=["jumps"]), shape=Shares
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_language_model(tmp_path_factory.mktemp("chat") / "babbler")


@contextmanager
def opened(place: Path, **settings: float) -> Iterator[LocalModel]:
    model = LocalModel(
        str(place),
        lambda: ChatCheckpoint(str(place), device="cpu"),
        **{"max_tokens": 8} | settings,  # type: ignore[arg-type]
    )
    yield model
    model.close()


async def texts(model: LocalModel, *votes: int) -> list[str]:
    return [(await model.complete(replace(QUESTION, vote=vote))).text for vote in votes]


async def test_the_first_vote_is_the_likeliest_answer_and_further_ones_are_drawn(weights: Path) -> None:
    with opened(weights) as model, opened(weights) as other:
        assert isinstance(model, LanguageModel)
        assert isinstance(model, InProcess)
        assert isinstance(model, Priced)
        first = await texts(model, 0, 1, 2)
        assert len(set(first)) == 3
        assert await texts(other, 2, 1, 0) == first[::-1], "neither order nor an earlier question matters"
    with opened(weights, temperature=0.0) as cold:
        assert await texts(cold, 0, 1) == [first[0]] * 2


async def test_a_reply_says_what_it_read_and_wrote_and_at_most_is_more(weights: Path) -> None:
    with opened(weights) as model:
        most = model.at_most(QUESTION)
        reply = await model.complete(replace(QUESTION, turns=(Turn(answer="no", objection="again"),)))
    assert reply.tokens_out == most.tokens_out == 8
    assert reply.cut_off
    assert (reply.cost, most.cost) == (0, 0)
    assert reply.tokens_in > most.tokens_in  # this tokenizer's tokens are bytes


async def test_who_stops_waiting_frees_the_model_for_the_next_question(weights: Path) -> None:
    with opened(weights, max_tokens=7000) as model:
        waiting = asyncio.create_task(model.complete(QUESTION))
        await asyncio.sleep(1.0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        model.max_tokens = 4
        reply = await asyncio.wait_for(model.complete(QUESTION), 20)
    assert reply.tokens_out == 4


async def test_a_stopped_question_is_not_counted_as_carried_out(weights: Path, tmp_path: Path) -> None:
    with opened(weights, max_tokens=7000) as model, Archive(tmp_path) as archive:
        run = archive.open_run("a story", "x", {})
        ledger = Ledger(model, archive, run.id, Budget())
        waiting = asyncio.create_task(ledger.complete(QUESTION))
        await asyncio.sleep(1.0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert archive.costs(run.id).unknown_calls == 0


async def test_pictures_for_a_blind_model_and_a_missing_folder_need_a_person(weights: Path, tmp_path: Path) -> None:
    with opened(weights) as model:
        with pytest.raises(ModelMisconfigured, match="sees no pictures.*for the segmenter. Correct"):
            await model.complete(replace(QUESTION, images=(b"x",)))
        with pytest.raises(ModelMisconfigured, match="for the critic"):
            await model.open_for("critic")
        await model.open_for("planner")
    with opened(tmp_path / "none") as model, pytest.raises(ModelMisconfigured, match="none: expected a folder or hub"):
        await model.open()


async def test_too_long_a_question_is_refused_and_no_memory_is_said(weights: Path) -> None:
    long = replace(QUESTION, turns=(Turn(answer="x" * 9000, objection="no"),))
    with opened(weights) as model, pytest.raises(ModelRefused, match=r"at most 8192 tokens.*critic\.most_frames"):
        await model.complete(long)

    class Full:
        name, sees = "full", True

        def answer(self, talk: list[Message], **_: object) -> Continuation:
            raise OutOfMemory("no room")

    model = LocalModel("full", lambda: Full())  # type: ignore[arg-type, return-value]
    with pytest.raises(ModelUnavailable, match="no room"):
        await model.complete(QUESTION)
    model.close()


async def test_it_loads_once_and_lets_go_when_closed(weights: Path) -> None:
    loads: list[int] = []

    def load() -> ChatCheckpoint:
        loads.append(threading.get_ident())
        return ChatCheckpoint(str(weights), device="cpu")

    model = LocalModel(str(weights), load, max_tokens=2)
    await asyncio.gather(model.open(), *(model.complete(replace(QUESTION, vote=vote)) for vote in range(3)))
    assert len(loads) == 1
    assert loads[0] != threading.get_ident()
    assert model.name.startswith("babbler ")
    model.close()
    with pytest.raises(RuntimeError, match="shutdown"):
        await model.open()
