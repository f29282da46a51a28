"""Sentences: a story's, with what is only said in them told apart; a prompt's, cut in two; and how one is quoted.

Knows where sentences end and what a quotation mark is; what a sentence means is `reading.py`'s.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_JOINER = re.compile(r"^(?:And then|After that|Then|Next|Afterwards|Finally),?\s+")
_SCENE = re.compile(r"^(?:In|On|At|By|Under|Inside)\b[^,.]*,")
_SPEECH = re.compile(
    r"[\"“„«](?=\S)((?:(?!\n\s*\n)[^\"“”„«»])*[,.!?…—-])[\"”“»]"  # "…," as books of most countries print it
    r"|(?<!\w)[‘'](?=\S)((?:(?!\n\s*\n).){1,1000}?[,.!?…—-])['’](?=\W|$)",
    re.DOTALL,
)
"""Somebody's words: between quotation marks, the last of them before a stop. `the "brave" knight` says nothing."""
_END = re.compile(
    r"(?<=[.!?…。！？])(?<!\bMr\.)(?<!\bMrs\.)(?<!\bMs\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\b[A-Z]\.)\s+|\n\s*\n|\n(?=\s*[-•\d])"
)
_MARKS = re.compile(r"[\"“”„«»*_#>|]")
LONGEST_QUOTE = 80


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """One sentence of a story; `spoken` when somebody says it, so that nothing of it happens."""

    text: str
    spoken: bool = False


def split_sentences(text: str) -> list[Sentence]:
    """Sentences of a text in its order, without quotation marks and headings' marks; each holds a word or a number."""
    text = _unwrapped(text)
    found: list[Sentence] = []
    told = 0
    for speech in _SPEECH.finditer(text):
        found += _sentences(text[told : speech.start()], spoken=False)
        found += _sentences(speech[1] or speech[2], spoken=True)
        told = speech.end()
    return found + _sentences(text[told:], spoken=False)


def _sentences(text: str, *, spoken: bool) -> list[Sentence]:
    parts = (" ".join(part.split()).strip(" ,;:–—") for part in _END.split(_MARKS.sub(" ", text)))
    return [Sentence(text=part, spoken=spoken) for part in parts if re.search(r"\w", part)]


def _unwrapped(text: str) -> str:
    """A story handed over between quotation marks is told, not said."""
    text = text.strip()
    whole = _SPEECH.fullmatch(text)
    return (whole[1] or whole[2]) if whole else text


def quoted(text: str) -> str:
    """The story's own words in a note: one line in quotation marks, a long one cut."""
    flat = re.sub(r"\s+", " ", text).strip()
    return repr(flat if len(flat) <= LONGEST_QUOTE else flat[: LONGEST_QUOTE - 3] + "…")


def states_of(prompt: str, phrases: Sequence[str]) -> tuple[str, ...]:
    """The prompt once for every phrase, told of that alone; nothing where a sentence holds two or lacks one.

    The opening of a scene and sentences without any phrase stand in all.
    """
    states = []
    for index, phrase in enumerate(phrases):
        rest: str | None = prompt
        if index + 1 < len(phrases):
            halves = cut_prompt(prompt, phrases, index + 1)
            rest = halves and halves[0]
        if rest is not None and index:
            halves = cut_prompt(rest, phrases[: index + 1], index)
            rest = halves and halves[1]
        if rest is None or phrase not in rest:
            return ()
        states.append(rest)
    return tuple(states)


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
