"""Looking into a model while it films: where the words of each event are attended to, without and with a control."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from agents.errors import UsageError
from generators.clip import Event, Limits, ShotRequest, check_size
from generators.controls.config import VSTAR, ControlConfig, Looking, TempoControl, TSAttn
from generators.errors import ControlRejected, RequestRejected

if TYPE_CHECKING:
    from agents.profile import Profile
    from evals.attention import Inspection, Watched
    from generators.backends.lazy import LazyBackend
    from generators.backends.local import LocalBackend

ControlName = Literal["ts-attn", "tempo", "vstar", "none"]
CONTROLS: dict[str, tuple[ControlConfig, ...]] = {
    "ts-attn": (TSAttn(),),
    "tempo": (TempoControl(),),
    "vstar": (VSTAR(),),
    "none": (),
}
FIGURE = Path("attention.png")
_EVENT = re.compile(r"(?P<phrase>.+?)@(?P<start>\d+(\.\d+)?)-(?P<end>\d+(\.\d+)?)(@(?P<subject>.+))?")


def inspect_attention(
    prompt: str,
    events: Sequence[Event | str],
    *,
    control: ControlName | ControlConfig | Sequence[ControlConfig] = "ts-attn",
    profile: str = "bundled",
    model: str | None = None,
    seed: int = 0,
    seconds: float | None = None,
    size: tuple[int, int] | None = None,
    steps: int | None = None,
    looked_steps: Sequence[int] = (),
    layers: Sequence[int] = (),
    out: Path | None = FIGURE,
) -> Inspection:
    """Film a clip from one seed without and with a control, and see where its events' words are attended to.

    An event may be written `phrase@start-end` or `phrase@start-end@subject`, in seconds. `steps` are those of the
    film; of them `looked_steps` and of the model's blocks `layers` are looked at, all by default. `out` is the figure,
    None draws none. Raises UsageError for what does not stand in the prompt or the clip, before a model is opened
    where that can be known, and GenerationError as a backend does.
    """
    from agents.casting import profile_for
    from agents.order import Order
    from evals.attention import attention_figure, inspection

    asked = [event if isinstance(event, Event) else read_event(event) for event in events]
    _check_words(prompt, asked)
    steering = _controls(control)
    looking = _looking(looked_steps, layers)

    def ask(limits: Limits) -> ShotRequest:
        return _request(prompt, asked, limits, seed, seconds, size)

    with closing(_opened(profile_for(Order(story="", steps=steps), profile, model), ask)) as backend:
        try:
            watched = _films(backend, ask(backend.limits), steering, looking)
        except ControlRejected as error:
            raise UsageError(str(error)) from error
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(attention_figure(prompt, watched))
    return inspection(prompt, watched, out)


def check_looks(profile: Profile) -> None:
    """Raise UsageError unless the profile films with a model on this machine: others cannot be looked into."""
    if profile.backend.kind not in ("local", "bundled"):
        raise UsageError(
            f"Profile {profile.name}: expected a backend with a model to look into (bundled or local), got "
            f"{profile.backend.kind!r}"
        )


class TakeFigures:
    """Draws where a take's model looked, for a run's report: films it anew, without and with its controls."""

    def __init__(self, camera: LazyBackend) -> None:
        self.camera = camera

    def draw(self, request: ShotRequest, cancelled: threading.Event) -> bytes:
        """A PNG. Raises GenerationError where there is nothing to look at."""
        from evals.attention import attention_figure
        from generators.backends.local import LocalBackend

        backend = self.camera.open()
        assert isinstance(backend, LocalBackend)  # `check_looks` refused others
        watched = _films(backend, replace(request, controls=()), request.controls, Looking(), cancelled)
        return attention_figure(request.prompt, watched)


def read_event(text: str) -> Event:
    """An event from `phrase@start-end` or `phrase@start-end@subject`, seconds. Raises UsageError."""
    found = _EVENT.fullmatch(text.strip())
    if found is None:
        raise UsageError(f'event: expected phrase@start-end in seconds, such as "jumps@0-2", got {text!r}')
    try:
        return Event(
            subject=(found["subject"] or "").strip(),
            phrase=found["phrase"].strip(),
            start=float(found["start"]),
            end=float(found["end"]),
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def _check_words(prompt: str, events: Sequence[Event]) -> None:
    """Every phrase and subject stands in the prompt."""
    from generators.tokens import clean_prompt, find_spans, suggest

    if not events:
        raise UsageError("event: expected at least one, phrase@start-end in seconds, got none")
    text = clean_prompt(prompt)
    for event in events:
        for what, words in (("event", event.phrase), ("subject", event.subject)):
            if words and not find_spans(text, clean_prompt(words)):
                like = suggest(text, words)
                hint = f"; did you mean {like!r}?" if like else ""
                raise UsageError(f"{what} {words!r} does not stand in the prompt {text!r}{hint}")


def _controls(control: ControlName | ControlConfig | Sequence[ControlConfig]) -> tuple[ControlConfig, ...]:
    if isinstance(control, ControlConfig):
        return (control,)
    if not isinstance(control, str):
        return tuple(control)
    if control not in CONTROLS:
        raise UsageError(f"control: expected one of {', '.join(CONTROLS)}, got {control!r}")
    return CONTROLS[control]


def _looking(steps: Sequence[int], layers: Sequence[int]) -> Looking:
    try:
        return Looking(steps=tuple(steps), layers=tuple(layers))
    except ValueError as error:
        raise UsageError(str(error)) from error


def _opened(profile: Profile, ask: Callable[[Limits], ShotRequest]) -> LocalBackend:
    """The profile's backend, which must be a model on this machine; asked first for what its known limits refuse."""
    from agents.casting import backend_config
    from generators.backends import limits_of, open_backend

    check_looks(profile)
    config = backend_config(profile)
    known = limits_of(config)
    if known is not None:
        ask(known)
    from generators.backends.local import LocalBackend

    backend = open_backend(config)
    assert isinstance(backend, LocalBackend)
    return backend


