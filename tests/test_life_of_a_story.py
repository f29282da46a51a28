"""A story from text to film: planned and judged by an endpoint that begins badly, and by runs that are killed."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents.brains import LanguageModel
from agents.ensemble import brains_for
from agents.errors import BudgetExhausted, ModelMisconfigured
from agents.graph import Outcome, film_story
from agents.ledger import Ledger
from agents.llm import Endpoint, EndpointModel, Server
from agents.profile import Budget, Profile, parse_profile
from agents.requests import request_of
from agents.state import Crew, Job, brief_for
from agents.takespec import TakeSpec
from generators.backends import BackendConfig, open_backend
from generators.backends.instant import InstantBackend
from generators.clip import Limits
from generators.video import write_take
from storage.archive import DATABASE, Archive
from storage.media import file_sha256
from storage.tables import CallStatus, RunStatus
from tests.loopback import Answer, ChatServer, fails, says

STORY = "Jon the sailor lifts his lantern on the quay and walks away. Later he sleeps in his boat."
LIMITS = Limits(width=16, height=16, fps=8, frame_counts=(33,), size_multiple=4, extends=True)
DRAFT: dict[str, Any] = {
    "title": "The lantern",
    "style": "",
    "cast": [{"name": "Jon", "description": "an old sailor in a blue coat"}],
    "places": [
        {"name": "quay", "description": "a stone quay"},
        {"name": "boat", "description": "a small boat"},
    ],
    "shots": [
        {
            "prompt": "On a stone quay, an old sailor in a blue coat lifts the lantern. Then he walks away.",
            "subjects": ["Jon"],
            "place": "quay",
            "camera": "static",
            "seconds": 4,
            "transition": "cut",
            "events": [
                {"subject": "Jon", "phrase": "lifts the lantern"},
                {"subject": "Jon", "phrase": "walks away"},
            ],
        },
        {
            "prompt": "In a small boat, an old sailor in a blue coat lies down to sleep.",
            "subjects": ["Jon"],
            "place": "boat",
            "camera": "static",
            "seconds": 4,
            "transition": "cut",
            "events": [{"subject": "Jon", "phrase": "lies down to sleep"}],
        },
    ],
    "notes": [],
}


class Mind:
    """Plans and judges over HTTP: a bad start first, then a storyboard with an unknown cast, then well.

    In its first look at the quay it does not see the sailor walk away.
    """

    def __init__(self) -> None:
        self.bad_start = [
            fails(429, "slow down", Retry_After="0"),
            fails(500, "oops"),
            Answer(body='{"choices": [{'),
        ]
        self.drafts = [DRAFT | {"cast": []}, DRAFT]
        self.looks = 0

    def __call__(self, asked: dict[str, Any]) -> Answer:
        if self.bad_start:
            return self.bad_start.pop(0)
        kind = asked["response_format"]["json_schema"]["name"]
        if kind == "Draft":
            return says(f"```json\n{json.dumps(self.drafts.pop(0))}\n```")
        if kind == "Shares":
            return says('{"shares": [{"event": 1, "share": 0.5}, {"event": 2, "share": 0.52}]}')
        if kind == "Description":
            return says('{"description": "A man on a quay."}')
        return says(self._scores(asked))

    def _scores(self, asked: dict[str, Any]) -> str:
        content = asked["messages"][1]["content"]
        assert [part["type"] for part in content] == ["text"] + ["image_url"] * 8
        count = 2 if "walks away" in content[0]["text"] else 1
        self.looks += count == 2
        done = [True, self.looks > 1] if count == 2 else [True]
        events = [
            {"event": n, "evidence": "seen", "start": n - 1, "end": n + 0.5, "confidence": 0.9, "done": d}
            for n, d in enumerate(done, 1)
        ]
        return json.dumps({"events": events, "identity": 0.9, "quality": 0.8})


def profile_for(url: str, **budget: object) -> Profile:
    brains = {"kind": "endpoint", "world": False, "base_url": url, "models": {"default": "mind"}}
    data = {
        "name": "loopback",
        "brains": brains,
        "critic": {"kind": "endpoint", "votes": 1},
        "backend": {"kind": "instant"},
        "budget": {"takes_per_shot": 3} | budget,
    }
    return parse_profile(data, "loopback")


async def film(archive: Archive, url: str, folder: Path, **budget: object) -> Outcome:
    """What the SDK does with a profile: brains behind a ledger, one run, one film."""
    profile = profile_for(url, **budget)
    run = archive.open_run(STORY, profile.name, {"seed": 5})
    server = Server(Endpoint(base_url=url, first_wait=0.01, key_name="MIND_KEY"))

    def model_of(role: str) -> LanguageModel:
        return Ledger(EndpointModel(server, profile.brains.models.of(role)), archive, run.id, profile.budget)

    crew = Crew(
        archive=archive,
        backend=InstantBackend(limits=LIMITS),
        brains=brains_for(profile, model_of),
        budget=profile.budget,
    )
    job = Job(run_id=run.id, brief=brief_for(LIMITS, profile.budget), seed=5, folder=folder)
    try:
        return await film_story(job, crew)
    finally:
        await server.close()


@pytest.mark.slow
async def test_a_story_is_planned_filmed_judged_and_repaired_through_an_endpoint(tmp_path: Path) -> None:
    mind = ChatServer(Mind())
    with mind.running() as url, Archive(tmp_path / "media") as archive:
        outcome = await film(archive, url, tmp_path / "film")
        assert outcome.all_seen
        assert outcome.film is not None
        takes = archive.takes(outcome.run_id)
        assert [(t.label, t.take.number, t.remedy.kind if t.remedy else None) for t in takes] == [
            ("1", 1, "reseed"),
            ("1", 2, None),
            ("2", 1, None),
        ]
        calls = archive.calls(outcome.run_id)
        answered = [call for call in calls if call.status == CallStatus.ANSWERED]
        assert [call.status for call in calls if call not in answered] == [CallStatus.UNKNOWN]  # half a JSON
        assert {call.role for call in answered} == {"planner", "segmenter", "critic"}
        assert sum(call.tokens_in for call in answered) == 10 * len(answered)
        for name in ("film.mp4", "report.html", "manifest.json", "contact-sheet.png"):
            assert (tmp_path / "film" / name).stat().st_size > 0

        asked = len(mind.asked)
        again = await film(archive, url, tmp_path / "film")
        assert len(mind.asked) == asked
        assert again.film == outcome.film


@pytest.mark.slow
async def test_a_refused_key_stops_before_anything_is_filmed_and_says_what_to_set(tmp_path: Path) -> None:
    with ChatServer([fails(401, "bad key")]).running() as url, Archive(tmp_path / "media") as archive:
        with pytest.raises(ModelMisconfigured, match="set MIND_KEY"):
            await film(archive, url, tmp_path / "film")
        run = archive.runs()[0]
        assert run.status == RunStatus.FAILED
        assert "MIND_KEY" in str(run.error)
        mind = ChatServer(Mind())
        with mind.running() as better:
            assert (await film(archive, better, tmp_path / "film")).all_seen
        assert len(archive.runs()) == 1


@pytest.mark.slow
async def test_a_budget_of_calls_is_hard_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    awake = Mind()
    awake.bad_start.clear()
    mind = ChatServer(awake)
    with mind.running() as url, Archive(tmp_path / "media") as archive:
        with pytest.raises(BudgetExhausted, match=r"budget\.calls: 1 of 1"):
            await film(archive, url, tmp_path / "film", calls=1)
        asked = len(mind.asked)
        short = await film(archive, url, tmp_path / "film", calls=4)
        assert short.film is not None
        assert short.film.events_seen < 3
        assert 0 < len(mind.asked) - asked <= 4


KILLED = """
import asyncio, sys
from pathlib import Path
from tests.test_life_of_a_story import killed_run
asyncio.run(killed_run(Path(sys.argv[1])))
"""


async def killed_run(folder: Path) -> None:
    """What the killed process runs: a story by rules, on a backend that takes its time."""
    from agents.scripted import ScriptedCritic

    budget = Budget(takes_per_shot=3)
    profile = parse_profile({"name": "rules", "critic": {"kind": "world"}, "backend": {"kind": "instant"}}, "rules")
    critic = ScriptedCritic({("2", 1): [False, True], ("3", 1): [False]})
    with Archive(folder / "media") as archive:
        story = "The red fox jumps. The cat spins and then walks away. A bird floats. The robot dances."
        run = archive.open_run(story, "rules", {})
        backend = InstantBackend(limits=LIMITS, seconds_per_step=0.05)
        crew = Crew(archive=archive, backend=backend, brains=brains_for(profile, None, critic), budget=budget)
        await film_story(Job(run_id=run.id, brief=brief_for(LIMITS, budget), folder=folder / "film"), crew)


def owner_of_the_run(media: Path) -> str:
    """Who holds run 1; empty where nobody does, or where it is not begun."""
    if not (media / DATABASE).exists():
        return ""
    connection = sqlite3.connect(f"file:{media / DATABASE}?mode=ro", uri=True, timeout=10)
    try:
        return next((owner or "" for (owner,) in connection.execute("SELECT owner FROM run")), "")
    except sqlite3.OperationalError:
        return ""  # the tables are not made yet
    finally:
        connection.close()


@pytest.mark.slow
async def test_a_run_killed_at_random_moments_ends_in_the_film_of_an_unbroken_one(
    tmp_path: Path, checkout: Path
) -> None:
    await killed_run(tmp_path / "whole")
    broken = tmp_path / "broken"
    command = [sys.executable, "-c", KILLED, str(broken)]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    chance = random.Random(4)
    for _ in range(5):
        process = subprocess.Popen(command, cwd=checkout, env=environment)
        deadline = time.monotonic() + 60
        while f"/{process.pid}/" not in owner_of_the_run(broken / "media") and time.monotonic() < deadline:
            time.sleep(0.02)  # imports take longest: a kill before the process has the run would prove little
        time.sleep(chance.uniform(0, 1.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, cwd=checkout, env=environment, check=True, timeout=300)
    with Archive(tmp_path / "whole" / "media") as whole, Archive(broken / "media") as resumed:
        films = [archive.film(1) for archive in (whole, resumed)]
        assert films[0] is not None
        assert films[1] is not None
        assert films[0].files["film.mp4"] == films[1].files["film.mp4"]
        takes = [[(t.label, t.take.number, t.take.sha256) for t in archive.takes(1)] for archive in (whole, resumed)]
        assert takes[0] == takes[1]


@pytest.mark.slow
def test_every_take_is_filmed_again_from_the_manifest_alone(cli: Callable[..., Any], desk: Path) -> None:
    """In an empty home, by a backend that never heard of the run."""
    film = Path(cli("run", "The red fox jumps high up. The cat spins around.", "--json").data["film"])
    manifest = json.loads((film.parent / "manifest.json").read_text())
    backend = open_backend(BackendConfig(kind="instant"))
    with Archive(desk / "empty") as archive:
        for entry in manifest["takes"]:
            spec = TakeSpec.from_json(entry["request"])
            [clip] = backend.shoot([request_of(archive, spec)])
            write_take(desk / "again.mkv", clip.frames, spec.fps)
            assert file_sha256(desk / "again.mkv") == entry["sha256"]
    assert len(manifest["takes"]) == 2
