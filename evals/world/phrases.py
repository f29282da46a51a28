"""Words back to promises: which verb a phrase means, and which puppet a subject's words mean.

The inverse of `generators.world.captions`. What it cannot read it says; it never guesses a verb.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evals.world.events import Promise
from generators.world.captions import predicates
from generators.world.words import HUES, KINDS, PROPS, SIDES, VERBS


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a member of the cast looks like in the puppet world."""

    hue: str
    kind: str | None


class Unreadable(ValueError):
    """Words that mean nothing in the puppet world; the message says which and why."""


def read_look(name: str, description: str) -> Look:
    """The hue and kind that a description (or else the name) says. Raises Unreadable without exactly one hue."""
    for words in (description, name):
        hues = _found(words, tuple(HUES))
        kinds = _found(words, KINDS)
        if len(hues) == 1:
            return Look(hue=hues[0], kind=kinds[0] if len(kinds) == 1 else None)
    raise Unreadable(f"{name!r} ({description!r}) names not one colour of {', '.join(HUES)}")


def read_promise(subject: str, phrase: str, cast: Mapping[str, Look]) -> Promise:
    """The promise that phrase makes of subject, a name or a prompt's words. Raises Unreadable for unknown ones."""
    hue = cast[subject].hue if subject in cast else read_member(_plain(subject), cast)
    plain = _plain(phrase)
    for verb, pattern in _patterns():
        match = pattern.fullmatch(plain)
        if match is not None:
            slots = match.groupdict()
            other = read_member(slots["other"], cast) if "other" in slots else None
            return Promise(verb=verb, hue=hue, side=slots.get("side"), prop=slots.get("prop"), other=other)
    raise Unreadable(f"{phrase!r} is none of the puppet world's sentences")


def read_member(words: str, cast: Mapping[str, Look]) -> str:
    """The hue of the puppet that `words` call: by its colour, its name, or its kind when only one is of that kind."""
    hues = _found(words, tuple(HUES))
    if len(hues) == 1 and any(look.hue == hues[0] for look in cast.values()):
        return hues[0]
    named = [look.hue for name, look in cast.items() if _plain(name) == words]
    kinds = _found(words, KINDS)
    named = named or [look.hue for look in cast.values() if look.kind in kinds]
    if len(named) != 1:
        raise Unreadable(f"{words!r} means {len(named)} members of this shot's cast, not one")
    return named[0]


@functools.cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Every verb's twenty predicates, open places as groups; names, which may be any words, come last.

    An article before a name may lack.
    """
    slots = {
        "side": f"(?P<side>{'|'.join(SIDES)})",
        "prop": f"(?P<prop>{'|'.join(PROPS)})",
        "other": r"(?P<other>\w+(?: \w+)?)",
    }
    sentences = [(verb, template) for verb in VERBS for template in predicates(verb)]
    sentences.sort(key=lambda sentence: ("{other}" in sentence[1], -len(sentence[1])))
    return tuple(
        (verb, re.compile(template.replace("the {other}", "(?:the )?{other}").format(**slots)))
        for verb, template in sentences
    )


def _plain(words: str) -> str:
    return " ".join(re.findall(r"\w+", words.lower()))


def _found(words: str, vocabulary: Sequence[str]) -> list[str]:
    return [word for word in re.findall(r"[a-z]+", words.lower()) if word in vocabulary]
