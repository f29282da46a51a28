"""Reads English sentences for who does what, where and when, as far as word tables reach.

No grammar theory: a clause has creatures, one or more acting verbs and what stands around them. Every part of a
sentence comes back, with what happens in it in the world's words, or with why nothing of it can be shown.
"""

# ruff: noqa: SIM905 (word lists read better as text)

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile

from agents import lexicon
from agents.clauses import (
    AUXILIARY,
    NO_CREATURE,
    OUTSIDE,
    TOWARD,
    Clause,
    Verb,
    as_verb,
    clauses_of,
    described,
    known,
    passive,
    side_of,
    small,
    verbs_of,
)
from agents.fates import Act, Actor, Part, Told, Why
from agents.sentences import Sentence
from generators.world.words import KINDS, SIDES, VERBS

_NAMED = re.compile(r"\b([a-z]+)\s*,?\s+(?:is |was )?(?:named|called)\s+([A-Z][\w'-]*)")
_NAME_IS = re.compile(r"\b([A-Z][\w'-]*)\s*,?\s+(?:(?:is|was)\s+)?(?:the|a|an)\s+((?:[a-z'-]+\s+){0,3}[a-z'-]+)\b")
_TITLED = re.compile(r"\b([A-Za-z]+)(?=\s+([A-Z][\w'-]*))")
_ON = frozenset("on onto to from toward towards".split())
_AT = frozenset("in on at by during for after before".split())
_WITHIN = frozenset("in inside into at through across".split())
_THAT = frozenset("the this that his her its their my our your".split())
_BEING = frozenset("be have become stand".split())
_COMING = frozenset("come fall rise set arrive".split())


