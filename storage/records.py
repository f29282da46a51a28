"""Plain values that go into and come out of the archive, where a row alone is not enough."""

from __future__ import annotations

from dataclasses import dataclass

from storage.tables import CallStatus, Event, Film, ModelCall, Remedy, Run, Shot, Take, Verdict


@dataclass(frozen=True, kw_only=True)
class EventPlan:
    """An event as it is to be filmed: `start` and `end` in seconds from the shot's start."""

    subject: str
    phrase: str
    start: float
    end: float


@dataclass(frozen=True, kw_only=True)
class ShotPlan:
    """One revision of a shot as it is to be kept. Events are numbered 1, 2, … in this order, for ever."""

    prompt: str
    seconds: float
    events: tuple[EventPlan, ...] = ()
    subjects: tuple[str, ...] = ()
    place: str | None = None
    camera: str = "static"
    transition: str = "cut"
    motion_from: str | None = None
    """Whose motion it has: `shot N`, `sha256:…` of a kept clip or a take, or a camera's move; None: its own."""
    synopsis: tuple[str, ...] = ()
    """Its states in order, a sentence each; empty where its frames read the prompt."""


@dataclass(frozen=True, kw_only=True)
class ShotRecord:
    """A shot as it stands: its newest revision, how its events are filmed now, and what was first promised."""

    shot: Shot
    events: tuple[Event, ...]
    first: Shot
    """Revision 1: what the story was first told with."""
    promised: tuple[Event, ...]
    """The events of revision 1, in the same order as `events`: what verdicts judge (law 5)."""

    @property
    def label(self) -> str:
        """What a person calls it: its number, and its part where it has one (docs/decisions/0022)."""
        return f"{self.shot.number}{self.shot.part}"

    @property
    def plan(self) -> ShotPlan:
        """This revision as a plan, to change and hand to `revise_shot`."""
        shot = self.shot
        return ShotPlan(
            prompt=shot.prompt,
            seconds=shot.seconds,
            events=tuple(EventPlan(subject=e.subject, phrase=e.phrase, start=e.start, end=e.end) for e in self.events),
            subjects=tuple(shot.subjects),
            place=shot.place,
            camera=shot.camera,
            transition=shot.transition,
            motion_from=shot.motion_from,
            synopsis=tuple(shot.synopsis),
        )


@dataclass(frozen=True, kw_only=True)
class TakeRecord:
    """A take with the revision it films, what the critic saw in it, and what was changed after it."""

    take: Take
    shot: Shot
    verdict: Verdict | None
    remedy: Remedy | None

    @property
    def label(self) -> str:
        """The label of the shot it belongs to."""
        return f"{self.shot.number}{self.shot.part}"

    @property
    def rank(self) -> tuple[int, float, float, int]:
        """The better of two takes has the larger one: events seen, identity, quality; of equals the earlier wins.

        A take that nobody judged comes last, and of several the newest first: a person asked for it.
        """
        if self.verdict is None:
            return -1, 0.0, 0.0, self.take.number
        seen = sum(bool(event["done"]) for event in self.verdict.events)
        return seen, self.verdict.identity, self.verdict.quality, -self.take.number


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What a run has used so far."""

    seconds: float
    calls: int
    unknown_calls: int
    """Calls whose answer never came: they may have been paid, and count at the most they can have come to."""
    tokens_in: int
    tokens_out: int
    money: float

    def since(self, before: Costs) -> Costs:
        """What was used after `before` was."""
        return Costs(**{name: used - getattr(before, name) for name, used in vars(self).items()})


NOTHING = Costs(seconds=0.0, calls=0, unknown_calls=0, tokens_in=0, tokens_out=0, money=0.0)


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """Everything kept of one run."""

    run: Run
    story: str
    shots: tuple[ShotRecord, ...]
    takes: tuple[TakeRecord, ...]
    """Of all revisions, by shot and then in the order they were filmed."""
    calls: tuple[ModelCall, ...]
    film: Film | None

    @property
    def costs(self) -> Costs:
        """Sums over the run and its calls; see `Calls.costs`."""
        settled = [call for call in self.calls if call.status != CallStatus.SENT]
        return Costs(
            seconds=self.run.seconds_spent,
            calls=len(self.calls),
            unknown_calls=sum(call.status == CallStatus.UNKNOWN for call in self.calls),
            tokens_in=sum(call.tokens_in for call in settled),
            tokens_out=sum(call.tokens_out for call in settled),
            money=sum(call.cost for call in settled),
        )
