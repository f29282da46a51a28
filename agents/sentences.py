"""Reads English sentences for who does what, where and when, as far as word tables reach.

No grammar theory: a clause has creatures, one or more acting verbs and what stands around them. What it understood
becomes `Act`s in the world's words; what it did not, a note with the story's own words.
"""

# ruff: noqa: SIM905 (word lists read better as text)

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from agents import lexicon
from generators.world.words import KINDS, SIDES, VERBS

_TOKEN = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|[,;:–—]")
_NAMED = re.compile(r"\b([a-z]+)\s*,?\s+(?:is |was )?(?:named|called)\s+([A-Z][\w'-]*)")
_NAME_IS = re.compile(r"\b([A-Z][\w'-]*)\s*,?\s+(?:(?:is|was)\s+)?(?:the|a|an)\s+((?:[a-z'-]+\s+){0,3}?)([a-z]+)\b")
_JOINER = re.compile(r"^(?:And then|After that|Then|Next|Afterwards|Finally),?\s+")
_SCENE = re.compile(r"^(?:In|On|At|By|Under|Inside)\b[^,.]*,")
_OUTSIDE = frozenset("with for from of behind beside under like without about".split())
_TOWARD = frozenset("to into toward towards onto".split())
_AUXILIARY = frozenset(
    "is was are were be been being has had have does did do can could may might must shall should will would to then "
    "also just again always often now there still even soon once both quickly slowly".split()
)
_NO_CREATURE = frozenset(
    "time day night story end way thing one something everything nothing way place home sky world air ground wind rain "
    "light life name friendships idea heart eye eyes hand hands voice word words sound noise everyone everybody nobody "
    "years year morning evening weather cloud clouds flower flowers leaf leaves door window snow moment while lot i "
    "you we if because although though not no how why where what this these those".split()
)


@dataclass(eq=False, kw_only=True)
class Actor:
    """Somebody in the story and the puppet that plays them."""

    name: str
    noun: str
    kind: str
    hue: str | None = None


@dataclass(frozen=True, kw_only=True)
class Act:
    """Somebody does something, somewhere."""

    actor: Actor
    verb: str
    scene: tuple[str, str]
    """Place and time."""
    side: str | None = None
    prop: str | None = None
    other: Actor | None = None


@dataclass(frozen=True, kw_only=True)
class _Verb:
    """A verb found in a clause: its base form, what it means in the world if anything, where it ends."""

    at: int
    end: int
    base: str
    verb: str | None


@dataclass(kw_only=True)
class _Clause:
    words: list[str]
    cased: list[str]
    mentions: dict[int, Actor] = field(default_factory=dict)
    verbs: list[_Verb] = field(default_factory=list)


def split_sentences(text: str) -> list[str]:
    """Sentences of a text, without quotation marks and headings' marks; never empty strings."""
    text = re.sub(r"[\"“”„«»*_#>|]", " ", text)
    parts = re.split(r"(?<=[.!?…。！？])\s+|\n\s*\n|\n(?=\s*[-•\d])", text)
    return [part.strip() for part in parts if re.search(r"\w", part)]


def quoted(text: str) -> str:
    """The story's own words in a note: one line in quotation marks, a long one cut."""
    flat = re.sub(r"\s+", " ", text).strip()
    return repr(flat if len(flat) <= 80 else flat[:77] + "…")


def cut_prompt(prompt: str, phrases: Sequence[str], after: int) -> tuple[str, str] | None:
    """A prompt as two, the second with the phrases from index `after` on; None when a sentence holds both.

    The opening of a scene (`In the meadow by day,`) and sentences without any phrase stand in both.
    """
    sentences = re.split(r"(?<=[.!?])\s+", prompt.strip())
    first, second = [], []
    for sentence in sentences:
        early = any(phrase in sentence for phrase in phrases[:after])
        late = any(phrase in sentence for phrase in phrases[after:])
        if early and late:
            return None
        if not late:
            first.append(sentence)
        if not early:
            second.append(_JOINER.sub("", sentence))
    scene = _SCENE.match(sentences[0])
    if scene and sentences[0] not in second and second:
        second[0] = f"{scene[0]} {second[0][:1].lower()}{second[0][1:]}"
    halves = " ".join(first), " ".join(s[:1].upper() + s[1:] for s in second)
    whole = all(p in halves[0] for p in phrases[:after]) and all(p in halves[1] for p in phrases[after:])
    return halves if whole else None