class Reader:
    """Reads a story sentence by sentence and remembers who is who, where everybody is and who acted last."""

    def __init__(self) -> None:
        self.cast: list[Actor] = []
        """Everybody the story names; only some of them ever act."""
        self.places: dict[str, str | None] = {}
        """Every word for a place and the place it is in the world; None where there is none like it."""
        self.place, self.where, self.time = "meadow", "", "day"
        self.last: list[Actor] = []
        """Who acted last; pronouns and clauses without a subject mean them."""
        self.seen: list[Actor] = []
        """Everybody named so far, the latest last, with repeats."""
        self.turns: Counter[str] = Counter()

    def read(self, sentence: Sentence) -> list[Part]:
        """The sentence in parts, in order: what happens in each, or why nothing of it can be shown."""
        if sentence.spoken or sentence.text.endswith("?"):
            return [Part(start=0, end=len(sentence.text), why=Why.SPOKEN if sentence.spoken else Why.UNDONE)]
        self._names(sentence.text)
        later: tuple[str, str] | None = None
        pending: list[Actor] = []
        parts: list[Part] = []
        clauses = self._clauses(sentence.text)
        for number, clause in enumerate(clauses):
            later = self._scene(clause.words) or later
            if clause.verbs:
                begun = any(part.acts for part in parts)
                acts, why = self._acts(clause, pending or _leading(clauses[number:], begun), begun)
                pending = [] if acts else pending
            else:
                pending = self._pending(clause, pending)
                acts, why = [], _silence(clause)
            parts.append(Part(start=clause.start, end=clause.end, acts=tuple(acts), why=why))
        if later:
            self.place, self.where = later
        return parts

    def _names(self, text: str) -> None:
        """`a fox named Pim`, `Captain Nora`, `Pim the fox`, `Pim was a small fox`: the name from then on."""
        for match in _NAMED.finditer(text):
            self._name(match[2], match[1], "")
        for match in _TITLED.finditer(text):
            self._name(match[2], match[1].lower(), "")
        for match in _NAME_IS.finditer(text):
            words = match[2].split()
            before = list(takewhile(lambda word: word in lexicon.flat("hues") or not known(word), words))
            noun = next(iter(words[len(before) :]), "")
            self._name(match[1], noun, " ".join(before))

    def _name(self, name: str, noun: str, before: str) -> None:
        word = name.lower()
        taken = known(word) or word in NO_CREATURE or any(actor.name == name for actor in self.cast)
        if noun not in lexicon.kinds() or taken:
            return
        hue = next((lexicon.flat("hues")[w] for w in before.split() if w in lexicon.flat("hues")), None)
        self._new(name, noun, hue)

    def _new(self, name: str, noun: str, hue: str | None) -> Actor:
        kind, stands_in = lexicon.kinds()[noun]
        actor = Actor(name=self._unused(name), noun=noun, kind=kind, hue=hue)
        self.cast.append(actor)
        if stands_in:
            actor.note(f"There is no {noun} in the puppet world: a {kind} plays {actor.name!r}")
        return actor

    def _unused(self, name: str) -> str:
        names = {actor.name for actor in self.cast}
        return next(n for n in (name, *(f"{name} {i}" for i in range(2, len(names) + 3))) if n not in names)

    def _clauses(self, text: str) -> list[Clause]:
        clauses = clauses_of(text)
        for clause in clauses:
            clause.mentions = self._mentions(clause)
            clause.verbs = verbs_of(clause)
            self._strangers(clause)
            self.seen += clause.mentions.values()
        return clauses

    def _mentions(self, clause: Clause) -> dict[int, Actor]:
        found: dict[int, Actor] = {}
        by_name = self._proper_names()
        for index, word in enumerate(clause.words):
            word = word.removesuffix("'s")
            if word in by_name and (clause.cased[index][0].isupper() or by_name[word].name == word):
                found[index] = by_name[word]
            elif word in lexicon.kinds() and not as_verb(clause.words, index):
                found[index] = self._creature(clause.words, index, word)
                by_name = self._proper_names()
        return {i: a for i, a in found.items() if not (i + 1 in found and found[i + 1] is a)}

    def _proper_names(self) -> dict[str, Actor]:
        return {actor.name.lower(): actor for actor in self.cast if actor.name not in lexicon.kinds()}

    def _creature(self, words: Sequence[str], index: int, word: str) -> Actor:
        """The actor a noun means: somebody known, or somebody new."""
        noun = lexicon.singulars().get(word, word)
        before = described(words, index)
        hue = next((lexicon.flat("hues")[w] for w in reversed(before) if w in lexicon.flat("hues")), None)
        actor = self._known_as(noun, hue, another=any(w in lexicon.ANOTHER for w in before))
        if actor is None:
            same = any(other.noun == noun for other in self.cast)
            actor = self._new(f"{hue} {noun}" if same and hue else noun, noun, hue)
        if noun != word:
            actor.note(f"One puppet plays all {word!r}")
        if hue is None and (foreign := next((w for w in before if w in lexicon.FOREIGN_HUES), None)):
            actor.note(f"No puppet is {foreign}: {actor.name!r} is not")
        return actor

    def _known_as(self, noun: str, hue: str | None, *, another: bool) -> Actor | None:
        for actor in reversed(self.cast):
            if not another and actor.noun == noun and (hue is None or actor.hue in (None, hue)):
                actor.hue = actor.hue or hue
                return actor
        return None

    def _strangers(self, clause: Clause) -> None:
        """`the blorf jumps`, `Oro spins`: somebody nobody has described, told by a verb of ours behind the word."""
        for verb in clause.verbs:
            if verb.verb is None:
                continue
            index = verb.at - 1
            while index >= 0 and (clause.words[index] in AUXILIARY or clause.words[index].endswith(("ly", "n't"))):
                index -= 1
            taken = index in clause.mentions or any(v.at <= index < v.end for v in clause.verbs)  # `lies down to sleep`
            taken |= "to" in clause.words[index + 1 : verb.at]  # `decided to sleep`
            if index < 0 or taken or not _may_be_somebody(clause, index):
                continue
            word, cased = clause.words[index], clause.cased[index]
            kind = min(KINDS, key=lambda k: (sum(actor.kind == k for actor in self.cast), k != "child"))
            name = cased if cased[0].isupper() else word
            actor = next((a for a in self.cast if a.name == name), None)
            if actor is None:
                actor = Actor(name=name, noun=word, kind=kind)
                actor.note(f"The rules do not know what {name!r} is: a {kind} plays it")
                self.cast.append(actor)
            clause.mentions[index] = actor

    def _scene(self, words: Sequence[str]) -> tuple[str, str] | None:
        """Sets where and when the reader is; the place the clause leads to, with the story's word for it."""
        there = None
        for index, word in enumerate(words):
            time, place = lexicon.flat("times").get(word), lexicon.flat("places").get(word)
            before = words[max(0, index - 3) : index]
            if time and place:  # the moon is somewhere only for those who are on it
                time, place = (None, place) if any(w in _ON for w in before) else (time, None)
            self.time = time or self.time
            if place is None or as_verb(words, index):
                continue
            self.places[word] = place
            if any(w in TOWARD for w in before):
                there = place, word
            else:
                self.place, self.where = place, word
        return there

    def _pending(self, clause: Clause, pending: list[Actor]) -> list[Actor]:
        """Creatures of a clause without a verb wait for the next one's: `the fox and the cat dance`.

        Those of a clause whose verb no table has, `the dog barked`, do something else; what comes next may be theirs.
        """
        who = {i: a for i, a in clause.mentions.items() if not _beside(clause.words, i)}
        first = min(who, default=0)
        before = clause.words[: first - len(described(clause.words, first))]
        pairs = zip(["", *before], before, strict=False)
        opens = any(_strange(word) and at not in _AT for at, word in pairs)  # `mounted her horse`, not `on Easter`
        if not opens and not _strangely(clause, first):
            return [*pending, *(actor for actor in who.values() if actor not in pending)]
        if who and not opens:
            self.last = [who[first]]
        return pending

    def _acts(self, clause: Clause, pending: list[Actor], going_on: bool) -> tuple[list[Act], Why | None]:
        """What happens in a clause; why nothing does."""
        acts: list[Act] = []
        whys: list[Why] = []
        since = 0
        for number, verb in enumerate(clause.verbs):
            until = clause.verbs[number + 1].at if number + 1 < len(clause.verbs) else len(clause.words)
            subjects = self._subjects(clause, verb, since, pending, going_on or bool(acts))
            since = verb.end if verb.verb else since
            if verb.verb is None:  # `said Mia`: who speaks may stand behind
                said = [a for i, a in clause.mentions.items() if i < verb.at] or [*clause.mentions.values()]
                self.last = said[:1] or subjects or self.last
                continue
            if _undone(clause.words[: verb.at]):
                whys.append(Why.UNDONE)
                self.last = subjects or self.last  # `the fox did not run but walked`
                continue
            if not subjects and _falls(clause, verb):
                continue
            found = [self._act(clause, verb, subject, until) for subject in subjects]
            acts += [act for act in dict.fromkeys(found) if isinstance(act, Act) and act not in acts]
            whys += [why for why in found if isinstance(why, Why)] if found else [Why.NOBODY]
            self.last = subjects or self.last
        if acts:
            self._places_within(clause)
            return acts, None
        return [], whys[0] if whys else _silence(clause)

    def _subjects(self, clause: Clause, verb: Verb, since: int, pending: list[Actor], going_on: bool) -> list[Actor]:
        before = [(i, a) for i, a in clause.mentions.items() if since <= i < verb.at]
        before = [pair for pair in before if not clause.words[pair[0]].endswith("'s")] or before  # `Mia's cat`
        said = [actor for i, actor in before if i == 0 or clause.words[i - 1] not in OUTSIDE | TOWARD]
        if said:
            return [*(a for a in pending if a is not said[0]), said[0]] if since == 0 else [said[0]]
        words = clause.words[since : verb.at]
        if any(w in lexicon.PLURAL_PRONOUNS for w in words):
            return pending or self._pair()
        if any(w in lexicon.PRONOUNS for w in words):
            return pending or self._meant("it" in words)
        if _lifeless(words, begins=since == 0):
            return [agent] if (agent := _agent(clause, verb)) else []
        return pending or (self.last if going_on or since else self.last[:1])

    def _meant(self, thing: bool) -> list[Actor]:
        """Whom a pronoun means: who acted last; `it` rather somebody who is no child."""
        beasts = [a for a in (*self.last, *reversed(self.seen)) if a.kind != "child"] if thing else []
        return (beasts or self.last)[:1]

    def _pair(self) -> list[Actor]:
        recent = [*self.last, *reversed(self.cast)]
        return list(dict.fromkeys(recent))[:2]

    def _act(self, clause: Clause, verb: Verb, subject: Actor, until: int) -> Act | Why:
        """One act with what its verb needs; why not, where the story lacks it."""
        actor, other = _roles(clause, verb, subject, until)
        if actor is None:
            return Why.NOBODY
        other = other or self._pronoun(clause.words[verb.end : until], actor)
        words = clause.words[verb.end : until]
        name = _directed(str(verb.verb), words, other)
        whom = other is not None or VERBS[name].slot != "other"
        if not whom and not _at_something(words):
            other = self._company(actor)
        alone = not whom and other is None
        if alone:
            name = "jump" if name == "hop_over" else "walk"
        slot = VERBS[name].slot
        named = [*words, *(clause.words[: verb.at] if passive(clause, verb) else ())]
        thing = next((w for w in named if w in lexicon.flat("props")), "")
        if slot == "prop" and not thing and verb.base in lexicon.NEEDS_OBJECT - {"lift", "push"}:
            return Why.UNKNOWN
        return Act(
            actor=actor,
            verb=name,
            scene=(self.place, self.time),
            side=(side_of(clause.words[verb.at : until]) or self._turn(actor, name)) if slot == "side" else None,
            prop=lexicon.flat("props").get(thing, "box") if slot == "prop" else None,
            other=other if slot == "other" else None,
            told=Told(text=clause.text, verb=verb.phrase, thing=thing, where=self.where, whom=whom, alone=alone),
        )

    def _pronoun(self, words: Sequence[str], actor: Actor) -> Actor | None:
        """Whom a pronoun behind the verb means: `hugs her`, not `hugs her doll`."""
        pairs = zip(words, [*words[1:], "so"], strict=False)
        meant = any(word in lexicon.PRONOUNS and (small(after) or after in OUTSIDE | TOWARD) for word, after in pairs)
        return self._company(actor) if meant else None

    def _company(self, actor: Actor) -> Actor | None:
        return next((a for a in [*self.last, *reversed(self.cast)] if a is not actor), None)

    def _turn(self, actor: Actor, verb: str) -> str:
        """Sides by turns, so that nobody walks out of the picture."""
        self.turns[actor.name] += 1
        return SIDES[(self.turns[actor.name] + (verb == "enter")) % 2]

    def _places_within(self, clause: Clause) -> None:
        """Keeps in mind where the clause says it is when no table has the place: `in the cellar`."""
        for index, word in enumerate(clause.words[:-2]):
            if word not in _WITHIN or clause.words[index + 1] not in _THAT:
                continue
            named = list(takewhile(lambda w: not small(w), clause.words[index + 2 : index + 5]))
            if named and not any(known(w) for w in named) and _strange(named[-1]):
                self.places.setdefault(named[-1], None)


