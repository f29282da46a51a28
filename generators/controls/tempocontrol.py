"""TempoControl (arXiv 2510.02226): latents are moved, early on, until words are attended to when they should show.

At each of the first steps the conditional pass is read, with gradients to the latents, as far as its text attention
tells the time; the latents follow that gradient for a few moves; then the step is taken. Where this differs from the
released code: docs/methods/tempocontrol.md; `TempoControl.official` is the released code.

W words, F steps of the token grid in time, H x W tokens of one, L layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from generators.controls.base import Control, Probe, Shot, Step, share_of_steps
from generators.controls.config import TempoControl, Word
from generators.controls.tempo_losses import PUBLISHED_TOKENS, Weights, correlation, objective
from generators.controls.tempo_readout import WordColumns, padding_counts, telling_prefix, word_attention
from generators.controls.tempo_targets import presence, words_of_events
from generators.errors import ControlRejected, GenerationError
from generators.models.base import Layout
from generators.tokens import TextMap

SHORTEST = 4
"""Steps of the token grid: correlation leaves out the first and the last, and needs two."""


@dataclass(frozen=True, kw_only=True)
class TempoLog:
    """What happened at one step."""

    step: int
    correlations: tuple[tuple[float, ...], ...]
    """Of each word, at each reading."""
    objectives: tuple[float, ...]
    """Before each move."""
    moved: float
    """Size of all moves over that of the latents."""


class TempoSteering(Control):
    """TempoControl on one request. Raises ControlRejected where it could not act."""

    name = "TempoControl"
    edits_latents = True
    probes = True
    reads_words = True

    def __init__(self, config: TempoControl, shot: Shot) -> None:
        super().__init__(shot)
        self.config = config
        self.edits_survive = config.survive
        self.last_step = share_of_steps(config.steps, shot.steps)
        self.words = config.words or words_of_events(shot.request.events, shot.text, config.mentions)
        self.targets_WF = plan_targets(self.words, shot)
        self.columns = WordColumns.of([word_columns(word, config, shot.text) for word in self.words], shot.device)
        interior = self.targets_WF[:, 1:-1]
        self.timed = tuple(bool(row.amax() - row.amin() > 1e-6) for row in interior)
        self.layers = self._all_layers()
        self._measured = config.layers != "measured"
        self._padding: dict[int, Tensor | None] = {}
        self.log: list[TempoLog] = []

    def before_step_with(self, step: Step, latents: Tensor, probe: Probe) -> Tensor:
        """Latents moved at the step's own noise level."""
        return self._moved(step, latents, probe) if self._acts_at(step, "before") else latents

    def after_step_with(self, step: Step, latents: Tensor, probe: Probe) -> Tensor:
        """Latents moved after the step, read at the level it started from: the released code's order."""
        return self._moved(step, latents, probe) if self._acts_at(step, "after") else latents

    def _acts_at(self, step: Step, when: str) -> bool:
        return self.config.order == when and step.index < self.last_step

    def _all_layers(self) -> tuple[int, ...]:
        found = tuple(s.layer for s in self.shot.sites if s.expert == 0 and s.kind in ("cross", "joint"))
        if not found:
            raise ControlRejected("TempoControl: this model has no text attention to read")
        if not isinstance(self.config.layers, int):
            return found
        if self.config.layers > len(found):
            raise ControlRejected(f"TempoControl.layers: expected at most {len(found)}, got {self.config.layers}")
        return found[: self.config.layers]

    def _moved(self, step: Step, latents: Tensor, probe: Probe) -> Tensor:
        """The loop of the method: read, stop when it is enough, else one move of AdamW; at most `iterations` times."""
        config = self.config
        self._measure(latents, probe)
        moving = latents.detach().to(torch.promote_types(latents.dtype, torch.float32), copy=True).requires_grad_()
        optimiser = torch.optim.AdamW([moving], lr=config.rate, weight_decay=config.decay)
        seen: list[tuple[float, ...]] = []
        values: list[float] = []
        with torch.enable_grad():
            for _ in range(config.iterations):
                maps_WFHW = self._maps(moving, probe)
                seen.append(self._correlations(maps_WFHW.detach()))
                if self._is_enough(seen[-1]):
                    break
                loss = self._objective(maps_WFHW)
                values.append(_finite(float(loss.detach()), step))
                (moving.grad,) = torch.autograd.grad(loss, moving)
                optimiser.step()
        moved = moving.detach().to(latents.dtype)
        size = float((moved - latents).norm() / latents.norm())
        self.log.append(
            TempoLog(step=step.index, correlations=tuple(seen), objectives=tuple(values), moved=size if values else 0.0)
        )
        return moved if values else latents

    def _measure(self, latents: Tensor, probe: Probe) -> None:
        """Once: read every layer and keep the first ones that tell the time as all of them do."""
        if self._measured:
            return
        with torch.no_grad():
            maps_LWFHW = torch.stack(probe(latents, self.layers, self._read)).unflatten(2, self.shot.layout.grid)
        self.layers = self.layers[: telling_prefix(maps_LWFHW)]
        self._measured = True

    def _maps(self, latents: Tensor, probe: Probe) -> Tensor:
        """Attention to each word, over the layers that are read: (W, F, H, W)."""
        layers = probe(latents, self.layers, self._read, recompute=self.config.recompute)
        published = self.config.scale == "published" and len(layers) > 1
        total = torch.stack(layers).sum(0) / (len(layers) - 1 if published else len(layers))
        maps: Tensor = total.unflatten(1, self.shot.layout.grid)
        return maps

    def _read(self, layer: int, q_BHND: Tensor, k_BHMD: Tensor) -> Tensor:
        """A `Reader`: (W, N)."""
        if layer not in self._padding:  # text stays the same, so each layer is asked once: asking waits for the device
            self._padding[layer] = padding_counts(k_BHMD, self.shot.text.tokens)
        counts = self._padding[layer]
        k = k_BHMD if counts is None else k_BHMD[:, :, : len(counts)]
        return word_attention(q_BHND, k, self.columns, counts_M=counts)[0]

    def _objective(self, maps_WFHW: Tensor) -> Tensor:
        config = self.config
        weights = Weights(correlation=config.correlation, magnitude=config.magnitude, focus=config.focus)
        tokens = None if config.scale == "published" else PUBLISHED_TOKENS
        return objective(maps_WFHW, self.targets_WF.to(maps_WFHW.dtype), weights, tokens=tokens)

    def _correlations(self, maps_WFHW: Tensor) -> tuple[float, ...]:
        targets = self.targets_WF.to(maps_WFHW.dtype)
        return tuple(float(correlation(maps, target)) for maps, target in zip(maps_WFHW, targets, strict=True))

    def _is_enough(self, correlations: tuple[float, ...]) -> bool:
        """Whether the words that have a time are on it; words that stay all the time have none to be on."""
        if self.config.stop == "first":
            return correlations[0] > self.config.enough
        timed = [value for value, is_timed in zip(correlations, self.timed, strict=True) if is_timed]
        return bool(timed) and min(timed) > self.config.enough


