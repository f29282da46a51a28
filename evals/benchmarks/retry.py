"""Is filming again worth it, and what of it? Held-out captions through the whole graph, under one policy each.

The critic decides what is filmed again, the independent score says what was won: they look at other frames. Every
number at a budget counts the critic's best take among those that fit into it, in work and not in seconds: `spend 3`
is what three first takes would have cost. Knows no graph: `retry_stage` films.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from evals.benchmarks.protocol import Film, Judged, Judgement, Line, Unit, lines_by_class, noise_of
from evals.benchmarks.retry_stage import Attempt, FilmedShot
from evals.metrics.score import Case, NotMeasured, Outcome, Score, summarise
from evals.world import splits
from evals.world.scores import judge_scene
from evals.world.settings import SCORE, read_by
from evals.world.tracks import watch
from generators.clip import Frames
from generators.world.script import Script

APART = 2_000_003
"""Added to the seed that draws captions: neither the steering bench nor what it is tuned on has these."""
SLACK = 0.05
"""First takes by which a budget may be overdrawn: steering costs a hundredth more than none."""
THRESHOLDS = tuple(range(50, 101, 5))
"""Confidences in percent from which an event counts as done, for the sweep; the critic is never less sure than 50."""
COMPLETION = "completion"


@dataclass(frozen=True, kw_only=True)
class RetrySettings:
    """Which captions, and the most takes a shot. `film` says what films, `critic` who decides."""

    cases: int = 96
    events: tuple[int, ...] = (2,)
    takes: int = 6
    seed: int = 0
    film: Mapping[str, Any]
    critic: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.cases < 1:
            raise ValueError(f"cases: expected at least 1, got {self.cases}")
        if self.takes < 2:
            raise ValueError(f"takes: expected at least 2, got {self.takes}")
        if not self.events or not set(self.events) <= {1, 2, 3, 4}:
            raise ValueError(f"events: expected some of 1 to 4, got {', '.join(map(str, self.events)) or 'none'}")


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A take in numbers: what it cost, what the critic and what the score saw."""

    remedy: str
    work: float
    seen: tuple[bool, ...]
    sure: tuple[float, ...]
    identity: float
    quality: float
    done: tuple[bool, ...]
    """By the independent score."""

    @property
    def completion(self) -> float:
        """By the independent score."""
        return sum(self.done) / len(self.done)

    def accepted(self, threshold: float = 0.0) -> int:
        """Events that the critic took for done and was that sure of."""
        return sum(seen and sure >= threshold for seen, sure in zip(self.seen, self.sure, strict=True))


class Retry:
    """The benchmark. Classes are the number of events."""

    def __init__(self, settings: RetrySettings) -> None:
        self._settings = settings
        drawn = settings.seed + APART
        listed = {count: splits.cases("both", count, settings.cases, drawn) for count in settings.events}
        self._cases = {
            listed[count][number].name: listed[count][number]
            for number in range(settings.cases)
            for count in settings.events
        }

    @property
    def name(self) -> str:
        """`retry`."""
        return "retry"

    def settings(self) -> Mapping[str, Any]:
        """Captions, takes, film and critic; not the policy."""
        told = self._settings
        asked = {"seed": told.seed, "takes": told.takes}
        return {**read_by(), **asked, "film": dict(told.film), "critic": dict(told.critic)}

    def units(self) -> Sequence[Unit]:
        """One caption each, numbers of events in turn."""
        return [
            Unit(
                name=name,
                cases=(Case(name=name, prompt=case.caption.text),),
                classes=(_events(len(case.script.events)),),
            )
            for name, case in self._cases.items()
        ]

    def case_of(self, name: str) -> tuple[splits.Case, int]:
        """The caption behind a unit, and the seed of its run."""
        return self._cases[name], noise_of("retry", self._settings.seed, name)

    def judge(self, unit: Unit, films: Sequence[Film | NotMeasured]) -> Judgement:
        """Every take scored, and what each budget would have bought."""
        film = films[0]
        if isinstance(film, NotMeasured):
            return Judgement(outcomes={COMPLETION: film}, facts={"policy": None}, headline=COMPLETION)
        if not isinstance(film, FilmedShot):
            raise TypeError(f"retry: expected a shot filmed under a policy, got {type(film).__name__}")
        script = self._cases[unit.name].script
        takes = [_scored(attempt, script) for attempt in film.attempts]
        policy, most = film.policy, self._settings.takes
        outcomes: dict[str, Outcome] = dict(_ends(takes if policy.only else within(takes, most)))
        if policy.only is None and policy.content:
            outcomes |= {_within(spend): Score(value=best_of(within(takes, spend)).completion)
                         for spend in range(1, most + 1)}  # fmt: skip
        if not policy.content:
            outcomes |= _sweep(within(takes, most))
        outcomes |= _retries(takes, policy.only)
        facts = {
            "classes": list(unit.classes),
            "policy": policy.name,
            "takes": [_plain(one, attempt.reason) for one, attempt in zip(takes, film.attempts, strict=True)],
        }
        return Judgement(outcomes=outcomes, facts=facts, headline=COMPLETION)

    def lines(self, judged: Sequence[Judged]) -> list[Line]:
        """Over all and by number of events; then completion over what was spent, and over the critic's threshold."""
        counts = [_events(count) for count in sorted(self._settings.events)]
        plain = lines_by_class(judged, counts)
        told = [line for line in plain if not line.summary.metric.startswith(_CURVES)]
        return [*told, *_curves(judged, [_within(n) for n in range(1, self._settings.takes + 1)], "spend", COMPLETION),
                *_curves(judged, [_at(t) for t in THRESHOLDS], "threshold", COMPLETION),
                *_curves(judged, [_spent_at(t) for t in THRESHOLDS], "threshold", "spend")]  # fmt: skip


