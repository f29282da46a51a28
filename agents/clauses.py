"""A sentence in clauses: its words between commas and joining words, and which of them are verbs.

Knows words, their order and the word tables; who and what is meant by them is `reading.py`'s.
"""

# ruff: noqa: SIM905 (word lists read better as text)

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from agents import lexicon
from agents.fates import Actor
from generators.world.words import SIDES

_TOKEN = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*|[,;:–—]")
OUTSIDE = frozenset("with for from of behind beside under like without about".split())
TOWARD = frozenset("to into toward towards onto".split())
_SIZES = frozenset("big small large little tall tiny".split())
AUXILIARY = frozenset(
    "is was are were be been being has had have does did do can could may might must shall should will would to then "
    "also just again always often now there still even soon once both quickly slowly".split()
)
NO_CREATURE = frozenset(
    "time day night story end way thing one something everything nothing way place home sky world air ground wind rain "
    "light life name friendships idea heart eye eyes hand hands voice word words sound noise everyone everybody nobody "
    "years year morning evening weather cloud clouds flower flowers leaf leaves door window snow moment while lot i "
    "you we if because although though not no how why where what this these those monday tuesday wednesday thursday "
    "friday saturday sunday week weeks month months summer autumn stage".split()
)


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A verb found in a clause: its base form with what follows it, what it means in the world if anything."""

    at: int
    end: int
    base: str
    verb: str | None
    phrase: str


@dataclass(kw_only=True)
class Clause:
    """Some words of a sentence, from `start` to `end` in its text."""

    words: list[str]
    cased: list[str]
    """The same words as they are written."""
    start: int
    end: int
    text: str
    mentions: dict[int, Actor] = field(default_factory=dict)
    """Who is named by which word; the reader knows."""
    verbs: list[Verb] = field(default_factory=list)


def clauses_of(text: str) -> list[Clause]:
    """A sentence's clauses: they end at commas and begin at joining words, and each holds a word."""
    parts: list[list[re.Match[str]]] = [[]]
    before = ""
    for token in _TOKEN.finditer(text.replace("’", "'")):
        word = token[0].lower()
        if word in lexicon.JOINERS and not _goes_on(before, word):
            parts.append([])
        elif word not in ",;:–—":
            parts[-1].append(token)
        elif word != "," or not _describes([t[0].lower() for t in parts[-1]]):
            parts.append([])
        before = word
    return [_clause(text, part) for part in parts if part]


def _clause(text: str, tokens: Sequence[re.Match[str]]) -> Clause:
    cased = [token[0] for token in tokens]
    start, end = tokens[0].start(), tokens[-1].end()
    return Clause(words=[w.lower() for w in cased], cased=cased, start=start, end=end, text=text[start:end])


def _describes(words: Sequence[str]) -> bool:
    """`a big, hungry wolf`: the comma stands between words about somebody who is still to come."""
    return 1 < len(words) <= 3 and words[0] in lexicon.DETERMINERS and all(map(_describing, words[1:]))


def _describing(word: str) -> bool:
    return word in lexicon.flat("hues") or not (known(word) or small(word) or word in NO_CREATURE)


def verbs_of(clause: Clause) -> list[Verb]:
    """The verbs of a clause; those that mean an act of the world where there are any, else all."""
    found: list[Verb] = []
    words = clause.words
    for index, word in enumerate(words):
        base = lexicon.bases().get(word)
        if base is None or index in clause.mentions or (found and index < found[-1].end) or not as_verb(words, index):
            continue
        found.append(_meaning(words, index, base))
    light = [v for v, n in zip(found, found[1:], strict=False) if v.base in lexicon.LIGHT_VERBS and n.at - v.at <= 3]
    found = [v for v in found if v not in light]  # `takes a walk`, `starts to dance`: the other verb carries the act
    return [v for v in found if v.verb] or found


