"""Staging: which shots are filmed as one set, how a shot goes on from another, and what people are told of it.

The one place that decides, from the storyboard, the backend's limits and the person's wish alone: a resumed run decides
alike, and the storyboard can say it before anything is filmed. Films nothing and reads no archive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from agents.sources import Camera, OtherShot, read_source
from agents.storyboard import PlannedShot, Storyboard, Subject
from agents.takespec import TakeSpec, Together, clip_frames, overlap_frames, subject_words
from generators.clip import Extension, Limits
from generators.controls.config import ControlConfig

ANCHORS = 2
"""Shots of a set that everybody reads, as published."""
LONGEST_NAME = 40
"""Letters of a description that is said in full."""
MOST_LISTED = 8
"""Shots that are listed by number: every take keeps its sentence, which must not grow with the film."""
WAYS: dict[Extension, str] = {
    "tokens at zero": "by given latent frames (its last {frames}, as tokens at t = 0)",
    "diffusion forcing": "by diffusion forcing (its last {frames}, at a time of their own)",
    "conditions": "by the model's own conditions (its last {frames})",
    "last frame": "from its last frame, as the model's picture",
    "noised latents": "by noised latents held in the place of its last {frames}",
}
Members = tuple[tuple[int, ...], str]
"""Numbers of a set's shots, and the member of the cast that they share."""
NO_CONTROLS = "a sequence takes no controls"
HELD_BY_ITSELF = "only a window of it is filmed, alone: the frames around it keep the cast"


@dataclass(frozen=True, kw_only=True)
class Staged:
    """How one shot is filmed. `why` is a sentence for people; `members` are the set's shots, empty for a shot alone."""

    shot: int
    why: str
    members: tuple[int, ...] = ()
    subject: str = ""
    """The member of the cast that the set shares."""
    sequence: bool = False
    """Whether the set is filmed as one sequence, which takes no controls."""

    @property
    def anchors(self) -> tuple[int, ...]:
        """Shots of the set that everybody reads."""
        return self.members[:ANCHORS]


def stage_board(board: Storyboard, limits: Limits, *, sets: bool) -> tuple[Staged, ...]:
    """How every shot of a storyboard would be filmed."""
    return stage_shots(dict(enumerate(board.shots, 1)), board.cast, limits, sets=sets)


def said(board: Storyboard, limits: Limits, *, sets: bool) -> list[str]:
    """What is told of every shot of a storyboard before it is filmed."""
    return [staged.why for staged in stage_board(board, limits, sets=sets)]


def stage_shots(
    shots: dict[int, PlannedShot], cast: Sequence[Subject], limits: Limits, *, sets: bool
) -> tuple[Staged, ...]:
    """How every shot is filmed, by number. `sets` is the person's wish to film shots that share a cast as one."""
    going_on = {n for n, shot in shots.items() if shot.transition == "continues" and limits.extends}
    moving = {n for n, shot in shots.items() if shot.motion_from is not None}  # its queries are not its own
    told = {n for n, shot in shots.items() if shot.synopsis}  # its words are not the prompt's
    free = {n: shot for n, shot in shots.items() if n not in going_on | moving | told}
    together = _sets(free, cast, limits) if sets and limits.films_sets else {}
    playing: dict[str, list[int]] = {}
    for number, shot in free.items():
        for subject in dict.fromkeys(shot.subjects):
            playing.setdefault(subject, []).append(number)
    staged = []
    for number, shot in shots.items():
        if number in going_on:
            staged.append(Staged(shot=number, why=goes_on(number - 1, limits) + _moved(shot, ", with")))
        elif number in together:
            members, subject = together[number]
            way = "in one sequence" if limits.scenes else "as one set"
            why = f"filmed {way} with {_listed(members, but=number)}: share {_called(subject, cast)}"
            staged.append(
                Staged(shot=number, why=_cut(shot) + why, members=members, subject=subject, sequence=limits.scenes)
            )
        elif number in moving:
            staged.append(Staged(shot=number, why=_cut(shot) + "filmed alone" + _moved(shot, ": it has")))
        elif number in told:
            staged.append(Staged(shot=number, why=_cut(shot) + "filmed alone: its frames read a synopsis"))
        else:
            why = _alone(number, shot, playing, cast, limits, sets=sets)
            staged.append(Staged(shot=number, why=_cut(shot) + f"filmed alone: {why}"))
    return tuple(staged)


def first_staged(spec: TakeSpec, staged: Staged, cast: Sequence[Subject]) -> TakeSpec:
    """The first take of a shot as it is staged; a shot that meant to go on and has nothing to go on from says so."""
    if not staged.members:
        return replace(spec, staged=staged.why)
    words = subject_words(staged.subject, spec.prompt, cast)
    together = Together(shots=staged.members, anchors=staged.anchors, words=words)
    why = staged.why
    if staged.sequence and spec.controls:
        spec, why = replace(spec, controls=()), f"{why}; without {_named(spec.controls)}: {NO_CONTROLS}"
    return replace(spec, together=together, staged=why)