class Reader:
    """Reads a story sentence by sentence and remembers who is who, where everybody is and who acted last."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes
        self.cast: list[Actor] = []
        self.place, self.time = "meadow", "day"
        self.last: list[Actor] = []
        """Who acted last; pronouns and clauses without a subject mean them."""
        self.seen: list[Actor] = []
        """Everybody named so far, the latest last, with repeats."""
        self.turns: Counter[str] = Counter()

    def read(self, sentence: str) -> list[Act]:
        """What happens in the sentence, in order; what cannot be shown goes into the notes."""
        self._names(sentence)
        said = len(self.notes)
        later: str | None = None
        acts: list[Act] = []
        pending: list[Actor] = []
        scene_only = False
        for clause in self._clauses(sentence):
            here, there = self._scene(clause.words)
            scene_only |= bool(here or there)
            later = there or later
            if not clause.verbs:
                pending = self._pending(clause, pending)
                continue
            found = self._acts(clause, pending, bool(acts))
            if not found and len(clause.words) > 2 and not here:
                self._cannot(clause.cased)
            acts += found
            pending = [] if found else pending
        self.place = later or self.place
        if not acts and not scene_only and len(self.notes) == said:
            self._cannot([sentence])
        return acts

    def _names(self, sentence: str) -> None:
        """`a fox named Pim`, `Pim the fox`, `Pim was a small fox`: the name from then on."""
        for match in _NAMED.finditer(sentence):
            self._name(match[2], match[1], "")
        for match in _NAME_IS.finditer(sentence):
            self._name(match[1], match[3], match[2])

    def _name(self, name: str, noun: str, before: str) -> None:
        word = name.lower()
        if noun not in lexicon.kinds() or _known(word) or any(actor.name == name for actor in self.cast):
            return
        hue = next((lexicon.flat("hues")[w] for w in before.split() if w in lexicon.flat("hues")), None)
        self._new(name, noun, hue)

    def _new(self, name: str, noun: str, hue: str | None) -> Actor:
        kind, stands_in = lexicon.kinds()[noun]
        actor = Actor(name=self._unused(name), noun=noun, kind=kind, hue=hue)
        self.cast.append(actor)
        if stands_in:
            self.notes.append(f"There is no {noun} in the puppet world: a {kind} plays {actor.name!r}")
        return actor

    def _unused(self, name: str) -> str:
        names = {actor.name for actor in self.cast}
        return next(n for n in (name, *(f"{name} {i}" for i in range(2, len(names) + 3))) if n not in names)

    def _clauses(self, sentence: str) -> list[_Clause]:
        cased = [word.replace("’", "'") for word in _TOKEN.findall(sentence)]
        parts: list[list[str]] = [[]]
        for before, word in zip(["", *cased], cased, strict=False):
            if word in ",;:–—" or (word.lower() in lexicon.JOINERS and not _goes_on(before, word)):
                parts.append([])
            else:
                parts[-1].append(word)
        clauses = [_Clause(words=[w.lower() for w in part], cased=part) for part in parts if part]
        for clause in clauses:
            clause.mentions = self._mentions(clause)
            clause.verbs = _verbs(clause)
            self._strangers(clause)
            self.seen += clause.mentions.values()
        return clauses

    def _mentions(self, clause: _Clause) -> dict[int, Actor]:
        found: dict[int, Actor] = {}
        by_name = self._proper_names()
        for index, word in enumerate(clause.words):
            word = word.removesuffix("'s")
            if word in by_name and (clause.cased[index][0].isupper() or by_name[word].name == word):
                found[index] = by_name[word]
            elif word in lexicon.kinds() and not _as_verb(clause.words, index):
                found[index] = self._creature(clause.words, index, word)
                by_name = self._proper_names()
        return {i: a for i, a in found.items() if not (i + 1 in found and found[i + 1] is a)}

    def _proper_names(self) -> dict[str, Actor]:
        return {actor.name.lower(): actor for actor in self.cast if actor.name not in lexicon.kinds()}

    def _creature(self, words: Sequence[str], index: int, word: str) -> Actor:
        """The actor a noun means: somebody known, or somebody new."""
        noun = lexicon.singulars().get(word, word)
        before = _described(words, index)
        hue = next((lexicon.flat("hues")[w] for w in reversed(before) if w in lexicon.flat("hues")), None)
        if hue is None and any(w in lexicon.FOREIGN_HUES for w in before):
            self.notes.append(f"No puppet is {next(w for w in before if w in lexicon.FOREIGN_HUES)}: {noun!r} is not")
        same = [actor for actor in self.cast if actor.noun == noun]
        if not any(w in lexicon.ANOTHER for w in before):
            for actor in reversed(same):
                if hue is None or actor.hue in (None, hue):
                    actor.hue = actor.hue or hue
                    return actor
        if noun != word:
            self.notes.append(f"One puppet plays all {word!r}")
        return self._new(f"{hue} {noun}" if same and hue else noun, noun, hue)

    def _strangers(self, clause: _Clause) -> None:
        """`the blorf jumps`, `Oro spins`: somebody nobody has described, told by a verb of ours behind the word."""
        for verb in clause.verbs:
            if verb.verb is None:
                continue
            index = verb.at - 1
            while index >= 0 and (clause.words[index] in _AUXILIARY or clause.words[index].endswith("ly")):
                index -= 1
            taken = index in clause.mentions or any(v.at <= index < v.end for v in clause.verbs)  # `lies down to sleep`
            if index < 0 or taken or not self._may_be_somebody(clause, index):
                continue
            word, cased = clause.words[index], clause.cased[index]
            kind = min(KINDS, key=lambda k: (sum(actor.kind == k for actor in self.cast), k != "child"))
            name = cased if cased[0].isupper() else word
            actor = next((a for a in self.cast if a.name == name), None)
            if actor is None:
                actor = Actor(name=name, noun=word, kind=kind)
                self.cast.append(actor)
                self.notes.append(f"The rules do not know what {name!r} is: a {kind} plays it")
            clause.mentions[index] = actor

    def _may_be_somebody(self, clause: _Clause, index: int) -> bool:
        word, cased = clause.words[index], clause.cased[index]
        if _known(word) or word in _NO_CREATURE or not word.isascii() or len(word) < 2:
            return False
        determined = any(w in lexicon.DETERMINERS for w in clause.words[max(0, index - 3) : index])
        return determined or (cased[0].isupper() and cased[1:].islower())

    def _scene(self, words: Sequence[str]) -> tuple[str | None, str | None]:
        """Place of this clause and the place it leads to; sets where and when the reader is."""
        here = there = None
        for index, word in enumerate(words):
            time = lexicon.flat("times").get(word)
            self.time = time or self.time
            place = lexicon.flat("places").get(word)
            if place is None or _as_verb(words, index):
                here = here or time
                continue
            if any(w in _TOWARD for w in words[max(0, index - 3) : index]):
                there = place
            else:
                here, self.place = place, place
        return here, there

    def _pending(self, clause: _Clause, pending: list[Actor]) -> list[Actor]:
        """Creatures of a clause without a verb wait for the next one's: `the fox and the cat dance`."""
        if clause.words[0] in _OUTSIDE:
            return pending
        return [*pending, *(actor for actor in clause.mentions.values() if actor not in pending)]

    def _acts(self, clause: _Clause, pending: list[Actor], going_on: bool) -> list[Act]:
        acts: list[Act] = []
        since = 0
        for number, verb in enumerate(clause.verbs):
            until = clause.verbs[number + 1].at if number + 1 < len(clause.verbs) else len(clause.words)
            subjects = self._subjects(clause, verb, since, pending, going_on or bool(acts))
            since = verb.end if verb.verb else since
            if verb.verb is None:  # `said Mia`: who speaks may stand behind
                said = [a for i, a in clause.mentions.items() if i < verb.at] or [*clause.mentions.values()]
                self.last = said[:1] or subjects or self.last
                continue
            if any(w in lexicon.NEGATIONS or w.endswith("n't") for w in clause.words[max(0, verb.at - 3) : verb.at]):
                continue
            if not subjects:
                continue
            for subject in subjects[:2]:
                act = self._act(clause, verb, subject, until)
                if act is not None and not any(act == earlier for earlier in acts):
                    acts.append(act)
            self.last = subjects
        return acts

    def _subjects(self, clause: _Clause, verb: _Verb, since: int, pending: list[Actor], going_on: bool) -> list[Actor]:
        before = [(i, actor) for i, actor in clause.mentions.items() if since <= i < verb.at]
        said = [actor for i, actor in before if i == 0 or clause.words[i - 1] not in _OUTSIDE | _TOWARD]
        if said:
            return [*(a for a in pending if a is not said[0]), said[0]] if since == 0 else [said[0]]
        words = clause.words[since : verb.at]
        if any(w in lexicon.PLURAL_PRONOUNS for w in words):
            return pending or self._pair()
        if any(w in lexicon.PRONOUNS for w in words):
            return pending or self._meant("it" in words)
        if self._lifeless(words):
            return []
        return pending or (self.last if going_on or since else self.last[:1])

    def _lifeless(self, words: Sequence[str]) -> bool:
        """`the sun rises`, `the ball rolls`: the subject is no character."""
        tables = [lexicon.flat(table) for table in ("places", "times", "props")]
        nouns = [w for i, w in enumerate(words) if any(w in t for t in tables) or w in _NO_CREATURE]
        return (
            bool(nouns) and bool(words) and not any(w in _OUTSIDE | _TOWARD | {"in", "on", "at", "one"} for w in words)
        )

    def _meant(self, thing: bool) -> list[Actor]:
        """Whom a pronoun means: who acted last; `it` rather somebody who is no child."""
        beasts = [a for a in (*self.last, *reversed(self.seen)) if a.kind != "child"] if thing else []
        return (beasts or self.last)[:1]

    def _pair(self) -> list[Actor]:
        recent = [*self.last, *reversed(self.cast)]
        return list(dict.fromkeys(recent))[:2]

    def _act(self, clause: _Clause, verb: _Verb, subject: Actor, until: int) -> Act | None:
        """One act with what its verb needs; another verb, or None, where the story lacks it."""
        after = range(verb.end, until)
        other = next((clause.mentions[i] for i in after if i in clause.mentions), None)
        if other is None and any(clause.words[i] in lexicon.PRONOUNS for i in after):
            other = next((a for a in [*self.last, *reversed(self.cast)] if a is not subject), None)
        other = None if other is subject else other
        name = str(verb.verb)
        if other is not None and self._passive(clause, verb):
            subject, other = other, subject
        words = clause.words[verb.end : until]
        prop = next((lexicon.flat("props")[w] for w in words if w in lexicon.flat("props")), None)
        if name == "walk" and other and any(w in _TOWARD for w in words):
            name = "approach"
        if name == "jump" and other and "over" in words:
            name = "hop_over"
        if VERBS[name].slot == "other" and other is None:
            other = self._company(subject)
            if other is None:
                name = "walk" if name != "hop_over" else "jump"
                self.notes.append(f"Shown as {name!r}, nobody else is there: {quoted(' '.join(clause.cased))}")
        if VERBS[name].slot == "prop" and prop is None:
            if verb.base in lexicon.NEEDS_OBJECT and verb.base not in ("lift", "push"):
                self._cannot(clause.cased)
                return None
            prop = "box"
            self.notes.append(f"A box stands for the thing in {quoted(' '.join(clause.cased))}")
        slot = VERBS[name].slot
        return Act(
            actor=subject,
            verb=name,
            scene=(self.place, self.time),
            side=(_side(clause.words[verb.at : until]) or self._turn(subject, name)) if slot == "side" else None,
            prop=prop if slot == "prop" else None,
            other=other if slot == "other" else None,
        )

    def _passive(self, clause: _Clause, verb: _Verb) -> bool:
        """`is chased by the rabbit`."""
        before = lexicon.bases().get(clause.words[verb.at - 1]) if verb.at else None
        return before == "be" and "by" in clause.words[verb.end : verb.end + 2]

    def _company(self, subject: Actor) -> Actor | None:
        return next((a for a in [*self.last, *reversed(self.cast)] if a is not subject), None)

    def _turn(self, actor: Actor, verb: str) -> str:
        """Sides by turns, so that nobody walks out of the picture."""
        self.turns[actor.name] += 1
        return SIDES[(self.turns[actor.name] + (verb == "enter")) % 2]

    def _cannot(self, words: Sequence[str]) -> None:
        self.notes.append(f"Not shown, no act in it that the world knows: {quoted(' '.join(words))}")


