"""What becomes of every sentence of a story: the acts that are filmed, and why the rest is not.

The planner's notes are made of this and of nothing else, when the storyboard stands. A sentence of which no act is
filmed is left out whole and named; there is no third way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby

from agents import lexicon
from agents.sentences import quoted

MOST_NAMED = 10
"""How many sentences or words one note names; it counts the rest."""


class Why(StrEnum):
    """Why a sentence, or a part of one, is not filmed. Where several are true, the first is told."""

    BUDGET = "there is no room left for it"
    COLOURS = "every colour is worn already, there is no puppet left for it"
    SPOKEN = "it is said, not done"
    UNDONE = "it does not happen, it is denied, asked or wished"
    NOBODY = "nobody does it whom a puppet could play"
    UNKNOWN = "no act in it that the world can show"
    STILL = "it only says how things are"


@dataclass(eq=False, kw_only=True)
class Actor:
    """Somebody in the story and the puppet that plays them; `notes` say in what they differ."""

    name: str
    noun: str
    kind: str
    hue: str | None = None
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Say it once."""
        if text not in self.notes:
            self.notes.append(text)


@dataclass(frozen=True, kw_only=True)
class Told:
    """In which of the story's words an act was told; what is filmed in their place is the act's."""

    text: str
    """Its part of the sentence."""
    verb: str
    thing: str = ""
    """Empty where the verb needs a thing and the story names none that the world has."""
    where: str = ""
    """Empty while the story has named no place."""
    whom: bool = True
    """Whether the story says who the other one is."""
    alone: bool = False
    """There is nobody to whom it could be done, so another act stands in."""


@dataclass(frozen=True, kw_only=True)
class Act:
    """Somebody does something, somewhere. Acts are equal that look the same, however they were told."""

    actor: Actor
    verb: str
    scene: tuple[str, str]
    """Place and time."""
    side: str | None = None
    prop: str | None = None
    other: Actor | None = None
    told: Told = field(compare=False)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a sentence, from `start` to `end` in its text.

    Without acts and without a reason it says who, where or when for what the other parts tell.
    """

    start: int
    end: int
    acts: tuple[Act, ...] = ()
    why: Why | None = None


class Fates:
    """The acts that are filmed, and all that is not with the reason."""

    def __init__(self) -> None:
        self.filmed: list[Act] = []
        self.lost: dict[Why, list[str]] = {why: [] for why in Why}
        """Sentences and parts of sentences, in the story's own words."""

    def settle(self, sentence: str, parts: Sequence[Part]) -> None:
        """Take in a sentence, in whose parts only those acts are left that are filmed."""
        filmed = [act for part in parts for act in part.acts]
        if not filmed:
            whys = [part.why for part in parts if part.why]
            self.lost[min(whys, key=list(Why).index, default=Why.STILL)].append(sentence)
            return
        self.filmed += filmed
        for why, run in groupby(parts, key=lambda part: part.why):
            if why is not None:
                first, *rest = run
                self.lost[why].append(sentence[first.start : [first, *rest][-1].end])

    @property
    def cast(self) -> list[Actor]:
        """Everybody who is in a shot, in order of appearance."""
        return list(dict.fromkeys(who for act in self.filmed for who in (act.actor, act.other) if who))

    def notes(self, named: Sequence[Actor], places: Mapping[str, str | None]) -> list[str]:
        """What is filmed otherwise than the story says it, then what is not filmed; as few lines as there are kinds.

        `named` is everybody the story names, `places` every word for a place with the place it is in the world.
        """
        absent = [actor.name for actor in named if actor not in self.cast]
        return [
            *(note for actor in self.cast for note in actor.notes),
            *self._swapped(),
            *_note("Places that no shot shows", self._unseen(places)),
            *_note("Characters that no shot shows", absent),
            *self.left_out(),
        ]

    def left_out(self, most: int = MOST_NAMED) -> list[str]:
        """What is not filmed, a line for every reason."""
        return [note for why, texts in self.lost.items() for note in _note(f"Not filmed, {why}", texts, most)]

    def _swapped(self) -> Iterator[str]:
        groups: dict[str, list[str]] = {}
        for act in self.filmed:
            for said, shown in _swaps(act):
                groups.setdefault(shown, []).append(said)
        for shown, words in groups.items():
            text = listed(words)
            yield f"{text[:1].upper()}{text[1:]} {'are' if len(set(words)) > 1 else 'is'} filmed as {shown}"

    def _unseen(self, places: Mapping[str, str | None]) -> list[str]:
        words = {act.told.where for act in self.filmed} - {""}
        shown = {act.scene[0] for act in self.filmed}
        meant = {word for word, place in places.items() if word in lexicon.own("places") and place in shown}
        return [word for word in places if word not in words | meant]


def listed(texts: Sequence[str], most: int = MOST_NAMED) -> str:
    """Texts one after the other, each once; of many the first, and how many more there are."""
    named = list(dict.fromkeys(texts))[:most]
    more = sum(text not in named for text in texts)
    if more:
        return f"{', '.join(named)} and {more} more"
    return " and ".join([*([", ".join(named[:-1])] if named[1:] else []), *named[-1:]])


def _note(what: str, texts: Sequence[str], most: int = MOST_NAMED) -> list[str]:
    return [f"{what}: {listed(list(map(quoted, texts)), most)}"] if texts else []


def _swaps(act: Act) -> Iterator[tuple[str, str]]:
    """What of an act is filmed as something else, both as a note says them."""
    told, verb = act.told, quoted(act.verb.replace("_", " "))
    if told.alone:
        yield f"{quoted(told.verb)} without anybody to do it to", verb
    elif told.verb not in lexicon.own("verbs"):
        yield quoted(told.verb), verb
    if act.other and not told.whom:
        yield f"the other one in {quoted(told.text)}", quoted(act.other.name)
    if act.prop and told.thing not in lexicon.own("props"):
        yield quoted(told.thing) if told.thing else f"the thing in {quoted(told.text)}", f"a {act.prop}"
    if told.where and told.where not in lexicon.own("places"):
        yield quoted(told.where), f"the {act.scene[0]}"
