"""What a person asks for: a story with its wishes and limits, checked before any work is done.

Stories are untrusted input: size, encoding and emptiness are looked at here. Knows nothing of models or rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypedDict

from agents.errors import UsageError

if TYPE_CHECKING:  # asking for help must not wait for pydantic and numpy
    from agents.storyboard import Storyboard

LONGEST_FILE = 10_000_000
"""Bytes; two hundred pages are half a million."""


@dataclass(frozen=True, kw_only=True)
class Caps:
    """Hard limits in the place of the profile's; None leaves the profile's. `takes` are a shot's, the rest a run's."""

    takes: int | None = None
    shots: int | None = None
    seconds: float | None = None
    tokens: int | None = None
    money: float | None = None
    calls: int | None = None

    def changes(self) -> dict[str, object]:
        """The limits that are set, as keys of a profile."""
        names = {"takes": "takes_per_shot"}
        return {f"budget.{names.get(n, n)}": value for n, value in vars(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Order:
    """One film as it is asked for. `story` is the text itself or a file; `from_plan` a storyboard in its place."""

    story: str | Path | None = None
    from_plan: Path | Storyboard | None = None
    profile: str | None = None
    """None: the studio's."""
    model: str | None = None
    seed: int = 0
    seconds: float | None = None
    size: tuple[int, int] | None = None
    steps: int | None = None
    """Denoising steps of a take; None: the profile's."""
    guidance: float | None = None
    """Scale of classifier-free guidance; 1 is none, as few-step adapters want it. None: the profile's."""
    first_frame: Path | None = None
    """A picture from which every shot that begins with a cut starts; None: the profile's, if it names one."""
    lora: tuple[str, ...] = ()
    """Adapters on top of the model, each `PATH` or `PATH@SCALE`; none: the profile's."""
    motion_from: tuple[str, ...] = ()
    """Whose motion shots have: `clip.mp4`, `shot 1`, `run 7 shot 2` or `camera pan left` for all, `2=…` for shot 2."""
    motion_share: float | None = None
    """Share of the denoising steps in which that motion is given; None: as published for the model's family."""
    style: str = ""
    out: Path | None = None
    """Folder of the film; None: the story's name under `films`."""
    films: Path | None = None
    """Where that folder is made; None: `films/` under the current folder."""
    name: str = ""
    """Names that folder in the story's place."""
    approve: bool = False
    """Stop after the storyboard, for a person to look at it."""
    sets: bool | None = None
    """Film shots that share a cast as one set; None: the profile's."""
    scenes: bool = False
    """Film sets as one sequence, for which the model was trained; implies `sets`."""
    attention: bool = False
    """Put into the report where the model looked."""
    budget: Caps = Caps()

    def __post_init__(self) -> None:
        if (self.story is None) == (self.from_plan is None):
            raise UsageError("Expected either a story or a storyboard (from_plan): one of them")
        for name, words in (("story", self.story), ("style", self.style), ("name", self.name)):
            if isinstance(words, str) and any("\ud800" <= letter <= "\udfff" for letter in words):
                raise UsageError(f"{name}: expected UTF-8 text, got bytes that are none; save or type it as UTF-8")
        if self.seconds is not None and not 0 < self.seconds <= 36_000:
            raise UsageError(f"seconds: expected more than 0 and at most 36000, got {self.seconds:g}")
        if self.size is not None and not all(16 <= side <= 8192 for side in self.size):
            raise UsageError(f"size: expected two numbers from 16 to 8192, got {self.size[0]}x{self.size[1]}")
        for name, listed in (("motion from", self.motion_from), ("lora", self.lora)):
            if isinstance(listed, str):
                raise UsageError(f"{name}: expected a tuple, got {listed!r}; write it as (…,)")
        motion_wishes(self.motion_from)
        if self.motion_share is not None and not 0 < self.motion_share <= 1:
            raise UsageError(f"motion share: expected more than 0 and at most 1, got {self.motion_share:g}")
        if self.scenes and self.sets is False:
            raise UsageError("scenes: expected sets too, for it says how sets are filmed; leave one of the two away")
        check_sampling(self.steps, self.guidance)


def check_sampling(steps: int | None, guidance: float | None) -> None:
    """Raise UsageError for what no one films with."""
    if steps is not None and not 1 <= steps <= 1000:
        raise UsageError(f"steps: expected 1 to 1000, got {steps}")
    if guidance is not None and not 0 <= guidance <= 100:
        raise UsageError(f"guidance: expected 0 to 100, got {guidance:g}")


