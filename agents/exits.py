"""What a program ends with after an error; the table for people is docs/exit-codes.md."""

from __future__ import annotations

import asyncio

from agents.errors import BatchError, BudgetExhausted, ProfileError, RunStopped, StoryError, UnfilmableStory, UsageError
from generators.errors import GenerationError, TrainingError
from storage.errors import NotFound, RunBusy, StorageError


def exit_code(error: BaseException) -> int:
    """The code of this error; an error with an `exit_code` of its own (a command line's) keeps it."""
    if isinstance(error, UsageError | UnfilmableStory | ProfileError | BatchError | NotFound):
        return 2
    if isinstance(error, BudgetExhausted):
        return 4
    if isinstance(error, RunBusy):
        return 6
    if isinstance(error, RunStopped | KeyboardInterrupt | asyncio.CancelledError):
        return 130
    return int(getattr(error, "exit_code", 1))


def expected(error: BaseException) -> bool:
    """Whether the error's message already says what to do."""
    return isinstance(error, StoryError | GenerationError | StorageError | TrainingError)


def in_words(error: BaseException) -> str:
    """An error for a row or a line: its message, which begins with the error's kind where it is not an expected one."""
    return str(error) if expected(error) else f"{type(error).__name__}: {error}"
