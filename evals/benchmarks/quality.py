"""Any clips under any metrics: VBench's custom-video dimensions and the classical ones, over a list of prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.benchmarks.protocol import ALL, Film, Judged, Judgement, Line, Unit, lines_by_class
from evals.metrics.consistency import frame_weighted
from evals.metrics.embedders import Weights
from evals.metrics.score import Case, Metric, NotMeasured, Outcome, Score, together
from evals.metrics.vbench import PUBLISHED, WithinShot, quality_metrics, totals

TOTALS = ("VBench quality", "VBench semantic", "VBench total")


@dataclass(frozen=True, kw_only=True)
class QualitySettings:
    """A text file with a prompt a line, and which flow motion is read from."""

    prompts: Path
    flow: str = "dis"
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.flow not in ("dis", "farneback"):
            raise ValueError(f"QualitySettings.flow: expected dis or farneback, got {self.flow!r}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"QualitySettings.limit: expected at least 1, got {self.limit}")


def read_lines(path: Path) -> tuple[Case, ...]:
    """A case a line that is not empty, named by its number. Raises ValueError for a file of none."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    cases = [Case(name=f"{number:04d}", prompt=line) for number, line in enumerate(filter(None, lines))]
    if not cases:
        raise ValueError(f"{path}: expected a prompt a line, got none")
    return tuple(cases)


class Quality:
    """The benchmark; `metrics` may be any."""

    name = "quality"

    def __init__(self, settings: QualitySettings, metrics: Sequence[Metric]) -> None:
        self._settings = settings
        self._metrics = metrics
        self._cases = read_lines(settings.prompts)[: settings.limit]

    @classmethod
    def with_weights(cls, settings: QualitySettings, weights: Weights) -> Quality:
        """Under all metrics of VBench that we have; those without weights are not measured."""
        return cls(settings, quality_metrics(weights, settings.flow))

    def settings(self) -> Mapping[str, Any]:
        """Prompts by digest; metrics with their encoders."""
        return {
            "prompts": hashlib.sha256(self._settings.prompts.read_bytes()).hexdigest(),
            "metrics": {metric.name: _encoder(metric) for metric in self._metrics},
        }

    def units(self) -> Sequence[Unit]:
        """One prompt each."""
        return [Unit(name=case.name, cases=(case,)) for case in self._cases]

    def judge(self, unit: Unit, films: Sequence[Film | NotMeasured]) -> Judgement:
        """Every metric over one clip."""
        film = films[0]
        found: dict[str, Outcome] = {
            metric.name: film if isinstance(film, NotMeasured) else metric.measure(film.frames, film.fps, unit.cases[0])
            for metric in self._metrics
        }
        return Judgement(outcomes=found, headline=self._metrics[0].name if self._metrics else "")

    def lines(self, judged: Sequence[Judged]) -> list[Line]:
        """Over all clips; consistency within a shot also over all frames at once, as VBench's one process has it.

        VBench's totals come last.
        """
        found = []
        for line in lines_by_class(judged):
            found.append(line)
            if any(isinstance(one, WithinShot) and one.name == line.summary.metric for one in self._metrics):
                found.append(_over_frames(line.summary.metric, judged))
        return found + _totals(found, len(judged))


def _totals(lines: Sequence[Line], count: int) -> list[Line]:
    """VBench's, over the means of its dimensions."""
    means = {PUBLISHED[one.metric]: one.mean for line in lines if (one := line.summary).metric in PUBLISHED}
    whole = totals({dimension: mean for dimension, mean in means.items() if mean is not None})
    parts: Sequence[Outcome] = (
        [whole] * len(TOTALS)
        if isinstance(whole, NotMeasured)
        else [Score(value=one) for one in (whole.quality, whole.semantic, whole.total)]
    )
    named = zip(TOTALS, parts, strict=True)
    return [Line(group=ALL, summary=together(name, part, count)) for name, part in named]


def _over_frames(metric: str, judged: Sequence[Judged]) -> Line:
    """Long clips count more, by their frames."""
    outcomes = [one.judgement.outcomes[metric] for one in judged]
    scores = [one for one in outcomes if isinstance(one, Score)]
    value = frame_weighted([(one.value, one.details["frames"]) for one in scores])
    reason = next((one.reason for one in outcomes if isinstance(one, NotMeasured)), "no clip")
    whole = NotMeasured(reason=reason) if value is None else Score(value=value)
    return Line(group=ALL, summary=together(f"{metric}, frame-weighted", whole, len(scores) or len(judged)))


def _encoder(metric: Metric) -> str | None:
    embedder = getattr(metric, "embedder", None)
    if embedder is None:
        return None
    return f"not measured: {embedder.reason}" if isinstance(embedder, NotMeasured) else str(embedder.name)
