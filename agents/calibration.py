"""How far a critic can be believed: what a calibration found, as the file that the critic reads its threshold from.

One JSON file a critic in `calibrations/`, written by `python main.py eval calibrate` (docs/evaluation.md). A file
counts only for the way of looking that it was made with: other wordings, frames or votes make it another critic.
Knows the files and what they mean for a verdict; measures nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from agents.brains import EventVerdict, VerdictResult
from agents.errors import UsageError
from agents.storyboard import Shape
from storage.media import keep_file

CALIBRATIONS = Path(__file__).parent.parent / "calibrations"
log = logging.getLogger(__name__)


class Rate(Shape):
    """A share of `count` things and its 95 % interval (Wilson); None where there was nothing to count."""

    value: float | None
    low: float | None
    high: float | None
    count: int


class SweepRow(Shape):
    """What the critic is worth when only a confidence of at least `threshold` counts as done.

    Agreement, precision and recall are over all promises of known truth; false acceptance is the share of promises
    taken for kept among the broken ones of all kinds, and among those of wrong captions alone.
    """

    threshold: float
    agreement: Rate
    precision: Rate
    recall: Rate
    false_acceptance: Rate
    wrong_captions: Rate


class KindRow(Shape):
    """The same at the chosen threshold for one kind of showing: right captions, wrong ones, reversed clips, …"""

    kind: str
    agreement: Rate
    recall: Rate
    false_acceptance: Rate


class HeldOut(Shape):
    """What thresholds are worth on clips that they were not chosen by.

    The clips are cut into halves, and each half is judged at the threshold that the other half alone chose. Rates are
    over both; none where there are too few clips for two halves.
    """

    thresholds: tuple[float, ...]
    """As the first half chose, then the second."""
    agreement: Rate
    precision: Rate
    recall: Rate
    false_acceptance: Rate
    wrong_captions: Rate


class Released(Shape):
    """How a judge meets another's released flags of the same clips.

    `share` is what counts as done: of its votes for a released judge, of its confidence for the critic itself.
    """

    judge: str
    against: str
    share: float
    agreement: Rate
    precision: Rate
    recall: Rate
    false_acceptance: Rate


class Calibration(Shape):
    """One critic, measured. `digest` says how it looks.

    `trusted` says that a threshold passes, and that on clips held out at most `most_false` of the broken promises are
    taken for kept, by the upper end of the interval, and at least a half of the kept ones are seen.
    """

    version: Literal[2] = 2
    critic: str = Field(min_length=1)
    digest: str
    how: dict[str, str | int]
    """What the digest is made of, for people."""
    threshold: float = Field(ge=0, le=1)
    """Confidence below which an event that the critic took for done is not done."""
    most_false: float = Field(ge=0, le=1)
    trusted: bool
    clips: int
    showings: int
    unanswered: int
    """Showings that the critic gave no usable answer to."""
    seed: int
    order: Rate
    """Share of two-event showings whose order it read right, where it timed both events."""
    kinds: tuple[KindRow, ...]
    sweep: tuple[SweepRow, ...]
    """Over all clips, those included that the threshold was chosen by."""
    held_out: HeldOut
    released: tuple[Released, ...] = ()

    def at(self, threshold: float) -> SweepRow:
        """The sweep's row of a threshold. Raises KeyError when it has none."""
        for row in self.sweep:
            if row.threshold == threshold:
                return row
        raise KeyError(threshold)


@dataclass(frozen=True, kw_only=True)
class Uncalibrated:
    """Why nothing is known of a critic."""

    reason: str


Belief = Calibration | Uncalibrated


def read_calibration(path: Path) -> Calibration:
    """One file. Raises UsageError naming it and what is wrong with it."""
    try:
        return Calibration.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3])
        raise UsageError(f"Calibration {path} cannot be read ({wrong}); make it anew with eval calibrate") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"Calibration {path} cannot be read ({error}); make it anew with eval calibrate") from error


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Whole or not at all; the same calibration gives the same bytes."""
    keep_file(path, _as_text(calibration).encode())


def _as_text(calibration: Calibration) -> str:
    """JSON with a line a key, and a line a row of its tables."""
    parts = []
    for key, value in calibration.model_dump(mode="json").items():
        told = json.dumps(value)
        if isinstance(value, list) and value:
            told = "[\n  " + ",\n  ".join(json.dumps(row) for row in value) + "\n ]"
        parts.append(f" {json.dumps(key)}: {told}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def calibrations(folder: Path = CALIBRATIONS) -> Iterator[Calibration]:
    """All that lie in the folder, by file name. Raises UsageError for one that cannot be read."""
    return (read_calibration(path) for path in sorted(folder.glob("*.json")))


def belief_in(critic: str, digest: str, folder: Path = CALIBRATIONS) -> Belief:
    """What is known of a critic that looks in the way of `digest`."""
    named = [one for one in calibrations(folder) if one.critic == critic]
    for one in named:
        if one.digest == digest:
            return one
    how = "was calibrated with other wordings, frames or votes" if named else "was never calibrated"
    return Uncalibrated(reason=f"critic {critic} {how}: run eval calibrate to know what its verdicts are worth")


def warning_of(belief: Belief) -> str:
    """What a report must say beside this critic's verdicts; empty for one that was calibrated and passed."""
    if isinstance(belief, Uncalibrated):
        return belief.reason
    if belief.trusted:
        return ""
    recall, false = belief.held_out.recall, belief.held_out.false_acceptance
    kept, broken = (_percent(one.value) for one in (recall, false))
    most = "" if false.high is None else f" (at most {_percent(false.high)})"
    return f"critic {belief.critic} sees {kept} of kept promises and takes {broken}{most} of broken ones for kept"


def _percent(share: float | None) -> str:
    return "an unknown share" if share is None else f"{100 * share:.0f} %"


def warn(belief: Belief) -> None:
    """Say on the log what `warning_of` says."""
    if said := warning_of(belief):
        log.warning(said)


def believed(verdict: VerdictResult, belief: Belief) -> VerdictResult:
    """The verdict under the critic's threshold, with the warning among its notes."""
    said = warning_of(belief)
    events = verdict.events
    if isinstance(belief, Calibration):
        events = tuple(_held(event, belief.threshold) for event in events)
    return replace(verdict, events=events, notes=(*verdict.notes, *([said] if said else ())))


def _held(event: EventVerdict, threshold: float) -> EventVerdict:
    if not event.done or event.confidence >= threshold:
        return event
    doubt = f"{event.evidence} (not counted: confidence {event.confidence:.2f} is below the calibrated {threshold:g})"
    return replace(event, done=False, evidence=doubt, start=None, end=None)
