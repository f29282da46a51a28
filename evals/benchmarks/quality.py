"""Any clips under any metrics: VBench's custom-video dimensions and the classical ones, over a list of prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.benchmarks.protocol import Film, Judged, Judgement, Line, Unit, lines_by_class
from evals.metrics.embedders import Weights
from evals.metrics.score import Case, Metric, NotMeasured, Outcome
from evals.metrics.vbench import quality_metrics


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
        """Over all clips."""
        return lines_by_class(judged)


def _encoder(metric: Metric) -> str | None:
    embedder = getattr(metric, "embedder", None)
    if embedder is None:
        return None
    return f"not measured: {embedder.reason}" if isinstance(embedder, NotMeasured) else str(embedder.name)
