"""Where a benchmark's clips come from: a folder of finished videos, or a backend that films them now."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from evals.benchmarks.protocol import Film
from evals.metrics.score import Case, NotMeasured
from generators.clip import Backend, ShotRequest
from generators.errors import MediaError, RequestRejected
from generators.video import read_take

SUFFIXES = (".mp4", ".mkv", ".webm", ".mov")


@runtime_checkable
class Footage(Protocol):
    """Where clips come from. A clip that cannot be had is NotMeasured; a broken backend raises."""

    @property
    def name(self) -> str:
        """The method that the tables name."""
        ...

    @property
    def source(self) -> str:
        """`array` for pixels as they were made, `file` for decoded ones: flicker and flow differ."""
        ...

    def digest(self, case: Case, seed: int) -> str:
        """Of what decides the clip's pixels and may change under this name and source; empty where nothing may."""
        ...

    def film(self, case: Case, seed: int) -> Film | NotMeasured:
        """One clip."""
        ...


@dataclass(frozen=True, kw_only=True)
class FolderFootage:
    """Finished videos in a folder, named as the case, as its prompt, or as `<prompt>-<seed>` with the run's `seed`.

    A prompt that was written anew for filming also answers to its original, `original_prompt` of the case.
    """

    folder: Path
    name: str
    source: str = "file"
    seed: int = 0

    def digest(self, case: Case, seed: int) -> str:
        """Of the file; empty while there is none."""
        path = self._place(case)
        if path is None:
            return ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def film(self, case: Case, seed: int) -> Film | NotMeasured:
        """Decoded. The seed of the clip decides nothing: finished videos count from the run's."""
        path = self._place(case)
        if path is None:
            return NotMeasured(reason="no video")
        try:
            frames, rate = read_take(path)
        except MediaError as error:
            return NotMeasured(reason=f"unreadable video: {type(error.__cause__ or error).__name__}")
        return Film(frames=frames, fps=float(rate))

    def _place(self, case: Case) -> Path | None:
        return next((path for path in self._places(case) if path.is_file()), None)

    def _places(self, case: Case) -> Iterator[Path]:
        prompts = (case.prompt, case.spec.get("original_prompt", ""))
        named = (name for prompt in prompts if prompt for name in (f"{prompt[:200]}-{self.seed}", prompt[:200]))
        for stem in (case.name[:200], *named):
            if stem and not set(stem) & set("/\\\0"):  # a prompt file never names a place outside the folder
                yield from (self.folder / f"{stem}{suffix}" for suffix in SUFFIXES)


Ask = Callable[[Case, int], ShotRequest]


@dataclass(frozen=True, kw_only=True)
class BackendFootage:
    """Clips that a backend films; `ask` makes the request, so controls and events are the caller's."""

    backend: Backend
    ask: Ask
    name: str
    source: str = "array"

    def digest(self, case: Case, seed: int) -> str:
        """Of the request and of what films it."""
        try:
            asked = self.ask(case, seed).digest()
        except RequestRejected as error:
            asked = f"rejected: {error}"
        return hashlib.sha256(json.dumps([filmed_with(self.backend), asked], sort_keys=True).encode()).hexdigest()

    def film(self, case: Case, seed: int) -> Film | NotMeasured:
        """Filmed now. A request that the backend cannot film is not measured."""
        try:
            clip = self.backend.shoot([self.ask(case, seed)])[0]
        except RequestRejected as error:
            return NotMeasured(reason=f"rejected: {error}")
        return Film(frames=clip.frames, fps=clip.fps, seconds=clip.seconds_spent)


def filmed_with(backend: Backend) -> Mapping[str, Any]:
    """What decides pixels beside the request; a model is known by its weights, wherever they lie."""
    told = {name: getattr(backend, name, None) for name in ("steps", "guidance", "guidance_2")}
    return {"weights": backend.weights or backend.name} | {k: v for k, v in told.items() if v is not None}


def plain_request(backend: Backend, seconds: float | None = None) -> Ask:
    """Requests of the prompt alone, at the backend's own size; the length nearest `seconds`, else the longest."""
    limits = backend.limits
    wanted = max(limits.frame_counts) if seconds is None else seconds * limits.fps
    frames = min(limits.frame_counts, key=lambda count: abs(count - wanted))

    def ask(case: Case, seed: int) -> ShotRequest:
        return ShotRequest(
            prompt=case.prompt, frames=frames, fps=limits.fps, width=limits.width, height=limits.height, seed=seed
        )

    return ask
