"""A take as plain data: what is filmed, how long, with which seed, controls and finished frames.

Made from a shot's row and the remedy after its newest take; with pixels added it becomes a ShotRequest. So a take can
be kept in the archive, asked for again, and decided on without a single pixel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from agents.controls import MotionFrom, controls_json, motions, read_controls
from agents.sentences import cut_prompt
from agents.storyboard import Subject
from generators.clip import Event, Limits
from generators.controls.config import VSTAR, ControlConfig, TSAttn
from storage.records import EventPlan, ShotPlan, ShotRecord, TakeRecord

OVERLAP_STEPS = 1
"""Latent frames after the first that a continuing shot takes over from the shot before it."""
HISTORY_STEPS = 4
"""As many under diffusion forcing, as its authors recommend; at most half of those in the shortest clip."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Finished frames for a new take: frames `first` to `last` of take `take`, standing from frame `at` on."""

    take: int
    first: int
    last: int
    at: int


@dataclass(frozen=True, kw_only=True)
class Together:
    """The set that a take is filmed in: numbers of its shots, and of those that everybody reads."""

    shots: tuple[int, ...]
    anchors: tuple[int, ...]
    words: str
    """What of this take's prompt names the subject that the set shares."""


@dataclass(frozen=True, kw_only=True)
class TakeSpec:
    """A take as it is to be filmed, as plain data; with the pixels of `kept` it becomes a ShotRequest.

    `then` is filmed as its continuation and joined to it: how a split shot stays one take.
    """

    prompt: str
    frames: int
    fps: int
    width: int
    height: int
    seed: int
    events: tuple[Event, ...] = ()
    controls: tuple[ControlConfig, ...] = ()
    steps: int | None = None
    guidance: float | None = None
    guidance_2: float | None = None
    picture: str | None = None
    """sha256 of the kept picture that is its first frame."""
    kept: tuple[Kept, ...] = ()
    lead: int = 0
    """Leading frames that the shot before already shows."""
    then: TakeSpec | None = None
    together: Together | None = None
    """The set it is filmed in; None films it alone."""
    staged: str = ""
    """How it is filmed and why, for people; no part of the work."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; what stages a take is left out where nothing does."""
        plain = asdict(self) | {
            "controls": controls_json(self.controls),
            "then": self.then.to_json() if self.then else None,
        }
        return {name: value for name, value in plain.items() if value or name not in ("together", "staged")}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TakeSpec:
        """The inverse of `to_json`."""
        return cls(**data | {
            "events": tuple(Event(**event) for event in data["events"]),
            "controls": read_controls(data["controls"]),
            "kept": tuple(Kept(**kept) for kept in data["kept"]),
            "then": cls.from_json(data["then"]) if data["then"] else None,
            "together": _together(data.get("together")),
        })  # fmt: skip

    @property
    def total_frames(self) -> int:
        """Frames of the finished take."""
        return self.frames + (self.then.frames - sum(k.last - k.first for k in self.then.kept) if self.then else 0)

    @property
    def seconds(self) -> float:
        """Length of the finished take."""
        return self.total_frames / self.fps

    def promised_in(self, shot: ShotRecord) -> list[tuple[float, float]]:
        """Seconds of this take in which each promised event should be: the shot's, stretched over all but the lead."""
        lead = self.lead / self.fps
        planned = max([shot.shot.seconds, *(event.end for event in shot.promised)])
        scale = (self.seconds - lead) / planned
        return [(round(lead + e.start * scale, 4), round(lead + e.end * scale, 4)) for e in shot.promised]


def axis_of(shot: ShotRecord, record: TakeRecord | None) -> tuple[float, list[tuple[float, float]]]:
    """Length of a take in seconds, and when in it each promised event should be; of the shot where there is none."""
    if record is None:
        return shot.shot.seconds, [(event.start, event.end) for event in shot.promised]
    spec = TakeSpec.from_json(record.take.request)
    return spec.seconds, spec.promised_in(shot)


@dataclass(frozen=True, kw_only=True)
class Look:
    """How the run's takes are filmed beside what a shot says: the backend's limits and the profile's choices."""

    limits: Limits
    seed: int = 0
    style: str = ""
    steps: int | None = None
    guidance: float | None = None
    guidance_2: float | None = None
    width: int | None = None
    height: int | None = None
    picture: str | None = None
    """What a shot that goes on from no other starts from."""
    motion_share: float | None = None
    """Share of the steps in which a clip's motion is given; None: the family's."""