def _leading(clauses: Sequence[Clause], begun: bool) -> list[Actor]:
    """`Running fast, the fox fell`: who does what a sentence opens with is named behind it."""
    opens = clauses[0].words[0].endswith("ing") and not clauses[0].mentions and not begun
    return next(([*clause.mentions.values()][:1] for clause in clauses if clause.mentions), []) if opens else []


def _silence(clause: Clause) -> Why | None:
    """Why nothing happens in a clause without an act; None where all its words say only who, where or when."""
    if any(lexicon.bases().get(word) in lexicon.SPEAKING for word in clause.words):
        return Why.SPOKEN
    told = not _strangely(clause) and all(v.base in _BEING or _falls(clause, v) for v in clause.verbs)
    return None if told else Why.UNKNOWN


def _strange(word: str) -> bool:
    return not (known(word) or small(word) or word in NO_CREATURE)


def _strangely(clause: Clause, since: int = 0) -> bool:
    """Whether a word from `since` on is in no table, and nobody's name."""
    return any(_strange(word) for i, word in enumerate(clause.words) if i >= since and i not in clause.mentions)


def _beside(words: Sequence[str], index: int) -> bool:
    """`with the fox`, `of his fox`: the creature at `index` is not the one who acts."""
    return any(word in OUTSIDE | TOWARD for word in words[max(0, index - 2) : index])


