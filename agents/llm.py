"""One OpenAI-compatible endpoint: transport, its retries, and how this server takes a JSON schema.

Puts one question and gives back text; asking again and checking answers is `agents.answers`, remembering and
budgets are `agents.ledger`. Knows no prompt and no agent. The key comes from the caller and is never shown.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai
from openai.types.chat import ChatCompletion
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)
from tenacity.stop import stop_base

from agents.answers import read_at_most, schema_text
from agents.brains import Question, Reply
from agents.errors import ModelMisconfigured, ModelRefused, ModelUnavailable

LONGEST_WAIT = 60.0
"""Seconds; a server that asks for more is given up sooner rather than waited for."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a server is and how to speak to it. Prices are money per million tokens, in the person's currency."""

    base_url: str
    key: str | None = field(default=None, repr=False)
    key_name: str = "OPENAI_API_KEY"
    """What a person must set when the server refuses the key; only named, never read here."""
    timeout: float = 120.0
    attempts: int = 4
    first_wait: float = 1.0
    """Seconds before the second attempt, when the server does not say how long; doubles each time."""
    max_tokens: int = 4096
    temperature: float | None = None
    price_in: float = 0.0
    price_out: float = 0.0

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"Endpoint.base_url: expected http:// or https://, got {self.shown!r}")
        if self.attempts < 1:
            raise ValueError(f"Endpoint.attempts: expected at least 1, got {self.attempts}")

    @property
    def shown(self) -> str:
        """The address for messages, which are kept: without a password or a query, where keys are put at times."""
        address = urlsplit(self.base_url)
        return address._replace(netloc=address.netloc.rpartition("@")[2], query="", fragment="").geturl()


@dataclass(kw_only=True)
class Manners:
    """What one model's server was learned to take; every 400 that names one of these teaches it."""

    schema: bool = True
    temperature: bool = True
    limit: str = "max_tokens"

    def learn(self, said: str) -> bool:
        """Take the server's complaint in; False when it is about none of this."""
        said = said.lower()
        if self.limit == "max_tokens" and "max_completion_tokens" in said:
            self.limit = "max_completion_tokens"
        elif self.temperature and "temperature" in said:
            self.temperature = False
        elif self.schema and any(word in said for word in _SCHEMA_WORDS):
            self.schema = False
        else:
            return False
        return True


_SCHEMA_WORDS = ("response_format", "json_schema", "schema", "unsupported", "extra_forbidden")


