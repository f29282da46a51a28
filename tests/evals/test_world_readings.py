"""Whoever changes what a film is read for is told to raise READINGS, and every benchmark that reads films keeps it."""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from evals.benchmarks.cast import Cast, CastBenchSettings
from evals.benchmarks.extension import Extension, ExtensionSettings
from evals.benchmarks.motion import Motion, MotionSettings
from evals.benchmarks.protocol import Benchmark
from evals.benchmarks.retry import Retry, RetrySettings
from evals.benchmarks.steering import Steering, SteeringSettings
from evals.benchmarks.stories import Stories
from evals.benchmarks.world_films import World
from evals.metrics.score import NotMeasured
from evals.world import settings
from evals.world.settings import READINGS, SCORE

WORLD = Path(settings.__file__).parent
READ = ("scores", "stages", "looks")
"""What benchmarks read films with; the rest of the detectors is what these import."""
PINNED = (2, "9703f49e15b94fc2")
"""READINGS, and the digest of the detectors that it stands for."""
FILM: Mapping[str, Any] = {"weights": "w"}
NONE = NotMeasured(reason="none")


def detectors() -> list[Path]:
    """Files of evals/world that decide a reading; the settings stand in every benchmark's own."""
    found, left = set[str](), list(READ)
    while left:
        name = left.pop()
        if name in found or name == "settings":
            continue
        found.add(name)
        for node in ast.walk(ast.parse((WORLD / f"{name}.py").read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("evals.world."):
                left.append(str(node.module).removeprefix("evals.world."))
    return [WORLD / f"{name}.py" for name in sorted(found)]


def code_of(source: str) -> str:
    """The code alone: no docstring, no comment, no layout."""
    told = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = source.splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            lines[token.start[0] - 1] = lines[token.start[0] - 1][: token.start[1]]
    return "".join("".join(line.split()) for number, line in enumerate(lines, 1) if number not in told)


def test_a_changed_detector_raises_readings() -> None:
    found = hashlib.sha256("\n".join(code_of(path.read_text()) for path in detectors()).encode()).hexdigest()[:16]
    assert (READINGS, found) == PINNED, (
        "The detectors changed. Raise READINGS in evals/world/settings.py, unless every reading of every film is as "
        f"before, and pin {found}"
    )


def test_words_and_layout_change_no_detector_and_code_does() -> None:
    plain = 'A = 3\n"""Three."""\n\ndef f(x: int) -> int:\n    """Adds."""\n    return x + A\n'
    told = "# of old\nA = 3  # three\n\ndef f(\n    x: int\n) -> int:\n    return x + A\n"
    assert code_of(plain) == code_of(told)
    assert code_of(plain) != code_of(plain.replace("x + A", "x - A"))


def test_detectors_are_all_that_the_scores_stand_on() -> None:
    names = {path.stem for path in detectors()}
    assert {"scores", "events", "tracks", "detectors", "backdrop", "cleanliness", "bodily", "stages", "looks"} <= names
    assert not {"settings", "controls", "splits", "critic"} & names


def benchmarks() -> list[Benchmark]:
    return [
        World({"both": 1}, NONE),
        Stories(1, NONE),
        Steering(SteeringSettings(cases=1, film=FILM)),
        Retry(RetrySettings(cases=1, film=FILM, critic={})),
        Cast(CastBenchSettings(sets=1, sizes=(2,), film=FILM)),
        Extension(ExtensionSettings(chains=1, sizes=(2,), film=FILM)),
        Motion(MotionSettings(cases=1, film=FILM), NONE),
    ]


def test_rows_of_other_readings_or_other_lines_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = benchmarks()
    before = [dict(one.settings()) for one in listed]
    assert all(told["readings"] == READINGS and told["setting"] == asdict(SCORE) for told in before)
    monkeypatch.setattr(settings, "READINGS", READINGS + 1)
    assert all(one.settings() != told for one, told in zip(listed, before, strict=True))
    monkeypatch.setattr(settings, "READINGS", READINGS)
    monkeypatch.setattr(settings, "SCORE", replace(SCORE, rise=0.1))
    assert all(one.settings() != told for one, told in zip(listed, before, strict=True))
