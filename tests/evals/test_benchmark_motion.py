"""Motion against identity on the puppet world: pairs, what the measures answer to, and a tiny run that goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fabula
from evals.benchmarks.motion import (
    CEILING,
    ELSEWHERE,
    LEAK,
    OTHER,
    POINTS,
    PUPPETS,
    SAME,
    Motion,
    MotionSettings,
    arm_name,
    rendered,
    share_footage,
)
from evals.benchmarks.protocol import Film, Unit
from evals.metrics.score import NotMeasured, Score
from generators.backends.instant import InstantBackend
from generators.clip import Frames
from generators.models.tiny import tiny_pipeline
from generators.world.words import FPS


@pytest.fixture(scope="module")
def motion() -> Motion:
    return Motion(MotionSettings(cases=4, film={}), NotMeasured(reason="no encoder"))


def read(motion: Motion, unit: Unit, frames: Frames) -> dict[str, float | None]:
    outcomes = motion.judge(unit, [Film(frames=frames, fps=FPS)]).outcomes
    return {name: one.value if isinstance(one, Score) else None for name, one in outcomes.items()}


def test_a_pair_asks_for_the_same_events_of_another_cast_in_another_place(motion: Motion) -> None:
    for unit in motion.units():
        pair = motion.pair(unit.name)
        source, asked = pair.source.script, pair.asked.script
        assert asked.events == source.events
        assert asked.place != source.place
        assert not {actor.hue for actor in asked.actors} & {actor.hue for actor in source.actors}
        assert pair.asked.caption.text == unit.cases[0].prompt
        assert all(actor.words in unit.cases[0].prompt for actor in asked.actors)
    assert [unit.classes for unit in motion.units()] == [(SAME,), (OTHER,), (SAME,), (OTHER,)]


def test_a_longer_list_begins_with_a_shorter_one(motion: Motion) -> None:
    longer = Motion(MotionSettings(cases=5, film={}), NotMeasured(reason="no encoder"))
    assert [unit.name for unit in longer.units()][:4] == [unit.name for unit in motion.units()]
    first = motion.units()[0].name
    assert longer.pair(first) == motion.pair(first)
    assert longer.noise(first) == motion.noise(first)


@pytest.mark.slow
def test_the_source_itself_is_all_motion_and_all_identity(motion: Motion) -> None:
    values = [read(motion, unit, motion.pair(unit.name).frames()) for unit in motion.units()]
    assert [found[LEAK] for found in values] == [1.0] * 4
    travelling = [found for found in values if found[PUPPETS] is not None]
    assert travelling
    assert all((found[PUPPETS] or 0.0) > 0.3 for found in travelling)


@pytest.mark.slow
def test_the_asked_clip_is_motion_without_identity(motion: Motion) -> None:
    values = [read(motion, unit, rendered(motion.pair(unit.name).asked.script)) for unit in motion.units()]
    assert [found[LEAK] for found in values] == [0.0] * 4
    mine, others = ([found[name] or 0.0 for found in values] for name in (PUPPETS, ELSEWHERE))
    assert sum(mine) > sum(others) + 0.5
    assert all(found["completion"] == 1.0 for found in values)
    assert any(found[POINTS] is not None for found in values)


def test_a_clip_that_could_not_be_had_is_not_measured(motion: Motion) -> None:
    judged = motion.judge(motion.units()[0], [NotMeasured(reason="no video")])
    assert set(judged.outcomes.values()) == {NotMeasured(reason="no video")}


def test_another_canvas_and_a_share_of_more_than_all_are_refused(motion: Motion) -> None:
    with pytest.raises(ValueError, match="films 16x16: expected the puppet world's 96x64"):
        share_footage(motion, InstantBackend(), 0.4)
    with pytest.raises(ValueError, match="expected 0 to 1"):
        share_footage(motion, InstantBackend(), 1.5)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tiny_pipeline("world", scheduler="euler").save_pretrained(str(folder), safe_serialization=True)
    return folder


@pytest.mark.slow
def test_the_curve_goes_over_the_shares_and_a_second_call_films_nothing(tiny: Path, tmp_path: Path) -> None:
    told: list[tuple[str, bool]] = []

    def run() -> fabula.MotionOutcome:
        return fabula.evaluate_motion(
            (0.5,),
            cases=1,
            model=str(tiny),
            steps=4,
            out=tmp_path / "results",
            on_progress=lambda name, progress: told.append((name, progress.kept)),
        )

    first = run()
    assert told == [(name, False) for name in ("plain", "share 0.5", CEILING)]
    table = first.table.read_text()
    assert run().table.read_text() == table
    assert all(kept for _, kept in told[3:])
    assert first.picture.read_bytes().startswith(b"\x89PNG")
    assert [line[:6] for line in table.splitlines()[2:]] == ["| 0 | ", "| 0 | ", "| 0 | ", "| 0.5 ", "| 0.5 ", "| 0.5 "]
    assert "share 0.5" in fabula.evaluation_report(tmp_path / "results").markdown.read_text()
    assert {arm_name(0.0), arm_name(0.5), CEILING} == {one.manifest.method for one in first.results}


def test_a_backend_that_cannot_move_clips_is_a_usage_error(cli: Callable[..., Any], tmp_path: Path) -> None:
    done = cli("eval", "motion", "--profile", "instant", "--out", tmp_path)
    assert done.code == 2
    assert "cannot give a shot the motion" in " ".join(done.err.split())
