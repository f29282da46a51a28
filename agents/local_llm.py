"""A model in this process as a language model: an open checkpoint from a folder or hub id, asked without a server.

It is shown the shape of the answer in words; asking again and checking are `agents.answers`, remembering and budgets
`agents.ledger`. Knows no prompt and no agent; the checkpoint itself is `generators.chat`'s.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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


class LocalModel:
    """One checkpoint, loaded when it is first asked; questions wait for one another.

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
        """The checkpoint's name, with a digest of its weights where they lie in a folder."""
        self._name = self._name or named(self.place)
        return self._name

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

    async def close(self) -> None:
        """Let go of the weights."""
        self._hand.shutdown(wait=False, cancel_futures=True)
        self._loaded = None

    def _answer(self, question: Question, stopped: threading.Event) -> Continuation:
        temperature = self.temperature if self.temperature is not None else FURTHER if question.vote else 0.0
        try:
            model = self._loaded = self._loaded or self._load()
            if question.images and not model.sees:
                raise ModelMisconfigured(
                    f"{self.place} is a language model and sees no pictures: name a vision-language model for the "
                    f"{question.role}"
                )
            return model.answer(
                _talk(question),
                most=self.max_tokens,
                temperature=temperature,
                seed=int(question.digest(self.name)[:15], 16),
                stopped=stopped,
            )
        except BackendUnavailable as error:
            raise ModelMisconfigured(str(error)) from error
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
