"""How well a model films the puppet world: held-out cases filmed, read from pixels, a row a case in a JSONL file.

Every score stands between its ceiling (rendered truth through the model's autoencoder) and its floor (the same clips
held against another case's script). Knows no model: `generate` films, `roundtrip` is the autoencoder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evals.benchmarks.protocol import Film
from evals.metrics.score import NotMeasured
from evals.rows import ROWS, Row, add_row, read_rows
from evals.world import splits as world_splits
from evals.world.detectors import Frames
from evals.world.events import Promise, every_promise, judge_event, promised
from evals.world.scores import SCORES, ClipJudgement, judge_scene, score
from evals.world.settings import CRITIC, SCORE, read_by
from evals.world.splits import Case, SplitName
from evals.world.tracks import Scene, watch
from generators.world.renderer import render
from generators.world.script import Script
from generators.world.words import FPS, HEIGHT, VERBS, WIDTH

Generate = Callable[[Sequence[Case], Sequence[int]], Sequence[Frames]]
"""Cases of one length and a seed each to clips (T, 64, 96, 3), in order."""
Roundtrip = Callable[[Frames], Frames]
"""A clip through the model's autoencoder and back."""


@dataclass(frozen=True, kw_only=True)
class Autoencoder:
    """A clip through a model's autoencoder and back, and by a digest of its weights whose it is."""

    roundtrip: Roundtrip
    digest: str


READ = {"completion": "ECR", "colour": "Colour", "kind": "Kind", "place": "Place", "time": "Time", "order": "Order"}
"""What the tables call a score, and its name in `scores.SCORES`."""


SHORTEST = SCORE.first + 3 * SCORE.step + 1
"""Frames that a film needs to be read: four of those that the score looks at."""


@dataclass(frozen=True, kw_only=True)
class WorldRow:
    """One score over the clips of a split with so many events; None where no clip could be read.

    `low` and `high` bound the value with 95 % confidence; `count` clips could be read.
    """

    split: str
    events: int
    score: str
    value: float | None
    low: float | None
    high: float | None
    ceiling: float | None
    floor: float | None
    count: int


def bench_world(
    generate: Generate,
    roundtrip: Roundtrip,
    out: Path,
    *,
    model: str,
    cases: int = 96,
    events: Sequence[int] = (1, 2),
    splits: Sequence[SplitName] = ("both",),
    batch: int = 4,
    seed: int = 0,
    on_row: Callable[[Row], None] | None = None,
) -> list[WorldRow]:
    """Film and read `cases` cases a split and number of events; go on where `out` stopped.

    `model` names the weights and how they are used: rows of another name, and of other readings, are left alone and
    not read.
    """
    path = out / ROWS
    named = {"model": model, "seed": seed, **read_by(), "critic": asdict(CRITIC)}
    known = {row["case"]: row for row in read_rows(path) if all(row.get(key) == told for key, told in named.items())}
    asked: list[str] = []
    for split in splits:
        for count in events:
            listed = world_splits.cases(split, count, cases + 1, seed)
            pairs = list(zip(listed[:-1], listed[1:], strict=True))
            asked += [case.name for case, _ in pairs]
            missing = [pair for pair in pairs if pair[0].name not in known]
            for start in range(0, len(missing), batch):
                some = missing[start : start + batch]
                films = generate([case for case, _ in some], [case.number for case, _ in some])
                for (case, other), film in zip(some, films, strict=True):
                    row = named | judge_case(case, other, film, roundtrip)
                    known[case.name] = row
                    add_row(path, row)
                    if on_row is not None:
                        on_row(row)
    return tables([known[name] for name in asked])


