"""What other benchmarks make of their judges' answers: NarrLV, VBench-2.0, T2V-CompBench and EvalCrafter.

Pure rules over answers that were stored; who gave them, and to which wording, is the caller's to say beside the number.
An answer that could not be read is None and makes its item not measured, unless the published rule says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evals.metrics.score import NotMeasured, Outcome, Score

SHOWN = 0.3
"""NarrLV: accuracy below which a scene, its figures or an atom is not there, and what rests on it is 0."""
PRESENT = 0.2
"""NarrLV: accuracy above which an atom counts among those that are there at all."""
EVOLUTIONS = (
    "Scene Attribute Evolution",
    "Main Target Attribute Evolution",
    "Main Target Action Evolution",
    "Interaction Evolution Between Main Targets",
)
ANOMALIES = ("Scene Anomaly Detection", "Main Target Anomaly Detection")
UNREAD, MOST_UNREAD = -1, 0.9
MIDDLE, ENOUGH = 14, 12
"""T2V-CompBench: frames between the first and the last, and how many must show one of both states (over 0.8 of 14)."""
GRADES = range(1, 6)

Samples = Sequence[bool | None]
"""A judge's answers to one question, asked several times."""
Answers = Mapping[str, Sequence[Samples] | None]
"""NarrLV's answers to one film, under the keys of its question lists; None where a prompt has no such question."""
Accuracies = Mapping[str, Sequence[float | None]]
"""Share of yes of every question that was asked, under the same keys."""


def narrlv(answers: Answers) -> dict[str, Outcome]:
    """Fidelity, coverage and coherence of one film, 0..1, without the offset by Q-Align's quality, as the names say.

    A question's accuracy is its share of yes. Fidelity is the mean of scene, figures, first attributes, layout (0 where
    scene or figures are below .3) and 1 - anomaly, of those that were asked. Coverage is the mean over atoms. Coherence
    is the mean over transitions (0 where one of its atoms is below .3), averaged with the share of atoms above .2.
    """
    asked = {key: questions for key, questions in answers.items() if questions}
    accuracies = {key: [_accuracy(samples) for samples in questions] for key, questions in asked.items()}
    named = {"fidelity": _fidelity, "coverage": _coverage, "coherence": _coherence}
    return {f"NarrLV {name} (no Q-Align)": rule(accuracies) for name, rule in named.items()}


def _accuracy(samples: Samples) -> float | None:
    read = [sample for sample in samples if sample is not None]
    return sum(read) / len(read) if read else None


def _fidelity(accuracies: Accuracies) -> Outcome:
    parts = {
        "scene": ("Scene Type",),
        "figures": ("Main Target Category",),
        "attributes": ("Initial Scene Attributes",),
        "layout": ("Main Target Layout",),
        "anomaly": ANOMALIES,
    }
    pooled = {part: [one for key in keys for one in accuracies.get(key, ())] for part, keys in parts.items()}
    means: dict[str, float] = {}
    for part, found in pooled.items():
        known = [one for one in found if one is not None]
        if len(known) < len(found):
            return NotMeasured(reason=f"no answer of use on {part}")
        if known:
            means[part] = float(np.mean(known))
    if not means:
        return NotMeasured(reason="nothing was asked about fidelity")
    if "layout" in means and min(means.get("scene", 1.0), means.get("figures", 1.0)) < SHOWN:
        means["layout"] = 0.0
    if "anomaly" in means:
        means["anomaly"] = 1.0 - means["anomaly"]
    return Score(value=float(np.mean(list(means.values()))), details=means)


def _atoms(accuracies: Accuracies, part: int) -> list[list[float]] | None:
    """Accuracies of atoms (part 0) or transitions (part 1), a list an evolution; None when one could not be read."""
    found = [list(accuracies.get(f"{name}_{part}", ())) for name in EVOLUTIONS]
    known = [[one for one in evolution if one is not None] for evolution in found]
    return known if [len(one) for one in known] == [len(one) for one in found] else None


def _coverage(accuracies: Accuracies) -> Outcome:
    atoms = _atoms(accuracies, 0)
    if atoms is None:
        return NotMeasured(reason="no answer of use on an atom")
    every = [one for evolution in atoms for one in evolution]
    return Score(value=float(np.mean(every))) if every else NotMeasured(reason="no atom was asked about")


