"""Motion by Queries (arXiv 2412.07750): the queries of a clip's self-attention move another prompt's clip.

The source clip, noised to a step's level, is shown to the model with a prompt of its own; what its self-attention asks
(the queries, norm and positions applied) then stands in the place of what the new clip would ask:

    Q_l <- (1 - strength) Q_l + strength Q_l^source        in the first part of the steps, conditional branch

Both clips lie on one grid of tokens: the source's *frames* are made to fit, never its queries. Passes over the source
are made when a step first needs them and only the newest is kept, so that memory holds the queries of one noise level,
however many are recorded. Settings by family, and what they cost: docs/methods/motion-queries.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from generators.controls.base import Alone, AttentionCall, Control, Probe, Shot, Step, share_of_steps
from generators.controls.config import MotionQueries
from generators.controls.motion_source import SourceClip, fitted
from generators.controls.noise_windows import Window, ddpm_window
from generators.errors import ControlRejected
from generators.models.base import Branch, Family, SeesClips, Site, VideoModel
from generators.models.stepping import Stepper


@dataclass(frozen=True, kw_only=True)
class Habits:
    """What is published for a family; ours where nothing is."""

    layers: Literal["all", "last third"]
    record: Literal["one", "each"]
    steps: float | None = None
    window: Window | None = None
    values: Literal["own", "channels", "layer"] = "own"
    seed: Literal["request", "other"] = "other"
    renoise: int = 0


FAMILIES: dict[Family, Habits] = {
    "wan": Habits(layers="last third", record="one", steps=0.58),
    "ltx": Habits(layers="all", record="each", steps=0.4, values="channels", seed="request"),
    "unet": Habits(layers="all", record="each", window=ddpm_window(600), renoise=2),
    "cogvideox": Habits(layers="last third", record="one", window=ddpm_window(600)),
}
NOTHING_BUT_NOISE = 0.999
"""The noise level above which a look at the source sees none of it."""


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What one attention asked while it looked at the source."""

    q: Tensor
    """As in the call: (1, H, N, D), or (F, H, N, D) where attention is within frames."""
    mean: Tensor | None = None
    spread: Tensor | None = None
    """Of its values: (1, H, 1, D) by channel, (1, 1, 1, 1) for all of the layer."""

    @property
    def bytes(self) -> int:
        """Memory it holds."""
        return sum(x.numel() * x.element_size() for x in (self.q, self.mean, self.spread) if x is not None)


