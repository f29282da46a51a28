"""Batch files and when they are due."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agents.batch import BatchStory, film_due, next_time, read_batch
from agents.errors import BatchError, UnfilmableStory
from agents.order import Caps, Order, Wishes
from agents.outcome import FilmResult
from storage.archive import Archive
from storage.errors import RunBusy

NIGHT = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_yaml_batch_takes_defaults_and_finds_files_beside_it(tmp_path: Path) -> None:
    write(tmp_path, "one.txt", "A fox jumps.")
    text = "defaults: {seed: 7}\nstories:\n  - story: one.txt\n  - {text: A cat dances., seed: 9, title: cat}\n"
    first, second = read_batch(write(tmp_path, "night.yaml", text))
    assert (first.read(), first.seed, first.name) == ("A fox jumps.", 7, "one")
    assert (second.read(), second.seed, second.name) == ("A cat dances.", 9, "cat")


def test_a_story_of_a_batch_may_wish_for_all_that_a_run_can(tmp_path: Path) -> None:
    text = "- {text: A fox jumps., steps: 8, guidance: 1, first_frame: fox.png, size: 64x48, budget: {takes: 2}}"
    (story,) = read_batch(write(tmp_path, "night.yaml", text))
    order = story.order()
    assert (order.steps, order.guidance, order.first_frame, order.size) == (8, 1.0, tmp_path / "fox.png", (64, 48))
    assert order.budget == Caps(takes=2)
    keys = set(BatchStory.model_fields) - {"story", "text", "title"}
    assert keys == set(Wishes.__annotations__) - {"name", "approve"}


def test_json_lines_hold_one_story_a_line(tmp_path: Path) -> None:
    found = read_batch(
        write(tmp_path, "night.jsonl", '{"text": "A fox jumps."}\n\n{"text": "Le chat saute à côté."}\n')
    )
    assert [story.text for story in found] == ["A fox jumps.", "Le chat saute à côté."]


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("a.yaml", "- {text: A fox jumps., sede: 7}", "story 1: sede"),
        ("a.yaml", "- {text: A fox jumps., story: one.txt}", "either `story`"),
        ("a.yaml", "- text: ok\n- 17", "story 2"),
        ("a.yaml", "films: []", "unknown keys ['films']"),
        ("a.yaml", "[]", "holds no story"),
        ("a.yaml", "- {text: 'a", "cannot be read"),
        ("a.yaml", "- !!python/object/apply:os.system ['true']", "cannot be read"),
        ("a.jsonl", '{"text": "a"}\n{"text"', "cannot be read"),
        ("a.yaml", "- {text: a, size: big}", "size"),
    ],
)
def test_a_wrong_batch_is_refused_by_entry(tmp_path: Path, name: str, text: str, names: str) -> None:
    with pytest.raises(BatchError) as caught:
        read_batch(write(tmp_path, name, text))
    assert names in str(caught.value)


def test_a_missing_batch_or_story_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BatchError, match=r"nowhere\.yaml"):
        read_batch(tmp_path / "nowhere.yaml")
    (story,) = read_batch(write(tmp_path, "a.yaml", "- story: gone.txt"))
    with pytest.raises(BatchError, match=r"gone\.txt"):
        story.read()


def test_the_next_time_follows_the_cron_fields() -> None:
    moment = datetime(2026, 3, 1, 12, 34, 56, tzinfo=UTC)
    assert next_time("*/10 * * * *", moment) == datetime(2026, 3, 1, 12, 40, tzinfo=UTC)
    nightly = next_time("0 2 * * *", moment)
    assert timedelta(0) < nightly - moment <= timedelta(days=1, hours=1)
    assert nightly.astimezone().hour == 2


@pytest.mark.parametrize("cron", ["", "at night", "* * *", "61 * * * *"])
def test_wrong_cron_fields_are_refused_with_an_example(cron: str) -> None:
    with pytest.raises(BatchError, match="every night at two"):
        next_time(cron, datetime.now(UTC))


async def test_a_batch_stays_due_until_all_of_it_is_done(tmp_path: Path) -> None:
    asked: list[str] = []
    fails: dict[str, BaseException] = {"a": UnfilmableStory("nothing to film"), "b": asyncio.CancelledError()}

    async def film(story: Order, *, on_event: object = None) -> FilmResult:
        asked.append(str(story.story))
        assert [row.name for row in archive.due(now)] == ["torn"]  # this one is held
        raise fails[str(story.story)]

    now = datetime.now(UTC)
    with Archive(tmp_path) as archive:
        archive.add_schedule("night", cron="0 2 * * *", batch=[{"text": "a"}, {"text": "b"}], next_run=NIGHT)
        archive.add_schedule("torn", cron="0 2 * * *", batch=[{"tekst": "a"}], next_run=NIGHT + timedelta(minutes=1))
        with pytest.raises(asyncio.CancelledError):
            await film_due(archive, film, None)
        assert asked == ["a", "b"]
        fails["b"] = RunBusy("another process films it")
        for ends in ([2, 6], [2, 2]):  # begun longest ago first: what failed keeps no other waiting
            done = await film_due(archive, film, None)
            lines = {line.name: line for line in done.lines}
            assert [lines[name].exit_code for name in ("a", "b")] == ends
            assert "schedule torn, story 1: " in lines["torn"].error
            fails["b"] = UnfilmableStory("nothing to film")
        (torn,) = archive.due(now)
        assert torn.name == "torn"
        (night,) = (row for row in archive.schedules() if row.name == "night")
        assert night.next_run == next_time("0 2 * * *", now)


async def test_a_batch_that_another_process_took_is_left_to_it(tmp_path: Path) -> None:
    asked: list[str] = []

    async def film(story: Order, *, on_event: object = None) -> FilmResult:
        asked.append(str(story.story))
        archive.add_schedule("night", cron="0 2 * * *", batch=[], next_run=NIGHT)  # which ends every claim
        raise UnfilmableStory("nothing to film")

    with Archive(tmp_path) as archive:
        archive.add_schedule("night", cron="0 2 * * *", batch=[{"text": "a"}, {"text": "b"}], next_run=NIGHT)
        await film_due(archive, film, None)
        assert asked == ["a"]
        assert [row.next_run for row in archive.schedules()] == [NIGHT]


@pytest.mark.parametrize("budget", ["{takes: .inf}", "{seconds: .nan}"])
def test_a_budget_without_end_is_refused_when_it_is_read(tmp_path: Path, budget: str) -> None:
    with pytest.raises(BatchError, match="finite number"):
        read_batch(write(tmp_path, "b.yaml", f"- {{text: A cat jumps., budget: {budget}}}"))
