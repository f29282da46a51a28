"""A model in this process as a language model: an open checkpoint from a folder or hub id, asked without a server.

It is shown the shape of the answer in words; asking again and checking are `agents.answers`, remembering and budgets
`agents.ledger`. Knows no prompt and no agent; the checkpoint itself is `generators.chat`'s.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agents.answers import read_at_most, schema_text
from agents.brains import Question, Reply
from agents.errors import ModelMisconfigured, ModelRefused, ModelUnavailable
from generators.digests import named
from generators.errors import BackendUnavailable, OutOfMemory, RequestRejected

if TYPE_CHECKING:
    from generators.chat import ChatCheckpoint, Continuation, Message

FURTHER = 0.7
"""Temperature of every vote after the first, where none is given: the likeliest answer would be the same again."""

ANEW = "Correct the profile and run the story anew: a run keeps the profile it was begun with"


class LocalModel:
    """One checkpoint, loaded when it is opened or first asked; questions wait for one another.

    `temperature` is that of all answers; without one, the first vote on a question is the likeliest answer and further
    ones are drawn. The same question to the same weights has the same answer on the same machine.
    """

    def __init__(
        self,
        place: str,
        load: Callable[[], ChatCheckpoint],
        *,
        max_tokens: int = 4096,
        temperature: float | None = None,
    ) -> None:
        self.place = place
        self.max_tokens = max_tokens
        self.temperature = temperature
        self._load = load
        self._loaded: ChatCheckpoint | None = None
        self._name = ""
        self._hand = ThreadPoolExecutor(1, "local-model")

    @property
    def name(self) -> str:
        """The checkpoint's name, with what tells its weights apart from others."""
        self._name = self._name or named(self.place)
        return self._name

    async def open(self) -> None:
        """Load the checkpoint. Raises ModelMisconfigured where that is impossible, ModelUnavailable without memory."""
        await asyncio.get_running_loop().run_in_executor(self._hand, self._open)

    async def open_for(self, role: str) -> None:
        """Load it for this role; a critic that sees no pictures is ModelMisconfigured as well."""
        await self.open()
        if role == "critic" and self._loaded is not None and not self._loaded.sees:
            raise self._blind(role)

    async def complete(self, question: Question) -> Reply:
        """Put the question once. Raises ModelMisconfigured, ModelRefused, or ModelUnavailable without memory."""
        started = time.monotonic()
        stopped = threading.Event()
        try:
            said = await asyncio.get_running_loop().run_in_executor(self._hand, self._answer, question, stopped)
        except asyncio.CancelledError:
            stopped.set()
            raise
        return Reply(
            text=said.text,
            tokens_in=said.tokens_in,
            tokens_out=said.tokens_out,
            seconds=time.monotonic() - started,
            cut_off=said.cut_off,
        )

    def at_most(self, question: Question) -> Reply:
        """The most tokens that one answer can come to, estimated upwards; it costs no money."""
        return Reply(text="", tokens_in=read_at_most(question), tokens_out=self.max_tokens)

    def close(self) -> None:
        """Let go of the weights, once what is under way is done."""
        self._hand.submit(self._forget)
        self._hand.shutdown(wait=False)

    def _forget(self) -> None:
        self._loaded = None

    def _open(self) -> ChatCheckpoint:
        if self._loaded is None:
            with _told():
                self._loaded = self._load()
            self._name = self._loaded.name
        return self._loaded

    def _blind(self, role: str) -> ModelMisconfigured:
        return ModelMisconfigured(
            f"{self.place} is a language model and sees no pictures: name a vision-language model for the {role}. "
            f"{ANEW}"
        )

    def _answer(self, question: Question, stopped: threading.Event) -> Continuation:
        model = self._open()
        if question.images and not model.sees:
            raise self._blind(question.role)
        temperature = self.temperature if self.temperature is not None else FURTHER if question.vote else 0.0
        with _told():
            return model.answer(
                _talk(question),
                most=self.max_tokens,
                temperature=temperature,
                seed=int(question.digest(self.name)[:15], 16),
                stopped=stopped,
            )


@contextmanager
def _told() -> Iterator[None]:
    """The checkpoint's errors as a model's."""
    try:
        yield
    except BackendUnavailable as error:
        raise ModelMisconfigured(f"{error}. {ANEW}") from error
    except RequestRejected as error:
        raise ModelRefused(str(error)) from error
    except OutOfMemory as error:
        raise ModelUnavailable(str(error), unanswered=0) from error


def _talk(question: Question) -> list[Message]:
    from generators.chat import Message

    system = f"{question.prompt.system}\n\n{schema_text(question.shape)}"
    talk = [
        Message(role="system", text=system),
        Message(role="user", text=question.prompt.user, pictures=question.images),
    ]
    for turn in question.turns:
        talk += [Message(role="assistant", text=turn.answer), Message(role="user", text=turn.objection)]
    return talk
