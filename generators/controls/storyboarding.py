"""Video Storyboarding (arXiv 2412.07750 v1): shots of one batch share their subject, each keeps its own motion.

Every shot rides twice in one lock-step batch: as it is, and steered. In the same pass a steered row reads its plain
copy's queries (early), or the copy's correspondences between keyframes (later), so that nothing is cached; and the keys
and values of the anchors' subject, frame by frame. Both branches of guidance, each within its own. What the subject
covers comes from the clean frames that a step was heading for, or, without a segmenter, from attention to its words.
Refinement injection is arithmetic in `storyboarding_maths` and no part of this: docs/methods/storyboarding.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from generators.attention import column_mass
from generators.clip import ShotRequest
from generators.controls.base import AttentionCall, Control, Shot, Step
from generators.controls.config import Window
from generators.controls.motion_queries import noise_levels
from generators.controls.storyboarding_config import Storyboarding
from generators.controls.storyboarding_maths import (
    Anchor,
    clean_estimate,
    dropped,
    flow_maps,
    flow_queries,
    key_frames,
    mask_tokens,
    subject_attention,
    subject_tokens,
)
from generators.errors import ControlRejected
from generators.models.base import Branch, Site, VideoModel


def storyboard(
    requests: Sequence[ShotRequest], subjects: Sequence[str], *, anchors: int = 2, **settings: Any
) -> list[ShotRequest]:
    """One batch of every shot as it is, then every shot steered: film all, keep the second half.

    `subjects` are words of each shot's own prompt; the first `anchors` shots are read by all.
    """
    count = len(requests)
    if len(subjects) != count or not 1 <= anchors <= count:
        raise ControlRejected(
            f"storyboard: expected a subject for each of {count} shots and 1 to {count} anchors, "
            f"got {len(subjects)} and {anchors}"
        )
    steered = [
        replace(
            request,
            controls=(
                *request.controls,
                Storyboarding(
                    place=count + shot,
                    vanilla=shot,
                    anchors=tuple(range(count, count + anchors)),
                    subject=subject,
                    **settings,
                ),
            ),
        )
        for shot, (request, subject) in enumerate(zip(requests, subjects, strict=True))
    ]
    return [*requests, *steered]


class StoryboardSteering(Control):
    """Video Storyboarding on one steered shot. Raises ControlRejected where it could not act."""

    acts_in_probes = False

    def __init__(self, config: Storyboarding, shot: Shot) -> None:
        super().__init__(shot)
        self.config = config
        self.frames = shot.layout.grid[0]
        self.keys = key_frames(self.frames, config.keyframes)
        self.mask: Tensor | None = None
        """Where the subject is, (N,) bool; None before the first step."""
        self.dilution = self.frames**0.5 if config.dilution is None else config.dilution
        kinds = {site.kind for site in shot.sites}
        if "temporal" in kinds or not kinds & {"self", "joint"}:
            raise ControlRejected("Storyboarding: expected a model whose self-attention sees the whole clip")
        self._query_layers = self._layers(config.query_layers, 2 / 3)
        self._share_layers = self._layers(config.share_layers, 1 / 3)
        needs_words = config.segmenter is None and config.share is not None
        self.reads_words = needs_words
        self._columns = torch.tensor(shot.text.columns(config.subject), device=shot.device) if needs_words else None
        self._maps: list[Tensor] = []
        self._before: Tensor | None = None
        self._others: list[StoryboardSteering] = []

    def meet(self, everyone: Sequence[Sequence[Control]]) -> None:
        """Find the anchors among the batch."""
        config = self.config
        if max(config.place, config.vanilla, *config.anchors) >= len(everyone) or self not in everyone[config.place]:
            raise ControlRejected(
                f"Storyboarding: expected to stand at place {config.place} of a batch with places "
                f"{sorted({config.vanilla, *config.anchors})}; this one has {len(everyone)}: `storyboard` makes it"
            )
        found = {place: [c for c in everyone[place] if isinstance(c, StoryboardSteering)] for place in config.anchors}
        missing = [place for place, controls in found.items() if not controls]
        if missing:
            raise ControlRejected(f"Storyboarding.anchors: expected steered shots, request {missing[0]} is not one")
        self._others = [controls[0] for place, controls in found.items() if place != config.place]

    def begin(self, model: VideoModel) -> None:
        """Which steps are steered, and how the model decodes."""
        self._model = model
        stepper = model.stepper(self.shot.steps, self.shot.layout)
        self._is_flow = stepper.is_flow
        self._sigmas = [stepper.sigma(i) for i in range(len(stepper.timesteps))] + [0.0]
        levels = noise_levels(stepper)
        self.preserved, self.led, self.shared = (
            _within(window, levels, name)
            for name, window in (
                ("preserve", self.config.preserve),
                ("flow", self.config.flow),
                ("share", self.config.share),
            )
        )

    def at(self, site: Site) -> bool:
        """Self-attention of the chosen layers; text attention, to see the subject."""
        if self._columns is not None and site.kind in ("cross", "joint"):
            return True
        return site.kind in ("self", "joint") and site.layer in self._query_layers | self._share_layers

    def acts(self, step: Step, branch: Branch) -> bool:
        """Both branches."""
        return True

    def acts_at(self, site: Site, step: Step, branch: Branch) -> bool:
        """Each part in its own layers and steps."""
        if site.kind not in ("self", "joint") or not self.at(site):
            return self._watches(site, step, branch)
        queries = site.layer in self._query_layers and step.index in self.preserved | self.led
        shares = site.layer in self._share_layers and step.index in self.shared
        return queries or shares or self._watches(site, step, branch)

    def edit(self, call: AttentionCall) -> AttentionCall:
        """The plain copy's queries, or the own ones led along its correspondences."""
        if call.site.kind == "cross" or call.site.layer not in self._query_layers:
            return call
        if call.step.index in self.preserved:
            q = self._row(call, self.config.vanilla, 0)
        elif call.step.index in self.led:
            q = self._led(call)
        else:
            return call
        return replace(call, q=self._with_dropout(call, q))

    def parts(self, call: AttentionCall) -> Sequence[tuple[Tensor, Tensor]]:
        """Every frame's look at the anchors' subject in the same frame."""
        shares = call.site.layer in self._share_layers and call.step.index in self.shared
        anchors = [other for other in self._others if other.mask is not None]
        if call.site.kind == "cross" or not shares or not anchors:
            return ()
        video = slice(0 if call.text is None else call.text.stop, None)
        read = []
        for anchor in anchors:
            k, v = (self._row(call, anchor.config.place, which)[0][:, video] for which in (1, 2))
            assert anchor.mask is not None
            read.append(Anchor(k, v, anchor.mask))
        return (subject_attention(call.q, read, self.frames, dilution=self.dilution),)

    def observe(self, call: AttentionCall, out_BHND: Tensor, lse_BHN: Tensor) -> None:
        """Add up the attention to the subject's words."""
        if self._columns is not None and self._watches(call.site, call.step, Branch.COND):
            text = call.over("text")
            if text.reads == "text":
                self._maps.append(column_mass(text.q, text.k, self._columns, counts_M=text.counts)[0])

    def before_step(self, step: Step, latents: Tensor) -> Tensor:
        """Remember where the step starts."""
        self._before = latents
        return latents

    def after_step(self, step: Step, latents: Tensor) -> Tensor:
        """See where the subject is, for the next step."""
        if step.index + 1 in self.shared:
            if self._maps:
                self.mask = subject_tokens(torch.stack(self._maps).mean(0).unflatten(0, self.shot.layout.grid))
            elif self.config.segmenter is not None and (self.mask is None or step.index % self.config.every == 0):
                self.mask = self._segmented(step, latents)
        self._maps.clear()
        self._before = None
        return latents

    def _segmented(self, step: Step, latents: Tensor) -> Tensor:
        assert self.config.segmenter is not None
        assert self._before is not None
        sigmas = self._sigmas[step.index], self._sigmas[step.index + 1]
        with torch.no_grad():
            video = self._model.decode(clean_estimate(self._before, latents, sigmas, flow=self._is_flow))[0]
        frames = (video.permute(0, 2, 3, 1).float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        mask = torch.from_numpy(self.config.segmenter(frames, self.config.subject)).to(self.shot.device)
        layout, timeline = self.shot.layout, self.shot.timeline
        groups = [timeline.pixels(layout.latent(step)) for step in range(self.frames)]
        return mask_tokens(mask, groups, layout.grid)

    def _watches(self, site: Site, step: Step, branch: Branch) -> bool:
        """Whether the attention to the subject's words is wanted here: in the steps before those that share."""
        wanted = self._columns is not None and step.index + 1 in self.shared
        return wanted and branch is Branch.COND and site.kind in ("cross", "joint")

    def _led(self, call: AttentionCall) -> Tensor:
        if call.raw_batch is None or call.place is None:
            raise ControlRejected("Storyboarding.flow: this family cannot move queries yet; use flow=None, or Wan")
        row = call.row - self.config.place + self.config.vanilla
        maps = flow_maps(call.raw_batch[row].transpose(0, 1).flatten(1), self.frames, self.keys)
        led = call.place(flow_queries(call.raw_q, maps, self.frames, self.config.weight))
        rows = [f for f in range(self.frames) if f not in self.keys]
        moved = torch.zeros(self.frames, dtype=torch.bool, device=call.q.device)
        moved[rows] = True
        return torch.where(moved.repeat_interleave(call.q.shape[2] // self.frames).view(1, 1, -1, 1), led, call.q)

    def _with_dropout(self, call: AttentionCall, q: Tensor) -> Tensor:
        if not self.config.dropout:
            return q
        own = dropped(
            q.shape[2], self.config.dropout, seed=self.shot.request.seed, step=call.step.index, layer=call.site.layer
        )
        return torch.where(own.to(q.device).view(1, 1, -1, 1), call.q, q)

    def _row(self, call: AttentionCall, place: int, which: int) -> Tensor:
        """Queries, keys or values (1, H, ., D) of another request in this branch of the pass."""
        if call.batch is None:
            raise ControlRejected("Storyboarding: this family's attention does not show a row its neighbours")
        row = call.row - self.config.place + place
        return call.batch[which][row : row + 1]

    def _layers(self, layers: str | tuple[int, ...], depth: float) -> frozenset[int]:
        """Layers from that share of the depth on, all, or those that are named."""
        there = {site.layer for site in self.shot.sites if site.kind in ("self", "joint")}
        if isinstance(layers, tuple):
            if not there.issuperset(layers):
                raise ControlRejected(f"Storyboarding: expected layers among 0..{max(there)}, got {layers}")
            return frozenset(layers)
        first = 0 if layers == "all" else min(math.ceil((max(there) + 1) * depth - 1e-9), max(there))
        return frozenset(layer for layer in there if layer >= first)


def _within(window: Window | None, levels: Sequence[float], name: str) -> frozenset[int]:
    if window is None:
        return frozenset()
    found = frozenset(i for i, level in enumerate(levels) if window[0] <= level <= window[1])
    if not found:
        raise ControlRejected(
            f"Storyboarding.{name}: no step lies in {window[0]:.3f}..{window[1]:.3f}; film more steps, or None is off"
        )
    return found
