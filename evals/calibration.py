"""What a critic's verdicts are worth: its agreement with a known truth, and the threshold chosen by it.

A benchmark of the suite whose units are rendered clips, each shown with right and wrong words; the method under test
is the critic. Its readings become a `Calibration`, which the critic reads. Knows no model: a critic is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from agents.blocking import Blocking, Closing
from agents.brains import Critic, VerdictResult, Viewing
from agents.calibration import Calibration, HeldOut, KindRow, Rate, Released, SweepRow
from agents.errors import ModelRefused
from evals.benchmarks.protocol import ALL, Film, Judged, Judgement, Line, Unit
from evals.calibration_showings import RIGHT, WRONG_CAPTIONS, Showing, showings
from evals.metrics.bootstrap import wilson
from evals.metrics.score import Case, NotMeasured, Outcome, Score, Summary, standard_error
from evals.world import splits
from evals.world.controls import film
from evals.world.scores import SOON
from generators.world.words import FPS

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(21))
SHOWINGS = 2
"""Goes up when the showings change: readings of another number are not read."""
LEAST_RECALL = 0.5
"""A critic that sees less of what happens is of no use, however little else it sees."""
EVENTS = (1, 2)
"""Clips of one and of two events, in turn."""


@runtime_checkable
class Calibrated(Critic, Protocol):
    """A critic that says how it looks, so that its calibration can be known again."""

    def how(self) -> dict[str, str | int]:
        """All that decides a verdict."""
        ...

    def digest(self) -> str:
        """A digest of it."""
        ...


@dataclass(frozen=True, kw_only=True)
class CalibrationSettings:
    """How many clips, drawn by which seed, and how much false acceptance a threshold may leave."""

    clips: int = 32
    seed: int = 0
    most_false: float = 0.05

    def __post_init__(self) -> None:
        if self.clips < 1:
            raise ValueError(f"CalibrationSettings.clips: expected at least 1, got {self.clips}")
        if not 0 <= self.most_false < 1:
            raise ValueError(f"CalibrationSettings.most_false: expected 0 <= share < 1, got {self.most_false}")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the critic said of one promise: of which kind of showing, and whether the clip keeps it."""

    kind: str
    kept: bool
    done: bool
    confidence: float

    def accepted(self, threshold: float) -> bool:
        """Whether it counts as done at a threshold."""
        return self.done and self.confidence >= threshold


FEW = "too few clips for two halves"
Halves = tuple[Sequence[Reading], Sequence[Reading]]
"""Readings of one half of the clips, and of the other."""
Tally = Callable[[Sequence[Reading], float], list[bool]]
"""Flags of readings at a threshold: agreement, precision, recall, false acceptance."""


class Panel(Blocking):
    """A critic for callers without an event loop."""

    def __init__(self, critic: Calibrated, closing: Closing | None = None) -> None:
        super().__init__(closing)
        self.critic = critic

    def judge(self, viewing: Viewing) -> VerdictResult:
        """One verdict. Raises what the critic raises."""
        return self.wait(self.critic.judge(viewing))


class RenderedTruth:
    """Footage of the benchmark's own clips, under the critic's name: it is the method that the table names."""

    source = "rendered"

    def __init__(self, name: str, cases: Mapping[str, splits.Case]) -> None:
        self.name = name
        self._cases = cases

    def digest(self, case: Case, seed: int) -> str:
        """Settings and source say it all."""
        return ""

    def film(self, case: Case, seed: int) -> Film:
        """The script's own frames."""
        return Film(frames=film(self._cases[case.name].script), fps=FPS)


