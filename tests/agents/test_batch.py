"""Batch files and when they are due."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from agents.batch import BatchStory, film_batch, film_due, next_time
from agents.batch import read_batch as read_checked
from agents.errors import BatchError, UnfilmableStory, UsageError
from agents.order import Caps, Order, Wishes, read_order
from agents.outcome import FilmResult
from storage.archive import Archive
from storage.errors import RunBusy

NIGHT = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
read_batch = partial(read_checked, check=lambda order: None)
"""Every order could be filmed."""


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose clock goes from 2 to 3 on 29 March 2026, and from 3 back to 2 on 25 October."""
    with monkeypatch.context() as there:
        there.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_yaml_batch_takes_defaults_and_finds_files_beside_it(tmp_path: Path) -> None:
    write(tmp_path, "one.txt", "A fox jumps.")
    text = "defaults: {seed: 7}\nstories:\n  - story: one.txt\n  - {text: A cat dances., seed: 9, title: cat}\n"
    first, second = read_batch(write(tmp_path, "night.yaml", text))
    assert (read_order(first.order())[0], first.seed, first.name) == ("A fox jumps.", 7, "one")
    assert (read_order(second.order())[0], second.seed, second.name) == ("A cat dances.", 9, "cat")


def test_a_story_of_a_batch_may_wish_for_all_that_a_run_can(tmp_path: Path) -> None:
    text = "- {text: A fox jumps., steps: 8, guidance: 1, first_frame: fox.png, size: 64x48, budget: {takes: 2}}"
    (story,) = read_batch(write(tmp_path, "night.yaml", text))
    order = story.order()
    assert (order.steps, order.guidance, order.first_frame, order.size) == (8, 1.0, tmp_path / "fox.png", (64, 48))
    assert order.budget == Caps(takes=2)
    keys = set(BatchStory.model_fields) - {"story", "text", "title"}
    assert keys == set(Wishes.__annotations__) - {"name", "approve", "films"}


def test_json_lines_hold_one_story_a_line(tmp_path: Path) -> None:
    found = read_batch(
        write(tmp_path, "night.jsonl", '{"text": "A fox jumps."}\n\n{"text": "Le chat saute à côté."}\n')
    )
    assert [story.text for story in found] == ["A fox jumps.", "Le chat saute à côté."]
    marked = write(tmp_path, "marked.jsonl", '\ufeff{"text": "One line\u2028or two."}\r\n')
    assert [story.text for story in read_batch(marked)] == ["One line\u2028or two."]


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("a.yaml", "- {text: A fox jumps., sede: 7}", "story 1: sede"),
        ("a.yaml", "- {text: A fox jumps., story: one.txt}", "either `story`"),
        ("a.yaml", "- text: ok\n- 17", "story 2"),
        ("a.yaml", "films: []", "films: unknown; expected some of defaults, stories"),
        ("a.yaml", "stories: 5", "stories: Input should be a valid list"),
        ("a.yaml", "{defaults: 5, stories: []}", "defaults: Input should be a valid dictionary"),
        ("a.yaml", "{1: [], stories: []}", "1: Keys should be strings"),
        ("a.yaml", "- {text: a}\n- {1: b, text: a}", "story 2: 1: Keys should be strings"),
        ("a.yaml", "[" * 5000, "nested too deeply"),
        ("a.jsonl", "[" * 100_000, "nested too deeply"),
        ("a.yaml", "[]", "holds no story"),
        ("a.yaml", "- {text: 'a", "cannot be read"),
        ("a.yaml", "- !!python/object/apply:os.system ['true']", "cannot be read"),
        ("a.jsonl", '{"text": "a"}\n{"text"', "delimiter at line 2, column 8"),
        ("a.yaml", "- {text: a, size: big}", "size"),
        ("a.yaml", "- {text: a}\n- {text: b, size: 5x5}", "story 2: size: expected two numbers"),
        ("a.yaml", "- {text: a}\n- {text: b, budget: {tokns: 5}}", "story 2: b: unknown budget ['tokns']"),
        ("a.yaml", "- {text: b, budget: {takes: 2.5}}", "story 1: b: budget {'takes': 2.5}: expected whole numbers"),
        ("a.yaml", "- {text: a, motion_from: [x.mp4, y.mp4]}", "story 1: motion from"),
        ("a.yaml", '- {story: "a\\0b"}', "story 1: embedded null byte"),
    ],
)
def test_a_wrong_batch_is_refused_by_entry(tmp_path: Path, name: str, text: str, names: str) -> None:
    with pytest.raises(BatchError) as caught:
        read_batch(write(tmp_path, name, text))
    assert names in str(caught.value)