class Wishes(TypedDict, total=False):
    """What may be said beside a story; see `Order`."""

    profile: str | None
    model: str | None
    seed: int
    seconds: float | None
    size: tuple[int, int] | None
    steps: int | None
    guidance: float | None
    first_frame: Path | None
    lora: tuple[str, ...]
    motion_from: tuple[str, ...]
    motion_share: float | None
    style: str
    out: Path | None
    films: Path | None
    name: str
    approve: bool
    sets: bool | None
    scenes: bool
    attention: bool
    budget: Caps


def order_of(story: str | Path | Order, wishes: Wishes) -> Order:
    """A story and what was said beside it, as one order. Raises UsageError."""
    return replace(story, **wishes) if isinstance(story, Order) else Order(story=story, **wishes)


def read_order(order: Order) -> tuple[str, Storyboard | None]:
    """The text that stands for the story, and the storyboard where one was given. Raises UsageError, PlanError."""
    if order.from_plan is None:
        return read_story(order.story or ""), None
    from agents.boardfile import board_text, read_board

    board = read_board(order.from_plan) if isinstance(order.from_plan, Path) else order.from_plan
    return board_text(board), board


def title_of(order: Order, board: Storyboard | None) -> str:
    """What to call the film's folder before anything is planned."""
    if order.name or board is not None:
        return order.name or (board.title if board else "")
    return order.story.stem if isinstance(order.story, Path) else " ".join(str(order.story).split()[:6])


def read_story(story: str | Path) -> str:
    """The story's text. Raises UsageError when the file cannot be read, is no text, or nothing is written in it."""
    if isinstance(story, Path) and story.suffix.lower() in (".yaml", ".yml", ".jsonl", ".json"):
        raise UsageError(
            f"{story} is no story by its name: film a batch with `batch {story}`, a storyboard with --from-plan {story}"
        )
    text = read_text(story, "story") if isinstance(story, Path) else story
    if not text.strip():
        where = f"{story} is empty" if isinstance(story, Path) else "The story is empty"
        raise UsageError(f"{where}: expected a few sentences, such as 'A red fox jumps high up in the meadow.'")
    return text


def read_bytes(path: Path, what: str, *, most: int) -> bytes:
    """A file's bytes. Raises UsageError naming it, before more than `most` are read."""
    try:
        with path.open("rb") as file:
            return _at_most(most, file, f"The {what} {path}", "scale it down")
    except OSError as error:
        raise UsageError(f"The {what} {path} cannot be read: {error.strerror or error}") from error


def read_text(path: Path, what: str) -> str:
    """A text file, whatever its line ends and byte order mark. Raises UsageError naming it."""
    try:
        with path.open("rb") as file:
            return _decoded(_at_most(LONGEST_FILE, file, f"The {what} {path}", "film it in parts"), str(path))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"The {what} {path} cannot be read: {reason}; expected a text file") from error


def read_stream(stream: BinaryIO, source: str) -> str:
    """The text that a stream gives until it ends. Raises UsageError naming its source."""
    return _decoded(_at_most(LONGEST_FILE, stream, source, "film it in parts"), source)


def _at_most(most: int, stream: BinaryIO, what: str, remedy: str) -> bytes:
    """All of it; devices and pipes do not say how long they are."""
    data = stream.read(most + 1)
    if len(data) > most:
        raise UsageError(f"{what} is larger than {most // 1_000_000} MB; {remedy}")
    return data


def _decoded(data: bytes, source: str) -> str:
    """UTF-8 text. Raises UsageError naming its source."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{source} is no UTF-8 text (byte {error.start}); save it as UTF-8 text and try again"
        ) from error
    return text.replace("\r\n", "\n")


def size_of(size: str | None) -> tuple[int, int] | None:
    """`832x480` as two numbers. Raises UsageError."""
    if size is None:
        return None
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size.lower())
    if match is None:
        raise UsageError(f"size: expected WIDTHxHEIGHT such as 832x480, got {size!r}")
    return int(match[1]), int(match[2])


def counts_of(text: str) -> tuple[int, ...]:
    """`32,100` as numbers, each at least 1. Raises UsageError."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"Expected counts such as 32,100,1000, got {text!r}")
    return tuple(int(part) for part in parts)


def motion_wishes(named: Sequence[str]) -> dict[int, str]:
    """`2=clip.mp4` as a shot's number and its source; 0 for a source without a number. Raises UsageError."""
    wishes: dict[int, str] = {}
    for text in named:
        match = re.fullmatch(r"(?:([1-9]\d{0,5})=)?(.*\S.*)", text.strip(), re.DOTALL)
        if match is None:
            raise UsageError(f"motion from: expected SOURCE or N=SOURCE such as 2=clip.mp4, got {text!r}")
        number = int(match[1] or 0)
        if number in wishes:
            whose = f"shot {number}" if number else "all shots"
            raise UsageError(f"motion from: {whose} can have one source, got {wishes[number]!r} and {match[2]!r}")
        wishes[number] = match[2].strip()
    return wishes