def _verbs(clause: _Clause) -> list[_Verb]:
    found: list[_Verb] = []
    words = clause.words
    for index, word in enumerate(words):
        base = lexicon.bases().get(word)
        if base is None or index in clause.mentions or (found and index < found[-1].end) or not _as_verb(words, index):
            continue
        verb, length = _meaning(words, index, base)
        found.append(_Verb(at=index, end=index + length, base=base, verb=verb))
    light = [v for v, n in zip(found, found[1:], strict=False) if v.base in lexicon.LIGHT_VERBS and n.at - v.at <= 3]
    found = [v for v in found if v not in light]  # `takes a walk`, `starts to dance`: the other verb carries the act
    return [v for v in found if v.verb] or found


def _meaning(words: Sequence[str], index: int, base: str) -> tuple[str | None, int]:
    """The world verb of the verb at `index`, with how many words it takes."""
    for follows, verb in lexicon.phrasals().get(base, []):
        for skip in range(3 if verb == "lift" else 2):
            at = index + 1 + skip
            if tuple(words[at : at + len(follows)]) == follows:
                return verb, 1 if skip else 1 + len(follows)
    return lexicon.verbs().get(base), 1


def _goes_on(before: str, word: str) -> bool:
    """Whether a joining word belongs to the verb before it: `runs after`."""
    follows = lexicon.phrasals().get(lexicon.bases().get(before.lower(), ""), [])
    return any(words[0] == word.lower() for words, _ in follows)


