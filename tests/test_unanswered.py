"""A model call whose answer never comes: it counts as spent, is put again only within the budget, and is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.loopback import ChatServer, fails, says

Cli = Callable[..., Any]
ROOT = Path(__file__).resolve().parent.parent
STORY = "A red fox jumps."
PLAN = {
    "title": "A jump",
    "cast": [{"name": "fox", "kind": "fox", "hue": "red"}],
    "shots": [
        {
            "sentence": "A red fox jumps.",
            "place": "meadow",
            "time": "day",
            "events": [{"actor": "fox", "verb": "jump", "side": "none", "prop": "none", "other": "none"}],
        }
    ],
    "notes": [],
}
GOOD = says(json.dumps(PLAN))
LATE = replace(GOOD, delay=2.0)
PROFILE = """
[brains]
kind = "endpoint"
base_url = "{url}"
key_env = "STAGE_KEY"
attempts = {attempts}
timeout = {timeout}
max_tokens = 1000
price_in = 1.0
price_out = 2.0
[brains.models]
default = "tiny"
[critic]
kind = "scripted"
[backend]
kind = "instant"
[budget]
calls = {calls}
"""


@pytest.fixture
def server(desk: Path) -> Iterator[ChatServer]:
    server = ChatServer([LATE])
    with server.running() as url:
        ask(desk, url)
        yield server


def ask(desk: Path, url: str, *, attempts: int = 1, timeout: float = 0.5, calls: int = 9) -> None:
    """Write the profile that asks the server."""
    (desk / "url").write_text(url)
    text = PROFILE.format(url=url, attempts=attempts, timeout=timeout, calls=calls)
    (desk / "stage.toml").write_text(text)


def spent(cli: Cli) -> dict[str, Any]:
    found: dict[str, Any] = cli("show", 1, "--json").data["spent"]
    return found


@pytest.mark.slow
def test_a_call_that_was_never_answered_counts_at_its_most_is_put_again_and_is_in_the_report(
    cli: Cli, server: ChatServer
) -> None:
    failed = cli("run", STORY)
    assert failed.code == 1
    assert "did not answer within 0.5 s" in failed.err
    lost = spent(cli)
    assert (lost["calls"], lost["unanswered"]) == (1, 1)
    assert lost["tokens"] > 1000, "all it may answer, and what it was asked"
    assert lost["money"] > 0.002
    server.answers = [GOOD]
    filmed = cli("resume", 1, "--json")
    assert filmed.code == 0
    both = filmed.data["spent"]
    assert (both["calls"], both["unanswered"], both["tokens"]) == (2, 1, lost["tokens"] + 15)
    report = Path(filmed.data["report"]).read_text()
    assert "1 call got no answer and may have been paid; it counts at the most it can have come to." in report
    assert "did not answer within 0.5 s" in report


@pytest.mark.slow
def test_it_is_not_put_again_when_the_budget_counts_it_as_spent(cli: Cli, desk: Path, server: ChatServer) -> None:
    ask(desk, (desk / "url").read_text(), calls=1)
    assert cli("run", STORY).code == 1
    server.answers = [GOOD]
    stopped = cli("resume", 1)
    assert stopped.code == 4
    assert "budget.calls: 1 of 1 are spent; 1 without an answer are counted at their most" in stopped.err
    assert "is not put again" in stopped.err
    assert len(server.asked) == 1
    assert cli("resume", 1, "--budget-tokens", 100).code == 4
    assert len(server.asked) == 1


@pytest.mark.slow
def test_every_attempt_that_went_out_unanswered_counts_and_one_that_was_refused_does_not(
    cli: Cli, desk: Path, server: ChatServer
) -> None:
    ask(desk, (desk / "url").read_text(), attempts=4)
    server.answers = [LATE, fails(503, retry_after="0"), LATE, GOOD]
    filmed = cli("run", STORY, "--json")
    assert filmed.code == 0, filmed
    assert len(server.asked) == 4
    assert (filmed.data["spent"]["calls"], filmed.data["spent"]["unanswered"]) == (3, 2)


@pytest.mark.slow
def test_a_call_that_hangs_is_not_put_more_often_than_the_budget_of_calls(
    cli: Cli, desk: Path, server: ChatServer
) -> None:
    ask(desk, (desk / "url").read_text(), attempts=4, calls=2)
    server.answers = [LATE, LATE, GOOD]
    failed = cli("run", STORY)
    assert failed.code == 1
    assert "did not answer within 0.5 s, 2 times" in failed.err
    assert len(server.asked) == 2
    assert (spent(cli)["calls"], spent(cli)["unanswered"]) == (2, 2)
    assert cli("resume", 1).code == 4


def test_a_server_that_was_never_reached_costs_nothing(cli: Cli, desk: Path) -> None:
    ask(desk, "http://127.0.0.1:9/v1")
    assert cli("run", STORY).code == 1
    account = spent(cli)
    assert (account["calls"], account["unanswered"], account["tokens"], account["money"]) == (1, 0, 0, 0)


@pytest.mark.slow
def test_killed_while_a_call_was_out_the_run_counts_it_and_asks_once_more(
    cli: Cli, desk: Path, server: ChatServer
) -> None:
    server.answers = [replace(GOOD, delay=5.0)]
    ask(desk, (desk / "url").read_text(), timeout=60)
    process = subprocess.Popen([sys.executable, str(ROOT / "main.py"), "run", STORY], cwd=desk, env=dict(os.environ))
    until = time.monotonic() + 120
    while not server.asked:
        assert time.monotonic() < until, "the server was never asked"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    server.answers = [GOOD]
    filmed = cli("resume", 1, "--json")
    assert filmed.code == 0, filmed
    assert (filmed.data["spent"]["calls"], filmed.data["spent"]["unanswered"]) == (2, 1)
    assert filmed.data["spent"]["tokens"] > 1015
    assert "the process ended before the answer came" in Path(filmed.data["report"]).read_text()
    assert cli("resume", 1).code == 0
    assert len(server.asked) == 2