class MotionSteering(Control):
    """Motion by Queries on one request. Raises ControlRejected where it could not act.

    After a run, `passes` counts the passes over the source and `most_bytes` the memory that its queries took.
    """

    name = "MotionQueries"
    replaces_queries = True
    makes_passes = True

    def __init__(self, config: MotionQueries, shot: Shot) -> None:
        super().__init__(shot)
        self.config = config
        if not any(self.at(site) for site in shot.sites):
            raise ControlRejected("MotionQueries: this model has no self-attention over a frame or a clip to steer")
        self.frames = fitted(config.frames, shot.request.frames, shot.request.height, shot.request.width, config.timing)
        self.passes = 0
        self.most_bytes = 0
        self.steered: tuple[int, ...] = ()
        """Numbers of the steps that are steered."""
        self.looks: Mapping[int, int] = {}
        """For each of them, the step at whose noise level the source is looked at."""
        self._layers: frozenset[int] = frozenset()
        self._heard: dict[Site, Heard] = {}
        self._newest: int | None = None
        self._listens = False
        self._own: Tensor | None = None

    def begin_with(self, model: VideoModel, alone: Alone) -> None:
        """Encode the source, and look at it for the first steered step."""
        if not isinstance(model, SeesClips):
            raise ControlRejected(
                f"MotionQueries: {type(model).__name__} cannot be shown a clip yet (it lacks encode_clip); "
                f"expected a model of {', '.join(FAMILIES)} that can"
            )
        self.settings = resolved(self.config, model.family)
        self._layers = chosen_layers(self.settings.layers, self.shot.sites)
        stepper = model.stepper(self.shot.steps, self.shot.layout)
        levels = noise_levels(stepper)
        self.steered = steered_steps(self.settings, levels)
        experts = [model.expert_at(t) for t in stepper.timesteps]
        self.looks = recorded_steps(self.settings, self.steered, levels, experts)
        if all(levels[step] > NOTHING_BUT_NOISE for step in self.looks.values()):
            raise ControlRejected(
                f"MotionQueries: of {len(levels)} steps those that are steered read nothing but noise (a level above "
                f"{NOTHING_BUT_NOISE}), in which nothing of the source's motion shows; steer a larger share of them "
                "(`steps`, --motion-share), film more steps, or look at the source at a `level` with less noise"
            )
        self._source = SourceClip(model, self.frames, self.shot, self.settings, alone)
        self.passes += self.settings.renoise or 0
        self._own = self._held_rows() if self._source.holds_given else None
        self._look(self.steered[0])

    def at(self, site: Site) -> bool:
        """Self-attention of a clip, or of each frame."""
        return site.kind in ("self", "joint")

    def acts(self, step: Step, branch: Branch) -> bool:
        """Conditional branch, in the steered steps; and to listen."""
        return branch is Branch.COND and (self._listens or step.index in self.looks)

    def acts_at(self, site: Site, step: Step, branch: Branch) -> bool:
        """Only the chosen layers."""
        return site.layer in self._layers and self.at(site) and self.acts(step, branch)

    def before_step_with(self, step: Step, latents: Tensor, probe: Probe) -> Tensor:
        """Look at the source where this step needs another noise level; forget it after the last steered step."""
        if step.index in self.looks:
            self._look(step.index)
        elif self.steered and step.index > self.steered[-1]:
            self._heard.clear()
        return latents

    def edit(self, call: AttentionCall) -> AttentionCall:
        """Remember the source's queries, or ask them."""
        if self._listens:
            self._heard[call.site] = self._hear(call)
            return call
        if self.looks[call.step.index] != self._newest:
            raise ControlRejected(
                "MotionQueries: another control reads this step before its source is looked at; name MotionQueries "
                "first among the request's controls"
            )
        heard = self._heard[call.site]
        q = heard.q if self.config.strength == 1 else torch.lerp(call.q, heard.q, self.config.strength)
        if self._own is not None:
            q = torch.where(_over(call, self._own), call.q, q)
        return replace(call, q=q, v=_moved(call, heard))

    def _look(self, step: int) -> None:
        wanted = self.looks[step]
        if wanted == self._newest:
            return
        self._heard.clear()
        self._listens, self._newest = True, None
        try:
            self._source.look(wanted)
        finally:
            self._listens = False
        self._newest = wanted
        self.passes += 1
        self.most_bytes = max(self.most_bytes, sum(heard.bytes for heard in self._heard.values()))

    def _hear(self, call: AttentionCall) -> Heard:
        if self.settings.values == "own":
            return Heard(q=call.q)
        mean, spread = _moments(_video(call), over_channels=self.settings.values == "layer")
        return Heard(q=call.q, mean=mean, spread=spread)

    def _held_rows(self) -> Tensor | None:
        """Which steps of the token grid in time hold given frames, (F,); None when none does."""
        shot = self.shot
        held = shot.timeline.held(range(given.first, given.last) for given in shot.request.given)
        rows = [held[shot.layout.latent(step)] for step in range(shot.layout.grid[0])]
        return torch.tensor(rows, device=shot.device) if any(rows) else None


def resolved(config: MotionQueries, family: Family) -> MotionQueries:
    """The settings with the family's in the place of None."""
    habits = FAMILIES[family]
    found: dict[str, Any] = {
        name: getattr(habits, name) for name in ("layers", "values", "seed", "renoise") if getattr(config, name) is None
    }
    if config.steps is None and config.window is None:
        found |= {"steps": habits.steps, "window": habits.window}
    if config.record is None:
        found["record"] = habits.record if config.level is None else "one"
    return replace(config, **found)