def _undone(before: Sequence[str]) -> bool:
    """`did not fly`, `wanted to fly`, `said that it flew`; not `all hope vanished`, not `with no fear`."""
    near = list(zip(["", *before], before, strict=False))[-3:]
    denied = any((w in lexicon.NEGATIONS or w.endswith("n't")) and at not in OUTSIDE for at, w in near)
    spoke = next((i for i, w in enumerate(before) if lexicon.bases().get(w) in lexicon.SPEAKING), len(before))
    to = before[-1:] == ["to"]
    asked = "that" in before[spoke:] or (to and spoke < len(before))
    wished = any(w in lexicon.WISHES for w in (before if to else [w for _, w in near[:-1]]))
    return denied or asked or wished or before[-1:] == ["without"]


def _lifeless(words: Sequence[str], *, begins: bool) -> bool:
    """`the sun rises`, `the ball rolls`, `all hope vanished`: the subject is no character."""
    tables = [lexicon.flat(table) for table in ("places", "times", "props")]
    nouns = [word for word in words if any(word in table for table in tables) or word in NO_CREATURE]
    nouns += [word for word in words if begins and not (known(word) or small(word))]
    return bool(nouns) and not any(w in OUTSIDE | TOWARD | {"in", "on", "at", "one"} for w in words)


