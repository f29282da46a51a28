"""How a control takes hold of the denoiser, and lets go.

A control belongs to one request of a batch. The phases of one controlled attention, in this order:

    1. which rows            only the batch row of the control's own request, while `acts` and `at` say so
    2. edit q / k / v        `edit`
    3. biases                `biases`: computed from the unbiased logits, summed
    4. extra keys, values    `extra`: attended apart, merged by log-sum-exp
    5. edit the output       `output`
    6. observe               `observe`

and around a step `before_step` and `after_step`. Methods that need text per frame or timesteps per token will add their
phase between 1 and 2. What adds: biases, extra keys. What excludes: two controls of one class on one request. Controls
of a request act in the order in which the request names them. A site where nobody acts runs the processor that was
there before: idle steps cost nothing and change no bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from generators.attention import Bias, attend, merge
from generators.clip import ShotRequest
from generators.errors import ControlRejected
from generators.models.base import Branch, Layout, Site, VideoModel
from generators.timeline import Timeline
from generators.tokens import TextMap


@dataclass(frozen=True, kw_only=True)
class Shot:
    """What a control may know of its request before denoising starts."""

    request: ShotRequest
    text: TextMap
    timeline: Timeline
    layout: Layout
    steps: int
    sites: tuple[Site, ...]
    device: torch.device


@dataclass(frozen=True, kw_only=True)
class Step:
    """One denoising step, counted from 0, at noise level `sigma`."""

    index: int
    of: int
    sigma: float


@dataclass(frozen=True, kw_only=True)
class AttentionCall:
    """One attention of one request.

    q is (1, H, N, D), k and v are (1, H, M, D); the raw ones are as they were before the attention's own norm and
    before positions. `counts` (M,) says how many equal keys a column stands for; None means one.
    """

    site: Site
    step: Step
    row: int
    layout: Layout
    q: Tensor
    k: Tensor
    v: Tensor
    raw_q: Tensor
    raw_k: Tensor
    counts: Tensor | None = None
    batch: tuple[Tensor, Tensor, Tensor] | None = None
    """q, k, v of all rows of the pass, (B, H, N or M, D), for methods that read a neighbour."""


class Control:
    """One method on one request. Every hook is optional; what a subclass does not override does nothing."""

    edits_latents = False
    """Whether `before_step` or `after_step` change latents: multistep schedulers would throw that away."""

    def __init__(self, shot: Shot) -> None:
        self.shot = shot

    def acts(self, step: Step, branch: Branch) -> bool:
        """Whether this step and guidance branch are the control's own."""
        return branch is Branch.COND

    def at(self, site: Site) -> bool:
        """Whether this attention is the control's own."""
        return False

    def edit(self, call: AttentionCall) -> AttentionCall:
        """Queries, keys and values to use instead."""
        return call

    def biases(self, call: AttentionCall) -> Sequence[Bias]:
        """What to add to the logits."""
        return ()

    def extra(self, call: AttentionCall) -> Sequence[tuple[Tensor, Tensor]]:
        """Keys and values (1, H, M', D) to attend to beside the call's own."""
        return ()

    def output(self, call: AttentionCall, out_BHND: Tensor) -> Tensor:
        """The attention's output to use instead."""
        return out_BHND

    def observe(self, call: AttentionCall, out_BHND: Tensor, lse_BHN: Tensor) -> None:
        """Look at what happened."""

    def before_step(self, step: Step, latents: Tensor) -> Tensor:
        """Latents (1, C, F, h, w) to predict from instead."""
        return latents

    def after_step(self, step: Step, latents: Tensor) -> Tensor:
        """Latents (1, C, F, h, w) to go on with instead."""
        return latents


def steer(call: AttentionCall, controls: Sequence[Control]) -> Tensor:
    """Run the phases of one controlled attention: (1, H, N, D)."""
    for control in controls:
        call = control.edit(call)
    biases = [bias for control in controls for bias in control.biases(call)]
    result = attend(call.q, call.k, call.v, biases, counts_M=call.counts)
    for control in controls:
        for k, v in control.extra(call):
            result = merge(result, attend(call.q, k, v))
    out, lse = result
    for control in controls:
        out = control.output(call, out)
    for control in controls:
        control.observe(call, out, lse)
    return out


def compact_padding(call: AttentionCall, tokens: int) -> AttentionCall:
    """The same call with all padding columns, which must be equal, as one column that counts for all of them.

    Columns of real tokens keep their numbers.
    """
    columns = call.k.shape[2]
    if columns <= tokens + 1:
        return call
    counts = torch.ones(tokens + 1, device=call.k.device)
    counts[-1] = columns - tokens
    kept = slice(tokens + 1)
    return replace(
        call,
        k=call.k[:, :, kept],
        v=call.v[:, :, kept],
        raw_k=call.raw_k[:, :, kept],
        counts=counts,
    )


class Run:
    """The context that the sampler and all processors of one batch share: who acts, here and now.

    A pass has a row for each request, or, where both branches of guidance are one pass, one for each branch of each.
    """

    def __init__(self, controls: Sequence[Sequence[Control]]) -> None:
        self.controls = tuple(tuple(of_request) for of_request in controls)
        self.step = Step(index=-1, of=0, sigma=1.0)
        self.branches: Sequence[Branch] = (Branch.COND,)

    def acting(self, site: Site) -> Mapping[int, Sequence[Control]]:
        """Controls that act at this site in this pass, by the pass's rows."""
        found = {
            number * len(self.controls) + request: [c for c in controls if c.at(site) and c.acts(self.step, branch)]
            for number, branch in enumerate(self.branches)
            for request, controls in enumerate(self.controls)
            if controls
        }
        return {row: controls for row, controls in found.items() if controls}

    def request(self, row: int) -> int:
        """The request behind a row of the pass."""
        return row % len(self.controls)

    def tokens(self, row: int) -> int:
        """Text columns of a row's prompt that are not padding."""
        return self.controls[self.request(row)][0].shot.text.tokens

    def layout(self, row: int) -> Layout:
        """How a row's clip lies in tokens."""
        return self.controls[self.request(row)][0].shot.layout

    def before_step(self, step: Step, latents: Tensor) -> Tensor:
        """Enter a step; the latents to predict from."""
        self.step = step
        return self._edited("before_step", latents)

    def after_step(self, latents: Tensor) -> Tensor:
        """Leave a step; the latents to go on with."""
        return self._edited("after_step", latents)

    def _edited(self, hook: str, latents: Tensor) -> Tensor:
        for request, controls in enumerate(self.controls):
            for control in controls:
                own = latents[request : request + 1]
                new = getattr(control, hook)(self.step, own)
                if new is not own:
                    latents = latents.clone()
                    latents[request] = new[0]
        return latents


@contextmanager
def attached(model: VideoModel, controls: Sequence[Sequence[Control]]) -> Iterator[Run]:
    """Controls of each request, on the model for as long as the block runs; gone after it, whatever happens.

    Raises ControlRejected when a request has two controls of one class, RuntimeError when the model has a holder.
    """
    for of_row in controls:
        _check(of_row)
    run = Run(controls)
    everyone = [control for of_row in run.controls for control in of_row]
    sites = [site for site in model.sites if any(control.at(site) for control in everyone)]
    with model.held():
        detach = model.attach(run, sites)
        try:
            yield run
        finally:
            detach()


def _check(controls: Sequence[Control]) -> None:
    kinds: set[type[Any]] = set()
    for control in controls:
        if type(control) in kinds:
            raise ControlRejected(f"controls: {type(control).__name__} is asked for twice on one request")
        kinds.add(type(control))
