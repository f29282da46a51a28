"""StoryEval-Bench (CVPR 2025): did a clip of several events show each of them, by unanimous vote of a verifier.

Prompts come from the authors' file by path, and so do the flags they released. Two ways to count clips without a
usable vote: as published they are 0 and stay in the denominator ("official"); here they are not measured and counted
("voted").
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evals.benchmarks.protocol import Film, Judged, Judgement, Line, Unit, lines_by_class
from evals.benchmarks.verifiers import GPT4O, ReplayVerifier, Rules, Verifier, Vote, key_pictures, vote
from evals.metrics.score import Case, NotMeasured, Outcome, Score

CLASSES = ("human", "animal", "object", "retrieval", "creative", "easy", "hard")
"""The seven that are reported."""
TAGS = (*CLASSES, "medium", "2_events", "3_events", "4_events")
UNANIMOUS = 0.9999
Runs = Sequence[Sequence[int]]
"""Flags of every run over one clip; an empty run gave none."""


def read_prompts(path: Path) -> tuple[Case, ...]:
    """The cases of a prompt file, sorted by name. Raises ValueError naming the entry that is no prompt."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"StoryEval prompts {path} cannot be read: {error}") from error
    if not isinstance(found, dict) or not found:
        raise ValueError(f"StoryEval prompts {path}: expected an object of prompts by video file name")
    return tuple(_case(path, name, found[name]) for name in sorted(found))


def _case(path: Path, name: str, entry: Any) -> Case:
    try:
        lists = entry["event_list"], entry["class"]
        if not all(isinstance(one, list) for one in lists):
            raise TypeError("expected lists")
        events, classes = (tuple(map(str, one)) for one in lists)
        case = Case(name=name.removesuffix(".mp4"), prompt=str(entry["prompt"]), events=events, classes=classes)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: {name!r}: expected prompt, and event_list and class as lists, got {entry!r:.120}"
        ) from error
    if not case.events:
        raise ValueError(f"{path}: {name!r}: event_list is empty")
    return case


def file_name(prompt: str) -> str:
    """What the authors call a prompt's video: words joined by `_`, at most 198 characters, `.mp4`."""
    return "_".join(re.sub(r"[^\w\s]", "", prompt).split())[:198] + ".mp4"


def prompt_score(runs: Runs, unanimous: bool = True) -> float | None:
    """`mean_k u_k`, where `u_k` is 1 if every non-empty run flags event k, else 0; None without a non-empty run.

    Not unanimous: `mean_k e_k`, the plain mean of the flags, four to ten points higher.
    """
    voted = [run for run in runs if len(run)]
    if not voted:
        return None
    shares = [float(np.mean(flags)) for flags in zip(*voted, strict=True)]
    return float(np.mean([share > UNANIMOUS for share in shares] if unanimous else shares))


def read_verdicts(path: Path, cases: Sequence[Case]) -> dict[str, dict[str, Runs]]:
    """Released flags by `model/verifier`, then by case; `path` holds a list a model in the order of sorted cases."""
    released = json.loads(path.read_text(encoding="utf-8"))["verdicts"]
    names = [case.name for case in sorted(cases, key=lambda case: f"{case.name}.mp4")]
    return {model: dict(zip(names, runs, strict=True)) for model, runs in released.items()}


def replayed(verdicts: Path, prompts: Path, judged: str) -> ReplayVerifier:
    """The released flags of one `model/verifier` as a verifier. Raises ValueError or OSError for files of another form
    and for a name that is not among them."""
    cases = read_prompts(prompts)
    try:
        released = read_verdicts(verdicts, cases)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{verdicts}: expected the released verdicts of StoryEval: {error}") from error
    if judged not in released:
        raise ValueError(f"{verdicts}: expected flags of one of {', '.join(sorted(released))}; got {judged!r}")
    digest = hashlib.sha256(verdicts.read_bytes()).hexdigest()[:8]
    return ReplayVerifier(released[judged], name=f"released flags of {judged} ({digest})")


@dataclass(frozen=True, kw_only=True)
class Unreleased:
    """Footage of clips whose flags were released and which were not themselves."""

    name: str
    source: str = "none"

    def digest(self, case: Case, seed: int) -> str:
        """There are no pixels."""
        return ""

    def film(self, case: Case, seed: int) -> NotMeasured:
        """None."""
        return NotMeasured(reason="the clip was not released")


@dataclass(frozen=True, kw_only=True)
class StoryEvalSettings:
    """Which prompts, and how the verifier is asked. `limit` takes the first so many prompts; None takes all."""

    prompts: Path
    rules: Rules = GPT4O
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"StoryEvalSettings.limit: expected at least 1, got {self.limit}")


class StoryEval:
    """The benchmark; without a verifier every clip is filmed and nothing is measured."""

    name = "storyeval"

    def __init__(self, settings: StoryEvalSettings, verifier: Verifier | NotMeasured) -> None:
        self._settings = settings
        self._verifier = verifier
        self._cases = read_prompts(settings.prompts)[: settings.limit]

    def settings(self) -> Mapping[str, Any]:
        """Prompts by digest, rules, verifier."""
        return {
            "prompts": hashlib.sha256(self._settings.prompts.read_bytes()).hexdigest(),
            "rules": asdict(self._settings.rules),
            "verifier": None if isinstance(self._verifier, NotMeasured) else self._verifier.name,
        }

    def units(self) -> Sequence[Unit]:
        """One prompt each."""
        return [Unit(name=case.name, cases=(case,), classes=case.classes) for case in self._cases]

    def judge(self, unit: Unit, films: Sequence[Film | NotMeasured]) -> Judgement:
        """All runs of the verifier over one clip; flags that were stored for it need no clip, and all of them count."""
        film, case, rules = films[0], unit.cases[0], self._settings.rules
        stored = self._verifier.verdicts.get(case.name) if isinstance(self._verifier, ReplayVerifier) else None
        if isinstance(film, NotMeasured) and stored is None:
            return _judgement([], film, counts=True)
        if isinstance(self._verifier, NotMeasured):
            return _judgement([], self._verifier, counts=False)
        runs = rules.runs if stored is None else len(stored)
        pictures = () if isinstance(film, NotMeasured) else key_pictures(film.frames, rules)
        votes = [vote(self._verifier, pictures, case, run, rules) for run in range(runs)]
        return _judgement(votes, NotMeasured(reason="the verifier gave no usable flags"), counts=True)

    def lines(self, judged: Sequence[Judged]) -> list[Line]:
        """Every variant over all prompts, the seven classes, and the other tags."""
        return lines_by_class(judged, TAGS)


def _judgement(votes: Sequence[Vote], otherwise: NotMeasured, counts: bool) -> Judgement:
    """`counts`: whether the published protocol puts a clip without flags into its denominator, as 0."""
    runs = [one.flags for one in votes]
    outcomes: dict[str, Outcome] = {}
    for name, unanimous in (("unanimous", True), ("mean", False)):
        value = prompt_score(runs, unanimous)
        outcomes[f"StoryEval {name} (voted)"] = otherwise if value is None else Score(value=value)
        outcomes[f"StoryEval {name} (official)"] = Score(value=value or 0.0) if counts else otherwise
    facts = {
        "runs": [list(run) for run in runs],
        "descriptions": [one.description for one in votes],
        "answers": [one.answer for one in votes],
        "problems": [one.problem for one in votes],
    }
    return Judgement(outcomes=outcomes, facts=facts, headline="StoryEval unanimous (voted)")
