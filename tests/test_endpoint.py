"""A story planned by a server on this machine: paid once, resumable after every kind of answer, no key anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.loopback import Answer, ChatServer, fails, says

Cli = Callable[..., Any]
KEY = "sk-never-to-be-seen-4711"
STORY = "A red fox jumps. A blue cat dances."


def act(actor: str, verb: str) -> dict[str, str]:
    return {"actor": actor, "verb": verb, "side": "none", "prop": "none", "other": "none"}


PLAN = {
    "title": "Two dancers",
    "cast": [{"name": "fox", "kind": "fox", "hue": "red"}, {"name": "cat", "kind": "cat", "hue": "blue"}],
    "shots": [
        {"sentence": "A red fox jumps.", "place": "meadow", "time": "day", "events": [act("fox", "jump")]},
        {"sentence": "A blue cat dances.", "place": "beach", "time": "day", "events": [act("cat", "dance")]},
    ],
    "notes": [],
}
UNKNOWN_CAST = {**PLAN, "shots": [{**PLAN["shots"][0], "events": [act("walrus", "jump")]}]}  # type: ignore[dict-item, index]


@pytest.fixture
def server(desk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    """A running server, and the profile that asks it."""
    server = ChatServer([says(json.dumps(PLAN))])
    with server.running() as url:
        (desk / "asked.toml").write_text(PROFILE.format(url=url))
        monkeypatch.setenv("FABULA_PROFILE", str(desk / "asked.toml"))
        monkeypatch.setenv("STAGE_KEY", KEY)
        yield server


PROFILE = """
[brains]
kind = "endpoint"
base_url = "{url}"
key_env = "STAGE_KEY"
attempts = 2
timeout = 20
price_in = 1.0
price_out = 2.0
[brains.models]
default = "tiny"
[critic]
kind = "scripted"
[backend]
kind = "instant"
"""


@pytest.mark.slow
def test_a_story_is_planned_by_a_server_and_the_second_run_makes_no_call(cli: Cli, server: ChatServer) -> None:
    first = cli("run", STORY, "--json")
    assert first.code == 0, first
    assert (first.data["title"], len(first.data["shots"])) == ("Two dancers", 2)
    assert first.data["spent"]["calls"] == len(server.asked) == 1
    assert first.data["spent"]["money"] == pytest.approx(0.00002)
    assert cli("run", STORY, "--json").code == 0
    assert len(server.asked) == 1


@pytest.mark.slow
def test_the_key_reaches_the_server_and_nothing_else(
    cli: Cli, server: ChatServer, desk: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    answers = [cli("run", STORY), cli("show", 1, "--json"), cli("runs"), cli("doctor", "--json")]
    server.answers = [fails(401, f"no such key: {KEY}")]
    answers += [cli("run", STORY + " The cat jumps.")]
    assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    assert all(KEY not in answer.out + answer.err for answer in answers)
    files = [path for path in tmp_path_factory.getbasetemp().rglob("*") if path.is_file()]
    assert any(path.name == "fabula.db" for path in files)
    assert any(path.name == "report.html" for path in files)
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "names"),
    [
        (fails(401), "STAGE_KEY"),
        (fails(429, retry_after="0"), "429"),
        (fails(500, retry_after="0"), "500"),
        (Answer(body="<html>Welcome to the proxy</html>", kind="text/html"), "127.0.0.1"),
        (Answer(body='{"choices": [{"mess'), "127.0.0.1"),
        (says('{"title": "Two dan'), "breaks off"),
        (says("I cannot do that."), "expected one JSON object"),
        (says(json.dumps(UNKNOWN_CAST)), "walrus"),
        (says('{"title": "x"}'), "cast"),
    ],
)
def test_a_bad_answer_is_a_clear_error_and_the_run_goes_on_when_the_server_is_well(
    cli: Cli, server: ChatServer, answer: Answer, names: str
) -> None:
    server.answers = [answer]
    failed = cli("run", STORY)
    assert failed.code == 1
    assert names in failed.err
    assert "Traceback" not in failed.err
    assert "main.py resume 1" in failed.err
    server.answers = [says(json.dumps(PLAN))]
    assert cli("resume", 1).code == 0


@pytest.mark.slow
def test_a_wrong_answer_is_sent_back_and_the_right_one_taken(cli: Cli, server: ChatServer) -> None:
    server.answers = [says(json.dumps(UNKNOWN_CAST)), says(json.dumps(PLAN))]
    answer = cli("run", STORY, "--json")
    assert answer.code == 0
    assert len(server.asked) == 2


@pytest.mark.slow
def test_a_budget_that_allows_no_call_ends_with_4_and_can_be_raised(cli: Cli, server: ChatServer) -> None:
    spent = cli("run", STORY, "--budget-tokens", 0)
    assert spent.code == 4
    assert "budget.tokens" in spent.err
    assert server.asked == []
    assert cli("resume", 1, "--budget-tokens", 1000).code == 0


def test_a_dry_run_asks_nobody(cli: Cli, server: ChatServer) -> None:
    answer = cli("run", STORY, "--dry-run")
    assert answer.code == 0
    assert "planner: tiny" in answer.out
    assert server.asked == []