class Server:
    """A connection to one endpoint, shared by the models of all roles."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.manners: dict[str, Manners] = {}
        """By model: gateways serve several with different abilities."""
        self.client = openai.AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=endpoint.key or "none",  # local servers want none, the client insists on one
            timeout=endpoint.timeout,
            max_retries=0,  # tenacity below is the one place of transport retries
        )

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()


class EndpointModel:
    """One model on a server."""

    def __init__(self, server: Server, model: str) -> None:
        self.server = server
        self.model = model

    @property
    def name(self) -> str:
        """The model's name as the server knows it."""
        return self.model

    async def complete(self, question: Question) -> Reply:
        """Put the question once. Raises ModelUnavailable, ModelMisconfigured or ModelRefused."""
        started = time.monotonic()
        attempts = _Attempts()
        completion = await self._retrying(question, attempts)
        reply = self._read(completion)
        tokens_in, tokens_out = _used(completion)
        endpoint = self.server.endpoint
        return Reply(
            text=reply,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            cost=(tokens_in * endpoint.price_in + tokens_out * endpoint.price_out) / 1e6,
            seconds=time.monotonic() - started,
            cut_off=completion.choices[0].finish_reason == "length",
            unanswered=attempts.lost,
        )

    def at_most(self, question: Question) -> Reply:
        """The most tokens and money that one answer can come to, estimated upwards from the text's length."""
        endpoint = self.server.endpoint
        read = read_at_most(question)
        cost = (read * endpoint.price_in + endpoint.max_tokens * endpoint.price_out) / 1e6
        return Reply(text="", tokens_in=read, tokens_out=endpoint.max_tokens, cost=cost)

    async def _retrying(self, question: Question, attempts: _Attempts) -> ChatCompletion:
        """Put the question until it is answered, at most `question.sends` times without an answer coming."""

        def note(state: RetryCallState) -> None:
            attempts.made = state.attempt_number
            attempts.lost += _went_unanswered(state.outcome.exception() if state.outcome else None)

        retrying = AsyncRetrying(
            stop=stop_after_attempt(self.server.endpoint.attempts) | _Spent(question, attempts),
            wait=_Wait(self.server.endpoint.first_wait),
            retry=retry_if_exception(_transient),
            after=note,
            reraise=True,
        )
        try:
            with self._named_errors(attempts):
                return await retrying(self._send, question)
        except ModelUnavailable as error:
            error.unanswered = attempts.lost or int(_went_unanswered(error.__cause__))
            raise

    async def _send(self, question: Question) -> ChatCompletion:
        manners = self.server.manners.setdefault(self.model, Manners())
        while True:
            try:
                return await self._create(question, manners)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if not manners.learn(_said(error)):
                    raise

    async def _create(self, question: Question, manners: Manners) -> ChatCompletion:
        endpoint = self.server.endpoint
        options: dict[str, Any] = {manners.limit: endpoint.max_tokens}
        if manners.schema:
            options["response_format"] = _response_format(question)
        if manners.temperature and endpoint.temperature is not None:
            options["temperature"] = endpoint.temperature
        answer: object = await self.server.client.chat.completions.create(
            model=self.model,
            messages=_messages(question, manners.schema),
            **options,
        )
        if not isinstance(answer, ChatCompletion):  # the client hands other content types back as text
            raise _NotJson(f"{endpoint.shown} answered with a page instead of JSON: {str(answer)[:80]!r}")
        return answer

    def _read(self, completion: ChatCompletion) -> str:
        choices: object = completion.choices
        if not isinstance(choices, list) or not choices:
            raise ModelUnavailable(f"{self._where} answered without any choice; is it an OpenAI-compatible server?")
        choice = completion.choices[0]
        if choice.message.refusal:
            raise ModelRefused(f"{self._where} refused: {choice.message.refusal}")
        if choice.finish_reason == "content_filter":
            raise ModelRefused(f"{self._where} withheld its answer (content filter)")
        said: object = choice.message.content or ""
        if not isinstance(said, str):
            raise ModelUnavailable(f"{self._where} answered with no text; is it an OpenAI-compatible server?")
        return said.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be kept

    @property
    def _where(self) -> str:
        return f"Model {self.model!r} at {self.server.endpoint.shown}"

    @contextmanager
    def _named_errors(self, attempts: _Attempts) -> Iterator[None]:
        endpoint = self.server.endpoint
        try:
            yield
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise ModelMisconfigured(
                f"{endpoint.shown} refused the key ({error.status_code}); set {endpoint.key_name} to a valid key"
            ) from error
        except openai.NotFoundError as error:
            raise ModelMisconfigured(
                f"{self._where} was not found (404: {_said(error)}); correct base_url (it usually ends in /v1) and "
                "model in the profile, then run the story anew: a run keeps the profile it was begun with"
            ) from error
        except (openai.RateLimitError, openai.InternalServerError) as error:
            raise ModelUnavailable(
                f"{self._where} answered {error.status_code} {attempts} ({_said(error)}); resume the run later"
            ) from error
        except openai.APITimeoutError as error:
            raise ModelUnavailable(
                f"{self._where} did not answer within {endpoint.timeout:g} s, {attempts}; resume the "
                "run later, or run the story anew with a longer brains.timeout in the profile"
            ) from error
        except openai.APIConnectionError as error:
            raise ModelUnavailable(
                f"{self._where} cannot be reached ({error.__cause__ or error}); is the server running?"
            ) from error
        except openai.APIStatusError as error:
            hint = "; a model that reads more, or a shorter story, may do" if "context" in _said(error).lower() else ""
            raise ModelRefused(
                f"{self._where} refused the request ({error.status_code}): {_said(error)}{hint}"
            ) from error
        except (_NotJson, openai.APIError, ValueError) as error:
            raise ModelUnavailable(
                f"{self._where} did not answer with whole JSON ({str(error)[:200]}); correct base_url in the "
                "profile, then run the story anew: a run keeps the profile it was begun with"
            ) from error