def first_spec(
    shot: ShotRecord,
    cast: Sequence[Subject],
    look: Look,
    before: TakeRecord | None = None,
    motion: MotionFrom | None = None,
) -> TakeSpec:
    """The first take of a shot.

    `before` is the take it continues, when it does and the backend can; `motion` is the clip it moves like.
    """
    lead: Kept | None = None
    if before is not None and look.limits.extends:
        overlap = overlap_frames(look.limits)
        total = TakeSpec.from_json(before.take.request).total_frames
        lead = Kept(take=before.take.id, first=total - overlap, last=total, at=0)
    moved = () if motion is None else (motion,)  # first: a control that reads passes must come after it
    spec = _spec(shot, cast, look, number=1, controls=moved, lead=lead)
    own = _told(shot.plan, spec, look.style) if shot.plan.synopsis else controls_for(len(shot.events))
    return replace(spec, controls=(*moved, *own))


def next_spec(shot: ShotRecord, cast: Sequence[Subject], look: Look, history: Sequence[TakeRecord]) -> TakeSpec:
    """The take that the remedy after the newest take asks for. Raises ValueError when there is none."""
    last = history[-1]
    if last.remedy is None:
        raise ValueError(f"Take {last.take.number} of shot {last.label} has no remedy")
    changes = last.remedy.changes
    controls = read_controls(changes["controls"])
    first = TakeSpec.from_json(history[0].take.request)
    lead = first.kept[0] if first.lead else None
    spec = _spec(shot, cast, look, number=last.take.number + 1, controls=controls, lead=lead)
    if last.remedy.kind == "refilm":
        base = next(record for record in history if record.take.id == changes["base"])
        filmed, (begin, end) = TakeSpec.from_json(base.take.request), changes["window"]
        kept = around(base.take.id, begin, end, filmed.frames)
        again = _retold(controls, filmed.controls)  # as the base is told
        return replace(filmed, seed=spec.seed, controls=again, kept=kept, picture=None)  # it is among the kept
    if last.remedy.kind == "split":
        return split_spec(spec, int(changes["after_event"]), look) or spec
    if shot.plan.synopsis:
        return replace(spec, controls=_retold(controls, _told(shot.plan, spec, look.style)))
    return spec


def _spec(
    shot: ShotRecord,
    cast: Sequence[Subject],
    look: Look,
    *,
    number: int,
    controls: tuple[ControlConfig, ...],
    lead: Kept | None,
) -> TakeSpec:
    limits, plan = look.limits, shot.plan
    frames = clip_frames(plan.seconds, limits)
    taken = lead.last - lead.first if lead else 0
    times = fitted(plan.events, plan.seconds, taken / limits.fps, frames / limits.fps)
    events = tuple(
        Event(subject=subject_words(e.subject, plan.prompt, cast), phrase=e.phrase, start=a, end=b)
        for e, (a, b) in zip(plan.events, times, strict=True)
    )
    return TakeSpec(
        prompt=_prompt(plan, look.style),
        frames=frames,
        fps=limits.fps,
        width=look.width or limits.width,
        height=look.height or limits.height,
        seed=take_seed(look.seed, shot.label, number),
        events=events,
        controls=controls,
        steps=look.steps,
        guidance=look.guidance,
        guidance_2=look.guidance_2,
        picture=None if lead else look.picture,
        kept=(lead,) if lead else (),
        lead=taken,
    )


def _prompt(plan: ShotPlan, style: str) -> str:
    """The shot's prompt with its camera and the film's style, where the prompt does not name them already."""
    return _in_style(plan.prompt, plan, style)


def _in_style(text: str, plan: ShotPlan, style: str) -> str:
    parts = [text]
    if plan.camera != "static" and plan.camera.lower() not in text.lower():
        parts.append(f"Camera: {plan.camera}.")
    if style and style.lower() not in text.lower():
        parts.append(f"Style: {style}.")
    return " ".join(parts)


def _told(plan: ShotPlan, spec: TakeSpec, style: str) -> tuple[VSTAR, ...]:
    """The shot's synopsis for its frames: each state in the middle of its event, else evenly spread.

    The band over time comes with it, as the method is published.
    """
    middles = tuple(round((event.start + event.end) / 2, 4) for event in spec.events)
    fit = follows_events(plan) and list(middles) == sorted(set(middles))
    states = tuple(_in_style(state, plan, style) for state in plan.synopsis)
    return (VSTAR(synopsis=states, seconds=middles if fit else ()),)


def follows_events(plan: ShotPlan) -> bool:
    """Whether what the frames read changes with the events: the prompt, or a state with the words of each event."""
    if not plan.synopsis:
        return True
    pairs = zip(plan.synopsis, plan.events, strict=False)
    return len(plan.synopsis) == len(plan.events) and all(event.phrase in state for state, event in pairs)


def _retold(controls: Sequence[ControlConfig], told: Sequence[ControlConfig]) -> tuple[ControlConfig, ...]:
    """The controls, their synopsis in the words and at the times of the one among `told`."""
    now = next((c for c in told if isinstance(c, VSTAR) and c.synopsis), None)
    if now is None:
        return tuple(controls)
    return tuple(
        replace(c, synopsis=now.synopsis, seconds=now.seconds) if isinstance(c, VSTAR) and c.synopsis else c
        for c in controls
    )


