"""A film before it is filmed, for people and programs: its storyboard, and what filming it would take at most.

Knows storyboards and profiles; knows nothing of rows, terminals or models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agents.outcome import EventOutcome, ShotOutcome

if TYPE_CHECKING:  # these take a while to import, and asking for help must not
    from agents.profile import Profile
    from agents.storyboard import PlannedShot, Storyboard


@dataclass(frozen=True, kw_only=True)
class PlanResult:
    """A storyboard as it would be filmed."""

    run: int | None
    """None when nothing was kept, in a dry run."""
    title: str
    style: str
    cast: tuple[str, ...]
    shots: tuple[ShotOutcome, ...]
    notes: tuple[str, ...]
    file: Path | None = None

    @property
    def seconds(self) -> float:
        """Length of all shots."""
        return sum(shot.seconds for shot in self.shots)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What filming would take. `plan` is None when only a paid model could write it."""

    plan: PlanResult | None
    profile: str
    most_takes: int
    take_seconds: float | None
    """Median of what takes by this model took before; None when none was ever filmed here."""
    most_seconds: float | None
    most_calls: int | None
    most_tokens: int | None
    most_money: float | None
    asks: str
    """Which models would be asked."""

    @property
    def seconds(self) -> float | None:
        """Filming time when every shot succeeds at once; None when nothing was measured yet."""
        if self.plan is None or self.take_seconds is None:
            return None
        return self.take_seconds * len(self.plan.shots)

    def rows(self) -> list[tuple[str, str]]:
        """Name and value of every line of the estimate."""
        shots = len(self.plan.shots) if self.plan else None
        paid = (("calls", self.most_calls), ("tokens", self.most_tokens), ("money", self.most_money))
        return [
            ("profile", self.profile),
            ("shots", "known after planning, which would ask a model" if shots is None else str(shots)),
            ("takes", f"at most {self.most_takes}" if shots is None else f"{shots} to {self.most_takes}"),
            ("filming", "not measured yet" if self.seconds is None else f"{self.seconds:.0f} s, when all goes well"),
            ("work", _limit(self.most_seconds, "s")),
            ("models asked", self.asks),
            *((name, _limit(most, "")) for name, most in paid if most != 0),
        ]


def board_result(
    board: Storyboard, *, run: int | None = None, file: Path | None = None, staged: Sequence[str] = ()
) -> PlanResult:
    """A storyboard as people read it; `staged` says how each shot will be filmed."""
    said = staged or [""] * len(board.shots)
    return PlanResult(
        run=run,
        title=board.title,
        style=board.style,
        cast=tuple(f"{subject.name}: {subject.description}" for subject in board.cast),
        shots=tuple(
            _planned(str(number), shot, how)
            for number, (shot, how) in enumerate(zip(board.shots, said, strict=True), 1)
        ),
        notes=board.notes,
        file=file,
    )


def estimate(profile: Profile, planned: PlanResult | None, take_seconds: float | None) -> Estimate:
    """What filming under this profile would take at most."""
    budget, models = profile.budget, profile.brains.models
    asked = [f"{role}: {models.of(role)}" for role in profile.asked]
    return Estimate(
        plan=planned,
        profile=profile.name,
        most_takes=(len(planned.shots) if planned else budget.shots) * budget.takes_per_shot,
        take_seconds=take_seconds,
        most_seconds=budget.seconds,
        most_calls=budget.calls if asked else 0,
        most_tokens=budget.tokens if asked else 0,
        most_money=budget.money if asked else 0,
        asks=", ".join(asked) or "none, rules plan",
    )


def _planned(label: str, shot: PlannedShot, staged: str) -> ShotOutcome:
    return ShotOutcome(
        label=label,
        prompt=shot.prompt,
        seconds=shot.seconds,
        continues=shot.transition == "continues",
        events=tuple(
            EventOutcome(
                shot=label,
                number=number,
                subject=event.subject,
                phrase=event.phrase,
                start=event.start,
                end=event.end,
                seen=None,
            )
            for number, event in enumerate(shot.events, 1)
        ),
        takes=(),
        staged=staged,
    )


def _limit(value: float | None, unit: str) -> str:
    return "no limit" if value is None else f"at most {value:g} {unit}".strip()
