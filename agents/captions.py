"""Captions: what happens when, as lines with times, in the two formats players read beside a film.

They tell the story in its own words, and never as seen what a critic looked for and did not find (docs/decisions/0024).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from storage.records import ShotRecord
from storage.tables import Event, Verdict

UNSEEN = "(not seen) "
"""Stands before what should happen now, and does not."""
LONGEST_OPENING = 60
"""More words than this before a phrase are scenery, and left out of its caption."""


@dataclass(frozen=True, kw_only=True)
class Caption:
    """A line of text from `start` to `end`, in seconds."""

    start: float
    end: float
    text: str

    def moved(self, seconds: float) -> Caption:
        """The same line, later."""
        return replace(self, start=self.start + seconds, end=self.end + seconds)


def shot_captions(
    shot: ShotRecord, verdict: Verdict | None, times: Sequence[tuple[float, float]]
) -> tuple[Caption, ...]:
    """One line an event, in seconds of the take: when it was seen, else when it was to happen, marked if it did not.

    In the words that the story was first told with, however the take in the film was worded. `times` are when this take
    was to show the events.
    """
    judged = verdict.events if verdict else []
    missed = {number for number, event in enumerate(judged) if event.get("done") is False}
    shown = (seen_interval(verdict, number) or planned for number, planned in enumerate(times))
    return tuple(
        Caption(start=start, end=end, text=(UNSEEN if number in missed else "") + _sentence(line))
        for number, (line, (start, end)) in enumerate(zip(_clauses(shot), shown, strict=True))
    )


def seen_interval(verdict: Verdict | None, index: int) -> tuple[float, float] | None:
    """When the critic saw the event at this index; None when it did not, or did not say when."""
    if verdict is None or index >= len(verdict.events):
        return None
    judged = verdict.events[index]
    start, end = judged.get("start"), judged.get("end")
    if not judged.get("done") or start is None or end is None or not start < end:
        return None
    return float(start), float(end)


def label(shot: ShotRecord, event: Event) -> str:
    """What a person calls the event: 3.2 is the second one of shot 3."""
    return f"{shot.label}.{event.number}"


def in_order(captions: Iterable[Caption]) -> list[Caption]:
    """As they begin, which players expect; events may be seen in another order than they are told in."""
    return sorted(captions, key=lambda caption: (caption.start, caption.end))


def as_srt(captions: Sequence[Caption]) -> str:
    """SubRip text."""
    blocks = (
        f"{number}\n{_clock(c.start, ',')} --> {_clock(c.end, ',')}\n{_plain(c.text)}\n"
        for number, c in enumerate(captions, 1)
    )
    return "\n".join(blocks)


def as_vtt(captions: Sequence[Caption]) -> str:
    """WebVTT text; markup in the story is shown, not obeyed."""
    blocks = (f"{_clock(c.start, '.')} --> {_clock(c.end, '.')}\n{_escaped(c.text)}\n" for c in captions)
    return "\n".join(("WEBVTT\n", *blocks))


def _clauses(shot: ShotRecord) -> Iterator[str]:
    """Each event in the words of the prompt, from the start of its clause: phrases often leave out who acts."""
    prompt, told = shot.first.prompt, 0
    for event in shot.promised:
        at = prompt.find(event.phrase, told)
        if at < 0:
            yield event.phrase
            continue
        before = prompt[told:at]
        opening = re.split(r"[.,;:!?。、，]", before)[-1]
        yield (opening if len(opening) <= LONGEST_OPENING else "") + event.phrase
        told = at + len(event.phrase)


def _sentence(phrase: str) -> str:
    words = " ".join(phrase.split())
    return words[:1].upper() + words[1:]


def _clock(seconds: float, point: str) -> str:
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"


def _plain(text: str) -> str:
    """One line without what SubRip players would obey as markup or read as a time line."""
    line = " ".join(text.split()).replace("-->", "→")
    return line.translate(str.maketrans("<>{}", "‹›()"))


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
