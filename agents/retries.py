"""A retry: which shots it films again, and what their new takes came to beside those that stood before.

Knows outcomes; knows no rows.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agents.errors import UsageError

if TYPE_CHECKING:
    from agents.outcome import FilmResult, ShotOutcome, TakeOutcome


@dataclass(frozen=True, kw_only=True)
class Retried:
    """One shot that was filmed again. Takes are told by their numbers, and how many promised events each shows."""

    shot: str
    promised: int
    new: tuple[int, ...]
    """Takes that the retry finished; none where a limit or an error came first."""
    best: int | None
    """The best of them."""
    best_seen: int | None
    """None where nobody judged it."""
    stood: int | None
    """The take that was in the film before."""
    stood_seen: int | None
    stands: int | None
    """The take that is in the film now."""

    @property
    def said(self) -> str:
        """In one line: which take is in the film now, and why."""
        stays = "" if self.stands is None else f", take {self.stands} stays"
        if self.best is None:
            return f"Shot {self.shot}: no new take was finished{stays}"
        new = (
            f"the new take {self.best}"
            if len(self.new) == 1
            else f"the best of {len(self.new)} new takes, {self.best},"
        )
        if self.best_seen is None:
            newest = "is in the film now: where nobody judges, the newest stands"
            return f"Shot {self.shot}: {new} {newest if self.stands == self.best else 'was not judged' + stays}"
        shown = f"{new} shows {self.best_seen} of {self.promised} event{'' if self.promised == 1 else 's'}"
        return f"Shot {self.shot}: {shown}{self._beside()}"

    def _beside(self) -> str:
        if self.stands == self.best:
            before = "" if self.stood_seen is None else f", take {self.stood} {self.stood_seen} of {self.promised}"
            return f"{before}: take {self.best} is in the film now"
        alike = self.best_seen == self.stood_seen
        kept = (
            "as the kept one does, and is not better otherwise"
            if alike
            else f"the kept one {self.stood_seen} of {self.promised}"
        )
        return f", {kept}: take {self.stands} stays"


def compare(before: FilmResult, after: FilmResult, again: Collection[int]) -> tuple[Retried, ...]:
    """What came of filming the shots with these numbers again."""
    known = {shot.label: shot for shot in before.shots}
    return tuple(_compared(known[shot.label], shot) for shot in after.shots if _number(shot.label) in again)


def _compared(before: ShotOutcome, after: ShotOutcome) -> Retried:
    finished = {take.number for take in before.takes if take.status == "done"}
    new = [take for take in after.takes if take.status == "done" and take.number not in finished]
    best = max(new, key=_rank, default=None)
    stood = next((take for take in before.takes if take.in_film), None)
    return Retried(
        shot=after.label,
        promised=len(after.events),
        new=tuple(take.number for take in new),
        best=best.number if best else None,
        best_seen=best.seen if best else None,
        stood=stood.number if stood else None,
        stood_seen=next((take.seen for take in after.takes if stood and take.number == stood.number), None),
        stands=next((take.number for take in after.takes if take.in_film), None),
    )


def _rank(take: TakeOutcome) -> tuple[bool, int, float, float, int]:
    """The film's own choice first, else as `TakeRecord.rank`."""
    if take.seen is None:
        return take.in_film, -1, 0.0, 0.0, take.number
    return take.in_film, take.seen, take.identity or 0.0, take.quality or 0.0, -take.number


def retries(film: FilmResult, shot: str | None, event: str | None) -> dict[int, int | None]:
    """Which shots to film again: the one named, or all with something unseen; an event's number as the value.

    Raises UsageError when there is no such shot or event, or nothing was planned or approved yet.
    """
    if not film.shots:
        raise UsageError(f"Run {film.run} has no storyboard yet; resume it first")
    if film.status == "approval":
        raise UsageError(f"Run {film.run} waits for you to look at its storyboard; resume it first")
    if shot is not None and event is not None:
        raise UsageError("Expected --shot N or --event N.M, got both")
    if event is not None:
        label, _, number = event.rpartition(".")
        found = next((e for e in film.events if e.label == f"{label}.{number}"), None)
        if found is None:
            raise UsageError(f"Run {film.run} has no event {event!r}; it has {', '.join(e.label for e in film.events)}")
        return {_number(found.shot): found.number}
    if shot is not None:
        if shot not in [known.label for known in film.shots]:
            labels = ", ".join(known.label for known in film.shots)
            raise UsageError(f"Run {film.run} has no shot {shot!r}; it has {labels}")
        return {_number(shot): None}
    return {_number(shot.label): None for shot in film.shots if shot.wants_more}


def _number(label: str) -> int:
    match = re.match(r"\d+", label)
    return int(match[0]) if match else 0
