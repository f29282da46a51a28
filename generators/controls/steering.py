"""The phases of one controlled attention, which `base.py` lists: what acts is told there, here it is carried out.

Knows keys, queries and controls; no model, no step of a schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from generators.attention import Bias, attend, merge
from generators.attention_bands import FactoredBias, attend_factored
from generators.attention_plain import attend_plain
from generators.controls.base import AttentionCall, Control, Run
from generators.controls.frame_text import FrameText
from generators.errors import ControlRejected
from generators.models.base import Site

Project = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""Texts (g, M, D) as the encoder gave them -> keys, values, raw keys, each (g, H, M, d), of one cross-attention."""


def steers(controls: Sequence[Control]) -> bool:
    """Whether any of those who act on a row may change it; else its output stays that of stock attention."""
    return not all(control.looks_only for control in controls)


def steer(call: AttentionCall, controls: Sequence[Control], project: Project | None = None) -> Tensor:
    """Run the phases of one controlled attention: (1, H, N, D).

    `project` is for text per frame. Raises ControlRejected where a control wants that and the family has none.
    """
    for control in controls:
        text = control.frame_text(call.site)
        if text is not None and project is None:
            raise ControlRejected(f"{control.name}: this model's attention cannot read a text of each frame")
        if text is not None and project is not None:
            return _by_frame(call, controls, text, project)
    return _steered(call, controls)


def join(run: Run, acting: Mapping[int, Sequence[Control]], site: Site, outs_BHND: Tensor) -> None:
    """The last phase, in place: outputs of all rows of the pass that a control edits beside each other."""
    made: dict[int, Tensor] = {}
    for row, controls in acting.items():
        for control in controls:
            new = control.among(site, run.step, row, outs_BHND)
            if new is None:
                continue
            if control.in_turn:
                outs_BHND[row] = new
            else:
                made[row] = new
    for row, new in made.items():
        outs_BHND[row] = new


def _by_frame(call: AttentionCall, controls: Sequence[Control], text: FrameText, project: Project) -> Tensor:
    """Every group of frames attends to its own text; what several groups give a frame is summed by their weights."""
    q, raw_q = (x.unflatten(2, (call.layout.grid[0], -1)).transpose(1, 2)[0] for x in (call.q, call.raw_q))
    out = torch.zeros_like(q)
    for frames, states, weights, counts in text.groups():
        k, v, raw_k = project(states)
        q_n, raw_n = q[frames], raw_q[frames]
        if len(k) != len(frames):  # one text for all: their rows are one sequence
            q_n, raw_n = (x.transpose(0, 1).flatten(1, 2).unsqueeze(0) for x in (q_n, raw_n))
        own = replace(call, q=q_n, k=k, v=v, raw_q=raw_n, raw_k=raw_k, counts=counts)
        made = _steered(own, controls)
        if len(k) != len(frames):
            made = made[0].unflatten(1, (len(frames), -1)).transpose(0, 1)
        out[frames] += weights.to(out.dtype).view(-1, 1, 1, 1) * made
    return out.transpose(0, 1).flatten(1, 2).unsqueeze(0)


def _steered(call: AttentionCall, controls: Sequence[Control]) -> Tensor:
    for control in controls:
        call = control.edit(call)
    biases = _biases(call.over("text"), controls)
    result = _attended(call.over("text"), biases)
    if call.text is not None:
        video = call.over("video")
        result = merge(result, _attended(video, _biases(video, controls)))
    for control in controls:
        for k, v in control.extra(call):
            result = merge(result, attend(call.q, k, v))
        for part in control.parts(call):
            result = merge(result, part)
    out, lse = result
    for control in controls:
        out = control.output(call, out)
    seen = replace(call, biases=biases)
    for control in controls:
        control.observe(seen, out, lse)
    return out


def _biases(call: AttentionCall, controls: Sequence[Control]) -> Sequence[Bias]:
    return [bias for control in controls for bias in control.biases(call)]


def _attended(call: AttentionCall, biases: Sequence[Bias]) -> tuple[Tensor, Tensor]:
    if not biases and call.counts is None:
        return attend_plain(call.q, call.k, call.v)
    factored = [bias for bias in biases if isinstance(bias, FactoredBias)]
    if len(factored) == len(biases) and call.counts is None:
        return attend_factored(call.q, call.k, call.v, factored)
    return attend(call.q, call.k, call.v, biases, counts_M=call.counts)


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
