"""What TS-Attn does on one clip, before denoising: which words of which subject are lifted or lowered on which rows.

Knows prompts and time, no logits. C touched columns, N video tokens, S segments: runs of rows with the same events.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

import torch
from torch import Tensor

from generators.clip import Event
from generators.controls.base import Shot
from generators.controls.config import TSAttn
from generators.controls.ts_attn_flags import Flags
from generators.errors import ControlRejected
from generators.models.base import Layout
from generators.timeline import Interval

Owners = Sequence[Set[int]]
"""For each segment, which of a subject's events are its own."""


@dataclass(frozen=True, kw_only=True)
class SubjectPlan:
    """What one subject does in one clip, in token columns."""

    subject: str = ""
    """Its name in the prompt; empty steers every row."""
    subject_columns: Tensor
    """Columns of the subject's own words; empty steers every row."""
    columns: Tensor
    """(C,) columns that are lifted or lowered at some time."""
    lift: Tensor
    """(S, C): 1 where a segment lifts a column."""
    lower: Tensor
    """(S, C): how many of the segment's other events lower a column."""
    segment: Tensor
    """(N,): the segment of a row."""
    source: Tensor | None = None
    """(N,): the row whose logits measure a row's bias; None is the row itself."""


def plan_subjects(config: TSAttn, shot: Shot) -> list[SubjectPlan]:
    """Columns and times of every subject that acts. Raises ControlRejected for what stands not in prompt or clip."""
    events, flags = shot.request.events, config.flags
    if not events:
        raise ControlRejected("TSAttn: expected a request with at least one event, got none")
    for event in events:
        if event.start >= shot.timeline.seconds:
            raise ControlRejected(
                f"TSAttn: event {event.phrase!r} starts at {event.start} s, expected less than the clip's "
                f"{shot.timeline.seconds} s"
            )
    words = _event_columns(flags, shot)
    named = _named(flags, shot)
    subjects = list(dict.fromkeys(named))
    if flags.subjects == "last":
        return [_plan(config, shot, subjects[-1], range(len(events)), words)]
    own = [[i for i, written in enumerate(named) if written == name] for name in subjects]
    return [_plan(config, shot, name, mine, words) for name, mine in zip(subjects, own, strict=True)]


def _event_columns(flags: Flags, shot: Shot) -> list[tuple[int, ...]]:
    events = shot.request.events
    if flags.search == "phrase":
        return shot.text.place([e.phrase for e in events], [e.occurrence for e in events], what="event")
    for event in events:
        if event.occurrence is not None:
            raise ControlRejected(
                f"TSAttn.search='ids' marks every place of an event's ids: expected no occurrence for event "
                f"{event.phrase!r}, got {event.occurrence}; use search='phrase'"
            )
    return [shot.text.search(event.phrase, what="event") for event in events]


def _named(flags: Flags, shot: Shot) -> list[str]:
    """The subject of each event, as its first event writes it: case tells none apart, save in a search by ids."""
    named = [shot.text.written(event.subject) for event in shot.request.events]
    if flags.search == "ids":
        return named
    first: dict[str, str] = {}
    return [first.setdefault(name.casefold(), name) for name in named]


def _subject_columns(flags: Flags, shot: Shot, subject: str) -> tuple[int, ...]:
    """Columns of every mention of the subject; none for the empty subject, or where they are not asked for."""
    if not subject or not (flags.region or flags.subject_tokens):
        return ()
    if flags.search == "ids":
        return shot.text.search(subject, what="subject")
    return shot.text.mentions(subject, what="subject")


def _plan(
    config: TSAttn, shot: Shot, subject: str, own: Sequence[int], words: Sequence[tuple[int, ...]]
) -> SubjectPlan:
    flags, device = config.flags, shot.device
    in_time = sorted(own, key=lambda i: (shot.request.events[i].start, i))
    phrases = [words[i] for i in in_time]
    owners, segment = _segments(config, shot, [shot.request.events[i] for i in in_time])
    named = _subject_columns(flags, shot, subject)
    always = set(named) if flags.subject_tokens else set()
    columns = sorted(always.union(*phrases))
    lift, lower = zip(*(_signs(flags, always, phrases, mine, columns) for mine in owners), strict=True)
    return SubjectPlan(
        subject=subject,
        subject_columns=torch.tensor(named, dtype=torch.long, device=device),
        columns=torch.tensor(columns, dtype=torch.long, device=device),
        lift=torch.tensor(lift, dtype=torch.int8, device=device),
        lower=torch.tensor(lower, dtype=torch.int8, device=device),
        segment=segment.to(device),
        source=_offset(owners, segment).to(device) if flags.statistics == "offset" else None,
    )


