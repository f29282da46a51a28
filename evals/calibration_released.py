"""A critic against the flags that StoryEval's authors released, and their two judges against each other.

The clips were never released. Whoever has them can run a critic on them (`AgainstReleased`); without them the flags
still tell how much one judge's word is worth where another's is the truth, and which share of its votes should count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agents.brains import Viewing
from agents.calibration import Released
from agents.errors import ModelRefused
from evals.benchmarks.protocol import Film, Judged, Judgement, Line, Unit, lines_by_class
from evals.benchmarks.storyeval import UNANIMOUS, Runs, read_prompts, read_verdicts
from evals.calibration import Panel, Reading, agreement, false_acceptance, precision, rate, recall
from evals.metrics.score import Case, NotMeasured, Score
from generators.clip import Event


def released_agreement(verdicts: Path, prompts: Path) -> tuple[Released, ...]:
    """For every judge: each run against its others, and it against the other judge, at every share of votes.

    Raises ValueError or OSError for files that are not the authors'.
    """
    try:
        flags = read_verdicts(verdicts, read_prompts(prompts))
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{verdicts}: expected the released verdicts of StoryEval, got something else: {error}"
        ) from error
    judges = sorted({name.rpartition("/")[2] for name in flags})
    found: list[Released] = []
    for judge in judges:
        own = [runs for name, runs in flags.items() if name.endswith(f"/{judge}")]
        found += _rows(judge, "its own other runs", [one for runs in own for one in _against_itself(runs)])
        for other in judges:
            if other != judge:
                found += _rows(judge, other, list(_against(flags, judge, other)))
    return tuple(found)


class AgainstReleased:
    """A benchmark of the suite: what a critic says of StoryEval's clips, against a judge's unanimous flags of them."""

    name = "critic-against-released"

    def __init__(self, panel: Panel, verdicts: Path, prompts: Path, judged: str) -> None:
        self._panel, self._verdicts, self._judged = panel, verdicts, judged
        cases = read_prompts(prompts)
        flags = read_verdicts(verdicts, cases)
        if judged not in flags:
            raise ValueError(f"{verdicts}: expected flags of one of {', '.join(sorted(flags))}; got {judged!r}")
        voted = {name: [run for run in runs if len(run)] for name, runs in flags[judged].items()}
        self._cases = {case.name: case for case in cases if voted[case.name]}
        self._truth = {
            name: [_share(voted[name], event) > UNANIMOUS for event in range(len(case.events))]
            for name, case in self._cases.items()
        }

    def settings(self) -> Mapping[str, Any]:
        """The critic, how it looks, and whose flags."""
        critic, digest = self._panel.critic, hashlib.sha256(self._verdicts.read_bytes()).hexdigest()
        return {"critic": critic.name, "how": critic.how(), "judged": self._judged, "verdicts": digest}

    def units(self) -> Sequence[Unit]:
        """Every prompt that the judge gave usable flags for."""
        return [Unit(name=name, cases=(case,), classes=case.classes) for name, case in self._cases.items()]

    def judge(self, unit: Unit, films: Sequence[Film | NotMeasured]) -> Judgement:
        """One clip; its events have no times, so they have its whole length."""
        film, name = films[0], "agreement"
        if isinstance(film, NotMeasured):
            return Judgement(outcomes={name: film}, facts={"readings": []})
        try:
            verdict = self._panel.judge(_viewing(unit.cases[0], film))
        except ModelRefused as error:
            return Judgement(outcomes={name: NotMeasured(reason=f"refused: {error}")}, facts={"readings": []})
        readings = [
            Reading(kind=unit.name, kept=kept, done=event.done, confidence=event.confidence)
            for kept, event in zip(self._truth[unit.name], verdict.events, strict=True)
            if event.done is not None
        ]
        if not readings:
            return Judgement(outcomes={name: NotMeasured(reason="nothing that it can judge")}, facts={"readings": []})
        right = sum(agreement(readings, 0.0)) / len(readings)
        return Judgement(outcomes={name: Score(value=right)}, facts={"readings": [asdict(one) for one in readings]})

    def lines(self, judged: Sequence[Judged]) -> list[Line]:
        """Agreement over all clips; shares at the critic's threshold stand in its calibration."""
        return lines_by_class(judged)

    def row(self, readings: Sequence[Reading], threshold: float) -> Released:
        """The critic as a judge among the released ones."""
        return _row(self._panel.critic.name, self._judged, readings, threshold)


def _viewing(case: Case, film: Film) -> Viewing:
    seconds = len(film.frames) / film.fps
    events = tuple(Event(subject="", phrase=event, start=0.0, end=seconds) for event in case.events)
    return Viewing(shot="1", take=0, frames=film.frames, fps=round(film.fps), events=events, prompt=case.prompt)


def _rows(judge: str, against: str, readings: Sequence[Reading]) -> Iterator[Released]:
    """A row a share of votes that occurs; `confidence` of a reading is that share."""
    for share in sorted({one.confidence for one in readings if one.confidence > 0}):
        yield _row(judge, against, readings, share)


def _row(judge: str, against: str, readings: Sequence[Reading], share: float) -> Released:
    return Released(
        judge=judge,
        against=against,
        share=round(share, 4),
        agreement=rate(agreement(readings, share)),
        precision=rate(precision(readings, share)),
        recall=rate(recall(readings, share)),
        false_acceptance=rate(false_acceptance(readings, share)),
    )


def _against_itself(runs: Mapping[str, Runs]) -> Iterator[Reading]:
    """Every run held against the flags of all others of the same clip, which vote unanimously."""
    for one in runs.values():
        voted = [run for run in one if len(run)]
        for number, run in enumerate(voted):
            others = voted[:number] + voted[number + 1 :]
            for event, flag in enumerate(run) if others else ():
                kept = _share(others, event) > UNANIMOUS
                yield Reading(kind="released", kept=kept, done=bool(flag), confidence=float(flag))


def _against(flags: Mapping[str, Mapping[str, Runs]], judge: str, other: str) -> Iterator[Reading]:
    """Votes of one judge over clips that the other judged too, whose unanimous word is the truth."""
    for name, runs in flags.items():
        model, _, whose = name.rpartition("/")
        theirs = flags.get(f"{model}/{other}")
        if whose != judge or theirs is None:
            continue
        for case, ours in runs.items():
            mine = [run for run in ours if len(run)]
            truth = [run for run in theirs[case] if len(run)]
            for event in range(len(mine[0])) if mine and truth else ():
                share = _share(mine, event)
                yield Reading(kind="released", kept=_share(truth, event) > UNANIMOUS, done=share > 0, confidence=share)


def _share(runs: Sequence[Sequence[int]], event: int) -> float:
    return sum(run[event] for run in runs) / len(runs)