def _meaning(words: Sequence[str], index: int, base: str) -> Verb:
    """What the verb at `index` means, with what of it stands behind."""
    for follows, verb in lexicon.phrasals().get(base, []):
        for skip in range(3 if verb == "lift" else 2):
            at = index + 1 + skip
            if tuple(words[at : at + len(follows)]) == follows and _belongs(words, index, at, follows, verb):
                end = index + 1 if skip else at + len(follows)
                return Verb(at=index, end=end, base=base, verb=verb, phrase=" ".join([base, *follows]))
    return Verb(at=index, end=index + 1, base=base, verb=lexicon.verbs().get(base), phrase=base)


def _belongs(words: Sequence[str], index: int, at: int, follows: Sequence[str], verb: str | None) -> bool:
    """Whether a small word belongs to its verb: `walks in`, `picks the box up`; not `walks in the rain`."""
    between = words[index + 1 : at]
    near = verb == "lift" or all(small(word) for word in between)
    return near and (tuple(follows) != ("in",) or all(small(word) for word in words[at + 1 : at + 2]))


def passive(clause: Clause, verb: Verb) -> bool:
    """`is chased`, `was quickly thrown`; not `is chasing`."""
    before = [w for w in clause.words[: verb.at] if not w.endswith("ly")]
    return bool(before) and lexicon.bases().get(before[-1]) == "be" and not clause.words[verb.at].endswith("ing")


def _goes_on(before: str, word: str) -> bool:
    """Whether a joining word belongs to the verb before it: `runs after`."""
    follows = lexicon.phrasals().get(lexicon.bases().get(before.lower(), ""), [])
    return any(words[0] == word.lower() for words, _ in follows)


def as_verb(words: Sequence[str], index: int) -> bool:
    """Whether the word at `index` can be a verb here, by the word before it: not `a walk`, not `to the left`."""
    word = words[index]
    if word not in lexicon.bases():
        return False
    described_by = 1 + sum(word in _SIZES for word in words[max(0, index - 1) : index])  # `with a big jump`
    before = words[index - described_by] if index >= described_by else ""
    if word in SIDES and before in lexicon.bases() and before not in AUXILIARY:  # `sways left and right`
        return False
    noun = any(word in lexicon.flat(table) for table in ("hues", "props", "places"))
    if noun and before in lexicon.DETERMINERS | OUTSIDE | TOWARD | {"in", "on", "at", "by", ""}:
        return False
    if (
        before in lexicon.DETERMINERS
        or before.endswith("'s")
        or before in {"far", "in", "on", "at", "by", "of", "from"}
    ):
        light = {lexicon.bases().get(w) for w in words[max(0, index - 4) : index - 1]}
        return bool(light & lexicon.LIGHT_VERBS) and word not in SIDES
    return True


def side_of(words: Sequence[str]) -> str | None:
    """The side named behind the verb; `from the left` and `to the left` alike, `right away` not."""
    for index, word in enumerate(words):
        before = words[index - 1] if index else ""
        if word in SIDES and before in {"the", "to", "from", "far", "its", "his", "her"}:
            return word
    return None


def described(words: Sequence[str], index: int) -> Sequence[str]:
    """Up to four words before a noun that are still about it: back to its article, not past another creature."""
    first = index
    while first > max(0, index - 4) and words[first - 1] not in lexicon.kinds():
        first -= 1
        if words[first] in lexicon.DETERMINERS:
            break
    return words[first:index]


def small(word: str) -> bool:
    """A word that names nothing and tells of nothing: `very`, `happily`."""
    return word in lexicon.SMALL_WORDS or word.endswith("ly")


def known(word: str) -> bool:
    """Whether a word stands in any table, as a verb, somebody, a place, a thing or what joins them."""
    return word in _known_words()


@cache
def _known_words() -> frozenset[str]:
    joining = lexicon.PRONOUNS | lexicon.DETERMINERS | lexicon.JOINERS | AUXILIARY | OUTSIDE | TOWARD
    tables = (lexicon.flat(table) for table in ("hues", "places", "times", "props"))
    return joining.union(lexicon.kinds(), lexicon.bases(), *tables)
