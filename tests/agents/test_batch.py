"""Batch files and when they are due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agents.batch import BatchStory, next_time, read_batch
from agents.errors import BatchError
from agents.order import Caps, Wishes


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
