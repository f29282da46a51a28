"""The puppet world as a benchmark of the suite: films of scripts, read from their pixels, no judge to trust.

Every score of `evals.world.scores` stands between its ceiling (rendered truth through the model's autoencoder) and its
floor (the same film held against another case's script); distances to the rendered truth, growth with the number of
films, and what cannot be measured stand beneath. Knows no model: footage films, `autoencoder` draws the ceiling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evals.benchmarks.protocol import ALL, Film, Judged, Judgement, Line, Unit, absent_by_reason, lines_by_class
from evals.benchmarks.timing import timing_facts
from evals.benchmarks.world import Autoencoder, readable
from evals.benchmarks.world_distances import NEAR, READ, distance_lines, near_counts, near_metrics, states
from evals.metrics.classical import Cuts
from evals.metrics.flow import DynamicDegree, movement_second
from evals.metrics.score import Case as Shown
from evals.metrics.score import Metric, NotMeasured, Outcome, Score, Summary, summarise
from evals.metrics.video_embedders import VideoEmbedder
from evals.world import splits
from evals.world.controls import film as rendered
from evals.world.detectors import Frames, sharpness
from evals.world.scores import MEASURES, SCORES, ClipJudgement, judge_scene
from evals.world.settings import SCORE, read_by
from evals.world.splits import NOT_HELD_BACK, SPLITS, STORY_SHAPE, Case, SplitName
from evals.world.tracks import watch
from generators.world.words import FPS

BESIDE = (*SCORES, *MEASURES)
"""Whatever is read from a film stands between a ceiling and a floor, …"""
SCRIPTLESS = ("Sharpness",)
"""… but for these, which no script decides: another one is no floor of theirs."""
MOVEMENT = "Movement second"
"""TempoControl's: whether the film moves most in the second in which its rendered truth does, by the same flow."""
BY_SET = ("ECR", "ECR-id", "Order", "Colour", "ID", "Kind", "Place", "Time")
"""Scores that get a line a set."""
LENGTHS = tuple(range(1, 7))
"""Events that a film may have; its timing map has lines for each."""
GROWING = ("ECR", "ECR-id", "Order")
SMALLEST = 12
"""Films after which growth is first printed; then after twice as many, and so on."""
NO_READER = NotMeasured(reason="no network was given that reads clips of the world")
STORY_SCORE = "StoryScore"
STORIES, EACH = sum(STORY_SHAPE.values()), 200
QUICK: Mapping[SplitName, int] = {"both": 72, "stories": 18}
_RESAMPLES = 2_000


def counts_of(sets: Sequence[str], cases: int | None = None) -> dict[SplitName, int]:
    """How many cases of each set: 200, and 423 of `stories`, or `cases`. Raises ValueError for what there is not."""
    named: list[SplitName] = [split for split in SPLITS if split in sets]
    unknown = sorted(set(sets) - set(named))
    if unknown or not named:
        raise ValueError(f"expected sets of {', '.join(SPLITS)}; got {', '.join(unknown if named else sets) or 'none'}")
    if cases is not None and not 1 <= cases <= (STORIES if "stories" in named else cases):
        raise ValueError(f"expected 1 to {STORIES} cases of stories, at least 1 of others; got {cases}")
    return {split: cases or (STORIES if split == "stories" else EACH) for split in named}


def quick_counts(cases: int | None = None) -> dict[SplitName, int]:
    """The quick form: one- and two-event films and the first stories, ten minutes at 3.5 s a short film; or fewer."""
    return {split: min(count, cases or count) for split, count in QUICK.items()}