def _falls(clause: Clause, verb: Verb) -> bool:
    """`night fell`, `when the morning came`: it is told by the time of the shots."""
    before = [word for word in clause.words[: verb.at] if word not in lexicon.DETERMINERS]
    return bool(before) and verb.phrase in _COMING and all(word in lexicon.flat("times") for word in before)


def _roles(clause: Clause, verb: Verb, subject: Actor, until: int) -> tuple[Actor | None, Actor | None]:
    """Who does it, and to whom: `is chased by the fox` turns them round; nobody does what only `is chased`."""
    if passive(clause, verb):
        agent, needy = _agent(clause, verb), VERBS[str(verb.verb)].slot in ("prop", "other")
        return (agent, subject if subject is not agent else None) if agent else (None if needy else subject, None)
    return subject, next((a for i, a in clause.mentions.items() if verb.end <= i < until and a is not subject), None)


def _agent(clause: Clause, verb: Verb) -> Actor | None:
    """Who is named behind `by` does what is done to somebody or something else."""
    behind = {i: a for i, a in clause.mentions.items() if i >= verb.end and passive(clause, verb)}
    return next((a for i, a in behind.items() if "by" in clause.words[max(verb.end, i - 4) : i]), None)


def _at_something(words: Sequence[str]) -> bool:
    """`hugs the tree`, `over the wall`: what is done to something is not done to whoever is near."""
    return (
        words[:1] != []
        and words[0] in lexicon.DETERMINERS
        and words[1:2] != []
        and words[1] not in lexicon.flat("times")
    )


def _directed(verb: str, words: Sequence[str], other: Actor | None) -> str:
    """The act that a verb becomes by what it is done to: `walks to the cat`, `rolls the ball`, `jumps over the cat`."""
    if verb == "walk" and other and any(word in TOWARD for word in words):
        return "approach"
    if verb in ("walk", "spin") and _at_something(words) and any(word in lexicon.flat("props") for word in words[1:3]):
        return "push"
    return "hop_over" if verb == "jump" and other and "over" in words else verb


def _may_be_somebody(clause: Clause, index: int) -> bool:
    word, cased = clause.words[index], clause.cased[index]
    if not _strange(word) or not word.isascii() or len(word) < 2 or _beside(clause.words, index):
        return False
    determined = any(w in lexicon.DETERMINERS for w in described(clause.words, index))
    return determined or (cased[0].isupper() and cased[1:].islower())