def overlap_frames(limits: Limits) -> int:
    """Finished frames that a clip goes on from: one picture where the model reads one, else latent frames more."""
    if limits.continues == "last frame":
        return 1
    most = limits.frame_counts[0] // 2 // limits.frame_step
    steps = max(OVERLAP_STEPS, min(HISTORY_STEPS, most)) if limits.continues == "diffusion forcing" else OVERLAP_STEPS
    return 1 + steps * limits.frame_step


def _together(data: dict[str, Any] | None) -> Together | None:
    if not data:
        return None
    return Together(shots=tuple(data["shots"]), anchors=tuple(data["anchors"]), words=data["words"])


def controls_for(events: int) -> tuple[ControlConfig, ...]:
    """One event needs no steering; several are kept apart."""
    return (TSAttn(),) if events > 1 else ()


def clip_frames(seconds: float, limits: Limits) -> int:
    """The clip length, of those the backend films well, that is nearest to what the shot wants."""
    return min(limits.frame_counts, key=lambda count: (abs(count / limits.fps - seconds), count))


def fitted(events: Sequence[EventPlan], planned: float, start: float, end: float) -> list[tuple[float, float]]:
    """Event times stretched from a shot planned `planned` seconds long to `start`..`end` of the clip."""
    scale = (end - start) / planned
    return [(round(start + e.start * scale, 4), round(min(start + e.end * scale, end), 4)) for e in events]


def subject_words(name: str, prompt: str, cast: Sequence[Subject]) -> str:
    """The words that stand for a subject in the prompt: its description without an article, or its name.

    Empty when neither stands there: the event is then steered in the whole picture.
    """
    described = next((subject.description for subject in cast if subject.name == name), name)
    bare = described.split(" ", 1)[1] if described.lower().startswith(("the ", "a ", "an ")) else described
    for words in (bare, name):
        at = prompt.lower().find(words.lower())
        if at >= 0:
            return prompt[at : at + len(words)]
    return ""


def take_seed(seed: int, shot: str, number: int) -> int:
    """The seed of a take: decided by the run's seed, the shot's label and the take's number alone."""
    digest = hashlib.sha256(f"{seed}/{shot}/{number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def around(take: int, first: int, end: int, frames: int) -> tuple[Kept, ...]:
    """Everything of a take but frames `first` to `end`."""
    before = (Kept(take=take, first=0, last=first, at=0),) if first > 0 else ()
    after = (Kept(take=take, first=end, last=frames, at=end),) if end < frames else ()
    return before + after


def window(start: float, end: float, frames: int, fps: int, step: int) -> tuple[int, int]:
    """Pixel frames of the smallest run of whole latent frames around `start` to `end`; never the very first one."""
    first = max(int(start * fps) - 1, 0) // step * step + 1
    last = -(-max(round(end * fps) - 1, 1) // step) * step + 1
    return first, min(last, frames)


def split_spec(spec: TakeSpec, after: int, look: Look) -> TakeSpec | None:
    """The take in two parts, the second with the events from index `after` on; None when the prompt cannot be cut."""
    if not 0 < after < len(spec.events):
        return None
    prompts = cut_prompt(spec.prompt, [e.phrase for e in spec.events], after)
    if prompts is None:
        return None
    limits = look.limits
    overlap = overlap_frames(limits)
    halves = []
    cut = min(max(spec.events[after].start * spec.fps / spec.frames, 0.1), 0.9)  # neither half is nothing
    for prompt, events, lead, part in (
        (prompts[0], spec.events[:after], spec.lead, (0.0, cut)),
        (prompts[1], spec.events[after:], overlap, (cut, 1.0)),
    ):
        frames = limits.frame_counts[0]
        room = (frames - lead) / limits.fps
        origin, length = events[0].start, events[-1].end - events[0].start
        timed = tuple(
            replace(
                e,
                start=round(lead / limits.fps + (e.start - origin) / length * room, 4),
                end=round(lead / limits.fps + (e.end - origin) / length * room, 4),
            )
            for e in events
        )
        moved = tuple(motion.part(*part) for motion in motions(spec.controls))
        controls = (*moved, *controls_for(len(events)))
        halves.append(replace(spec, prompt=prompt, frames=frames, events=timed, controls=controls, then=None))
    keeps = Kept(take=0, first=halves[0].frames - overlap, last=halves[0].frames, at=0)  # take 0: the first half itself
    second = replace(halves[1], kept=(keeps,), lead=0, picture=None, seed=take_seed(spec.seed, "then", 2))
    return replace(halves[0], then=second)
