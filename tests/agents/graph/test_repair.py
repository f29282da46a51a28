"""Only what failed is filmed again, and the best take stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.outcome import result
from agents.profile import Budget
from agents.progress import (
    RemedyChosen,
)
from agents.scripted import ScriptedCritic
from agents.takespec import TakeSpec
from generators.video import read_take
from storage.tables import RunStatus, TakeStatus
from tests.agents.graph.stage import Studio


@pytest.mark.slow
async def test_only_the_shot_that_failed_is_filmed_again_until_all_is_seen(studio: Studio) -> None:
    studio.critic = ScriptedCritic({("2", 1): [True, False], ("2", 2): [False, True]})
    outcome = await studio.film()
    assert outcome.all_seen
    assert studio.takes("2") == [
        (1, TakeStatus.DONE, "reseed"),
        (2, TakeStatus.DONE, "strengthen"),
        (3, TakeStatus.DONE, None),
    ]
    assert len(studio.takes("1")) == len(studio.takes("3")) == 1
    remedies = [event for event in studio.told(RemedyChosen) if isinstance(event, RemedyChosen)]
    assert [(event.shot, event.kind) for event in remedies] == [("2", "reseed"), ("2", "strengthen")]
    assert "'spins 2 times' not seen" in remedies[0].reason


@pytest.mark.slow
async def test_what_the_critic_cannot_judge_costs_no_more_takes_and_is_told(studio: Studio) -> None:
    studio.critic = ScriptedCritic({("2", 1): [None, False], ("2", 2): [None, True]})
    outcome = await studio.film()
    assert not outcome.all_seen
    assert studio.takes("2") == [(1, TakeStatus.DONE, "reseed"), (2, TakeStatus.DONE, None)]
    [remedy] = [event for event in studio.told(RemedyChosen) if isinstance(event, RemedyChosen)]
    assert "'jumps" not in remedy.reason
    record = studio.archive.record(outcome.run_id)
    film = result(record)
    assert [event.seen for event in film.shots[1].events] == [None, True]
    assert film.tally.said == "5 of 6 promised events seen (1 not judged)"
    assert outcome.film is not None
    assert "(not seen)" not in (Path(outcome.film.folder) / "film.srt").read_text()
    assert 'title="not judged">–' in (Path(outcome.film.folder) / "report.html").read_text()


@pytest.mark.slow
async def test_the_best_take_is_kept_when_the_budget_is_spent(studio: Studio) -> None:
    bad = [False, False]
    studio.critic = ScriptedCritic({("1", 1): bad, ("1", 2): [True, False], ("1", 3): bad, ("1", 4): bad})
    outcome = await studio.film()
    assert outcome.status == RunStatus.DONE
    assert not outcome.all_seen
    assert outcome.film is not None
    best = studio.archive.take(outcome.film.takes[0])
    assert (best.number, len(studio.takes("1"))) == (2, 4)
    assert outcome.film.events_seen == 5


@pytest.mark.slow
async def test_verdicts_judge_what_was_first_promised_whatever_was_reworded(studio: Studio) -> None:
    studio.budget = Budget(takes_per_shot=6)
    seen: list[tuple[str, list[str]]] = []

    class Watcher(ScriptedCritic):
        async def judge(self, viewing):  # type: ignore[no-untyped-def]
            if viewing.shot == "1":
                seen.append((viewing.prompt, [event.phrase for event in viewing.events]))
            return await super().judge(viewing)

    studio.critic = Watcher({("1", n): [False, True] for n in range(1, 7)})
    await studio.film()
    shot = studio.archive.shots(studio.run_id)[0]
    assert seen == [(shot.first.prompt, ["jumps up", "spins 1 times"])] * 6
    assert shot.shot.revision > 1
    assert shot.shot.prompt != shot.first.prompt
    assert shot.events[0].phrase != "jumps up"
    assert [event.phrase for event in shot.promised] == ["jumps up", "spins 1 times"]


@pytest.mark.slow
async def test_a_window_take_keeps_the_pixels_outside_its_window(studio: Studio) -> None:
    studio.budget = Budget(takes_per_shot=7)
    studio.critic = ScriptedCritic({("1", n): [True, False] for n in range(1, 7)})
    await studio.film()
    records = [r for r in studio.archive.takes(studio.run_id) if r.label == "1"]
    window = next(r for r in records if TakeSpec.from_json(r.take.request).kept)
    kept = TakeSpec.from_json(window.take.request).kept
    base = studio.archive.take(kept[0].take)
    frames = {}
    for take in (base, window.take):
        path = studio.archive.take_file(take)
        assert path is not None
        frames[take.id] = read_take(path)[0]
    for part in kept:
        assert (
            frames[window.take.id][part.at : part.at + part.last - part.first]
            == frames[base.id][part.first : part.last]
        ).all()
    assert (frames[window.take.id] != frames[base.id]).any()
    split = [r for r in records if TakeSpec.from_json(r.take.request).then is not None]
    assert len(split) == 1
    path = studio.archive.take_file(split[0].take)
    assert path is not None
    assert len(read_take(path)[0]) == 33 + 28


@pytest.mark.slow
async def test_one_event_can_be_filmed_again_in_its_window(studio: Studio) -> None:
    await studio.film()
    outcome = await studio.film(retries={2: 2})
    assert outcome.status == RunStatus.DONE
    assert studio.takes("2") == [(1, TakeStatus.DONE, "refilm"), (2, TakeStatus.DONE, None)]
    assert len(studio.takes("1")) == 1
    await studio.film(retries={1: None})
    assert studio.takes("1") == [(1, TakeStatus.DONE, "reseed"), (2, TakeStatus.DONE, None)]


@pytest.mark.slow
async def test_a_retry_goes_on_until_the_event_is_seen_or_its_takes_are_used_up(studio: Studio) -> None:
    missed = [True, False]
    studio.critic = ScriptedCritic({("2", 1): missed, ("2", 2): missed, ("2", 3): missed, ("3", 1): missed})
    studio.budget = Budget(takes_per_shot=1)
    assert not (await studio.film()).all_seen
    studio.budget = Budget(takes_per_shot=4)
    await studio.film(retries={2: None})
    assert [number for number, _, _ in studio.takes("2")] == [1, 2, 3, 4]
    assert len(studio.takes("3")) == 1, "nobody asked for this shot again"
