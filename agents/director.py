"""The director: which remedy a shot needs after a take that missed something, and which take is best.

Decides from what a shot needs and from what its takes have shown; every decision is plain data with its reason, so
that it can be kept and a resumed run decides alike. Holds no pixels and asks no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from agents.controls import controls_json, motions, read_controls
from agents.takespec import Look, TakeSpec, follows_events, split_spec, window
from generators.clip import Limits
from generators.controls.config import ControlConfig, TempoControl, TSAttn
from storage.records import ShotPlan, ShotRecord, TakeRecord

Kind = Literal["reseed", "strengthen", "retime", "reword", "guide", "refilm", "split"]
LADDER: tuple[Kind, ...] = ("reseed", "strengthen", "retime", "reword", "guide", "refilm", "split")
"""Remedies in the order in which they are tried; after the last, new seeds."""
STRONGER, STRONGEST, STRONGEST_FROM_PICTURE = 0.15, 0.5, 0.8
"""Shares of the denoising steps: what strengthening adds, and where steering costs more looks than it wins events: for
a clip from nothing, and for one that begins with given frames."""
SHORTEST = 1.0
"""Seconds an event keeps when another is given more time."""


@dataclass(frozen=True, kw_only=True)
class Repairs:
    """Which remedies may be chosen, in their order; a rung is used once. Behind the last one come new seeds."""

    ladder: tuple[Kind, ...] = LADDER
    again: bool = False
    """Whether every repair begins at the foot of the ladder: the first remedy that can help, every time."""

    def __post_init__(self) -> None:
        if unknown := [kind for kind in self.ladder if kind not in LADDER]:
            raise ValueError(f"Repairs.ladder: expected some of {', '.join(LADDER)}; got {', '.join(unknown)}")


WHOLE_LADDER = Repairs()


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A remedy: what changes, why, and the new revision of the shot where its words or times change."""

    kind: Kind
    reason: str
    changes: dict[str, Any]
    revision: ShotPlan | None = None


def choose(
    shot: ShotRecord,
    history: Sequence[TakeRecord],
    look: Look,
    reworded: ShotPlan | None,
    failed: Sequence[int] | None = None,
    repairs: Repairs = WHOLE_LADDER,
) -> Choice:
    """The next rung of the ladder that can help this shot, with the rungs that were passed over and why.

    `history` are its judged takes, oldest first; `failed` are indices of promised events, by default those that the
    best take missed. `reworded` is the shot in other words, when there are any.
    """
    best = best_take(history)
    if best is None:
        raise ValueError(f"Shot {shot.label} has no judged take to learn from")
    missed = list(failed if failed is not None else missed_events(best))
    passed: list[str] = []
    asked: tuple[Kind, ...] = () if failed is None else ("refilm",)  # who names an event wants only its window
    for kind in (*asked, *_rungs_left(history, repairs)):
        choice = _try(kind, shot, best, missed, history, look, reworded)
        if isinstance(choice, Choice):
            return replace(choice, reason="; ".join([choice.reason, *passed]))
        passed.append(f"{kind} passed over: {choice}")
    tried = ", no other remedy is left" if repairs.ladder else ""
    return Choice(
        kind="reseed",
        reason="; ".join([f"{_named(shot, missed)}: new noise{tried}", *passed]),
        changes={"controls": _controls(history)},
    )


def best_take(history: Sequence[TakeRecord]) -> TakeRecord | None:
    """The best take: by events, then identity, then quality, then the earlier; an unjudged one comes last."""
    finished = [record for record in history if record.take.status == "done"]
    return max(finished, key=lambda record: record.rank, default=None)


def missed_events(record: TakeRecord) -> list[int]:
    """Indices of promised events that the critic looked for and did not see in the take."""
    return [i for i, event in enumerate(record.verdict.events) if event["done"] is False] if record.verdict else []


def leaves_nothing(history: Sequence[TakeRecord]) -> bool:
    """Whether the best take leaves nothing to be wished."""
    best = best_take(history)
    return best is not None and best.verdict is not None and not missed_events(best)


def _controls(history: Sequence[TakeRecord]) -> list[dict[str, Any]]:
    """The controls of the newest take that was filmed in one piece."""
    whole = [record for record in history if not record.take.request.get("then")]
    return list((whole or history)[-1].take.controls)


def _rungs_left(history: Sequence[TakeRecord], repairs: Repairs) -> tuple[Kind, ...]:
    ladder = repairs.ladder
    kinds = [record.remedy.kind for record in history if record.remedy is not None]
    used = [] if repairs.again else [rung for rung, kind in enumerate(ladder) if kind in kinds]
    return ladder[max(used) + 1 :] if used else ladder


