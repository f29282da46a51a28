"""What can go wrong while a story is planned and run. Catch :class:`StoryError` for all of it.

StoryError
├── PlanError          a story or an answer that could not be made into a storyboard
│   └── UnfilmableStory    nothing in it that the rules can film; only another story or another planner helps
├── ModelError         a language or vision model could not be used
│   ├── ModelRefused       it answered, but not in the shape asked for, after every allowed repair
│   ├── ModelUnavailable   network, 429 or 5xx after the transport retries; the same call may work later
│   └── ModelMisconfigured a missing key, 401, an unknown model or endpoint; a person must act
├── BudgetExhausted    a hard limit was reached; what exists is kept
├── RunStopped         somebody asked to stop; nothing is lost
├── EditError          takes that are gone, altered or do not fit into one film
├── BatchError         a batch file or cron expression that cannot be read
├── ProfileError       a profile file that cannot be read or names unknown things
└── UsageError         something that cannot work as it was asked for: an empty story, a shot that is not there
"""

from __future__ import annotations


class StoryError(Exception):
    """The run stopped; it can be resumed."""


class PlanError(StoryError):
    """No valid storyboard: the message lists every problem."""


class UnfilmableStory(PlanError):
    """Rules plan, and nothing in the story is an act of the world: no run can go on from there."""


class ModelError(StoryError):
    """A language or vision model could not be used."""


class ModelRefused(ModelError):
    """The model answered, but never in the shape asked for."""


class ModelUnavailable(ModelError):
    """The endpoint did not answer in time, or answered 429 or 5xx to the last.

    `unanswered` says how many times the request went out and no answer came: each may have been carried out and paid.
    """

    def __init__(self, message: str, *, unanswered: int = 1) -> None:
        super().__init__(message)
        self.unanswered = unanswered


class ModelMisconfigured(ModelError):
    """A missing key, a refused key, an unknown model or endpoint."""


class BudgetExhausted(StoryError):
    """A hard limit was reached; the film is cut from what exists."""


class EditError(StoryError):
    """The film cannot be cut: a take is gone, altered, or does not fit the others; the message names it."""


class BatchError(StoryError):
    """A batch file or a cron expression that cannot be read; the message names the entry and what was expected."""


class ProfileError(StoryError):
    """A profile cannot be read, or names a backend, brain or critic that does not exist."""


class RunStopped(StoryError):
    """Somebody asked the run to stop; resuming goes on where it stood."""


class UsageError(StoryError):
    """It was asked for in a way that cannot work: an empty story, a missing file, a shot that is not there."""