def chosen_layers(
    layers: Literal["all", "last third"] | tuple[int, ...] | None, sites: Sequence[Site]
) -> frozenset[int]:
    """Numbers of the steered layers: the last third of 30 is 20..29. Raises ControlRejected for one that is missing."""
    there = {site.layer for site in sites if site.kind in ("self", "joint")}
    if isinstance(layers, tuple):
        if not there.issuperset(layers):
            raise ControlRejected(f"MotionQueries.layers: expected some of 0..{max(there)}, got {layers}")
        return frozenset(layers)
    first = 0 if layers == "all" else min(-(-2 * (max(there) + 1) // 3), max(there))
    return frozenset(layer for layer in there if layer >= first)


def noise_levels(stepper: Stepper) -> list[float]:
    """Of each step, as rectified flow counts them: those of diffusion by their signal-to-noise ratio."""
    shares = [min(stepper.sigma(i), 1.0) for i in range(len(stepper.timesteps))]
    return shares if stepper.is_flow else [share / (share + (1 - share**2) ** 0.5) for share in shares]


def steered_steps(settings: MotionQueries, levels: Sequence[float]) -> tuple[int, ...]:
    """Numbers of the steered steps. Raises ControlRejected when no step lies in the window."""
    if settings.window is None:
        return tuple(range(share_of_steps(settings.steps or 0, len(levels))))
    low, high = settings.window
    found = tuple(i for i, level in enumerate(levels) if low <= level <= high)
    if not found:
        shown = ", ".join(f"{level:.3f}" for level in levels)
        raise ControlRejected(f"MotionQueries.window: no step lies in {low:.3f}..{high:.3f}; the steps are at {shown}")
    return found


def recorded_steps(
    settings: MotionQueries, steered: Sequence[int], levels: Sequence[float], experts: Sequence[int]
) -> dict[int, int]:
    """For each steered step, the step at whose noise level the source is looked at: one for each network, or each."""
    if settings.record == "each":
        return {step: step for step in steered}
    found: dict[int, int] = {}
    for expert in {experts[step] for step in steered}:
        own = [step for step in steered if experts[step] == expert]
        level = levels[own[-1]] if settings.level is None else settings.level
        within = [step for step in range(len(levels)) if experts[step] == expert]
        found |= dict.fromkeys(own, min(within, key=lambda step: abs(levels[step] - level)))
    return found


def _video(call: AttentionCall) -> Tensor:
    """Values of video tokens, without those of text."""
    return call.v if call.text is None else call.v[:, :, call.text.stop :]


def _moments(v_PHMD: Tensor, *, over_channels: bool) -> tuple[Tensor, Tensor]:
    """Mean and spread of values over all tokens, of each channel of each head or of all of them, float32."""
    dims = (0, 1, 2, 3) if over_channels else (0, 2)
    spread, mean = torch.std_mean(v_PHMD.float(), dim=dims, correction=0, keepdim=True)
    return mean, spread


def _moved(call: AttentionCall, heard: Heard) -> Tensor:
    """Values with the source's mean and spread: `(v - mean) / spread * spread_s + mean_s`."""
    if heard.mean is None or heard.spread is None:
        return call.v
    v = _video(call)
    mean, spread = _moments(v, over_channels=heard.mean.shape[-1] == 1)
    moved = ((v.float() - mean) / spread.clamp_min(1e-6) * heard.spread + heard.mean).to(v.dtype)
    return moved if call.text is None else torch.cat([call.v[:, :, : call.text.stop], moved], dim=2)


def _over(call: AttentionCall, rows_F: Tensor) -> Tensor:
    """Which queries belong to these steps in time, as a mask that fits the call's."""
    if call.q.shape[0] == len(rows_F) > 1:
        return rows_F.view(-1, 1, 1, 1)
    return rows_F.repeat_interleave(call.q.shape[2] // len(rows_F)).view(1, 1, -1, 1)