def _try(
    kind: Kind,
    shot: ShotRecord,
    best: TakeRecord,
    missed: Sequence[int],
    history: Sequence[TakeRecord],
    look: Look,
    reworded: ShotPlan | None,
) -> Choice | str:
    """The remedy of this kind, or why it cannot help here."""
    controls = _controls(history)
    who = _named(shot, missed)
    if kind == "reseed":
        return Choice(kind=kind, reason=f"{who}: new noise", changes={"controls": controls})
    if kind == "strengthen":
        stronger = strengthened(read_controls(controls))
        if stronger is None:
            return "one event has nothing to be kept apart from" if len(shot.events) < 2 else "steered as much as helps"
        return Choice(
            kind=kind,
            reason=f"{who}: events are kept apart longer",
            changes={"controls": controls_json(stronger)},
        )
    if kind in ("retime", "reword") and not follows_events(shot.plan):
        return "its frames read a synopsis that does not name its events one by one"
    if kind == "retime":
        plan = retimed(shot.plan, missed)
        if plan is None:
            return "no other event can give it time"
        return Choice(kind=kind, reason=f"{who}: more time for it", changes={"controls": controls}, revision=plan)
    if kind == "reword":
        if reworded is None or reworded == shot.plan:
            return "there are no other words for it"
        return Choice(
            kind=kind, reason=f"{who}: said in other words", changes={"controls": controls}, revision=reworded
        )
    if kind == "guide":
        if shot.plan.synopsis:
            return "its frames read a synopsis, which has no words of the prompt to look for"
        guided = guided_in_time(read_controls(controls), look.limits)
        if guided is None:
            return "it is guided already" if look.limits.guides else "this backend cannot guide in time"
        reason = f"{who}: latents are moved until its words are attended to in its time"
        return Choice(kind=kind, reason=reason, changes={"controls": controls_json(guided)})
    if kind == "refilm":
        return _refilm(shot, best, missed, look, controls)
    return _split(shot, best, missed, look, controls)


def strengthened(controls: Sequence[ControlConfig]) -> tuple[ControlConfig, ...] | None:
    """Separable attention over more of the steps; None when there is none or it is at its most."""
    found = [c for c in controls if isinstance(c, TSAttn)]
    if not found or found[0].steps >= STRONGEST:
        return None
    steps = min(round(found[0].steps + STRONGER, 3), STRONGEST)
    from_picture = min(round(found[0].share(from_picture=True) + STRONGER, 3), STRONGEST_FROM_PICTURE)
    stronger = replace(found[0], steps=steps, picture_steps=from_picture)
    return tuple(stronger if c is found[0] else c for c in controls)


def guided_in_time(controls: Sequence[ControlConfig], limits: Limits) -> tuple[ControlConfig, ...] | None:
    """TempoControl beside what steers already; None where it is there or the backend cannot."""
    if not limits.guides or any(isinstance(control, TempoControl) for control in controls):
        return None
    return (*controls, TempoControl())


def retimed(plan: ShotPlan, missed: Sequence[int]) -> ShotPlan | None:
    """Half as much again for the missed events, taken from the others; None when nobody can give."""
    if not missed or len(missed) == len(plan.events):
        return None
    lengths = [e.end - e.start for e in plan.events]
    weights = [length * (1.5 if i in missed else 1.0) for i, length in enumerate(lengths)]
    scale = plan.seconds / sum(weights)
    if min(w * scale for i, w in enumerate(weights) if i not in missed) < SHORTEST:
        return None
    edges = [round(sum(weights[:i]) * scale, 2) for i in range(len(weights))] + [plan.seconds]
    return replace(plan, events=tuple(replace(e, start=edges[i], end=edges[i + 1]) for i, e in enumerate(plan.events)))


def _refilm(
    shot: ShotRecord, best: TakeRecord, missed: Sequence[int], look: Look, controls: list[dict[str, Any]]
) -> Choice | str:
    if not look.limits.extends:
        return "this backend cannot keep finished frames"
    filmed = TakeSpec.from_json(best.take.request)
    if filmed.then is not None or len(filmed.events) < 2 or len(missed) >= len(filmed.events) or not missed:
        return "nothing beside it was seen that could be kept"
    event = filmed.events[missed[0]]
    first, end = window(event.start, event.end, filmed.frames, filmed.fps, look.limits.frame_step)
    first = max(first, filmed.lead)
    changes = {"controls": controls, "window": [first, end], "base": best.take.id}
    seconds = f"{first / filmed.fps:.1f} to {end / filmed.fps:.1f} s"
    reason = f"{_named(shot, missed[:1])}: only its window, {seconds}, of take {best.take.number}"
    return Choice(kind="refilm", reason=reason, changes=changes)


def _split(
    shot: ShotRecord, best: TakeRecord, missed: Sequence[int], look: Look, controls: list[dict[str, Any]]
) -> Choice | str:
    if not look.limits.extends:
        return "this backend cannot go on from finished frames"
    if shot.plan.synopsis:
        return "its synopsis runs through the whole shot"
    after = max(1, missed[0]) if missed else 1
    spec = replace(TakeSpec.from_json(best.take.request), then=None)
    if len(shot.events) < 2 or split_spec(spec, after, look) is None:
        return "its sentences do not come apart, one for each event"
    reason = f"{_named(shot, missed)}: filmed in two parts, one going on from the other"
    moved = controls_json(motions(read_controls(controls)))
    return Choice(kind="split", reason=reason, changes={"controls": moved, "after_event": after})


def _named(shot: ShotRecord, missed: Sequence[int]) -> str:
    phrases = [repr(shot.promised[i].phrase) for i in missed]
    return f"{', '.join(phrases)} not seen" if phrases else "asked for again"


def rewording_is_next(
    shot: ShotRecord,
    history: Sequence[TakeRecord],
    look: Look,
    missed: Sequence[int],
    repairs: Repairs = WHOLE_LADDER,
) -> bool:
    """Whether the next remedy would be other words, so that nobody is asked for them in vain."""
    best = best_take(history)
    if best is None:
        return False
    for kind in _rungs_left(history, repairs):
        if kind == "reword":
            return follows_events(shot.plan)
        if isinstance(_try(kind, shot, best, missed, history, look, None), Choice):
            return False
    return False