def test_a_missing_batch_or_story_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BatchError, match=r"nowhere\.yaml"):
        read_batch(tmp_path / "nowhere.yaml")
    (story,) = read_batch(write(tmp_path, "a.yaml", "- story: gone.txt"))  # it may be there when its turn comes
    with pytest.raises(UsageError, match=r"gone\.txt"):
        read_order(story.order())


def test_an_order_that_can_never_be_filmed_is_refused_by_entry(tmp_path: Path) -> None:
    def check(order: Order) -> None:
        if order.profile == "nonesuch":
            raise UsageError("No profile 'nonesuch'")

    batch = write(tmp_path, "a.yaml", "- {text: a}\n- {text: b, profile: nonesuch}")
    with pytest.raises(BatchError, match=r"a\.yaml, story 2: No profile 'nonesuch'"):
        read_checked(batch, check)


def test_every_file_of_a_batch_is_named_from_the_batch_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "batches" / "wan").mkdir(parents=True)
    entry = (
        "- {story: a.txt, profile: my.toml, model: wan, out: films, lora: [fox.safetensors@0.5], first_frame: a.png}"
    )
    write(tmp_path / "batches", "night.yaml", f"{entry}\n- {{text: b, profile: bundled, model: org/wan}}")
    monkeypatch.chdir(tmp_path)
    first, second = read_batch(Path("batches/night.yaml"))
    here = tmp_path / "batches"
    assert (first.story, first.profile) == (str(here / "a.txt"), str(here / "my.toml"))
    assert (first.model, first.out, first.first_frame) == (str(here / "wan"), str(here / "films"), str(here / "a.png"))
    assert first.lora == (str(here / "fox.safetensors@0.5"),)
    assert (second.profile, second.model, second.out) == ("bundled", "org/wan", None)


def test_the_next_time_follows_the_cron_fields() -> None:
    moment = datetime(2026, 3, 1, 12, 34, 56, tzinfo=UTC)
    assert next_time("*/10 * * * *", moment) == datetime(2026, 3, 1, 12, 40, tzinfo=UTC)
    nightly = next_time("0 2 * * *", moment)
    assert timedelta(0) < nightly - moment <= timedelta(days=1, hours=1)
    assert nightly.astimezone().hour == 2


@pytest.mark.usefixtures("in_berlin")
@pytest.mark.parametrize(
    ("cron", "after", "due"),
    [
        ("0 12 * * 0", "2026-03-22T12:00:00+01:00", "2026-03-29T12:00:00+02:00"),
        ("0 8 1 * *", "2026-03-01T08:00:00+01:00", "2026-04-01T08:00:00+02:00"),
        ("0 4 * * *", "2026-03-28T04:00:00+01:00", "2026-03-29T04:00:00+02:00"),
        ("30 2 * * *", "2026-03-28T02:30:00+01:00", "2026-03-29T03:30:00+02:00"),  # 2:30 is skipped
        ("30 2 * * *", "2026-10-24T02:30:00+02:00", "2026-10-25T02:30:00+02:00"),
        ("30 2 * * *", "2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"),  # 2:30 comes twice
        ("50 2 * * *", "2026-10-25T02:40:00+01:00", "2026-10-26T02:50:00+01:00"),
        ("*/10 * * * *", "2026-10-25T02:40:00+01:00", "2026-10-25T03:00:00+01:00"),
    ],
)
def test_a_time_is_the_clocks_own_across_its_change(cron: str, after: str, due: str) -> None:
    assert next_time(cron, datetime.fromisoformat(after)) == datetime.fromisoformat(due)


def test_a_day_that_never_comes_is_refused() -> None:
    with pytest.raises(BatchError, match="'0 0 30 2 \\*' name a day that never comes"):
        next_time("0 0 30 2 *", NIGHT)


@pytest.mark.parametrize("cron", ["0 2 * MAR FRI", "0 2 L * *", "0 2 * * fri#1"])
def test_names_of_days_and_months_are_understood(cron: str) -> None:
    assert next_time(cron, NIGHT) > NIGHT


@pytest.mark.parametrize(
    "cron",
    ["", "at night", "* * *", "61 * * * *", "* * * * * *", "@daily", "R 2 * * *", "0 r(1-5) * * *", "H 2 * * *"],
)
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


async def test_a_story_that_breaks_is_a_line_and_the_next_is_filmed() -> None:
    asked: list[str] = []

    async def film(story: Order, *, on_event: object = None) -> FilmResult:
        asked.append(str(story.story))
        raise ValueError("not enough values to unpack")

    done = await film_batch([BatchStory(text="a"), BatchStory(text="b")], film, None)
    assert asked == ["a", "b"]
    assert [line.error for line in done.lines] == ["ValueError: not enough values to unpack"] * 2
    assert done.exit_code == 1


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
