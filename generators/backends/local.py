"""A video model on this machine: batches of one size and length go through the sampler, clips come out.

Knows limits, defaults, devices and what running out of memory looks like. The loop is the sampler's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from safetensors import SafetensorError

from generators.backends.checkpoint import fetch_checkpoint
from generators.backends.clips import check_limits, make_clip
from generators.clip import Canvas, Clip, Limits, OnProgress, Progress, ShotRequest
from generators.controls.base import Control
from generators.devices import devices
from generators.digests import weights_digest
from generators.errors import BackendUnavailable, OutOfMemory
from generators.models.base import VideoModel, video_as_frames
from generators.models.loading import MadeFor, made_for, open_model
from generators.sampler import Sample, Settings, sample
from generators.seams import keep

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
OWN_CANVAS = Canvas()


class _Batch(NamedTuple):
    frames: int
    height: int
    width: int
    fps: int
    settings: Settings


class LocalBackend:
    """Films with a pipeline in diffusers' format, of any family there is a VideoModel for: a folder or a hub id.

    `name` is what takes will say, the model itself by default; `limits`, `steps` and `guidance` are by default those
    the checkpoint's kind was made for. The last two and `guidance_2` are used where a request leaves them open. Raises
    BackendUnavailable when the model or the device is not there, RequestRejected for a canvas it cannot film.
    """

    def __init__(
        self,
        model: str,
        *,
        name: str | None = None,
        limits: Limits | None = None,
        canvas: Canvas = OWN_CANVAS,
        device: str | None = None,
        dtype: Dtype = "auto",
        offload: bool = False,
        steps: int | None = None,
        guidance: float | None = None,
        guidance_2: float | None = None,
        gives_tokens_at_zero: bool | None = None,
    ) -> None:
        device = device or _best_device()
        place = _checked(device, offload)
        folder = fetch_checkpoint(model)
        self.name = name or model
        self.weights: str | None = weights_digest(folder)
        own = {} if gives_tokens_at_zero is None else {"gives_tokens_at_zero": gives_tokens_at_zero}
        opened = _opened(folder, model, place, _dtype(dtype, device), offload, own)
        self.model: VideoModel | None = opened
        made = made_for(opened)
        self.limits = canvas.on(_within(limits, made))
        self.steps = made.steps if steps is None else steps
        self.guidance = made.guidance if guidance is None else guidance
        self.guidance_2 = guidance_2

    def shoot(
        self,
        requests: Sequence[ShotRequest],
        on_progress: OnProgress | None = None,
        cancelled: threading.Event | None = None,
    ) -> list[Clip]:
        """Film requests of equal size, length and settings in lock step, one batch after another; clips in order."""
        for request in requests:
            check_limits(request, self.limits)
        batches: dict[_Batch, list[int]] = {}
        for i, request in enumerate(requests):
            batches.setdefault(self._batch(request), []).append(i)
        total = sum(batch.settings.steps for batch in batches)
        clips: dict[int, Clip] = {}
        done = 0
        for batch, places in batches.items():

            def report(progress: Progress, before: int = done) -> None:
                if on_progress is not None:
                    on_progress(Progress(step=before + progress.step, of=total))

            of_batch, _ = self._film([requests[i] for i in places], batch.settings, report, cancelled)
            clips |= dict(zip(places, of_batch, strict=True))
            done += batch.settings.steps
        return [clips[i] for i in range(len(requests))]

    def watched(self, request: ShotRequest, on_progress: OnProgress | None = None) -> tuple[Clip, tuple[Control, ...]]:
        """One clip, and its controls as they stand after the last step: some keep what they saw. Raises as `shoot`."""
        check_limits(request, self.limits)
        (clip,), taken = self._film([request], self._batch(request).settings, on_progress, None)
        return clip, taken.controls[0]

    def close(self) -> None:
        """Let go of the model and of the device's memory."""
        self.model = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _batch(self, request: ShotRequest) -> _Batch:
        own = self.guidance_2 if request.guidance is None else None
        settings = Settings(
            steps=self.steps if request.steps is None else request.steps,
            guidance=self.guidance if request.guidance is None else request.guidance,
            guidance_2=own if request.guidance_2 is None else request.guidance_2,
        )
        return _Batch(request.frames, request.height, request.width, request.fps, settings)

    def _film(
        self,
        requests: Sequence[ShotRequest],
        settings: Settings,
        on_step: OnProgress | None,
        cancelled: threading.Event | None,
    ) -> tuple[list[Clip], Sample]:
        if self.model is None:
            raise BackendUnavailable(f"{self.name}: this backend was closed; open it again")
        begun = time.perf_counter()
        try:
            taken = sample(self.model, requests, settings, on_step=on_step, cancelled=cancelled)
            with torch.no_grad():
                videos = video_as_frames(self.model.decode(taken.latents))
        except torch.OutOfMemoryError as error:
            raise OutOfMemory(
                f"{self.name} ran out of memory on {self.model.device} with {len(requests)} clips of "
                f"{requests[0].width}x{requests[0].height}, {requests[0].frames} frames: film a smaller size, fewer at "
                "once, or offload"
            ) from error
        spent = (time.perf_counter() - begun) / len(requests)
        composition = tuple(request.digest() for request in requests)
        clips = [
            make_clip(
                request,
                keep(frames, request.given),
                model=self.name,
                composition=composition,
                seconds_spent=spent,
                weights=self.weights,
                notes=taken.start.notes + _cut_notes(taken.text.maps[i].cut),
            )
            for i, (request, frames) in enumerate(zip(requests, videos, strict=True))
        ]
        return clips, taken


def _cut_notes(cut: bool) -> tuple[str, ...]:
    return ("the prompt is longer than the model reads; its end was cut off",) if cut else ()


def _best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _checked(device: str, offload: bool) -> torch.device:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        there = ", ".join(found.name for found in devices())
        raise BackendUnavailable(
            f"device: {device!r} cannot be used on this machine ({str(error).splitlines()[0]}); there are {there}"
        ) from error
    place = torch.device(device)
    if offload and place.type == "cpu":
        raise BackendUnavailable("offload: expected an accelerator to move networks to and from, got device 'cpu'")
    return place


def _opened(
    folder: Path,
    model: str,
    device: torch.device,
    dtype: torch.dtype,
    offload: bool,
    options: dict[str, bool],
) -> VideoModel:
    """The pipeline, loaded; what diffusers raises over broken files becomes BackendUnavailable."""
    try:
        return open_model(str(folder), device=device, dtype=dtype, offload=offload, **options)
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(
            f"{model} does not fit into the memory of {device}: film with offload, in bfloat16, or a smaller checkpoint"
        ) from error
    except (SafetensorError, RuntimeError, AttributeError, KeyError, TypeError) as error:
        raise BackendUnavailable(
            f"model: {model} could not be loaded ({type(error).__name__}: {str(error)[:300]}); its files are damaged "
            "or do not belong together: download it again"
        ) from error


def _within(limits: Limits | None, made: MadeFor) -> Limits:
    """The limits asked for, with the multiples and strides that the network itself demands."""
    if limits is None:
        return made.limits
    own = made.limits
    return replace(
        limits,
        size_multiple=max(limits.size_multiple, own.size_multiple),
        frame_step=own.frame_step,
        needs_picture=own.needs_picture,
        guides=own.guides,
    )


def _dtype(name: Dtype, device: str) -> torch.dtype:
    if name == "auto":
        return torch.float32 if device.startswith("cpu") else torch.bfloat16
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