def plan_targets(words: tuple[Word, ...], shot: Shot) -> Tensor:
    """Presence of each word at each step of the token grid, float64 (W, F)."""
    if not words:
        raise ControlRejected("TempoControl: expected words, or a request with at least one event, got neither")
    steps = shot.layout.grid[0]
    if steps < SHORTEST:
        raise ControlRejected(
            f"TempoControl: expected a clip of at least {SHORTEST} steps in time, got {steps}; film more frames"
        )
    per_latent = torch.tensor([presence(word, shot.timeline).tolist() for word in words], dtype=torch.float64)
    packed = [per_latent[:, _latents_of(step, shot.layout)].mean(1) for step in range(steps)]
    return torch.stack(packed, dim=1).to(shot.device)


def _latents_of(step: int, layout: Layout) -> slice:
    """The clip's own latent frames in one step of the token grid."""
    last = layout.latent(step)
    return slice(max(last - layout.patch[0] + 1, 0), last + 1)


def word_columns(word: Word, config: TempoControl, text: TextMap) -> tuple[int, ...]:
    """Token columns of a word: one mention, or all. Raises ControlRejected when the prompt lacks it or is cut there."""
    what = "TempoControl word"
    if config.mentions == "substrings":
        return text.letters(word.text, what=what)
    if word.occurrence is None:
        return text.mentions(word.text, what=what)
    return text.columns(word.text, occurrence=word.occurrence, what=what)


def _finite(value: float, step: Step) -> float:
    if not math.isfinite(value):
        raise GenerationError(f"TempoControl: the objective became {value} at step {step.index}; lower its rate")
    return value
