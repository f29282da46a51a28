"""A video model on this machine: batches of one size and length go through the sampler, clips come out.

Knows limits, defaults, devices and what running out of memory looks like. The loop is the sampler's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from generators.adapters import read_adapter, with_adapters
from generators.backends.checkpoint import fetch_checkpoint
from generators.backends.clips import check_limits, make_clip
from generators.backends.opening import (
    check_scenes,
    limits_within,
    opened_model,
    times_of_tokens,
)
from generators.backends.sequence import film_in_sequence
from generators.cast import CastSample, CastSettings, sample_cast
from generators.cast_memory import fewer_at_once
from generators.cast_plan import Keeps
from generators.clip import Canvas, Clip, Frames, Limits, OnProgress, Progress, ShotRequest, ShotSet
from generators.controls.base import Control
from generators.devices import Dtype, best_device, checked_device, dtype_of
from generators.digests import weights_digest
from generators.errors import BackendUnavailable, OutOfMemory, RequestRejected
from generators.models.base import VideoModel, video_as_frames
from generators.models.loading import made_for
from generators.sampler import Sample, Settings, sample
from generators.seams import keep
from generators.segmenters import Segmenter

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
    the checkpoint's kind was made for. Steps, guidance and `guidance_2` are used where a request leaves them open.
    `lora` are adapters on top, `PATH` or `PATH@SCALE`. A set is filmed as one sequence where `scenes` says that the
    model was trained for it (finished tokens then are at timestep 0, unless `gives_tokens_at_zero` denies it); else by
    storyboarding, with `at_once` shots in a batch, all of them by default, and a `segmenter` that finds what the set
    shares in frames of the limits' size (without, it is read off the attention to its words). Raises BackendUnavailable
    when the model or the device is not there, RequestRejected for a canvas it cannot film.
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
        lora: Sequence[str] = (),
        steps: int | None = None,
        guidance: float | None = None,
        guidance_2: float | None = None,
        gives_tokens_at_zero: bool | None = None,
        at_once: int | None = None,
        scenes: bool = False,
        keeps: Keeps = "nothing",
        clipseg: str = "",
        segmenter: Segmenter | None = None,
    ) -> None:
        device = device or best_device()
        place = checked_device(device, offload)
        folder = fetch_checkpoint(model)
        self.name = name or model
        adapters = [read_adapter(told) for told in lora]
        self.weights: str | None = with_adapters(weights_digest(folder), adapters)
        own = times_of_tokens(folder, gives_tokens_at_zero, scenes)
        loaded = opened_model(folder, model, place, dtype_of(dtype, device), offload, adapters, own)
        self.model: VideoModel | None = loaded
        made = made_for(loaded)
        self.limits = replace(canvas.on(limits_within(limits, made)), scenes=check_scenes(loaded, scenes))
        self.steps = made.steps if steps is None else steps
        self.guidance = made.guidance if guidance is None else guidance
        self.guidance_2 = guidance_2
        self.at_once = at_once
        self.keeps: Keeps = keeps
        self.segmenter = segmenter
        self._clipseg, self._device = clipseg, device
        self._opened: Segmenter | None = None

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

    def shoot_set(
        self,
        shots: ShotSet,
        on_progress: OnProgress | None = None,
        cancelled: threading.Event | None = None,
    ) -> list[Clip]:
        """Film a set as one sequence, or by Video Storyboarding, `at_once` shots a batch with the anchors in each."""
        if not self.limits.films_sets:
            raise RequestRejected(f"{self.name} cannot film shots as one set; film them one by one")
        for request in shots.requests:
            check_limits(request, self.limits)
        settings = {self._batch(request).settings for request in shots.requests}
        if len(settings) > 1:
            raise RequestRejected(f"requests: expected one number of steps and one guidance in a set, got {settings}")
        if self.limits.scenes:
            if shots.steering:
                raise RequestRejected(
                    f"steering: a set filmed as one sequence takes none, got {', '.join(shots.steering)}"
                )
            return self._in_sequence(shots, settings.pop(), on_progress, cancelled)
        steering = self._steering(shots.requests[0]) | dict(shots.steering)
        cast = CastSettings(anchors=shots.anchors, keeps=self.keeps, steering=steering)
        begun = time.perf_counter()
        taken, videos, notes = self._film_cast(shots, settings.pop(), cast, on_progress, cancelled)
        spent = (time.perf_counter() - begun) / len(shots.wanted)
        return [
            self._clip(
                shots.requests[i],
                frames,
                composition=taken.compositions[i],
                notes=(*taken.notes, *notes),
                cut=taken.text.maps[i].cut,
                seconds=spent,
            )
            for i, frames in zip(shots.wanted, videos, strict=True)
        ]

    def _film_cast(
        self,
        shots: ShotSet,
        settings: Settings,
        cast: CastSettings,
        on_progress: OnProgress | None,
        cancelled: threading.Event | None,
    ) -> tuple[CastSample, list[Frames], tuple[str, ...]]:
        """The set, `at_once` shots a batch, in smaller ones while memory runs out, down to the anchors and one more."""
        at_once = self.at_once
        notes: tuple[str, ...] = ()
        while True:
            try:
                with self._told(shots.requests) as model:
                    asked = (shots.requests, shots.subjects, settings, replace(cast, at_once=at_once))
                    taken = sample_cast(model, *asked, on_step=on_progress, cancelled=cancelled)
                    return taken, _decoded(model, taken, shots.wanted), notes
            except OutOfMemory:
                smaller = fewer_at_once(len(shots.requests), shots.anchors, at_once)
                if smaller is None:
                    raise
            at_once, notes = smaller, (f"filmed {smaller} shots of the set at once: more did not fit into memory",)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _in_sequence(
        self, shots: ShotSet, settings: Settings, on_progress: OnProgress | None, cancelled: threading.Event | None
    ) -> list[Clip]:
        with self._told(shots.requests) as model:
            begun = time.perf_counter()
            taken = film_in_sequence(model, shots, settings, on_progress, cancelled)
            with torch.no_grad():
                videos = [video_as_frames(model.decode(shot.latents))[0] for shot in taken.values()]
            spent = (time.perf_counter() - begun) / len(taken)
        return [
            self._clip(
                shots.requests[place],
                frames,
                composition=shot.composition,
                notes=shot.notes,
                cut=shot.cut,
                seconds=spent,
            )
            for (place, shot), frames in zip(taken.items(), videos, strict=True)
        ]

    def _steering(self, request: ShotRequest) -> dict[str, Any]:
        """Settings of a set: who finds the subject."""
        if self._clipseg:
            return {"segmenter": self._open_clipseg()}
        fits = (request.width, request.height) == (self.limits.width, self.limits.height)
        return {"segmenter": self.segmenter} if self.segmenter is not None and fits else {}

    def _open_clipseg(self) -> Segmenter:
        """Opened for the first set, and gone with the model."""
        from generators.segmenters.clipseg import CLIPSegSegmenter  # slow to import

        if self._opened is None:
            self._opened = CLIPSegSegmenter(self._clipseg, device=self._device)
        return self._opened

    def watched(
        self, request: ShotRequest, cancelled: threading.Event | None = None
    ) -> tuple[Clip, tuple[Control, ...]]:
        """One clip, and its controls as they stand after the last step: some keep what they saw. Raises as `shoot`."""
        check_limits(request, self.limits)
        (clip,), taken = self._film([request], self._batch(request).settings, None, cancelled)
        return clip, taken.controls[0]

    def close(self) -> None:
        """Let go of the model and of the device's memory."""
        self.model = self._opened = None
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
        with self._told(requests) as model:
            begun = time.perf_counter()
            taken = sample(model, requests, settings, on_step=on_step, cancelled=cancelled)
            videos = _decoded(model, taken)
            spent = (time.perf_counter() - begun) / len(requests)
        composition = tuple(request.digest() for request in requests)
        clips = [
            self._clip(
                request,
                frames,
                composition=composition,
                notes=(*taken.start.notes, *(note for control in taken.controls[i] for note in control.notes)),
                cut=taken.text.maps[i].cut,
                seconds=spent,
            )
            for i, (request, frames) in enumerate(zip(requests, videos, strict=True))
        ]
        return clips, taken

    def _clip(
        self,
        request: ShotRequest,
        frames: Frames,
        *,
        composition: tuple[str, ...],
        notes: tuple[str, ...],
        cut: bool,
        seconds: float,
    ) -> Clip:
        """One clip of what was sampled; `cut` says that its prompt was longer than the model reads."""
        return make_clip(
            request,
            keep(frames, request.given),
            model=self.name,
            composition=composition,
            seconds_spent=seconds,
            weights=self.weights,
            notes=notes + _cut_notes(cut),
        )

    @contextmanager
    def _told(self, requests: Sequence[ShotRequest]) -> Iterator[VideoModel]:
        """The model; running out of memory meanwhile is told as OutOfMemory. Raises BackendUnavailable when closed."""
        if self.model is None:
            raise BackendUnavailable(f"{self.name}: this backend was closed; open it again")
        try:
            yield self.model
        except torch.OutOfMemoryError as error:
            raise OutOfMemory(
                f"{self.name} ran out of memory on {self.model.device} with {len(requests)} clips of "
                f"{requests[0].width}x{requests[0].height}, {requests[0].frames} frames: film a smaller size, fewer at "
                "once, or offload"
            ) from error


def _decoded(model: VideoModel, taken: Sample | CastSample, wanted: Sequence[int] | None = None) -> list[Frames]:
    """Frames of all clips, or of the wanted ones."""
    with torch.no_grad():
        if wanted is None:
            return list(video_as_frames(model.decode(taken.latents, taken.start.generators)))
        own = tuple(taken.start.generators[i] for i in wanted if taken.start.generators)
        return list(video_as_frames(model.decode(taken.latents[list(wanted)], own)))


def _cut_notes(cut: bool) -> tuple[str, ...]:
    return ("the prompt is longer than the model reads; its end was cut off",) if cut else ()