class Calibrating:
    """The benchmark: agreement of a critic with the truth of rendered clips."""

    name = "critic-calibration"

    def __init__(self, settings: CalibrationSettings, panel: Panel) -> None:
        self._settings = settings
        self._panel = panel
        self._pairs = _pairs(settings)

    def footage(self) -> RenderedTruth:
        """The clips it judges by."""
        return RenderedTruth(self._panel.critic.name, {case.name: case for case, _ in self._pairs.values()})

    def settings(self) -> Mapping[str, Any]:
        """The critic and how it looks, and which showings."""
        critic = self._panel.critic
        return {"critic": critic.name, "how": critic.how(), "showings": SHOWINGS, "seed": self._settings.seed}

    def units(self) -> Sequence[Unit]:
        """One clip each."""
        return [
            Unit(name=name, cases=(Case(name=name, prompt=case.caption.text, events=case.caption.phrases),))
            for name, (case, _) in self._pairs.items()
        ]

    def judge(self, unit: Unit, films: Sequence[Film | NotMeasured]) -> Judgement:
        """All showings of one clip. An answer of no use is counted; a model that cannot be reached stops the run."""
        readings: list[Reading] = []
        orders: list[bool] = []
        problems: list[str] = []
        shown = list(showings(*self._pairs[unit.name]))
        for one in shown:
            try:
                verdict = self._panel.judge(one.viewing)
            except ModelRefused as error:
                problems.append(f"{one.kind}: {error}")
                continue
            readings += _readings(one, verdict)
            orders += _order_read(one, verdict)
        right = [one.accepted(0.0) == one.kept for one in readings]
        outcome: Outcome = NotMeasured(reason="the critic gave no usable answer")
        if right:
            outcome = Score(value=sum(right) / len(right))
        facts = {
            "readings": [asdict(one) for one in readings],
            "orders": orders,
            "showings": len(shown),
            "unanswered": problems,
        }
        return Judgement(outcomes={"agreement": outcome}, facts=facts, headline="agreement")

    def lines(self, judged: Sequence[Judged]) -> list[Line]:
        """Shares at the chosen threshold, over all and by kind; then those of clips that it was not chosen by."""
        facts = [one.judgement.facts for one in judged]
        readings = read_readings(facts)
        row, _ = choose(sweep(readings), self._settings.most_false)
        found = {one.unit.name: one.judgement.facts for one in judged}
        crossed = cross(halves(found, self._settings), self._settings.most_false)
        at, groups = row.threshold, [(ALL, readings)]
        groups += [(kind, [one for one in readings if one.kind == kind]) for kind in _kinds(readings)]
        groups.insert(1, ("wrong captions", [one for one in readings if one.kind in WRONG_CAPTIONS]))
        tally: dict[str, Tally] = {
            "agreement": agreement, "precision": precision, "recall": recall, "false acceptance": false_acceptance,
        }  # fmt: skip
        return [
            Line(group=group, summary=share_of(name, flags))
            for name, flags_of in tally.items()
            for group, some in groups
            if (flags := flags_of(some, at)) or group == ALL
        ] + [
            *(
                Line(group=ALL, summary=share_of(f"{name}, held out", over(crossed, flags_of), FEW))
                for name, flags_of in tally.items()
            ),
            Line(group=ALL, summary=share_of("order read", [read for one in facts for read in one["orders"]])),
        ]


def calibration_of(
    facts: Mapping[str, Mapping[str, Any]],
    critic: Calibrated,
    settings: CalibrationSettings,
    released: Sequence[Released],
) -> Calibration:
    """The file's content, from the facts of all clips by name."""
    readings = read_readings(facts.values())
    rows = sweep(readings)
    chosen, passed = choose(rows, settings.most_false)
    held = held_out(halves(facts, settings), settings.most_false)
    kinds = [(kind, [one for one in readings if one.kind == kind]) for kind in _kinds(readings)]
    at = chosen.threshold
    return Calibration(
        critic=critic.name,
        digest=critic.digest(),
        how=critic.how(),
        threshold=at,
        most_false=settings.most_false,
        trusted=passed and keeps_its_word(held, settings.most_false),
        clips=len(facts),
        showings=sum(one["showings"] for one in facts.values()),
        unanswered=sum(len(one["unanswered"]) for one in facts.values()),
        seed=settings.seed,
        order=rate([read for one in facts.values() for read in one["orders"]]),
        kinds=tuple(
            KindRow(
                kind=kind,
                agreement=rate(agreement(some, at)),
                recall=rate(recall(some, at)),
                false_acceptance=rate(false_acceptance(some, at)),
            )
            for kind, some in kinds
        ),
        sweep=rows,
        held_out=held,
        released=tuple(released),
    )


def read_readings(facts: Iterable[Mapping[str, Any]]) -> list[Reading]:
    """All readings of all clips."""
    return [Reading(**one) for found in facts for one in found["readings"]]


def sweep(readings: Sequence[Reading], thresholds: Sequence[float] = THRESHOLDS) -> tuple[SweepRow, ...]:
    """What the critic is worth at every threshold."""
    wrong = [one for one in readings if one.kind in WRONG_CAPTIONS]
    return tuple(
        SweepRow(
            threshold=at,
            agreement=rate(agreement(readings, at)),
            precision=rate(precision(readings, at)),
            recall=rate(recall(readings, at)),
            false_acceptance=rate(false_acceptance(readings, at)),
            wrong_captions=rate(false_acceptance(wrong, at)),
        )
        for at in thresholds
    )


def choose(rows: Sequence[SweepRow], most_false: float) -> tuple[SweepRow, bool]:
    """The threshold to use, and whether it passes on the very readings that it is chosen by.

    Among those whose false acceptance (of all kinds, and of wrong captions) is at most `most_false` and whose recall is
    at least a half, the one of the greatest recall less false acceptance, the lowest of equals. Where there is none,
    the same over all thresholds, and none passes.
    """

    def balance(row: SweepRow) -> float:
        return (row.recall.value or 0.0) - (row.false_acceptance.value or 0.0)

    def passes(row: SweepRow) -> bool:
        false = (row.false_acceptance.value, row.wrong_captions.value)
        few = all(value is not None and value <= most_false for value in false)
        return few and (row.recall.value or 0.0) >= LEAST_RECALL

    passing = [row for row in rows if passes(row)]
    return max(passing or rows, key=balance), bool(passing)