class World:
    """The benchmark; `counts` says how many cases of each set, `autoencoder` gives the ceiling.

    `reader` turns clips into features, by which all films are held against their truth as two crowds.
    """

    name = "world"

    def __init__(
        self,
        counts: Mapping[SplitName, int],
        autoencoder: Autoencoder | NotMeasured,
        seed: int = 0,
        reader: VideoEmbedder | NotMeasured = NO_READER,
    ) -> None:
        self._autoencoder = autoencoder
        self._reader = reader
        self._seed = seed
        self._pairs: dict[str, tuple[Case, Case]] = {}
        for split, count in counts.items():
            self._pairs |= _pairs(split, count, seed)
        self._metrics: tuple[Metric, ...] = (DynamicDegree(), Cuts(), *near_metrics())

    @property
    def cases(self) -> Mapping[str, tuple[Case, Case]]:
        """By unit: the case, and the one that lends a wrong script."""
        return self._pairs

    def settings(self) -> Mapping[str, Any]:
        """Sets are drawn by seed; a set's first cases are the same however many there are."""
        reader = "" if isinstance(self._reader, NotMeasured) else self._reader.name
        return {**read_by(), "seed": self._seed, "reader": reader, "measures": [*BESIDE, MOVEMENT]}

    @property
    def ceiling(self) -> str:
        """Digest of the autoencoder; empty without one."""
        return "" if isinstance(self._autoencoder, NotMeasured) else self._autoencoder.digest

    def units(self) -> Sequence[Unit]:
        """One case each."""
        return [
            Unit(
                name=name,
                cases=(Shown(name=name, prompt=case.caption.text, events=case.caption.phrases),),
                classes=(case.split, f"{case.split}, {_events(case)}"),
            )
            for name, (case, _) in self._pairs.items()
        ]

    def judge(self, unit: Unit, films: Sequence[Film | NotMeasured]) -> Judgement:
        """One film against its script, another script, and its rendered truth."""
        film, (case, other) = readable(films[0]), self._pairs[unit.name]
        if isinstance(film, NotMeasured):
            return Judgement(outcomes=dict.fromkeys(self._names(), film), facts={}, headline="ECR")
        truth = rendered(case.script)
        scene, true_scene = watch(film.frames, SCORE), watch(truth, SCORE)
        judged = judge_scene(scene, case.script, sharpness(film.frames))
        outcomes = {name: _read(name, judged) for name in BESIDE}
        outcomes |= {f"{name} (ceiling)": one for name, one in self._ceiling(truth, case).items()}
        seconds = [_movement(shown, case.script.seconds) for shown in (film.frames, truth, rendered(other.script))]
        outcomes[MOVEMENT] = Score(value=float(seconds[0] == seconds[1]))
        outcomes[f"{MOVEMENT} (floor)"] = Score(value=float(seconds[0] == seconds[2]))
        floor = judge_scene(scene, other.script)
        outcomes |= {f"{name} (floor)": _read(name, floor) for name in BESIDE if name not in SCRIPTLESS}
        outcomes |= {m.name: m.measure(film.frames, film.fps, unit.cases[0]) for m in self._metrics}
        facts = {
            "verbs": list(case.verbs),
            "done": [event.done for event in judged.events],
            "evidence": [event.evidence for event in judged.events],
            "states": {"film": states(scene, case.script), "truth": states(true_scene, case.script)},
            **self._features(film.frames, truth),
            NEAR: {"film": near_counts(film.frames), "truth": near_counts(truth)},
            **timing_facts([(one.start, one.end) for one in judged.events], case.script.seconds, LENGTHS),
        }
        return Judgement(outcomes=outcomes, facts=facts, headline="ECR")

    def lines(self, judged: Sequence[Judged]) -> list[Line]:
        """All films; each set by its number of events; growth; distances; what nothing was held back for."""
        groups = list(dict.fromkeys(group for one in judged for group in one.unit.classes))
        found = lines_by_class(judged, groups)
        found = [line for line in found if line.group == ALL or line.summary.metric in BY_SET]
        found += [Line(group=group, summary=story_score(some)) for group, some in _sets(judged, groups)]
        found += [Line(group=f"{verb}", summary=one) for verb, one in self._by_verb(judged)]
        found += growth(judged)
        facts = [one.judgement.facts for one in judged if one.judgement.facts]
        found += distance_lines(facts, self._reader, absent=absent_by_reason(judged))
        return found + _not_held_back()

    def _by_verb(self, judged: Sequence[Judged]) -> list[tuple[str, Summary]]:
        found: dict[str, list[Outcome]] = {}
        for one in judged:
            verbs, whole = self._pairs[one.unit.name][0].verbs, one.judgement.outcomes["ECR"]
            done = [] if isinstance(whole, NotMeasured) else one.judgement.facts["done"]
            flags: list[Outcome] = [Score(value=float(flag)) for flag in done]
            for verb, outcome in zip(verbs, flags or [whole] * len(verbs), strict=True):
                found.setdefault(verb, []).append(outcome)
        return [(verb, summarise("completion of a verb", outcomes)) for verb, outcomes in sorted(found.items())]

    def _names(self) -> list[str]:
        """Everything that is read from a film."""
        floors = [f"{name} (floor)" for name in BESIDE if name not in SCRIPTLESS]
        ceilings = [f"{name} (ceiling)" for name in (*BESIDE, MOVEMENT)]
        return [*BESIDE, MOVEMENT, *ceilings, *floors, f"{MOVEMENT} (floor)", *(one.name for one in self._metrics)]

    def _features(self, film: Frames, truth: Frames) -> dict[str, Any]:
        """What the reader makes of a film and of its truth."""
        if isinstance(self._reader, NotMeasured):
            return {}
        pair = {"film": self._reader.embed_clip(film), "truth": self._reader.embed_clip(truth)}
        return {READ: {name: [round(float(value), 4) for value in vector] for name, vector in pair.items()}}

    def _ceiling(self, truth: Frames, case: Case) -> dict[str, Outcome]:
        if isinstance(self._autoencoder, NotMeasured):
            return dict.fromkeys((*BESIDE, MOVEMENT), self._autoencoder)
        best = self._autoencoder.roundtrip(truth)
        judged = judge_scene(watch(best, SCORE), case.script, sharpness(best))
        same = _movement(best, case.script.seconds) == _movement(truth, case.script.seconds)
        return {name: _read(name, judged) for name in BESIDE} | {MOVEMENT: Score(value=float(same))}