def _coherence(accuracies: Accuracies) -> Outcome:
    atoms, transitions = _atoms(accuracies, 0), _atoms(accuracies, 1)
    if atoms is None or transitions is None:
        return NotMeasured(reason="no answer of use on an atom or a transition")
    gated: list[float] = []
    for shown, passed in zip(atoms, transitions, strict=True):
        if passed and len(passed) != len(shown) - 1:
            return NotMeasured(reason=f"{len(passed)} transitions were asked about {len(shown)} atoms")
        gated += [0.0 if min(shown[i], shown[i + 1]) < SHOWN else one for i, one in enumerate(passed)]
    if not gated:
        return NotMeasured(reason="no transition was asked about")
    every = [one for evolution in atoms for one in evolution]
    present = float(np.mean([one > PRESENT for one in every]))
    moved = float(np.mean(gated))
    return Score(value=(moved + present) / 2, details={"transitions": moved, "atoms present": present})


def complex_plot(matches: Sequence[bool]) -> float:
    """VBench-2.0: share of plot points that were told before the first that was not. Raises ValueError for none."""
    if not matches:
        raise ValueError("complex_plot: expected a flag a plot point, got none")
    return next((number for number, told in enumerate(matches) if not told), len(matches)) / len(matches)


def motion_order(answers: Sequence[int]) -> Outcome:
    """VBench-2.0 over all films: share in which both actions came in their order; -1 was not readable and is left out.

    As published the dimension is 0 where more than nine in ten are not readable. Raises ValueError for other numbers.
    """
    if wrong := set(answers) - {UNREAD, 0, 1}:
        raise ValueError(f"motion_order: expected 1, 0 or {UNREAD}, got {', '.join(map(str, sorted(wrong)))}")
    if not answers:
        return NotMeasured(reason="no film was judged")
    read = [answer for answer in answers if answer != UNREAD]
    if len(answers) - len(read) > MOST_UNREAD * len(answers):
        return Score(value=0.0)
    return Score(value=float(np.mean(read)))


def attribute_binding(
    first: tuple[int | None, int | None], last: tuple[int | None, int | None], middle: Sequence[int | None]
) -> Outcome:
    """T2V-CompBench's dynamic attribute binding of one film: `flag / 2 [(a/5)(1 - b/5) + (1 - c/5)(d/5)]`, at most 0.8.

    `first` is (a, b) and `last` (c, d): how well the frame shows state 0 and state 1, 1 to 5, None where that was not
    readable; the released code takes the number of the film before. `middle` is the state, 0 or 1, that each of 14
    frames shows, None for neither; the flag is 1 when 12 or more show one. Raises ValueError for anything else.
    """
    grades = (*first, *last)
    if any(grade is not None and grade not in GRADES for grade in grades):
        raise ValueError(f"attribute_binding: expected grades of 1 to 5, got {grades}")
    if len(middle) != MIDDLE or not set(middle) <= {0, 1, None}:
        raise ValueError(f"attribute_binding: expected {MIDDLE} frames of state 0, 1 or None, got {list(middle)}")
    read = [grade / 5 for grade in grades if grade is not None]
    if len(read) < len(grades):
        return NotMeasured(reason="a grade could not be read")
    a, b, c, d = read
    flag = sum(state is not None for state in middle) >= ENOUGH
    return Score(value=flag * (a * (1 - b) + (1 - c) * d) / 2)


@dataclass(frozen=True, kw_only=True)
class Composite:
    """EvalCrafter's regression of several measures to what people think, times 100.

    People's five grades are a factor of 5; the published code forgets it on the intercept of text alignment, so there
    `whole` is False. Only the temporal one's coefficients stand here, because the authors' file has no licence.
    """

    weights: Mapping[str, float]
    intercept: float
    whole: bool = True

    def of(self, values: Mapping[str, float]) -> float:
        """The composite, about 0 to 100. Raises ValueError unless the values are those that have a weight."""
        if set(values) != set(self.weights):
            raise ValueError(f"Composite: expected {', '.join(self.weights)}; got {', '.join(values) or 'nothing'}")
        weighed = sum(weight * values[name] for name, weight in self.weights.items())
        return 100 * (5 * weighed + (5 if self.whole else 1) * self.intercept)


TEMPORAL = Composite(
    weights={"CLIP temporal consistency": 2.925, "1 - warping error": 0.455, "face consistency": 0.176},
    intercept=-3.423,
)
"""EvalCrafter's temporal consistency, from shares of 1."""
