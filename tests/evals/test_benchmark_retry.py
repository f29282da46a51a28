"""The retry bench: policies film what they say, the work is counted, and the score alone says what was won."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.scripted import ScriptedCritic
from evals.benchmarks.protocol import ALL
from evals.benchmarks.retry import COMPLETION, Retry, RetrySettings, Scored, best_of, stretched, within
from evals.benchmarks.retry_policies import OFF, POLICIES, SWEEP, Policy, policies_named
from evals.benchmarks.retry_stage import Attempt, FilmedShot, PolicyFootage, Stage, board_of
from evals.benchmarks.steering import run_arms
from evals.comparison import RETRY, compare
from evals.metrics.score import Case, NotMeasured, Score
from evals.report import page_of
from evals.results import read_results
from evals.world import controls
from generators.backends.instant import InstantBackend
from generators.clip import Frames, Limits, ShotRequest
from generators.world.words import HEIGHT, SHORT, WIDTH

Cli = Callable[..., Any]
CANVAS = Limits(width=WIDTH, height=HEIGHT, fps=8, frame_counts=(SHORT,), extends=True, guides=True)
INSTANT = """\
[critic]
kind = "world"
[backend]
kind = "instant"
width = 96
height = 64
frame_counts = [33, 65]
"""


def bench(cases: int = 1, takes: int = 4, **changes: Any) -> Retry:
    settings = RetrySettings(cases=cases, takes=takes, film={"weights": "none"}, critic={"name": "scripted"})
    return Retry(replace(settings, **changes))


@dataclass(kw_only=True)
class Place:
    """A stage, and what its backend was asked for."""

    stage: Stage
    asked: list[ShotRequest]

    def kinds(self, policy: str, name: str = "both-2-0000") -> list[str]:
        film = self.stage.film(POLICIES[policy], name)
        assert isinstance(film, FilmedShot), film
        return [attempt.remedy for attempt in film.attempts]


@pytest.fixture
def place() -> Iterator[Place]:
    """The first event is never seen, the second always."""
    asked: list[ShotRequest] = []
    backend = InstantBackend(limits=CANVAS, on_shoot=asked.append)
    critic = ScriptedCritic({("1", take): [False, True] for take in range(1, 9)})
    with Stage(backend, critic, critic, bench(cases=2).case_of, 4) as stage:
        yield Place(stage=stage, asked=asked)


@pytest.mark.slow
def test_policies_repair_as_they_say_and_share_what_they_both_film(place: Place) -> None:
    assert place.kinds(OFF) == [""]
    assert len(place.asked) == 1
    assert place.kinds("whole-shot") == ["", "reseed", "reseed", "reseed"]
    assert place.kinds("event-sized") == ["", "refilm", "refilm", "refilm"]
    assert place.kinds("ladder") == ["", "reseed", "strengthen", "retime"]
    assert [place.kinds(f"only-{kind}") for kind in ("reword", "guide", "split")] == [
        ["", "reword"], ["", "guide"], ["", "split"]
    ]  # fmt: skip
    filmed = [request.digest() for request in place.asked]
    assert len(filmed) == len(set(filmed))


@pytest.mark.slow
def test_a_refilmed_window_is_as_much_work_as_a_take_and_a_split_shot_twice(place: Place) -> None:
    works = {}
    for name in ("whole-shot", "only-refilm", "only-split"):
        film = place.stage.film(POLICIES[name], "both-2-0000")
        assert isinstance(film, FilmedShot)
        works[name] = [attempt.work for attempt in film.attempts[:2]]
    assert works == {"whole-shot": [1.0, 1.0], "only-refilm": [1.0, 1.0], "only-split": [1.0, 2.0]}


@pytest.mark.slow
def test_the_sweep_films_every_take_and_keeps_what_its_critic_thought() -> None:
    content = ScriptedCritic()
    with Stage(InstantBackend(limits=CANVAS), content, content, bench().case_of, 3) as stage:
        swept, whole = (stage.film(POLICIES[name], "both-2-0000") for name in (SWEEP, "whole-shot"))
    assert isinstance(swept, FilmedShot)
    assert isinstance(whole, FilmedShot)
    assert [attempt.seen for attempt in swept.attempts] == [(True, True)] * 3
    assert len(whole.attempts) == 1


def test_a_caption_becomes_a_story_of_one_shot_in_its_own_words() -> None:
    case, _ = bench().case_of("both-2-0000")
    board = board_of(case)
    assert board.shots[0].prompt == case.caption.text
    assert [event.phrase for event in board.shots[0].events] == list(case.caption.phrases)
    assert {subject.name for subject in board.cast} == {actor.words for actor in case.script.actors}


# ── what is made of the takes ──


def scored(done: tuple[bool, ...], seen: tuple[bool, ...] | None = None, **changes: Any) -> Scored:
    told: dict[str, Any] = {
        "remedy": "reseed",
        "work": 1.0,
        "sure": (0.75,) * len(done),
        "identity": 1.0,
        "quality": 1.0,
    }
    return Scored(done=done, seen=done if seen is None else seen, **told | changes)


def test_a_budget_holds_the_takes_that_fit_and_the_first_in_any_case() -> None:
    takes = [scored((True, False)), scored((True, True), work=2.0), scored((True, True))]
    assert [len(within(takes, spend)) for spend in (1, 2, 3, 4)] == [1, 1, 2, 3]
    assert len(within([scored((True,), work=1.02)] * 6, 6)) == 5
    assert len(within([scored((True,), work=1.005)] * 6, 6)) == 6


def test_the_critic_chooses_by_what_it_saw_and_not_by_what_was_there() -> None:
    fooled = scored((False, False), seen=(True, True))
    right = scored((True, True), seen=(True, False))
    assert best_of([right, fooled]) is fooled
    sceptic = best_of([right, replace(fooled, sure=(0.5, 0.5))], threshold=0.6)
    assert sceptic is right
    assert best_of([right, replace(right)]) is right


def attempt(frames: Frames, seen: tuple[bool, ...], remedy: str = "", sure: float = 0.75) -> Attempt:
    return Attempt(
        frames=frames, remedy=remedy, reason="", work=1.0, seen=seen, sure=(sure,) * len(seen), identity=1.0,
        quality=1.0,
    )  # fmt: skip


def outcomes(policy: Policy, *attempts: Attempt) -> dict[str, Any]:
    benchmark = bench()
    (unit,) = benchmark.units()
    film = FilmedShot(frames=attempts[0].frames, fps=8.0, policy=policy, attempts=attempts)
    judgement = benchmark.judge(unit, [film])
    return {name: one.value if isinstance(one, Score) else one.reason for name, one in judgement.outcomes.items()}


def clips() -> tuple[Frames, Frames]:
    """The truth of the first caption, and a clip that stands still."""
    case, _ = bench().case_of("both-2-0000")
    truth = controls.film(case.script)
    return truth, controls.frozen(truth)


def test_the_score_says_what_a_retry_saved_and_each_budget_bought() -> None:
    truth, still = clips()
    found = outcomes(POLICIES["whole-shot"], attempt(still, (False, False)), attempt(truth, (True, True), "reseed"))
    assert (found["completion within 1"], found["completion within 2"], found[COMPLETION]) == (0.0, 1.0, 1.0)
    assert (found["saved"], found["saved a take"], found["cost of a retry"]) == (1.0, 2.0, 1.0)
    assert (found["spend"], found["wrongly content"]) == (2.0, 0.0)
    assert found["lost"] == "the score had seen nothing"


def test_a_critic_that_is_fooled_is_wrongly_content() -> None:
    _, still = clips()
    found = outcomes(POLICIES[OFF], attempt(still, (True, True)))
    assert (found["the critic's completion"], found["wrongly content"], found[COMPLETION]) == (1.0, 1.0, 0.0)
    assert found["saved"] == "nothing was filmed again"


def test_a_remedy_that_could_not_be_used_is_not_measured_by_what_came_in_its_place() -> None:
    truth, still = clips()
    found = outcomes(POLICIES["only-refilm"], attempt(still, (False, False)), attempt(truth, (True, True), "reseed"))
    assert found["saved"] == "refilm could not be used"


def test_one_remedy_is_told_of_whatever_it_cost() -> None:
    truth, still = clips()
    dear = replace(attempt(truth, (True, True), "guide"), work=9.0)
    found = outcomes(POLICIES["only-guide"], attempt(still, (False, False)), dear)
    assert (found[COMPLETION], found["spend"], found["cost of a retry"]) == (1.0, 10.0, 9.0)


def test_a_threshold_trades_takes_for_completion() -> None:
    truth, still = clips()
    found = outcomes(
        POLICIES[SWEEP], attempt(still, (True, True), sure=0.6), attempt(truth, (True, True), "reseed", sure=0.9)
    )
    ends = {t: (found[f"completion at threshold {t}"], found[f"spend at threshold {t}"]) for t in (50, 60, 65, 95)}
    assert ends == {50: (0.0, 1.0), 60: (0.0, 1.0), 65: (1.0, 2.0), 95: (0.0, 2.0)}
    assert found["the best take there was"] == 1.0


def test_a_longer_clip_stretches_its_script() -> None:
    case, _ = bench().case_of("both-2-0000")
    longer = stretched(case.script, np.zeros((66, HEIGHT, WIDTH, 3), np.uint8))
    assert longer.frames == 66
    assert longer.events[1].end == pytest.approx(2 * case.script.events[1].end)


# ── as one bench ──


@pytest.mark.slow
def test_the_bench_goes_on_and_its_report_has_curves_over_the_spend(tmp_path: Path) -> None:
    benchmark = bench(cases=2, takes=2)
    backend = InstantBackend(limits=CANVAS)
    critic = ScriptedCritic({("1", 1): [False, True]})
    chosen = [POLICIES[name] for name in (OFF, "whole-shot", SWEEP)]

    def run(cases: int) -> list[str]:
        told: list[str] = []
        with Stage(backend, critic, critic, benchmark.case_of, 2) as stage:
            footages = [PolicyFootage(stage=stage, policy=policy) for policy in chosen]
            run_arms(bench(cases=cases, takes=2), footages, tmp_path,
                     on_progress=lambda name, step: told.append(f"{name} {step.unit} {step.kept}"))  # fmt: skip
        return told

    assert run(1) == [f"{policy.name} both-2-0000 False" for policy in chosen]
    assert [line.endswith("True") for line in run(2)] == [True] * 3 + [False] * 3
    methods = read_results(tmp_path)["retry"]
    groups = {line.group for method in methods for line in method.lines if line.summary.metric == COMPLETION}
    assert {ALL, "2 events", "spend 1", "spend 2", "threshold 50"} <= groups
    table = compare(methods, RETRY)[0]
    assert [name for name, _ in table.rows] == [OFF, "whole-shot", SWEEP]
    (part,) = page_of(tmp_path, only="retry").parts
    assert {"completion over spend", "completion over threshold"} <= {one.caption for one in part.pictures}


@pytest.mark.slow
def test_the_command_films_stories_under_the_worlds_critic(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "world.toml").write_text(INSTANT)
    done = cli("eval", "retry", "--profile", tmp_path / "world.toml", "--cases", "1", "--takes", "2", "--policies",
               "whole-shot,only-strengthen", "--out", tmp_path / "results")  # fmt: skip
    assert done.code == 0, done.err
    assert "only-strengthen" in done.out
    assert (tmp_path / "results" / "retry" / "report" / "report.md").is_file()


def test_an_unknown_policy_is_a_usage_error(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "world.toml").write_text(INSTANT)
    done = cli("eval", "retry", "--profile", tmp_path / "world.toml", "--policies", "pray", "--out", tmp_path)
    assert done.code == 2
    assert "expected some of off" in " ".join(done.err.split())
    assert [policy.name for policy in policies_named(["ladder"])] == [OFF, "ladder"]


def test_a_shot_that_cannot_be_filmed_is_not_measured() -> None:
    def refuse(request: ShotRequest) -> None:
        from generators.errors import RequestRejected

        raise RequestRejected("too dark")

    critic = ScriptedCritic()
    with Stage(InstantBackend(limits=CANVAS, on_shoot=refuse), critic, critic, bench().case_of, 2) as stage:
        found = PolicyFootage(stage=stage, policy=POLICIES[OFF]).film(Case(name="both-2-0000", prompt=""), 0)
    assert isinstance(found, NotMeasured)
    assert "too dark" in found.reason
