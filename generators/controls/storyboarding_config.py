"""Settings of consistent multi-shot generation: frozen, validated, no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from generators.controls.checks import check_one_of
from generators.controls.config import ControlConfig
from generators.controls.noise_windows import Window, check_window, ddpm_sigma, ddpm_window
from generators.segmenters import Segmenter

REFINED = ddpm_window(590, 950)
"""The published window of refinement."""
FEATURES = ddpm_sigma(261)
"""The noise level at which correspondences are read (DIFT)."""


def check_layers(name: str, layers: object, share: str) -> None:
    """Raise ValueError for what names no layers."""
    numbers = isinstance(layers, tuple) and all(isinstance(n, int) and not isinstance(n, bool) for n in layers)
    if not (layers is None or numbers or (isinstance(layers, str) and layers in ("all", share))):
        raise ValueError(
            f"Storyboarding.{name}: expected 'all', {share!r}, a tuple of their numbers or None, got {layers!r}"
        )


@dataclass(frozen=True, kw_only=True)
class Storyboarding(ControlConfig):
    """Video Storyboarding (arXiv 2412.07750 v1) on one steered shot of a batch; `storyboard` makes the batch.

    The shot keeps the motion of its plain copy (queries), and the look of the anchors' subject (keys and values).
    Windows are noise levels; None turns a part off.
    """

    place: int
    """This request's place in the batch."""
    vanilla: int
    """Place of the same shot, not steered by this."""
    anchors: tuple[int, ...]
    """Places of the steered shots that everyone reads; they read each other."""
    subject: str = ""
    """Words of this shot's prompt that name the subject."""
    segmenter: Segmenter | None = field(default=None, repr=False, compare=False)
    """Finds the subject in predicted clean frames. None reads it off the attention to its words, which is coarse."""
    segmented_by: str = field(init=False)
    every: int = 4
    """Steps between two looks of the segmenter."""
    preserve: Window | None = ddpm_window(750)
    """Queries are those of the plain copy."""
    flow: Window | None = (0.0, ddpm_sigma(750) - 1e-9)
    """Queries are the shot's own, led from keyframes along the plain copy's correspondences."""
    share: Window | None = ddpm_window(550, 950)
    """Frames read the anchors' subject in the same frame."""
    keyframes: int = 5
    """Latent frames from a keyframe to the next."""
    middle: bool = False
    """Whether frames read the subject in the anchors' middle frame too (published for a distilled model)."""
    refine: Window | None = None
    """Outputs are blended with those of the anchors' corresponding tokens, which a first sweep must find:
    `generators.cast.sample_cast` makes both sweeps, and refines in `REFINED` by default."""
    alpha: float = 0.8
    """Share of the anchor's output in such a blend."""
    order: Literal["simultaneous", "sequential"] = "simultaneous"
    """Whether blends read outputs as attention made them, or, as released, as earlier shots have left them."""
    features: float = FEATURES
    """Noise level at which correspondences are read, where the first sweep ends."""
    feature_layer: int | None = None
    """The block whose output they are read from; None is at 65 % of the depth. Of a UNet the number of an up block;
    None is the one that leads to the size of the refined layers, or the coarsest there is; another size is resized."""
    weight: Literal["sigmoid", "linear"] = "sigmoid"
    """Between two keyframes: as published (0.73 at the first, 0.5 at the second), or from one to the other."""
    dropout: float = 0.0
    """Share of the tokens that keep their own queries: more identity, less motion."""
    dilution: float | None = None
    """Factor on the anchors' keys, since attention over the whole clip has many more of its own; None is the square
    root of the latent frames, and 1, which is none, where attention is within a frame (UNets)."""
    query_layers: Literal["all", "last third"] | tuple[int, ...] | None = None
    """Layers of self-attention; None: the last third of a transformer's, all of a UNet's."""
    share_layers: Literal["all", "last two thirds"] | tuple[int, ...] | None = None
    """None: the last two thirds, or those on a UNet's way up."""
    refine_layers: Literal["all", "last two thirds"] | tuple[int, ...] | None = None
    """None: the last two thirds, or all of a UNet's that work on half of the latents' height and width."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "segmented_by", "attention" if self.segmenter is None else self.segmenter.name)
        if self.vanilla == self.place or self.vanilla in self.anchors:
            raise ValueError(
                f"Storyboarding.vanilla: expected a request that is not steered by this, got {self.vanilla}"
            )
        if min(self.place, self.vanilla, *self.anchors) < 0:
            raise ValueError("Storyboarding: expected places in the batch from 0 on")
        for name in ("preserve", "flow", "share", "refine"):
            if getattr(self, name) is not None:
                check_window(f"Storyboarding.{name}", getattr(self, name))
        if not (self.share is None and self.refine is None) and not self.subject.strip():
            raise ValueError(
                "Storyboarding.subject: expected words of the prompt that name it, or share=None and refine=None"
            )
        if self.refine is not None and not 0 <= self.features <= self.refine[0]:
            raise ValueError(
                f"Storyboarding.features: expected a noise level in 0..{self.refine[0]:.3f}, below the window that "
                f"needs them, got {self.features}"
            )
        check_layers("query_layers", self.query_layers, "last third")
        check_layers("share_layers", self.share_layers, "last two thirds")
        check_layers("refine_layers", self.refine_layers, "last two thirds")
        if not 0 < self.alpha <= 1:
            raise ValueError(f"Storyboarding.alpha: expected a share in (0, 1], got {self.alpha}")
        for name in ("every", "keyframes"):
            if getattr(self, name) < 1:
                raise ValueError(f"Storyboarding.{name}: expected at least 1, got {getattr(self, name)}")
        check_one_of("Storyboarding", "weight", self.weight, ("sigmoid", "linear"))
        check_one_of("Storyboarding", "order", self.order, ("simultaneous", "sequential"))
        if not 0 <= self.dropout < 1:
            raise ValueError(f"Storyboarding.dropout: expected a share in [0, 1), got {self.dropout}")
        if self.dilution is not None and not self.dilution > 0:
            raise ValueError(f"Storyboarding.dilution: expected more than 0, got {self.dilution}")

    def plain(self) -> dict[str, Any]:
        """The settings, with the segmenter's name for itself."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "segmenter"}