def readable(film: Film | NotMeasured) -> Film | NotMeasured:
    """A film as the detectors read it, at the world's frame rate by leaving frames out; or why they cannot."""
    if isinstance(film, NotMeasured):
        return film
    height, width = film.frames.shape[1:3]
    if (height, width) != (HEIGHT, WIDTH):
        return NotMeasured(reason=f"a film of {width}x{height} pixels; the detectors read {WIDTH}x{HEIGHT}")
    apart = film.fps / FPS
    if apart < 0.99:
        return NotMeasured(reason=f"a film of {film.fps:g} frames a second; the detectors read {FPS}")
    chosen = np.arange(0, len(film.frames), max(apart, 1.0)).astype(int)
    if len(chosen) < SHORTEST:
        return NotMeasured(reason=f"a film of {len(chosen)} frames; the detectors need {SHORTEST}")
    return replace(film, frames=film.frames[chosen], fps=FPS, lead=math.ceil(film.lead / apart))


def judge_case(case: Case, other: Case, film: Frames, roundtrip: Roundtrip) -> dict[str, Any]:
    """Everything one case adds to the tables; `other` lends the wrong script."""
    truth = roundtrip(render([case.script])[0].permute(0, 2, 3, 1).numpy())
    looks = {setting.name: watch(truth, setting) for setting in (CRITIC, SCORE)}
    scene = watch(film, SCORE)
    judged = judge_scene(scene, case.script)
    ceiling = judge_scene(looks[SCORE.name], case.script)
    return {
        "case": case.name,
        "split": case.split,
        "events": len(case.script.events),
        "caption": case.caption.text,
        "verbs": list(case.verbs),
        "done": [event.done for event in judged.events],
        "evidence": [event.evidence for event in judged.events],
        "ceiling_done": [event.done for event in ceiling.events],
        "film": _readings(judged),
        "ceiling": _readings(ceiling),
        "floor": _readings(judge_scene(scene, other.script)),
        "accepted": {name: _accepted(look, case.script, other.script) for name, look in looks.items()},
    }


def _readings(clip: ClipJudgement) -> dict[str, float | None]:
    read = {name: SCORES[of](clip) for name, of in READ.items()}
    return {name: None if value is None else float(value) for name, value in read.items()}


def _accepted(truth: Scene, script: Script, other: Script) -> dict[str, float]:
    """Shares of promises that the truth does not keep and that are taken for kept."""
    wrong = wrong_promises(script)
    return {
        "another caption": judge_scene(truth, other).completed,
        "another verb": sum(judge_event(truth, promise).done for promise in wrong) / len(wrong),
    }


def wrong_promises(script: Script) -> list[Promise]:
    """Every promise about the script's own cast that it does not make."""
    kept = {promised(script, event) for event in script.events}
    return [p for verb in VERBS for p in every_promise(verb, [a.hue for a in script.actors]) if p not in kept]


def tables(rows: Sequence[Row]) -> list[WorldRow]:
    """Scores, false acceptance and completion by verb, for every split and number of events among the rows."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["split"], row["events"]), []).append(row)
    return [line for (split, events), group in groups.items() for line in _group(split, events, group)]


def _group(split: str, events: int, rows: Sequence[Row]) -> list[WorldRow]:
    def line(name: str, film: Sequence[Any], ceiling: Sequence[Any] = (), floor: Sequence[Any] = ()) -> WorldRow:
        found = score(name, film)
        low, high = (None, None) if found.interval is None else (found.interval.low, found.interval.high)
        return WorldRow(
            split=split, events=events, score=name, value=found.value, low=low, high=high,
            ceiling=score(name, ceiling).value, floor=score(name, floor).value, count=found.n_evaluated,
        )  # fmt: skip

    names = [name for name in READ if name != "order" or events > 1]
    sources = ("film", "ceiling", "floor")
    lines = [line(name, *([row[source][name] for row in rows] for source in sources)) for name in names]
    for setting in (CRITIC.name, SCORE.name):
        for lure in ("another caption", "another verb"):
            lines.append(line(f"{setting} accepts {lure}", [row["accepted"][setting][lure] for row in rows]))
    for verb in VERBS:
        done = [
            [flag for row in rows for flag, acted in zip(row[which], row["verbs"], strict=True) if acted == verb]
            for which in ("done", "ceiling_done")
        ]
        lines += [line(f"completion of {verb}", *done)] if done[0] else []
    return lines
