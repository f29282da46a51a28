"""Where a film, a storyboard and a home lie: folders that cannot be, that are taken, that are gone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.test_cli import STORY, Cli


@pytest.mark.slow
def test_another_seed_is_another_run_in_a_folder_of_its_own(cli: Cli, desk: Path) -> None:
    one = cli("run", STORY, "--json").data
    two = cli("run", STORY, "--seed", 5, "--json").data
    assert (one["run"], two["run"]) == (1, 2)
    assert one["folder"] != two["folder"]
    assert Path(one["film"]).read_bytes() != Path(two["film"]).read_bytes()


@pytest.mark.slow
def test_a_folder_that_cannot_be_made_is_told_before_anything_is_filmed(cli: Cli, desk: Path) -> None:
    (desk / "note.txt").write_text("a file")
    refused = cli("run", STORY, "--out", desk / "note.txt" / "film")
    assert refused.code == 1
    assert "--out" in refused.err
    assert cli("runs", "--json").data["runs"] == []
    assert cli("run", STORY, "--out", desk / "elsewhere", "--json").data["run"] == 1


@pytest.mark.slow
def test_a_refused_folder_leaves_a_run_as_it_was_asked_for_and_resume_may_name_another(cli: Cli, desk: Path) -> None:
    (desk / "note.txt").write_text("a file")
    assert cli("run", STORY, "--out", "film").code == 0
    refused = cli("run", STORY, "--out", desk / "note.txt" / "film", "--budget-takes", 1)
    assert (refused.code, "name another folder (--out)" in refused.err) == (1, True)
    assert cli("resume", 1).code == 0
    assert cli("show", 1, "--json").data["film"] == str(desk / "film" / "film.mp4")
    assert cli("resume", 1, "--out", "other", "--json").data["film"] == str(desk / "other" / "film.mp4")


@pytest.mark.slow
def test_a_film_from_another_home_stays_and_this_one_lies_beside_it(cli: Cli, desk: Path) -> None:
    first = cli("run", STORY, "--json").data["film"]
    kept = Path(first).read_bytes()
    assert cli("run", STORY, "--home", desk / "another", "--json").data["film"] == first, "the same film"
    second = cli("run", STORY, "--seed", 2, "--home", desk / "third", "--json").data["film"]
    assert Path(second).parent.name == f"{Path(first).parent.name}-1"
    assert Path(first).read_bytes() == kept


@pytest.mark.slow
def test_a_folder_with_another_runs_film_is_refused_and_that_film_stays(cli: Cli, desk: Path) -> None:
    cli("run", STORY, "--out", "same")
    film = desk / "same" / "film.mp4"
    kept = film.read_bytes()
    refused = cli("run", STORY, "--seed", 2, "--out", "same")
    assert refused.code == 2
    assert "same is the folder of run 1's film: name another one (--out)" in refused.err.replace("\n", " ")
    assert film.read_bytes() == kept
    assert len(cli("runs", "--json").data["runs"]) == 1, "a refused command begins no run"
    away = cli("run", STORY, "--seed", 3, "--home", desk / "another", "--out", "same")
    assert away.code == 2
    assert "same holds a film that is not in this archive" in away.err.replace("\n", " ")
    assert film.read_bytes() == kept
    same = cli("run", STORY, "--home", desk / "third", "--out", "same")
    assert same.code == 0, "the same film, of a home that was lost"
    assert film.read_bytes() == kept
    shutil.rmtree(desk / "same")
    gone = cli("show", 1)
    assert f"Altered or gone: {film}" in gone.out
    assert f"Film:   {film}" not in gone.out
    assert cli("show", 1, "--json").data["film"] is None
    assert cli("resume", 1, "--json").data["film"] == str(film)
    assert film.read_bytes() == kept
    film.write_bytes(kept + b"x")
    assert f"Altered or gone: {film}" in cli("show", 1).out


@pytest.mark.slow
def test_a_plan_overwrites_no_other_storyboard_and_its_film_no_other_film(cli: Cli, desk: Path) -> None:
    cli("plan", STORY, "--out", "storyboard.yaml")
    edited = (desk / "storyboard.yaml").read_text() + "# mine\n"
    (desk / "storyboard.yaml").write_text(edited)
    cat = "A blue cat dances on the beach."
    refused = cli("plan", cat, "--out", "storyboard.yaml")
    assert (refused.code, "name another file (--out)" in refused.err) == (2, True)
    assert len(cli("runs", "--json").data["runs"]) == 1, "a refused command begins no run"
    assert cli("plan", cat, "--out", "second.yaml").code == 0
    assert cli("plan", STORY).code == 0
    assert (desk / "storyboard.yaml").read_text() == edited
    films = {cli("resume", run, "--json").data["film"] for run in (1, 2)}
    assert len(films) == 2
    assert all(Path(film).is_file() for film in films)
    assert cli("show", 1, "--json").data["film"] in films


def test_an_empty_home_is_none_and_a_deleted_folder_is_told(
    cli: Cli, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("runs", "--home", "").code == 0
    assert not (desk / "fabula.db").exists()
    (desk / "gone").mkdir()
    monkeypatch.chdir(desk / "gone")
    (desk / "gone").rmdir()
    told = cli("runs")
    monkeypatch.chdir(desk)
    assert told.code == 2
    assert "The current folder was deleted" in told.err


@pytest.mark.slow
def test_home_and_database_go_where_they_are_told(cli: Cli, desk: Path) -> None:
    url = f"sqlite:///{desk / 'elsewhere.db'}"
    assert cli("run", STORY, "--home", desk / "home", "--database", url).code == 0
    assert (desk / "elsewhere.db").is_file()
    assert not (desk / "home" / "fabula.db").exists()
    assert list((desk / "home").rglob("*.mkv"))
