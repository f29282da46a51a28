"""The endpoint client against a real loopback server that misbehaves."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import openai
import pytest
from pydantic import BaseModel

from agents.brains import Question, Turn
from agents.errors import ModelMisconfigured, ModelRefused, ModelUnavailable
from agents.llm import LONGEST_WAIT, Endpoint, EndpointModel, Server, retry_after
from prompts.catalog import Rendered
from tests.loopback import Answer, ChatServer, Say, fails, says


class Colour(BaseModel):
    colour: str


KEY = "sk-very-secret"
GOOD = says('{"colour": "red"}')


def question(**changes: object) -> Question:
    prompt = Rendered(name="colour", digest="d", system="Say a colour.", user="Which?")
    return Question(role="planner", prompt=prompt, shape=Colour, **changes)  # type: ignore[arg-type]


@asynccontextmanager
async def model(answers: Sequence[Answer] | Say, **options: object) -> AsyncIterator[tuple[EndpointModel, ChatServer]]:
    server = ChatServer(answers)
    with server.running() as url:
        settings = {"base_url": url, "key": KEY, "first_wait": 0.01, "attempts": 3} | options
        connection = Server(Endpoint(**settings))  # type: ignore[arg-type]
        try:
            yield EndpointModel(connection, "small"), server
        finally:
            await connection.close()


async def test_a_good_answer_comes_with_its_tokens_cost_and_time() -> None:
    async with model([GOOD], price_in=1e6, price_out=2e6) as (llm, server):
        reply = await llm.complete(question())
    assert json.loads(reply.text) == {"colour": "red"}
    assert (reply.tokens_in, reply.tokens_out, reply.cost) == (10, 5, 20.0)
    assert reply.seconds > 0
    assert not reply.cut_off
    sent = server.asked[0]
    assert sent["model"] == "small"
    assert sent["response_format"]["json_schema"]["strict"] is True
    assert sent["response_format"]["json_schema"]["schema"]["properties"] == {
        "colour": {"title": "Colour", "type": "string"}
    }
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": "many"}, {"prompt_tokens": -7, "completion_tokens": 1.5}])
async def test_what_is_no_count_of_tokens_counts_nothing(usage: object) -> None:
    answer = replace(GOOD, body=json.dumps(json.loads(GOOD.body) | {"usage": usage}))
    async with model([answer], price_in=1e6) as (llm, _):
        reply = await llm.complete(question())
    assert (reply.tokens_in, reply.tokens_out, reply.cost) == (0, 0, 0.0)


async def test_half_a_surrogate_pair_becomes_a_question_mark_and_no_text_is_refused() -> None:
    body = json.loads(GOOD.body)
    body["choices"][0]["message"]["content"] = ["red"]
    async with model([says("a \ud800 fox"), replace(GOOD, body=json.dumps(body))]) as (llm, _):
        assert (await llm.complete(question())).text == "a ? fox"
        with pytest.raises(ModelUnavailable, match="answered with no text"):
            await llm.complete(question())


async def test_images_go_along_as_data_uris_and_wrong_answers_as_turns() -> None:
    asked = question(images=(b"\xff\xd8one", b"\xff\xd8two"), turns=(Turn(answer="blue?", objection="No."),))
    async with model([GOOD]) as (llm, server):
        await llm.complete(asked)
    system, user, assistant, objection = server.asked[0]["messages"]
    assert [part["type"] for part in user["content"]] == ["text", "image_url", "image_url"]
    assert user["content"][1]["image_url"]["url"].startswith("data:image/jpeg;base64,/9")
    assert (assistant["content"], objection["content"]) == ("blue?", "No.")
    assert system["content"] == "Say a colour."


async def test_429_waits_as_long_as_the_server_says_and_asks_again() -> None:
    async with model([fails(429, "slow down", Retry_After="0"), GOOD]) as (llm, server):
        reply = await llm.complete(question())
    assert "red" in reply.text
    assert len(server.asked) == 2


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_server_that_keeps_failing_is_unavailable_after_the_allowed_attempts(status: int) -> None:
    async with model([fails(status, "busy")]) as (llm, server):
        with pytest.raises(ModelUnavailable, match=rf"'small' at http.*{status} 3 times \(busy\).*resume"):
            await llm.complete(question())
    assert len(server.asked) == 3


async def test_a_refused_key_names_the_variable_to_set_and_never_the_key() -> None:
    async with model([fails(401, "bad key")], key_name="MY_KEY") as (llm, server):
        with pytest.raises(ModelMisconfigured, match="set MY_KEY") as caught:
            await llm.complete(question())
    assert len(server.asked) == 1
    assert KEY not in str(caught.value)
    assert KEY not in repr(llm.server.endpoint)


async def test_an_unknown_model_or_path_asks_a_person_to_look_at_both() -> None:
    async with model([fails(404, "no such model")]) as (llm, server):
        with pytest.raises(ModelMisconfigured, match="base_url.*and model"):
            await llm.complete(question())
    assert len(server.asked) == 1


async def test_a_server_without_schemas_is_asked_in_words_and_remembered() -> None:
    def say(asked: dict[str, object]) -> Answer:
        return fails(400, "Unsupported parameter: response_format") if "response_format" in asked else GOOD

    async with model(say) as (llm, server):
        await llm.complete(question())
        await llm.complete(question())
    assert ["response_format" in asked for asked in server.asked] == [True, False, False]
    assert "exactly these keys" in server.asked[1]["messages"][0]["content"]


async def test_a_server_that_wants_other_parameter_names_is_learned() -> None:
    def say(asked: dict[str, object]) -> Answer:
        if "max_tokens" in asked:
            return fails(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return fails(400, "temperature does not support 0.3") if "temperature" in asked else GOOD

    async with model(say, temperature=0.3) as (llm, server):
        await llm.complete(question())
    assert len(server.asked) == 3
    assert "max_completion_tokens" in server.asked[-1]
    assert "response_format" in server.asked[-1]


async def test_any_other_400_is_a_refusal_with_the_servers_words() -> None:
    async with model([fails(400, "context length exceeded")]) as (llm, server):
        with pytest.raises(ModelRefused, match="context length exceeded"):
            await llm.complete(question())
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "answer",
    [
        Answer(body="<html>Sign in</html>", kind="text/html"),
        Answer(body=GOOD.body[: len(GOOD.body) // 2]),
        Answer(body=GOOD.body[:40], length=len(GOOD.body)),
        Answer(body='{"choices": []}'),
        Answer(body='{"choices": null}'),
    ],
    ids=["html", "half a JSON", "broken connection", "no choice", "null"],
)
async def test_what_is_no_whole_answer_is_unavailable_and_says_where(answer: Answer) -> None:
    async with model([answer], attempts=2) as (llm, _):
        with pytest.raises(ModelUnavailable, match="http://127.0.0.1"):
            await llm.complete(question())


async def test_half_an_answer_is_asked_for_again() -> None:
    async with model([Answer(body=GOOD.body[:50]), GOOD]) as (llm, server):
        assert "red" in (await llm.complete(question())).text
    assert len(server.asked) == 2


@pytest.mark.slow
async def test_a_server_that_does_not_answer_in_time_is_unavailable() -> None:
    slow = Answer(body=GOOD.body, delay=0.5)
    async with model([slow], timeout=0.1, attempts=2) as (llm, server):
        with pytest.raises(ModelUnavailable, match=r"within 0.1 s, 2 times"):
            await llm.complete(question())
    assert len(server.asked) == 2


async def test_nobody_listening_is_unavailable_and_asks_whether_the_server_runs() -> None:
    with ChatServer([GOOD]).running() as url:
        pass
    connection = Server(Endpoint(base_url=url, attempts=1))
    with pytest.raises(ModelUnavailable, match="is the server running"):
        await EndpointModel(connection, "small").complete(question())
    await connection.close()


async def test_refusals_and_filters_are_told_and_a_cut_answer_is_marked() -> None:
    async with model(
        [says("", refusal="I will not."), says("", finish="content_filter"), says("{", finish="length")]
    ) as (
        llm,
        _,
    ):
        with pytest.raises(ModelRefused, match="I will not"):
            await llm.complete(question())
        with pytest.raises(ModelRefused, match="content filter"):
            await llm.complete(question())
        assert (await llm.complete(question())).cut_off


@pytest.mark.parametrize(
    ("value", "expected"),
    [("2", 2.0), ("99999", LONGEST_WAIT), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("soon", None)],
)
async def test_retry_after_is_read_as_seconds_or_date(value: str, expected: float | None) -> None:
    errors: list[openai.APIStatusError] = []
    async with model([fails(400, "x", Retry_After=value)]) as (llm, _):
        with pytest.raises(ModelRefused) as caught:
            await llm.complete(question())
        assert isinstance(caught.value.__cause__, openai.APIStatusError)
        errors.append(caught.value.__cause__)
    assert retry_after(errors[0]) == expected


def test_an_endpoint_without_http_is_refused() -> None:
    with pytest.raises(ValueError, match="base_url"):
        Endpoint(base_url="api.openai.com")


@pytest.mark.slow
async def test_a_question_goes_out_unanswered_only_as_often_as_it_may() -> None:
    late = replace(GOOD, delay=0.6)
    async with model([late, fails(503, retry_after="0"), late, late], timeout=0.2, attempts=9) as (llm, server):
        with pytest.raises(ModelUnavailable, match="did not answer within 0.2 s, 3 times") as caught:
            await llm.complete(question(sends=2))
        assert caught.value.unanswered == 2
        assert len(server.asked) == 3, "the refusal in between may have cost nothing and does not count"


async def test_an_address_is_told_without_the_password_and_the_query_in_it() -> None:
    async with model([fails(401)]) as (llm, server):
        address = llm.server.endpoint.base_url.replace("http://", "http://me:hush@") + "?key=hush"
        connection = Server(replace(llm.server.endpoint, base_url=address))
        with pytest.raises(ModelMisconfigured, match="http://127.0.0.1") as raised:
            await EndpointModel(connection, "small").complete(question())
        await connection.close()
    assert server.asked
    assert "hush" not in str(raised.value)


def test_an_estimate_counts_every_sign_of_three_bytes_as_a_token() -> None:
    llm = EndpointModel(Server(Endpoint(base_url="http://127.0.0.1:1/v1")), "small")
    said = "狐狸" * 100
    told = llm.at_most(question(turns=(Turn(answer=said, objection=said),)))
    assert told.tokens_in - llm.at_most(question()).tokens_in == 400