def _as_verb(words: Sequence[str], index: int) -> bool:
    """Whether the word at `index` can be a verb here, by the word before it: not `a walk`, not `to the left`."""
    word = words[index]
    if word not in lexicon.bases():
        return False
    before = words[index - 1] if index else ""
    noun = any(word in lexicon.flat(table) for table in ("hues", "props", "places"))
    if noun and before in lexicon.DETERMINERS | _OUTSIDE | _TOWARD | {"in", "on", "at", "by", ""}:
        return False
    if (
        before in lexicon.DETERMINERS
        or before.endswith("'s")
        or before in {"far", "in", "on", "at", "by", "of", "from"}
    ):
        light = {lexicon.bases().get(w) for w in words[max(0, index - 4) : index - 1]}
        return bool(light & lexicon.LIGHT_VERBS) and word not in SIDES
    return True


def _side(words: Sequence[str]) -> str | None:
    """The side named behind the verb; `from the left` and `to the left` alike, `right away` not."""
    for index, word in enumerate(words):
        before = words[index - 1] if index else ""
        if word in SIDES and before in {"the", "to", "from", "far", "its", "his", "her"}:
            return word
    return None


def _described(words: Sequence[str], index: int) -> Sequence[str]:
    """Up to four words before a noun that are still about it: back to its article, not past another creature."""
    first = index
    while first > max(0, index - 4) and words[first - 1] not in lexicon.kinds():
        first -= 1
        if words[first] in lexicon.DETERMINERS:
            break
    return words[first:index]


def _known(word: str) -> bool:
    tables = ("hues", "places", "times", "props")
    return (
        word in lexicon.kinds()
        or word in lexicon.bases()
        or word in lexicon.PRONOUNS | lexicon.DETERMINERS | lexicon.JOINERS | _AUXILIARY | _OUTSIDE | _TOWARD
        or any(word in lexicon.flat(table) for table in tables)
    )
