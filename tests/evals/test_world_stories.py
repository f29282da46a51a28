"""Stories of several shots: truth keeps looks, places and cuts; each fault lowers the score that names it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from evals.benchmarks.protocol import ABSENT, Film, Judgement
from evals.benchmarks.stories import APART, COLOUR, CUT, DECAY, ECR, LOOK, OCCM, PLACE, SAME, SIZE, Stories, story
from evals.benchmarks.world import Autoencoder
from evals.benchmarks.world_controls import DROPPED, ControlFootage
from evals.metrics.score import Case as Shown
from evals.metrics.score import NotMeasured, Score, Summary
from evals.suite import finish, run
from evals.world import controls
from evals.world.detectors import Frames
from evals.world.splits import Case
from generators.world.words import FPS, HUES, KINDS

NO_MODEL = NotMeasured(reason="no model")


def judged(films: Sequence[Frames | None]) -> Judgement:
    """The first story of three shots, filmed so."""
    benchmark = Stories(1, NO_MODEL)
    shown = [ABSENT if one is None else Film(frames=one, fps=FPS) for one in films]
    return benchmark.judge(benchmark.units()[0], shown)


def value(judgement: Judgement, metric: str) -> float | None:
    outcome = judgement.outcomes[metric]
    return outcome.value if isinstance(outcome, Score) else None


@pytest.fixture(scope="module")
def shots() -> tuple[Case, ...]:
    return story(0)


@pytest.fixture(scope="module")
def truth(shots: tuple[Case, ...]) -> list[Frames]:
    return [controls.film(shot.script) for shot in shots]


def test_a_story_opens_and_closes_with_the_same_puppet_and_changes_places(shots: tuple[Case, ...]) -> None:
    assert shots[0].script.actors[0].words == shots[-1].script.actors[0].words
    assert shots[0].script.actors[0].hue not in [actor.hue for actor in shots[1].script.actors[:1]]
    assert shots[0].script.place == shots[2].script.place != shots[1].script.place
    assert story(0) == shots != story(1)
    assert [len(story(number)) for number in range(4)] == [3, 4, 5, 6]


@pytest.mark.slow
def test_truth_keeps_looks_places_counts_and_cuts(truth: list[Frames]) -> None:
    found = judged(truth)
    assert [value(found, name) for name in (ECR, OCCM, LOOK, CUT)] == [1.0, pytest.approx(100.0), 1.0, 1.0]
    assert (value(found, COLOUR) or 0.0) < 10.0
    assert (value(found, SIZE) or 0.0) < 0.5
    same, apart = value(found, SAME), value(found, APART)
    assert same is not None
    assert apart is not None
    assert same < 1.0 < 10.0 < apart
    assert found.facts["gaps"] == {"1": 1.0}


def test_a_puppet_that_comes_back_as_another_kind_is_found_out(shots: tuple[Case, ...], truth: list[Frames]) -> None:
    last = shots[-1].script
    other = next(kind for kind in ("robot", "child") if kind != last.actors[0].kind)
    assert other in KINDS
    changed = replace(last, actors=(replace(last.actors[0], kind=other), *last.actors[1:]))
    found = judged([*truth[:-1], controls.film(changed)])
    assert found.facts["gaps"] == {"1": 0.0}
    assert (value(found, LOOK) or 0.0) < 1.0


def test_a_stranger_lowers_the_count_and_no_look(shots: tuple[Case, ...], truth: list[Frames]) -> None:
    last = shots[-1].script
    free = next(hue for hue in HUES if hue not in {a.hue for shot in shots for a in shot.script.actors})
    swapped = replace(last, actors=(replace(last.actors[0], hue=free), *last.actors[1:]))
    found = judged([*truth[:-1], controls.film(swapped)])
    assert (value(found, ECR) or 0.0) < 1.0
    assert found.facts["gaps"] == {}


def test_frozen_shots_pass_no_gate_so_that_stillness_wins_nothing(truth: list[Frames]) -> None:
    found = judged([controls.frozen(one) for one in truth])
    assert value(found, ECR) == 0.0
    assert isinstance(found.outcomes[LOOK], NotMeasured)


def test_a_missing_shot_shows_nobody_and_cuts_cannot_be_judged(truth: list[Frames]) -> None:
    found = judged([None, *truth[1:]])
    assert (value(found, OCCM) or 0.0) == pytest.approx((100 * np.exp(-1) + 200) / 3, abs=1e-3)
    assert found.outcomes[CUT] == NotMeasured(reason="a shot is missing")


def test_a_shot_that_cannot_be_read_is_no_zero(truth: list[Frames]) -> None:
    benchmark = Stories(1, NO_MODEL)
    films = [Film(frames=one, fps=FPS) for one in truth]
    wide = Film(frames=np.repeat(truth[1], 2, axis=2), fps=FPS)
    for broken, said in (
        (wide, "shot 2: a film of 192x64 pixels"),
        (NotMeasured(reason="rejected"), "shot 2: rejected"),
    ):
        outcomes = benchmark.judge(benchmark.units()[0], [films[0], broken, *films[2:]]).outcomes
        for name in (ECR, OCCM, PLACE, f"{ECR} (floor)"):
            found = outcomes[name]
            assert isinstance(found, NotMeasured)
            assert found.reason.startswith(said)
        assert isinstance(outcomes[LOOK], Score)


def test_one_picture_for_every_shot_has_no_cuts(truth: list[Frames]) -> None:
    assert value(judged([truth[0]] * 3), CUT) == 0.0


def test_controls_film_every_shot_of_every_story(tmp_path: Path) -> None:
    named = controlled("truth", NO_MODEL, tmp_path)
    assert named[ECR, "all"].mean == named[ECR, "3 shots"].mean == 1.0
    assert named[DECAY, "gap 1"].count == 1
    assert named[f"{ECR} (ceiling)", "all"].unmeasured == {"no model": 1}


@pytest.mark.slow
def test_every_score_stands_under_its_ceiling_and_what_a_script_decides_above_its_floor(tmp_path: Path) -> None:
    named = controlled("truth", Autoencoder(roundtrip=controls.frozen, digest="still"), tmp_path)
    means = {metric: summary.mean for (metric, group), summary in named.items() if group == "all"}
    assert [means[f"{name} (ceiling)"] for name in (ECR, OCCM, PLACE, CUT)] == [0.0, pytest.approx(100.0), 1.0, 1.0]
    assert {name for name in means if name.endswith("(ceiling)")} == {
        f"{name} (ceiling)" for name in (ECR, OCCM, PLACE, LOOK, COLOUR, SIZE, SAME, APART, CUT)
    }
    floors = {name.removesuffix(" (floor)"): mean for name, mean in means.items() if name.endswith("(floor)")}
    assert set(floors) == {ECR, OCCM, PLACE}
    assert floors[ECR] == 0.0
    assert floors[PLACE] == pytest.approx(1 / 3)  # the story closes where it began
    assert floors[OCCM] == pytest.approx(100.0)  # it counts, whoever it is: the floor says so
    assert not [metric for metric, group in named if group != "all" and metric.endswith(("(ceiling)", "(floor)"))]


def test_a_story_that_lacks_a_shot_loses_its_count_and_its_events_and_keeps_its_looks(tmp_path: Path) -> None:
    named = controlled(DROPPED, NO_MODEL, tmp_path)
    assert named[OCCM, "all"].mean == pytest.approx((100 * np.exp(-1) + 200) / 3, abs=1e-3)
    assert [named[name, "all"].mean for name in (ECR, PLACE, LOOK)] == [pytest.approx(2 / 3)] * 2 + [1.0]
    assert named[CUT, "all"].unmeasured == {"a shot is missing": 1}
    films = ControlFootage(DROPPED, {}, NO_MODEL)
    assert films.film(Shown(name="both-1-0000", prompt=""), 0) == NotMeasured(
        reason="a film of one shot has none to spare"
    )


def controlled(control: str, autoencoder: Autoencoder | NotMeasured, out: Path) -> dict[tuple[str, str], Summary]:
    """The first story under a control, by metric and group."""
    benchmark = Stories(1, autoencoder)
    result = finish(run(benchmark, ControlFootage(control, benchmark.cases, autoencoder), out))
    return {(line.summary.metric, line.group): line.summary for line in result.lines}


def test_no_story_is_no_benchmark() -> None:
    with pytest.raises(ValueError, match="at least 1 story"):
        Stories(0, NO_MODEL)
