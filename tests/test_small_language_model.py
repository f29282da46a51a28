"""A story planned by a real small language model on this machine, through the command line.

Needs `pip install xllamacpp` and a GGUF file named by FABULA_SMALL_MODEL (docs/planning.md says which); skipped
without them. Meant for Qwen2.5-Coder-1.5B-Instruct in 4 bits or better; smaller ones may fail it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from generators.world.captions import vocabulary
from tests.loopback import Answer, ChatServer, fails

Cli = Callable[..., Any]
WEIGHTS = Path(os.environ.get("FABULA_SMALL_MODEL") or "nowhere")
STORY = "A red fox jumps high in the meadow. A blue cat walks up to the fox. At night, the fox lies down to sleep."
PROFILE = """
[brains]
kind = "endpoint"
base_url = "{url}"
key_env = "NO_KEY_NEEDED"
timeout = 3600
attempts = 1
temperature = 0.0
max_tokens = {max_tokens}
[brains.models]
default = "small"
[critic]
kind = "scripted"
[backend]
kind = "instant"
[budget]
shots = 8
takes_per_shot = 1
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not WEIGHTS.is_file(), reason="FABULA_SMALL_MODEL names no GGUF file"),
    pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="xllamacpp is not installed"),
]


@pytest.fixture(scope="module")
def small_model() -> Iterator[str]:
    """An OpenAI-compatible server around the weights, on loopback; it takes JSON schemas."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(WEIGHTS)
    settings.n_ctx, settings.n_parallel, settings.cpuparams.n_threads, settings.port = 8192, 1, 1, 0
    server = xllamacpp.Server(settings)
    url = f"{server.listening_address}/v1"
    until = time.monotonic() + 300
    while not ready(url):
        assert time.monotonic() < until, "the server did not load its weights within five minutes"
        time.sleep(0.2)
    yield url
    del server


def ready(url: str) -> bool:
    """Whether the server has loaded its weights."""
    try:
        with urllib.request.urlopen(url.removesuffix("/v1") + "/health") as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


@contextmanager
def standing_in_front(url: str, *, schema: bool) -> Iterator[tuple[str, ChatServer]]:
    """A server that passes questions on and keeps them; one without `schema` refuses response formats, as many do."""

    def pass_on(asked: dict[str, Any]) -> Answer:
        if not schema and "response_format" in asked:
            return fails(400, "response_format is not supported")
        request = urllib.request.Request(
            f"{url}/chat/completions", json.dumps(asked).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            return Answer(body=answer.read().decode())

    server = ChatServer(pass_on)
    with server.running() as front:
        yield front, server


def profile(desk: Path, url: str, max_tokens: int = 1500) -> Path:
    """The profile that asks this server."""
    path = desk / "small.toml"
    path.write_text(PROFILE.format(url=url, max_tokens=max_tokens))
    return path


@pytest.mark.parametrize("schema", [True, False], ids=["schema", "asked-again"])
def test_a_small_model_plans_within_the_worlds_words(cli: Cli, desk: Path, small_model: str, schema: bool) -> None:
    with standing_in_front(small_model, schema=schema) as (url, server):
        answer = cli("run", STORY, "--profile", profile(desk, url), "--json")
        asked = len(server.asked)
        assert cli("run", STORY, "--profile", profile(desk, url), "--json").data["run"] == answer.data["run"]
        assert len(server.asked) == asked, "what was planned once is not asked again"
    assert answer.code == 0, answer.out
    words = {word.strip(".,").lower() for shot in answer.data["shots"] for word in shot["prompt"].split()}
    assert words <= set(vocabulary())
    prompts = " ".join(shot["prompt"] for shot in answer.data["shots"])
    assert "red fox" in prompts
    assert "at night" in prompts
    assert answer.data["spent"]["calls"] <= 3
    assert Path(answer.data["film"]).is_file()


def test_an_answer_that_is_cut_off_is_a_clear_error_and_the_run_goes_on_with_more_room(
    cli: Cli, desk: Path, small_model: str
) -> None:
    failed = cli("run", STORY, "--profile", profile(desk, small_model, max_tokens=64))
    assert failed.code == 1
    assert "cut off at the token limit" in failed.err
    assert "main.py resume 1" in failed.err
    assert "Traceback" not in failed.err
