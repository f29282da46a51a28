"""Batches and schedules on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]
STORY = "A red fox jumps high up in the meadow. A blue cat dances on the beach. The fox spins around."


@pytest.mark.slow
def test_a_batch_goes_on_after_a_story_that_fails_and_costs_nothing_the_second_time(cli: Cli, desk: Path) -> None:
    (desk / "one.txt").write_text(STORY)
    stories: list[dict[str, object]] = [
        {"story": "one.txt"},
        {"story": "gone.txt"},
        {"text": "A cat jumps.", "title": "cat", "seed": 3},
    ]
    for story in stories:
        story["profile"] = str(desk / "stage.toml")
    (desk / "night.jsonl").write_text("\n".join(json.dumps(story) for story in stories))
    answer = cli("batch", "night.jsonl", "--json")
    assert answer.code == 1
    codes = [(line["name"], line["exit_code"]) for line in answer.data["lines"]]
    assert codes == [("one", 0), ("gone", 2), ("cat", 0)]
    assert "gone.txt" in answer.data["lines"][1]["error"]
    assert (desk / "films" / "cat" / "film.mp4").is_file()
    assert cli("batch", "night.jsonl", "--json").data == answer.data
    assert len(cli("runs", "--json").data["runs"]) == 2


@pytest.mark.slow
def test_stored_batches_are_listed_with_when_they_are_due_and_can_be_forgotten(cli: Cli, desk: Path) -> None:
    (desk / "night.yaml").write_text("- text: A red fox jumps.\n- text: A blue cat dances.\n")
    assert "No stored batches" in cli("schedules").out
    stored = cli("batch", "night.yaml", "--cron", "0 2 * * *", "--name", "nightly", "--json").data
    (listed,) = cli("schedules", "--json").data["schedules"]
    assert listed == {key: stored[key] for key in listed}
    assert "'nightly': 2 stories, due" in cli("schedules").out
    assert "No stored batches" in cli("schedules", "--forget", "nightly").out
    unknown = cli("schedules", "--forget", "nightly")
    assert unknown.code == 2
    assert "No schedule named 'nightly'" in unknown.err


def test_a_name_without_a_time_is_refused(cli: Cli, desk: Path) -> None:
    (desk / "night.yaml").write_text("- text: A red fox jumps.\n")
    assert cli("batch", "night.yaml", "--cron", "0 2 * * *", "--name", " ").code == 2
    refused = cli("batch", "night.yaml", "--name", "nightly")
    assert refused.code == 2
    assert "--name names a stored batch; give --cron too" in refused.err


@pytest.mark.slow
def test_a_stored_batch_is_filmed_once_when_it_is_due(cli: Cli, desk: Path) -> None:
    from datetime import UTC, datetime, timedelta

    import fabula

    (desk / "night.yaml").write_text(f"- {{text: A cat jumps., profile: {desk / 'stage.toml'}}}\n")
    stored = cli("batch", "night.yaml", "--cron", "0 2 29 2 *")  # far off, at whatever hour this runs
    assert stored.code == 0
    assert "Stored 'night': 1 story" in stored.out
    assert "Nothing is due" in cli("due").out
    with fabula.Studio() as studio:
        (row,) = studio.archive.schedules()
        past = datetime.now(UTC) - timedelta(days=3)
        studio.archive.add_schedule(row.name, cron=row.cron, batch=row.batch, next_run=past)
    filmed = cli("due", "--json")
    assert (filmed.code, len(filmed.data["lines"])) == (0, 1)
    assert cli("due", "--json").data["lines"] == []
    assert cli("batch", "night.yaml", "--cron", "whenever").code == 2


@pytest.mark.slow
def test_a_stored_batch_finds_its_files_wherever_it_is_due(
    cli: Cli, desk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from datetime import UTC, datetime, timedelta

    import fabula

    (desk / "fox.txt").write_text("A red fox jumps.")
    (desk / "night.yaml").write_text("- {story: fox.txt, profile: stage.toml, out: dawn}\n")
    assert cli("batch", "night.yaml", "--cron", "0 2 * * *").code == 0
    with fabula.Studio() as studio:
        (row,) = studio.archive.schedules()
        past = datetime.now(UTC) - timedelta(days=1)
        studio.archive.add_schedule(row.name, cron=row.cron, batch=row.batch, next_run=past)
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    (line,) = cli("due", "--json").data["lines"]
    assert (line["exit_code"], line["film"]) == (0, str(desk / "dawn" / "fox" / "film.mp4"))


@pytest.mark.parametrize("words", [[], ["--cron", "0 2 * * *"]])
def test_a_batch_with_one_impossible_entry_is_neither_begun_nor_stored(cli: Cli, desk: Path, words: list[str]) -> None:
    for wrong in ("profile: nonesuch", "size: 5x5", "budget: {takes: 0}", "lora: [gone.safetensors]"):
        (desk / "night.yaml").write_text(f"- text: A red fox jumps.\n- {{text: A blue cat dances., {wrong}}}\n")
        refused = cli("batch", "night.yaml", *words)
        assert refused.code == 2
        assert "night.yaml, story 2: " in refused.err
    assert cli("runs", "--json").data["runs"] == []
    assert cli("schedules", "--json").data["schedules"] == []


@pytest.mark.slow
def test_stories_of_a_batch_have_folders_of_their_own_under_out(cli: Cli, desk: Path) -> None:
    (desk / "night.yaml").write_text(
        "defaults: {out: mine}\nstories:\n"
        "  - {text: A red fox jumps.}\n  - {text: A red fox jumps., seed: 2}\n  - {text: A blue cat dances.}\n"
    )
    films = [story["film"] for story in cli("batch", "night.yaml", "--json").data["lines"]]
    names = ["a-red-fox-jumps", "a-red-fox-jumps-2", "a-blue-cat-dances"]
    assert films == [str(desk / "mine" / name / "film.mp4") for name in names]