def again_staged(spec: TakeSpec, first: TakeSpec, remedy: str, cast: Sequence[Subject], staged: Staged) -> TakeSpec:
    """A later take: with the set's anchors where that is possible, else alone; it says which."""
    if remedy == "refilm":
        return replace(spec, together=None, staged=HELD_BY_ITSELF)
    if first.together is None:
        return replace(spec, staged=first.staged)
    if spec.then is not None:
        return replace(spec, together=None, staged="filmed in two parts, alone: the second goes on from the first")
    words = subject_words(staged.subject, spec.prompt, cast) if staged.subject else first.together.words
    if not words or words not in spec.prompt:
        return replace(spec, together=None, staged="filmed alone: its new words do not name what the set shares")
    if staged.sequence and spec.controls:
        return replace(spec, together=None, staged=f"filmed alone, with {_named(spec.controls)}: {NO_CONTROLS}")
    anchors = _listed(first.together.anchors)
    return replace(
        spec, together=replace(first.together, words=words), staged=f"filmed again with the set's anchors, {anchors}"
    )


def _named(controls: Sequence[ControlConfig]) -> str:
    return ", ".join(type(control).__name__ for control in controls)


def alone_after(spec: TakeSpec, error: str) -> TakeSpec:
    """The same take without its set, which could not be filmed."""
    return replace(spec, together=None, staged=f"filmed alone: the set could not be filmed ({error})")


def goes_on(before: int, limits: Limits, take: int | None = None) -> str:
    """How a shot goes on from the one before it: the best way that the model has."""
    frames = overlap_frames(limits)
    counted = "frame" if frames == 1 else f"{frames} frames"
    way = WAYS[limits.continues].format(frames=counted) if limits.continues else f"from its last {counted}"
    of = "" if take is None else f" (take {take})"
    return f"continues shot {before}{of} {way}"


def begins_with_a_cut(why: str) -> str:
    """What is said of a shot that meant to go on."""
    return f"begins with a cut, filmed alone: {why}"


def _sets(
    free: dict[int, PlannedShot], cast: Sequence[Subject], limits: Limits
) -> dict[int, tuple[tuple[int, ...], str]]:
    """Of every shot in a set, the set's shots and what they share: largest sets first, each shot in one."""
    found: dict[int, tuple[tuple[int, ...], str]] = {}
    while True:
        left = {n: shot for n, shot in free.items() if n not in found}
        groups: dict[tuple[str, int], list[int]] = {}
        for number, shot in left.items():
            for subject in dict.fromkeys(shot.subjects):
                if subject_words(subject, shot.prompt, cast):
                    groups.setdefault((subject, clip_frames(shot.seconds, limits)), []).append(number)
        best = max(groups, key=lambda key: len(groups[key]), default=None)
        if best is None or len(groups[best]) < 2:
            return found
        found |= dict.fromkeys(groups[best], (tuple(groups[best]), best[0]))


def _alone(
    number: int,
    shot: PlannedShot,
    playing: Mapping[str, Sequence[int]],
    cast: Sequence[Subject],
    limits: Limits,
    *,
    sets: bool,
) -> str:
    """Why a shot is in no set; `playing` are the shots that begin with a cut, by whom they show."""
    shared = [subject for subject in shot.subjects if len(playing[subject]) > 1]
    if not shared:
        return "shares its cast with no other shot that begins with a cut"
    shares = f"shares {_called(shared[0], cast)} with {_listed(playing[shared[0]], but=number)}"
    if not sets:
        return f"{shares}, and sets are off (--sets)"
    if not limits.films_sets:
        return f"{shares}, but this backend films no sets"
    if not any(subject_words(name, shot.prompt, cast) for name in shared):
        return f"{shares}, but its prompt does not name it"
    return f"{shares}, but none of them is left that has its length and names it"


def _moved(shot: PlannedShot, has: str) -> str:
    """Whose motion it has, where it has another's."""
    if shot.motion_from is None:
        return ""
    match read_source(shot.motion_from):
        case Camera(move):
            return f"{has} the motion of a camera ({move})"
        case OtherShot() as other:
            return f"{has} the motion of {other}"
        case _:
            return f"{has} the motion of a clip"


def _cut(shot: PlannedShot) -> str:
    return "begins with a cut, for this backend cannot go on from frames; " if shot.transition == "continues" else ""


def _listed(numbers: Sequence[int], but: int | None = None) -> str:
    count = len(numbers) - (but in numbers)
    first = [str(number) for number in numbers[: MOST_LISTED + 1] if number != but][:MOST_LISTED]
    more = f" and {count - MOST_LISTED} more" if count > MOST_LISTED else ""
    return f"shot{'s' if count > 1 else ''} {', '.join(first)}{more}"


def _called(subject: str, cast: Sequence[Subject]) -> str:
    described = next((known.description for known in cast if known.name == subject), subject)
    return described if len(described) <= LONGEST_NAME else subject