def _used(completion: ChatCompletion) -> tuple[int, int]:
    """Tokens read and written, as the server counts them; 0 for what is no count."""
    usage: Any = completion.usage
    counts = (getattr(usage, name, 0) for name in ("prompt_tokens", "completion_tokens"))
    read, written = (count if isinstance(count, int) and count > 0 else 0 for count in counts)
    return read, written


@dataclass(kw_only=True)
class _Attempts:
    """How often one question was put, and how many of these may have been carried out without an answer coming."""

    made: int = 0
    lost: int = 0

    def __str__(self) -> str:
        return "once" if self.made == 1 else f"{self.made} times"


class _NotJson(Exception):
    """The body is no chat completion."""


class _Spent(stop_base):
    """The question went out unanswered as often as it may."""

    def __init__(self, question: Question, attempts: _Attempts) -> None:
        self.question = question
        self.attempts = attempts

    def __call__(self, retry_state: RetryCallState) -> bool:
        return self.question.sends is not None and self.attempts.lost >= self.question.sends


class _Wait:
    """As long as the server's Retry-After says, else exponentially longer with jitter."""

    def __init__(self, first: float) -> None:
        self.backoff = wait_exponential(multiplier=first, max=LONGEST_WAIT) + wait_random(0, first)

    def __call__(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = retry_after(error) if isinstance(error, openai.APIStatusError) else None
        return asked if asked is not None else self.backoff(state)


def retry_after(error: openai.APIStatusError) -> float | None:
    """Seconds that the server asked to wait, at most LONGEST_WAIT; None when it said nothing readable."""
    value = error.response.headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(seconds, 0.0), LONGEST_WAIT)


def _transient(error: BaseException) -> bool:
    """Worth another attempt: lost connections, timeouts, 408, 409, 429, 5xx and bodies that are not whole."""
    if isinstance(error, openai.APIStatusError):
        return error.status_code in (408, 409, 429) or error.status_code >= 500
    return isinstance(error, openai.APIConnectionError | _NotJson | ValueError)


def _went_unanswered(error: BaseException | None) -> bool:
    """Whether the request may have been carried out, and paid, without our getting its answer."""
    if isinstance(error, openai.APIStatusError):
        return error.status_code in (408, 504)
    if isinstance(error, openai.APIConnectionError):
        return not isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout)
    return isinstance(error, openai.APIError | _NotJson | ValueError)


def _said(error: openai.APIStatusError) -> str:
    body = error.body
    if isinstance(body, dict):
        return str(body.get("message") or body.get("detail") or body)[:300]
    return str(body or error.message)[:300]


def _response_format(question: Question) -> dict[str, Any]:
    return {
        "type": "json_schema",
        "json_schema": {
            "name": question.shape.__name__,
            "strict": True,
            "schema": question.shape.model_json_schema(),
        },
    }


def _messages(question: Question, strict: bool) -> Any:
    system = question.prompt.system if strict else f"{question.prompt.system}\n\n{schema_text(question.shape)}"
    content: list[dict[str, Any]] = [{"type": "text", "text": question.prompt.user}]
    for image in question.images:
        url = "data:image/jpeg;base64," + base64.b64encode(image).decode()
        content.append({"type": "image_url", "image_url": {"url": url, "detail": "low"}})
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": system},
        {"role": "user", "content": content if question.images else question.prompt.user},
    ]
    for turn in question.turns:
        messages.append({"role": "assistant", "content": turn.answer})
        messages.append({"role": "user", "content": turn.objection})
    return messages