def _events(count: int) -> str:
    return f"{count} event" if count == 1 else f"{count} events"


def _within(spend: int) -> str:
    return f"completion within {spend}"


def _at(threshold: int) -> str:
    return f"completion at threshold {threshold}"


def _spent_at(threshold: int) -> str:
    return f"spend at threshold {threshold}"


_CURVES = ("completion at threshold", "spend at threshold")


def _curves(judged: Sequence[Judged], metrics: Sequence[str], axis: str, shown: str) -> list[Line]:
    """One line a metric that was asked, grouped by the number its name ends with."""
    found = []
    for metric in metrics:
        outcomes = [one.judgement.outcomes[metric] for one in judged if metric in one.judgement.outcomes]
        if outcomes:
            found.append(Line(group=f"{axis} {metric.split()[-1]}", summary=summarise(shown, outcomes)))
    return found


def _scored(attempt: Attempt, script: Script) -> Scored:
    judged = judge_scene(watch(attempt.frames, SCORE), stretched(script, attempt.frames))
    return Scored(
        remedy=attempt.remedy,
        work=attempt.work,
        seen=attempt.seen,
        sure=attempt.sure,
        identity=attempt.identity,
        quality=attempt.quality,
        done=tuple(event.done for event in judged.events),
    )


def stretched(script: Script, frames: Frames) -> Script:
    """The script as long as the clip: a shot that was filmed in two parts is longer than it was planned."""
    scale = len(frames) / script.frames
    events = tuple(replace(event, start=event.start * scale, end=event.end * scale) for event in script.events)
    return replace(script, events=events, frames=len(frames))


def within(takes: Sequence[Scored], spend: float) -> list[Scored]:
    """The takes that so many first takes' work pays for; the first one in any case."""
    kept, spent = [takes[0]], takes[0].work
    for take in takes[1:]:
        spent += take.work
        if spent > spend + SLACK:
            break
        kept.append(take)
    return kept


def best_of(takes: Sequence[Scored], threshold: float = 0.0) -> Scored:
    """The take that the critic prefers: events, identity, quality, then the earlier."""
    return max(takes, key=lambda one: (one.accepted(threshold), one.identity, one.quality))


def _ends(takes: Sequence[Scored]) -> dict[str, Score]:
    best = best_of(takes)
    taken = sum(best.seen)
    ends = {
        COMPLETION: best.completion,
        "whole captions": float(all(best.done)),
        "the critic's completion": taken / len(best.seen),
        "wrongly content": sum(s and not d for s, d in zip(best.seen, best.done, strict=True)) / len(best.seen),
        "takes": float(len(takes)),
        "spend": sum(take.work for take in takes),
    }
    return {name: Score(value=value) for name, value in ends.items()}


def _retries(takes: Sequence[Scored], only: str | None) -> dict[str, Outcome]:
    """What one retry did to the events of the take that stood before it, by the score; `saved a take` counts events
    won for the work of one first take."""
    names = ("saved", "lost", "cost of a retry", "saved a take")
    tried = [(best_of(takes[:at]), takes[at]) for at in range(1, len(takes))]
    if not tried:
        return dict.fromkeys(names, NotMeasured(reason="nothing was filmed again"))
    if only is not None and any(take.remedy != only for _, take in tried):
        return dict.fromkeys(names, NotMeasured(reason=f"{only} could not be used"))
    flags = [pair for before, take in tried for pair in zip(before.done, take.done, strict=True)]
    missed = [after for before, after in flags if not before]
    had = [after for before, after in flags if before]
    work = sum(take.work for _, take in tried)
    return {
        "saved": Score(value=fmean(missed)) if missed else NotMeasured(reason="the score missed nothing"),
        "lost": Score(value=1 - fmean(had)) if had else NotMeasured(reason="the score had seen nothing"),
        "cost of a retry": Score(value=work / len(tried)),
        "saved a take": Score(value=sum(missed) / work),
    }


def _sweep(takes: Sequence[Scored]) -> dict[str, Outcome]:
    """For every threshold: films until the critic is content at it, and takes what it prefers. The score's own choice
    among all takes is the most that any critic could reach."""
    found: dict[str, Outcome] = {"the best take there was": Score(value=max(take.completion for take in takes))}
    for percent in THRESHOLDS:
        threshold = percent / 100
        content = next((n for n, take in enumerate(takes, 1) if take.accepted(threshold) == len(take.seen)), len(takes))
        filmed = takes[:content]
        found[_at(percent)] = Score(value=best_of(filmed, threshold).completion)
        found[_spent_at(percent)] = Score(value=sum(take.work for take in filmed))
    return found


def _plain(take: Scored, reason: str) -> dict[str, Any]:
    return {
        "remedy": take.remedy,
        "reason": reason,
        "work": round(take.work, 4),
        "critic": list(take.seen),
        "sure": [round(sure, 4) for sure in take.sure],
        "score": list(take.done),
        "identity": round(take.identity, 4),
        "quality": round(take.quality, 4),
    }