def growth(judged: Sequence[Judged]) -> list[Line]:
    """Scores over the first 12, 24, 48, … films of each set: how fast the interval closes, and whether it holds."""
    found = []
    for split in dict.fromkeys(one.unit.classes[0] for one in judged):
        inside = [one.judgement.outcomes for one in judged if one.unit.classes[0] == split]
        counts = [SMALLEST * 2**step for step in range(16) if SMALLEST * 2**step < len(inside)]
        for count in counts:
            for metric in GROWING:
                summary = summarise(metric, [outcomes[metric] for outcomes in inside[:count]])
                found.append(Line(group=f"{split}, first {count}", summary=summary))
    return found


def story_score(judged: Sequence[Judged], seed: int = 0) -> Summary:
    """Geometric mean of the means of ECR-id, Order and ID over films of several events; bounds by resampling films."""
    triples = [
        [one.value for one in values if isinstance(one, Score)]
        for values in ([one.judgement.outcomes[name] for name in ("ECR-id", "Order", "ID")] for one in judged)
    ]
    whole = np.array([values for values in triples if len(values) == 3])
    missing = len(triples) - len(whole)
    why = {"a film of one event, or one of ECR-id, Order and ID could not be read": missing} if missing else {}
    if not len(whole):
        return Summary(
            metric=STORY_SCORE, mean=None, error=None, low=None, high=None, total=missing, count=0, unmeasured=why
        )
    picked = np.random.default_rng(seed).integers(len(whole), size=(_RESAMPLES, len(whole)))
    resampled = np.cbrt(whole[picked].mean(1).prod(-1))
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Summary(
        metric=STORY_SCORE, mean=float(np.cbrt(whole.mean(0).prod())), error=float(resampled.std(ddof=1)),
        low=float(low), high=float(high), total=len(triples), count=len(whole), unmeasured=why,
    )  # fmt: skip


def _pairs(split: SplitName, count: int, seed: int) -> dict[str, tuple[Case, Case]]:
    """Each case, and one of its split and length whose script is wrong for it."""
    return {case.name: (case, splits.partner(case, seed)) for case in splits.mixed(split, count, seed)}


def _events(case: Case) -> str:
    count = len(case.script.events)
    rank = {2: " (easy)", 4: " (hard)"}.get(count, "") if case.split == "stories" else ""
    return f"{count} event{'s' if count > 1 else ''}{rank}"


def _read(name: str, clip: ClipJudgement) -> Outcome:
    value = (SCORES | MEASURES)[name](clip)
    return NotMeasured(reason=_WHY.get(name, "nothing to read it from")) if value is None else Score(value=float(value))


def _movement(frames: Frames, seconds: float) -> int:
    return movement_second(frames, FPS, max(int(seconds), 1))


_WHY = {
    "Order": "a film of one event has no order",
    "Kendall tau": "fewer than two events were done",
    "Allen relations": "fewer than two events were done",
    "Timing": "no event was done",
    "tIoU": "no event was done",
    "Onset error (s)": "no event was done",
    "Leak": "one event only, or none was seen",
    "ID": "no promised puppet was seen",
    "Kind": "no silhouette named a kind",
}
"""Why a score could not be read from a film."""


def _sets(judged: Sequence[Judged], groups: Sequence[str]) -> list[tuple[str, list[Judged]]]:
    return [(group, [one for one in judged if group == ALL or group in one.unit.classes]) for group in (ALL, *groups)]


def _not_held_back() -> list[Line]:
    return [
        Line(group=split, summary=summarise("ECR", [NotMeasured(reason=reason)]))
        for split, reason in NOT_HELD_BACK.items()
    ]
