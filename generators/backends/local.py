"""A video model on this machine: batches of one size and length go through the sampler, clips come out.

Knows limits, defaults, devices and what running out of memory looks like. The loop is the sampler's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import torch

from generators.backends.clips import check_limits, make_clip
from generators.clip import Clip, Frames, Limits, OnProgress, Progress, ShotRequest
from generators.errors import BackendUnavailable, OutOfMemory
from generators.models.base import VideoModel
from generators.models.wan import WanVideoModel
from generators.sampler import Settings, sample
from generators.seams import keep

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
STEPS, GUIDANCE = 50, 5.0
"""Wan's own defaults."""
WAN_LIMITS = Limits(width=832, height=480, fps=16, frame_counts=(49, 81), extends=True)
TI2V_LIMITS = Limits(width=1280, height=704, fps=24, frame_counts=(73, 121), size_multiple=32, extends=True)


class _Batch(NamedTuple):
    frames: int
    height: int
    width: int
    settings: Settings


class LocalBackend:
    """Films with a Wan pipeline in diffusers' format: a folder or a hub id.

    `name` is what takes will say, the model itself by default; `limits` are by default those the checkpoint's kind was
    made for. `steps`, `guidance` and `guidance_2` are used where a request leaves them open. Raises
    BackendUnavailable when the model or the device is not there.
    """

    def __init__(
        self,
        model: str,
        *,
        name: str | None = None,
        limits: Limits | None = None,
        device: str | None = None,
        dtype: Dtype = "auto",
        offload: bool = False,
        steps: int | None = None,
        guidance: float | None = None,
        guidance_2: float | None = None,
        gives_tokens_at_zero: bool | None = None,
    ) -> None:
        device = device or _best_device()
        opened = WanVideoModel.from_pretrained(
            model,
            device=_checked(device),
            dtype=_dtype(dtype, device),
            offload=offload,
            gives_tokens_at_zero=gives_tokens_at_zero,
        )
        self.model: VideoModel | None = opened
        self.name = name or model
        limits = limits or (TI2V_LIMITS if opened.expands_timesteps else WAN_LIMITS)
        self.limits = replace(
            limits, size_multiple=max(limits.size_multiple, opened.size_multiple), frame_step=opened.stride
        )
        self.steps = STEPS if steps is None else steps
        self.guidance = GUIDANCE if guidance is None else guidance
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

            of_batch = self._film([requests[i] for i in places], batch.settings, report, cancelled)
            clips |= dict(zip(places, of_batch, strict=True))
            done += batch.settings.steps
        return [clips[i] for i in range(len(requests))]

    def close(self) -> None:
        """Let go of the model and of the device's memory."""
        self.model = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _batch(self, request: ShotRequest) -> _Batch:
        settings = Settings(
            steps=self.steps if request.steps is None else request.steps,
            guidance=self.guidance if request.guidance is None else request.guidance,
            guidance_2=self.guidance_2 if request.guidance is None else None,
        )
        return _Batch(request.frames, request.height, request.width, settings)

    def _film(
        self,
        requests: Sequence[ShotRequest],
        settings: Settings,
        on_step: OnProgress,
        cancelled: threading.Event | None,
    ) -> list[Clip]:
        if self.model is None:
            raise BackendUnavailable(f"{self.name}: this backend was closed; open it again")
        begun = time.perf_counter()
        try:
            taken = sample(self.model, requests, settings, on_step=on_step, cancelled=cancelled)
            videos = as_frames(self.model, taken.latents)
        except torch.OutOfMemoryError as error:
            raise OutOfMemory(
                f"{self.name} ran out of memory on {self.model.device} with {len(requests)} clips of "
                f"{requests[0].width}x{requests[0].height}, {requests[0].frames} frames: film a smaller size, fewer at "
                "once, or offload"
            ) from error
        spent = (time.perf_counter() - begun) / len(requests)
        composition = tuple(request.digest() for request in requests)
        return [
            make_clip(
                request,
                keep(frames, request.given),
                model=self.name,
                composition=composition,
                seconds_spent=spent,
                notes=taken.start.notes + _cut_notes(taken.text.maps[i].cut),
            )
            for i, (request, frames) in enumerate(zip(requests, videos, strict=True))
        ]


def as_frames(model: VideoModel, latents: torch.Tensor) -> list[Frames]:
    """Decoded clips as uint8 RGB frames."""
    with torch.no_grad():
        video = (model.decode(latents).float() * 255).round().to(torch.uint8)
    return list(video.permute(0, 1, 3, 4, 2).contiguous().cpu().numpy())


def _cut_notes(cut: bool) -> tuple[str, ...]:
    return ("the prompt is longer than the model reads; its end was cut off",) if cut else ()


def _best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _checked(device: str) -> torch.device:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BackendUnavailable(f"device: {device!r} cannot be used on this machine: {error}") from error
    return torch.device(device)


def _dtype(name: Dtype, device: str) -> torch.dtype:
    if name == "auto":
        return torch.float32 if device.startswith("cpu") else torch.bfloat16
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
