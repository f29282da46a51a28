"""What a story is called, and the first words of a text where the whole of it has no room. Knows text and no rows."""

from __future__ import annotations

import re

LONGEST_TITLE = 60
SHORTEST_WRAP = 40
"""Characters; nobody breaks prose into shorter lines than this."""

_END = re.compile(
    r"(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)(?<!\bSt)(?<!\b[A-Z])[.!?…]+[\"'”’»)]*(?=\s+(?![a-z])|$)|[。！？]+[”’」』）]*"
)
"""Where a sentence ends: not inside `3.5`, not before a word that goes on (`"Stop!" cried Ann`)."""
_JOINERS = (
    "and but or so then while when where who whom whose which that because until before after as if "
    "in on at by to from with without into onto over under through across behind beside for of"
)
_BREAK = re.compile(rf"[,;:–—，、；：]|\s(?=(?:{_JOINERS.replace(' ', '|')})\b)", re.IGNORECASE)
"""Where a clause or a phrase ends."""
_LEADING = frozenset(f"{_JOINERS} a an the this that its his her their my your our some is are was were not".split())
"""Words that stand before what they are about: alone at the end they are half a phrase."""


def split_title(story: str) -> tuple[str, str]:
    """The story's title (its heading, or the first words of its first sentence) and what is to be told."""
    lines = story.strip().splitlines()
    heading = lines[0].strip().lstrip("#").strip()
    if heading and _is_heading(heading, lines):
        return heading, "\n".join(lines[1:])
    words = " ".join(story.split())
    end = _END.search(words)
    first = words[: end.end()] if end else words
    return opening(first.rstrip(".。 "), LONGEST_TITLE) or "Untitled", story


def opening(text: str, longest: int) -> str:
    """The text as one line; a longer one is cut where a clause or phrase ends, else behind a word, and ends in dots."""
    line = " ".join(text.split())
    if len(line) <= longest:
        return line
    room = line[:longest]  # the dots take the place of its last character: a space, or the end of a cut word
    whole = room[:-1] if room[-1] == " " else room.rpartition(" ")[0] or room[:-1]
    ends = [found.start() for found in _BREAK.finditer(line) if longest // 2 <= found.start() <= len(whole)]
    words = (whole[: ends[-1]] if ends else whole).split(" ")
    while len(words) > 1 and words[-1].lower() in _LEADING:
        words.pop()
    return " ".join(words).rstrip(" ,;:–—") + "…"


def _is_heading(first: str, lines: list[str]) -> bool:
    """Whether a first line is a title; one that was only broken where a page ends is the story's own words."""
    if len(lines) < 2 or len(first) > LONGEST_TITLE:
        return False
    if lines[0].lstrip().startswith("#"):
        return True
    if re.search(r"[.!?…:;,]$", first):
        return False
    if not lines[1].strip():
        return True
    word = lines[1].split()[0]
    full = len(first) >= SHORTEST_WRAP and len(first) + 1 + len(word) > max(map(len, lines))
    return not word[0].islower() and not full