def _frames(limits: Limits, events: Sequence[Event], seconds: float | None) -> int:
    """The clip's length: nearest to `seconds`, by default the shortest that holds every event. Raises UsageError."""
    last = max(events, key=lambda event: event.end)
    lengths = [count / limits.fps for count in limits.frame_counts]
    if seconds is None:
        long_enough = [c for c in limits.frame_counts if last.end <= c / limits.fps + 1 / limits.fps]
        frames = min(long_enough, default=max(limits.frame_counts))
    else:
        frames = min(limits.frame_counts, key=lambda count: abs(count / limits.fps - seconds))
    length = frames / limits.fps
    if last.end > length + 1 / limits.fps:
        raise UsageError(
            f"event {last.phrase!r}: expected an end within the clip's {length:.2f} s, got {last.end:g} s; this "
            f"backend films clips of {', '.join(f'{one:.2f}' for one in lengths)} s"
        )
    return frames


def _request(
    prompt: str, events: Sequence[Event], limits: Limits, seed: int, seconds: float | None, size: tuple[int, int] | None
) -> ShotRequest:
    width, height = size or (limits.width, limits.height)
    try:
        check_size(limits, width, height)
    except RequestRejected as error:
        raise UsageError(str(error)) from error
    return ShotRequest(
        prompt=prompt,
        frames=_frames(limits, events, seconds),
        fps=limits.fps,
        width=width,
        height=height,
        seed=seed,
        events=tuple(events),
    )


def _films(
    backend: LocalBackend,
    request: ShotRequest,
    steering: tuple[ControlConfig, ...],
    looking: Looking,
    cancelled: threading.Event | None = None,
) -> list[Watched]:
    from evals.attention import Watched
    from generators.controls.looking import attention_of

    arms: dict[str, tuple[ControlConfig, ...]] = {"without": ()}
    if steering:
        arms["with " + " + ".join(type(one).__name__ for one in steering)] = steering
    watched = []
    for name, controls in reversed(arms.items()):  # whatever is refused is refused before a clip is made
        clip, stood = backend.watched(replace(request, controls=(*controls, looking)), cancelled)
        watched.append(Watched(name=name, clip=clip, attention=attention_of(stood)))
    return watched[::-1]