def halves(facts: Mapping[str, Mapping[str, Any]], settings: CalibrationSettings) -> Halves:
    """Readings of the even and of the odd clips of each length, from the facts of clips by name."""
    numbers = {name: case.number for name, (case, _) in _pairs(settings).items()}
    even, odd = ([found for name, found in facts.items() if numbers[name] % 2 == half] for half in (0, 1))
    return read_readings(even), read_readings(odd)


def cross(cut: Halves, most_false: float) -> tuple[tuple[Sequence[Reading], float], ...]:
    """Each half with the threshold that the other one chooses; nothing where one of them is empty."""
    if not all(cut):
        return ()
    first, second = (choose(sweep(half), most_false)[0].threshold for half in cut)
    return (cut[0], second), (cut[1], first)


def over(crossed: Iterable[tuple[Sequence[Reading], float]], tally: Tally) -> list[bool]:
    """A tally's flags of both halves, each at its threshold."""
    return [flag for readings, at in crossed for flag in tally(readings, at)]


def held_out(cut: Halves, most_false: float) -> HeldOut:
    """What the halves' thresholds are worth on each other's clips."""
    crossed = cross(cut, most_false)
    wrong = [([one for one in readings if one.kind in WRONG_CAPTIONS], at) for readings, at in crossed]
    return HeldOut(
        thresholds=tuple(at for _, at in reversed(crossed)),
        agreement=rate(over(crossed, agreement)),
        precision=rate(over(crossed, precision)),
        recall=rate(over(crossed, recall)),
        false_acceptance=rate(over(crossed, false_acceptance)),
        wrong_captions=rate(over(wrong, false_acceptance)),
    )


def keeps_its_word(held: HeldOut, most_false: float) -> bool:
    """Whether, on clips held out, even the upper bounds of false acceptance pass, and recall is at least a half."""
    few = all(one.high is not None and one.high <= most_false for one in (held.false_acceptance, held.wrong_captions))
    return few and (held.recall.value or 0.0) >= LEAST_RECALL


def agreement(readings: Sequence[Reading], threshold: float) -> list[bool]:
    """A flag a promise: whether verdict and truth are the same."""
    return [one.accepted(threshold) == one.kept for one in readings]


def precision(readings: Sequence[Reading], threshold: float) -> list[bool]:
    """A flag an accepted promise: whether it was kept."""
    return [one.kept for one in readings if one.accepted(threshold)]


def recall(readings: Sequence[Reading], threshold: float) -> list[bool]:
    """A flag a kept promise: whether it was accepted."""
    return [one.accepted(threshold) for one in readings if one.kept]


def false_acceptance(readings: Sequence[Reading], threshold: float) -> list[bool]:
    """A flag a broken promise: whether it was accepted."""
    return [one.accepted(threshold) for one in readings if not one.kept]


def rate(flags: Sequence[bool]) -> Rate:
    """Their share with Wilson's interval, to four digits."""
    if not flags:
        return Rate(value=None, low=None, high=None, count=0)
    over = wilson(flags)
    return Rate(value=round(over.mean, 4), low=round(over.low, 4), high=round(over.high, 4), count=over.count)


def share_of(metric: str, flags: Sequence[bool], why: str = "nothing of the kind was shown or answered") -> Summary:
    """The same as a line of the suite's tables."""
    over = wilson(flags) if flags else None
    return Summary(
        metric=metric,
        mean=None if over is None else over.mean,
        error=standard_error([float(flag) for flag in flags]),
        low=None if over is None else over.low,
        high=None if over is None else over.high,
        total=len(flags),
        count=len(flags),
        unmeasured={} if flags else {why: 0},
    )


def _pairs(settings: CalibrationSettings) -> dict[str, tuple[splits.Case, splits.Case]]:
    """Clips of one and two events in turn, each with the next of its length to lend a wrong caption."""
    each = -(-settings.clips // len(EVENTS))
    lists = [splits.cases("both", events, each + 1, settings.seed) for events in EVENTS]
    pairs = [(some[i], some[i + 1]) for i in range(each) for some in lists]
    return {case.name: (case, other) for case, other in pairs[: settings.clips]}


def _kinds(readings: Sequence[Reading]) -> list[str]:
    found = dict.fromkeys(one.kind for one in readings)
    return [*(kind for kind in RIGHT if kind in found), *(kind for kind in found if kind not in RIGHT)]


def _readings(shown: Showing, verdict: VerdictResult) -> list[Reading]:
    return [
        Reading(kind=shown.kind, kept=kept, done=event.done, confidence=event.confidence)
        for kept, event in zip(shown.kept, verdict.events, strict=True)
        if kept is not None and event.done is not None  # what it cannot judge says nothing of how well it does
    ]


def _order_read(shown: Showing, verdict: VerdictResult) -> list[bool]:
    """Whether two timed events were read in their order in the clip; nothing where that is no question."""
    if shown.ordered is None or len(verdict.events) != 2:
        return []
    first, second = (event.start if event.done else None for event in verdict.events)
    if first is None or second is None:
        return []
    return [bool(second >= first - SOON) == shown.ordered]
