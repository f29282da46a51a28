"""Video Storyboarding (arXiv 2412.07750 v1): shots of one batch share their subject, each keeps its own motion.

Every shot rides twice in one lock-step batch: as it is, and steered. In the same pass a steered row reads its plain
copy's queries (early), or the copy's correspondences between keyframes (later), so that nothing is cached; the keys
and values of the anchors' subject, frame by frame; and, in a second sweep, the anchors' outputs where the first found
the same part of the subject. Both branches of guidance, each within its own. `generators.cast` makes the sweeps.

UNets, for which it was published, are steered in their attention within frames. Masks are kept on the grid of the
latents and read on that of a level; refinement acts on one level alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from generators.clip import ShotRequest
from generators.controls.base import AttentionCall, Control, Shot, Step
from generators.controls.motion_queries import noise_levels
from generators.controls.noise_windows import Window
from generators.controls.storyboarding_config import Storyboarding
from generators.controls.storyboarding_maths import (
    Anchor,
    FlowMap,
    FlowMaps,
    Refinement,
    as_clip,
    as_frames,
    blended,
    dropped,
    flow_maps,
    flow_queries,
    key_frames,
    on_grid,
    subject_attention,
)
from generators.controls.storyboarding_subject import COARSE, UNSEEN, Sight
from generators.errors import ControlRejected
from generators.models.base import Branch, Site, VideoModel

Layers = str | tuple[int, ...]
DEPTHS = {"all": 0, "last two thirds": 1 / 3, "last third": 2 / 3}
"""The share of the depth from which on layers are steered."""
USUAL: Mapping[str, Layers] = {"query": "last third", "share": "last two thirds", "refine": "last two thirds"}
"""Of transformers."""


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


@dataclass(frozen=True, kw_only=True)
class Seats:
    """Where in the batch those are that a steered shot reads; `vanilla` of None: its plain copy does not ride along."""

    place: int
    vanilla: int | None
    anchors: tuple[int, ...]


class StoryboardSteering(Control):
    """Video Storyboarding on one steered shot. Raises ControlRejected where it could not act."""

    name = "Storyboarding"
    acts_in_probes = False

    def __init__(self, config: Storyboarding, shot: Shot) -> None:
        super().__init__(shot)
        self.config = config
        self.seats = Seats(place=config.place, vanilla=config.vanilla, anchors=config.anchors)
        self.frames = shot.layout.grid[0]
        self.keys = key_frames(self.frames, config.keyframes)
        self.mask: Tensor | None = None
        """Where the subject is in the step at hand, (N,) bool; None before the first look."""
        kinds = {site.kind for site in shot.sites}
        if not kinds & {"self", "joint"}:
            raise ControlRejected("Storyboarding: this model has no self-attention over a frame or a clip to steer")
        in_frames = "temporal" in kinds
        usual = _usual_in_frames(self._attentions) if in_frames else USUAL
        self._query_layers, self._share_layers, self._refine_layers = (
            self._layers(f"{part}_layers", usual[part]) for part in ("query", "share", "refine")
        )
        self.refined_level = self._refined_level()
        """How often height and width are halved in the layers that are refined."""
        own_keys = 1 if in_frames else self.frames
        self.dilution = own_keys**0.5 if config.dilution is None else config.dilution
        self.sight = Sight(config, shot)
        self.reads_words = self.sight.by_words
        self.replaces_queries = (config.preserve, config.flow) != (None, None)
        self.notes = (COARSE,) if self.sight.by_words else ()
        self.in_turn = config.order == "sequential"
        self.maps: FlowMaps | None = None
        """Where the plain copy's correspondences are kept, and read while it does not ride along."""
        self.keeps_from: int | None = None
        """The first step whose correspondences are kept."""
        self.refinement: Refinement | None = None
        """What the first sweep found; None while it is made."""
        self.in_sweeps = False
        """Whether somebody makes both sweeps."""
        self._others: list[StoryboardSteering] = []

    @property
    def refined_grid(self) -> tuple[int, int, int]:
        """Tokens of the layers that are refined, along time, height and width."""
        return self.shot.layout.halved(self.refined_level).grid

    def refined_mask(self) -> Tensor | None:
        """The newest mask, on that grid."""
        last = self.sight.last
        return None if last is None else on_grid(last, self.shot.layout.grid, self.refined_grid)

    def follow(self, first: StoryboardSteering, found: Refinement | None) -> None:
        """Go on where the first sweep stopped: its last mask, its correspondences, and what it found."""
        self.sight.known({} if first.sight.last is None else {0: first.sight.last})
        self.maps, self.refinement, self.in_sweeps = first.maps, found, True

    def meet(self, everyone: Sequence[Sequence[Control]]) -> None:
        """Find the anchors among the batch."""
        seats = self.seats
        places = {seats.place, *seats.anchors} | (set() if seats.vanilla is None else {seats.vanilla})
        if max(places) >= len(everyone) or self not in everyone[seats.place]:
            raise ControlRejected(
                f"Storyboarding: expected to stand at place {seats.place} of a batch with places "
                f"{sorted(places - {seats.place})}; this one has {len(everyone)}: `storyboard` makes it"
            )
        found = {place: [c for c in everyone[place] if isinstance(c, StoryboardSteering)] for place in seats.anchors}
        missing = [place for place, controls in found.items() if not controls]
        if missing:
            raise ControlRejected(f"Storyboarding.anchors: expected steered shots, request {missing[0]} is not one")
        self._others = [controls[0] for place, controls in found.items() if place != seats.place]

    def begin(self, model: VideoModel) -> None:
        """Which steps are steered, and how the model decodes."""
        if self.config.refine is not None and not self.in_sweeps:
            raise ControlRejected(
                "Storyboarding.refine: expected two sweeps, which generators.cast.sample_cast makes, got one batch; "
                "film with it, or use refine=None"
            )
        stepper = model.stepper(self.shot.steps, self.shot.layout)
        levels = noise_levels(stepper)
        self.preserved, self.led, self.shared, self.refined = (
            _within(getattr(self.config, name), levels, name) for name in ("preserve", "flow", "share", "refine")
        )
        self.sight.begin(model, self.shared, feature_step(self.config, levels) if self.refined else None)

    def at(self, site: Site) -> bool:
        """Self-attention of the chosen layers; text attention, to see the subject."""
        if self.sight.by_words and site.kind in ("cross", "joint"):
            return True
        return site.kind in ("self", "joint") and site.layer in (
            self._query_layers | self._share_layers | self._refine_layers
        )

    def acts(self, step: Step, branch: Branch) -> bool:
        """Both branches."""
        return True

    def acts_at(self, site: Site, step: Step, branch: Branch) -> bool:
        """Each part in its own layers and steps."""
        if site.kind not in ("self", "joint") or not self.at(site):
            return self.sight.watches(site, step, branch)
        queries = site.layer in self._query_layers and step.index in self.preserved | self.led
        shares = site.layer in self._share_layers and step.index in self.shared
        return queries or shares or self._refines(site, step) or self.sight.watches(site, step, branch)

    def edit(self, call: AttentionCall) -> AttentionCall:
        """The plain copy's queries, or the own ones led along its correspondences."""
        if call.site.kind == "cross" or call.site.layer not in self._query_layers:
            return call
        own = as_clip(call.q)
        if call.step.index in self.preserved:
            q = self._row(call, self.seats.vanilla, 0)
        elif call.step.index in self.led:
            q = self._led(call, own)
        else:
            return call
        return replace(call, q=as_frames(self._with_dropout(call, own, q), len(call.q)))

    def parts(self, call: AttentionCall) -> Sequence[tuple[Tensor, Tensor]]:
        """Every frame's look at the anchors' subject in the same frame."""
        shares = call.site.layer in self._share_layers and call.step.index in self.shared
        anchors = [other for other in self._others if other.mask is not None]
        if call.site.kind == "cross" or not shares or not anchors:
            return ()
        video = slice(0 if call.text is None else call.text.stop, None)
        read = []
        for anchor in anchors:
            k, v = (self._row(call, anchor.seats.place, which)[0][:, video] for which in (1, 2))
            assert anchor.mask is not None
            read.append(Anchor(k, v, on_grid(anchor.mask, self.shot.layout.grid, call.layout.grid)))
        also = self.frames // 2 if self.config.middle else None
        out, lse = subject_attention(as_clip(call.q), read, self.frames, dilution=self.dilution, also=also)
        parts = len(call.q)
        return ((as_frames(out, parts), as_frames(lse.unsqueeze(-1), parts).squeeze(-1)),)

    def observe(self, call: AttentionCall, out_BHND: Tensor, lse_BHN: Tensor) -> None:
        """Add up the attention to the subject's words."""
        if self.sight.watches(call.site, call.step, call.branch):
            self.sight.observe(call)

    def among(self, site: Site, step: Step, row: int, outs_BHND: Tensor) -> Tensor | None:
        """The output blended with the anchors', where the first sweep found the same part of the subject."""
        if self.refinement is None or not self._refines(site, step):
            return None
        first = row - self.seats.place
        anchors = [outs_BHND[first + other.seats.place] for other in self._others]
        return blended(outs_BHND[row], anchors, self.refinement, self.config.alpha)

    def before_step(self, step: Step, latents: Tensor) -> Tensor:
        """Take the newest mask."""
        self.mask = self.sight.at(step.index)
        return latents

    def predicted(self, step: Step, clean: Callable[[], Tensor]) -> None:
        """See where the subject is, for the next step."""
        self.sight.look(step, clean)
        own = [self] if self.seats.place in self.seats.anchors else []
        blind = all(anchor.sight.is_blind for anchor in [*self._others, *own])
        self.notes = ((COARSE,) if self.sight.by_words else ()) + ((UNSEEN,) if blind else ())

    def _refines(self, site: Site, step: Step) -> bool:
        within = self.refinement is not None and step.index in self.refined
        return within and site.kind in ("self", "joint") and site.layer in self._refine_layers

    def _led(self, call: AttentionCall, own_BHND: Tensor) -> Tensor:
        if call.raw_batch is None or call.norm is None or call.turn is None:
            raise ControlRejected("Storyboarding.flow: this family's attention cannot place queries; use flow=None")
        maps = self._correspondences(call, call.raw_batch, call.norm)
        led = call.turn(flow_queries(call.norm(as_clip(call.raw_q)), maps, self.frames, self.config.weight))
        moved = torch.tensor([f not in self.keys for f in range(self.frames)], device=call.q.device)
        tokens = own_BHND.shape[2] // self.frames
        return torch.where(moved.repeat_interleave(tokens).view(1, 1, -1, 1), led, own_BHND)

    def _correspondences(
        self, call: AttentionCall, raw_BHND: Tensor, norm: Callable[[Tensor], Tensor]
    ) -> list[FlowMap]:
        """Of the plain copy's queries, normed and not turned by their places; or as they were kept."""
        if self.seats.vanilla is None:
            assert self.maps is not None
            return self.maps.read((call.site.expert, call.site.layer, call.branch), call.step.index)
        row = call.row - self.seats.place + self.seats.vanilla
        features_HND = norm(raw_BHND[row : row + 1])[0]
        maps = flow_maps(features_HND.transpose(0, 1).flatten(1), self.frames, self.keys)
        if self.maps is not None and self.keeps_from is not None and call.step.index >= self.keeps_from:
            self.maps.keep((call.site.expert, call.site.layer, call.branch), call.step.index, maps)
        return maps

    def _with_dropout(self, call: AttentionCall, own_BHND: Tensor, q: Tensor) -> Tensor:
        if not self.config.dropout:
            return q
        own = dropped(
            q.shape[2], self.config.dropout, seed=self.shot.request.seed, step=call.step.index, layer=call.site.layer
        )
        return torch.where(own.to(q.device).view(1, 1, -1, 1), own_BHND, q)

    def _row(self, call: AttentionCall, place: int | None, which: int) -> Tensor:
        """Queries, keys or values (1, H, ., D) of another request in this branch of the pass."""
        if call.batch is None or place is None:
            raise ControlRejected("Storyboarding: this family's attention does not show a row its neighbours")
        row = call.row - self.seats.place + place
        return call.batch[which][row : row + 1]

    @property
    def _attentions(self) -> list[Site]:
        return [site for site in self.shot.sites if site.kind in ("self", "joint")]

    def _layers(self, name: str, usual: Layers) -> frozenset[int]:
        """Layers from a share of the depth on, or those that are named."""
        asked: Layers | None = getattr(self.config, name)
        layers = usual if asked is None else asked
        there = {site.layer for site in self._attentions}
        if isinstance(layers, tuple):
            if not layers or not there.issuperset(layers):
                raise ControlRejected(f"Storyboarding.{name}: expected some of 0..{max(there)}, got {layers}")
            return frozenset(layers)
        first = min(math.ceil((max(there) + 1) * DEPTHS[layers] - 1e-9), max(there))
        return frozenset(layer for layer in there if layer >= first)

    def _refined_level(self) -> int:
        levels = {site.level for site in self._attentions if site.layer in self._refine_layers}
        if self.config.refine is not None and len(levels) > 1:
            raise ControlRejected(
                "Storyboarding.refine_layers: expected layers that work on one size, since correspondences are those "
                f"of one grid, got sizes halved {', '.join(map(str, sorted(levels)))} times"
            )
        return min(levels)


def _usual_in_frames(sites: Sequence[Site]) -> Mapping[str, Layers]:
    """Of a UNet: every query, anchors on the way up, refinement where height and width are halved once."""
    level = min(1, max(site.level for site in sites))
    return {
        "query": "all",
        "share": tuple(site.layer for site in sites if site.way == "up"),
        "refine": tuple(site.layer for site in sites if site.level == level),
    }


def feature_step(config: Storyboarding, levels: Sequence[float]) -> int:
    """The step nearest to the noise level at which correspondences are read: the last of the first sweep."""
    return min(range(len(levels)), key=lambda step: abs(levels[step] - config.features))


def _within(window: Window | None, levels: Sequence[float], name: str) -> frozenset[int]:
    if window is None:
        return frozenset()
    found = frozenset(i for i, level in enumerate(levels) if window[0] <= level <= window[1])
    if not found:
        raise ControlRejected(
            f"Storyboarding.{name}: no step lies in {window[0]:.3f}..{window[1]:.3f}; film more steps, or None is off"
        )
    return found
