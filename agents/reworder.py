"""The reworder: the same event in other words, when it was not filmed as it was worded.

The rules know the puppet world's other sentences for a verb; an endpoint finds its own. Only the words of one event
change, in the one place where they stand.
"""

from __future__ import annotations

from agents.answers import ask
from agents.brains import LanguageModel, Question
from agents.storyboard import PlannedShot, Shown
from agents.worldplan import other_wording
from prompts.catalog import load


class Wording(Shown):
    """The event's new phrase."""

    phrase: str


class RuleReworder:
    """The next of the world's trained sentences for the same verb."""

    async def reword(self, shot: PlannedShot, event: int, evidence: str) -> PlannedShot | None:
        """The shot with the event worded anew; None when its phrase is not the world's."""
        taken = [e.phrase for index, e in enumerate(shot.events) if index != event]
        phrase = other_wording(shot.events[event].phrase, taken)
        return None if phrase is None else with_phrase(shot, event, phrase)


class ModelReworder:
    """Asks a language model for another phrase."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    async def reword(self, shot: PlannedShot, event: int, evidence: str) -> PlannedShot | None:
        """The shot with the event worded anew. Raises a ModelError."""
        old = shot.events[event]
        prompt = load("reword").render(
            prompt=shot.prompt, subject=old.subject, phrase=old.phrase, evidence=evidence or "nothing of it"
        )
        question = Question(role="reworder", prompt=prompt, shape=Wording)
        answer = await ask(self.model, question, Wording, lambda a: _problems(a.phrase, shot, event))
        return with_phrase(shot, event, answer.phrase)


def with_phrase(shot: PlannedShot, event: int, phrase: str) -> PlannedShot:
    """The shot with one event's phrase replaced where it stands in the prompt, and in its synopsis."""
    old = shot.events[event].phrase
    at = place_of(shot, event)
    prompt = shot.prompt[:at] + phrase + shot.prompt[at + len(old) :]
    events = tuple(
        e.model_copy(update={"phrase": phrase}) if index == event else e for index, e in enumerate(shot.events)
    )
    synopsis = list(shot.synopsis)
    if len(synopsis) == len(shot.events):  # a state for every event
        synopsis[event] = synopsis[event].replace(old, phrase, 1)
    return shot.model_copy(update={"prompt": prompt, "events": events, "synopsis": tuple(synopsis)})


def place_of(shot: PlannedShot, event: int) -> int:
    """Where the event's phrase stands in the prompt: events are told in order, so after those in front of it."""
    at = 0
    for earlier in shot.events[:event]:
        found = shot.prompt.find(earlier.phrase, at)
        at = found + len(earlier.phrase) if found >= 0 else at
    found = shot.prompt.find(shot.events[event].phrase, at)
    return found if found >= 0 else shot.prompt.index(shot.events[event].phrase)


def _problems(phrase: str, shot: PlannedShot, event: int) -> list[str]:
    old = shot.events[event].phrase
    if not phrase.strip():
        return ["the phrase is empty"]
    if phrase == old:
        return [f"the phrase is the old one; expected other words than {old!r}"]
    if "\n" in phrase or len(phrase) > 3 * len(old) + 40:
        return [f"expected one phrase about as long as {old!r}"]
    return []
