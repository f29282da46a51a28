"""Where the subject of a shot is while it is denoised: what Video Storyboarding shares, and what it refines.

A segmenter looks at the clean frames that a prediction stands for, every few steps; without one the subject is where
attention reads its words, which is coarse. Knows one shot, and nothing of what the masks are for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from generators.attention import column_mass
from generators.controls.base import AttentionCall, Shot, Step
from generators.controls.storyboarding_config import Storyboarding
from generators.controls.storyboarding_maths import mask_tokens, resized, subject_tokens
from generators.models.base import Branch, Site, VideoModel

COARSE = (
    "the subject was found by attention to its words, which is coarse; a segmenter (CLIPSeg, or the world's own "
    "detectors) finds it in the frames"
)

UNSEEN = (
    "the subject was seen in no frame of any anchor, so the shots share nothing; name it in other words, or find it "
    "with another segmenter"
)


class Sight:
    """Masks of one shot's subject. `seen` holds them by the first step that they hold for."""

    def __init__(self, config: Storyboarding, shot: Shot) -> None:
        self.config, self.shot = config, shot
        self.seen: dict[int, Tensor] = {}
        """(N,) bool each."""
        self.looks = not (config.share is None and config.refine is None)
        """Whether it looks on; not so where all masks are known."""
        self.by_words = self.looks and config.segmenter is None
        self._columns = torch.tensor(shot.text.columns(config.subject), device=shot.device) if self.by_words else None
        self._maps: list[Tensor] = []
        self._steps: frozenset[int] = frozenset()

    def begin(self, model: VideoModel, needed: frozenset[int], final: int | None) -> None:
        """Who decodes, which steps need a mask, and after which one somebody needs the last."""
        self._model = model
        self._steps = frozenset(step - 1 for step in needed) | (frozenset() if final is None else {final})
        self._final = final

    def known(self, seen: Mapping[int, Tensor]) -> None:
        """Take masks as they were seen before, and look no more."""
        self.seen, self.looks = {step: mask.to(self.shot.device) for step, mask in seen.items()}, False

    def at(self, step: int) -> Tensor | None:
        """The mask that holds at a step; None before the first."""
        held = [first for first in self.seen if first <= step]
        return self.seen[max(held)] if held else None

    @property
    def last(self) -> Tensor | None:
        """The newest mask."""
        return self.seen[max(self.seen)] if self.seen else None

    @property
    def is_blind(self) -> bool:
        """Whether it has looked and never saw the subject."""
        return bool(self.seen) and not any(bool(mask.any()) for mask in self.seen.values())

    def watches(self, site: Site, step: Step, branch: Branch) -> bool:
        """Whether the attention to the subject's words is wanted here: in the steps before those that need a mask."""
        wanted = self.by_words and self.looks and step.index in self._steps
        return wanted and branch is Branch.COND and site.kind in ("cross", "joint")

    def observe(self, call: AttentionCall) -> None:
        """Add up the attention to the subject's words."""
        text = call.over("text")
        if self._columns is not None and text.reads == "text":
            mass_N = column_mass(text.q, text.k, self._columns, counts_M=text.counts)[0]
            mass_FHW = mass_N.unflatten(0, text.layout.grid)
            self._maps.append(resized(mass_FHW.unsqueeze(1), self.shot.layout.grid[1:]).squeeze(1))

    def look(self, step: Step, clean: Callable[[], Tensor]) -> None:
        """See where the subject is, for the next step; `clean` gives the latents that this one foresees."""
        if self.looks and step.index in self._steps:
            if self._maps:
                self.seen[step.index + 1] = subject_tokens(torch.stack(self._maps).mean(0))
            elif self.config.segmenter is not None and self._is_due(step.index):
                self.seen[step.index + 1] = self._segmented(clean())
        self._maps.clear()

    def _is_due(self, step: int) -> bool:
        return not self.seen or step == self._final or step % self.config.every == 0

    def _segmented(self, clean: Tensor) -> Tensor:
        assert self.config.segmenter is not None
        with torch.no_grad():
            video = self._model.decode(clean, (torch.Generator().manual_seed(0),))[0]  # not the clip's own noise
        frames = (video.permute(0, 2, 3, 1).float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        mask = torch.from_numpy(self.config.segmenter(frames, self.config.subject)).to(self.shot.device)
        layout, timeline = self.shot.layout, self.shot.timeline
        groups = [timeline.pixels(layout.latent(step)) for step in range(layout.grid[0])]
        return mask_tokens(mask, groups, layout.grid)