def _signs(
    flags: Flags, always: Set[int], phrases: Sequence[tuple[int, ...]], mine: Set[int], columns: Sequence[int]
) -> tuple[list[int], list[int]]:
    """How often each column is lifted and lowered where these events happen; nothing where none does."""
    if not mine:
        return [0] * len(columns), [0] * len(columns)
    if not flags.rearrangement:
        mine = set(range(len(phrases)))
    lifted = set(always).union(*(phrases[i] for i in mine))
    others = [phrase for i, phrase in enumerate(phrases) if i not in mine]
    if flags.clash == "add":
        lowered = [sum(c in phrase for phrase in others) for c in columns]
    else:
        lowered = [int(c not in lifted and any(c in phrase for phrase in others)) for c in columns]
    return [int(c in lifted) for c in columns], lowered


# ── which rows belong to which events ──


def _segments(config: TSAttn, shot: Shot, events: Sequence[Event]) -> tuple[Owners, Tensor]:
    """Segments of a subject's events, which are in order of time, and the segment of each row (N,)."""
    shares = _shares(config, events)
    if config.flags.edges == "token":
        counts = _token_counts(shares or _durations(shot, events), shot.layout.tokens)
        _check_every_event([{i} for i, count in enumerate(counts) if count > 0], events)
        return [{i} for i in range(len(events))], torch.arange(len(events)).repeat_interleave(torch.tensor(counts))
    _, height, width = shot.layout.grid
    if shares is not None:
        owners: Owners = [{i} for i in shot.timeline.divided_latents(shares)]
    elif config.flags.ownership == "shared":
        owners = shot.timeline.active([Interval(event.start, event.end) for event in events])
    else:
        owners = [{i} for i in shot.timeline.owners([Interval(event.start, event.end) for event in events])]
    steps = _on_token_grid(owners, shot.layout)
    _check_every_event(steps, events)
    return steps, torch.arange(len(steps)).repeat_interleave(height * width)


def _shares(config: TSAttn, events: Sequence[Event]) -> Sequence[float] | None:
    """Shares of the clip, scaled to add up to 1; None where events say their own seconds."""
    if config.intervals == "events":
        return None
    if config.intervals == "uniform":
        return [1 / len(events)] * len(events)
    given = [float(share) for share in config.intervals if not isinstance(share, str)]
    if len(given) != len(events):
        raise ControlRejected(
            f"TSAttn.intervals: expected a share for each of {len(events)} events "
            f"({', '.join(repr(event.phrase) for event in events)}), got {len(given)}"
        )
    return [share / sum(given) for share in given]


def _durations(shot: Shot, events: Sequence[Event]) -> list[float]:
    """Shares of events that follow each other through the clip. Raises ControlRejected when they do not."""
    slack = shot.timeline.stride / shot.timeline.fps
    ends, starts = [0.0, *(e.end for e in events)], [*(e.start for e in events), shot.timeline.seconds]
    if any(abs(start - end) > slack for start, end in zip(starts, ends, strict=True)):
        raise ControlRejected(
            "TSAttn.edges='token' divides the clip by shares: expected events that follow each other from 0 to "
            f"{shot.timeline.seconds} s, got {[(event.start, event.end) for event in events]}; use edges='frame', or "
            "intervals='uniform' or shares"
        )
    lengths = [event.end - event.start for event in events]
    return [length / sum(lengths) for length in lengths]


def _token_counts(shares: Sequence[float], tokens: int) -> list[int]:
    """Rows of each share: round(share * tokens), the last one has what remains, as in the released code."""
    counts = [round(share * tokens) for share in shares[:-1]]
    return [*counts, max(tokens - sum(counts), 0)]


def _on_token_grid(owners: Owners, layout: Layout) -> Owners:
    """Owners of the token grid's steps in time, from those of latent frames; padding in front goes with the first."""
    return [owners[max(layout.latent(step), 0)] for step in range(layout.grid[0])]


def _check_every_event(owners: Owners, events: Sequence[Event]) -> None:
    acting = set().union(*owners)
    for i, event in enumerate(events):
        if i not in acting:
            raise ControlRejected(
                f"TSAttn: event {event.phrase!r} ({event.start} to {event.end} s) holds no whole latent frame of this "
                "clip; expected a longer interval"
            )


def _offset(owners: Owners, segment_N: Tensor) -> Tensor:
    """The row whose logits the released code reads for a row: the r-th row of its i-th event reads row i + r.

    (Its running offset grows by 1 an event, where it should grow by the event's rows.)
    """
    event_N = torch.tensor([next(iter(mine), 0) for mine in owners])[segment_N]
    source = torch.empty_like(event_N)
    for i in event_N.unique().tolist():
        rows = (event_N == i).nonzero().flatten()
        source[rows] = torch.arange(len(rows)) + i
    return source
