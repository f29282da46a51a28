"""What the sampler needs of a video model, whatever its family.

Shapes: B requests in lock step, C channels, F latent frames, h x w latent pixels, N tokens (frame by frame, row by
row), M text columns, D features. Latents are float32 and normalised; videos are float in [0, 1], (B, frames, 3, H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from generators.clip import Frames, ShotRequest
from generators.models.stepping import Stepper
from generators.tokens import TextMap

if TYPE_CHECKING:
    from generators.controls.base import Run


Way = Literal["down", "middle", "up"]
"""Which way a UNet goes at one of its blocks."""


class Branch(StrEnum):
    """Which half of classifier-free guidance a pass computes."""

    COND = "cond"
    UNCOND = "uncond"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a clip lies in latents and in tokens."""

    channels: int
    frames: int
    """Latent frames."""
    height: int
    width: int
    """Latent pixels."""
    patch: tuple[int, int, int] = (1, 2, 2)
    lead: int = 0
    """Latent frames of padding before the clip's own, for families whose temporal patches do not divide a clip."""

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens along time, height and width."""
        t, h, w = self.patch
        return self.frames // t, self.height // h, self.width // w

    @property
    def tokens(self) -> int:
        """Video tokens of one clip."""
        t, h, w = self.grid
        return t * h * w

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(C, F, h, w)."""
        return self.channels, self.frames, self.height, self.width

    def halved(self, level: int) -> Layout:
        """The layout where height and width are halved so many times, and rounded up: a UNet's level."""
        height, width = (-(-side // 2**level) for side in (self.height, self.width))
        return replace(self, height=height, width=width)

    def latent(self, step: int) -> int:
        """The clip's own latent frame that a step of the token grid ends with, padding not counted."""
        return (step + 1) * self.patch[0] - 1 - self.lead


@dataclass(frozen=True)
class Site:
    """One attention of the network. `expert` counts the networks that share the denoising (Wan 2.2 has two)."""

    expert: int
    layer: int
    kind: Literal["self", "cross", "joint", "temporal"]
    level: int = 0
    """How often height and width are halved where this attention works, in families that do so."""
    way: Way | None = None
    """Which way the network goes there, in such families."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """Encoded prompts of a batch."""

    cond: Tensor
    """(B, M, D)."""
    uncond: Tensor | None
    """(B, M, D); None when guidance is off."""
    maps: tuple[TextMap, ...]
    cond_mask: Tensor | None = None
    """(B, M) bool: columns that are read, for families that hide padding. None reads all."""
    uncond_mask: Tensor | None = None
    """(B, M) bool."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where denoising starts: noise, and what is already known of the clips."""

    noise: Tensor
    """(B, C, F, h, w)."""
    held: Tensor | None = None
    """(B, 1, F, 1, 1) bool: latent frames that are given. None when nothing is."""
    clean: Tensor | None = None
    """(B, C, F, h, w): latents of the given frames, 0 elsewhere."""
    channels: Tensor | None = None
    """(B, K, F, h, w): the family's own conditioning, joined to the latents."""
    image: Tensor | None = None
    """(B, tokens, D): image features that cross-attention reads beside the text."""
    generators: tuple[torch.Generator, ...] = ()
    """Each request's own, past the noise: stochastic schedulers draw on."""
    fps: float = 0.0
    """Frames a second of the clips, for families that are told."""
    notes: tuple[str, ...] = ()
    """What a person should know about how the clips start."""


Reader = Callable[[int, Tensor, Tensor], Tensor]
"""(layer, q, k) of one text attention -> what is kept of it. q (1, H, N, D) asks for every video token, k (1, H, M, D)
holds the text columns alone, both as the logits are made of them (norms and positions applied)."""


@runtime_checkable
class Readable(Protocol):
    """A family whose passes can be read in part, with gradients to the latents: what probes need."""

    def read(
        self,
        latents: Tensor,
        t: Tensor,
        text: Text,
        start: Start,
        layers: Sequence[int],
        read: Reader,
        *,
        recompute: bool = True,
    ) -> list[Tensor]:
        """What `read` makes of the text attention of these layers, in the conditional pass of one request.

        The pass ends after the last of them. Weights take no gradient; `recompute` keeps no activations inside blocks.
        """
        ...


Family = Literal["wan", "cogvideox", "ltx", "unet"]


@runtime_checkable
class SeesClips(Protocol):
    """A family that can look at a finished clip: what methods that copy from one need."""

    @property
    def family(self) -> Family:
        """Whose published settings hold."""
        ...

    def encode_clip(self, frames: Frames) -> Tensor:
        """Latents (1, C, F, h, w) of a clip of the layout's size and length, as the network reads them; never random.

        Latent frames of padding are among them.
        """
        ...

    def expert_at(self, t: Tensor) -> int:
        """Which of the networks that `sites` counts handles this timestep."""
        ...


class OneNetwork:
    """Base of families whose whole denoising one network does."""

    def expert_at(self, t: Tensor) -> int:
        """Which of the networks that `sites` counts handles this timestep: there is one."""
        return 0


class VideoModel(Protocol):
    """A diffusers pipeline taken apart. One holder at a time."""

    @property
    def name(self) -> str:
        """Model id or folder name."""
        ...

    @property
    def device(self) -> torch.device:
        """Where latents live."""
        ...

    @property
    def gives_tokens_at_zero(self) -> bool:
        """Whether the model was trained with finished tokens that have a time of their own: 0 in most families."""
        ...

    @property
    def joins_branches(self) -> bool:
        """Whether both branches of guidance are one pass, unconditional rows first, as in the stock pipeline."""
        ...

    @property
    def sites(self) -> tuple[Site, ...]:
        """Every attention that a control can reach."""
        ...

    @property
    def stride(self) -> int:
        """Pixel frames in a latent frame."""
        ...

    @property
    def size_multiple(self) -> int:
        """Width and height are multiples of this."""
        ...

    def held(self) -> AbstractContextManager[None]:
        """Be the one holder; raises RuntimeError when there is another."""
        ...

    def encode(self, prompts: Sequence[str], negatives: Sequence[str] | None) -> Text:
        """Encode a batch of prompts; `negatives` of None leaves guidance off."""
        ...

    def map_text(self, prompt: str) -> TextMap:
        """Where each token of the prompt stands."""
        ...

    def layout(self, frames: int, height: int, width: int) -> Layout:
        """Latents and tokens of a clip of so many pixels. Raises RequestRejected for sizes that do not fit."""
        ...

    def start(self, requests: Sequence[ShotRequest], layout: Layout) -> Start:
        """Noise of each request's own generator, and its given frames as this family takes them."""
        ...

    def stepper(self, steps: int, layout: Layout) -> Stepper:
        """A fresh schedule of so many steps."""
        ...

    def guidance(self, t: Tensor, guidance: float, guidance_2: float | None, steps: int) -> float:
        """Guidance at this timestep of so many steps."""
        ...

    def predict(self, latents: Tensor, t: Tensor, text: Text, branches: Sequence[Branch], start: Start) -> Tensor:
        """What the network predicts at one timestep: (len(branches) * B, C, F, h, w), branch by branch."""
        ...

    def decode(self, latents: Tensor, generators: Sequence[torch.Generator] = ()) -> Tensor:
        """Videos (B, frames, 3, H, W) in [0, 1]. `generators`, one a clip, feed decoders that add noise."""
        ...

    def attach(self, run: Run, sites: Sequence[Site]) -> Callable[[], None]:
        """Put controlled attention at the sites; the call returned takes it off again."""
        ...


def spread_over_tokens(values_BF: Tensor, layout: Layout) -> Tensor:
    """Values of latent frames, repeated for every token of the frame: (B, F) -> (B, N)."""
    frames, height, width = layout.grid
    per_step = values_BF[:, :: layout.patch[0]][:, :frames]
    return per_step.repeat_interleave(height * width, dim=1)


def frames_as_video(frames: Any, device: torch.device, dtype: torch.dtype) -> Tensor:
    """uint8 (F, H, W, 3) frames -> (1, 3, F, H, W) in [-1, 1], as diffusers' image processor scales them."""
    unit = torch.from_numpy(frames).to(torch.float32) / 255.0
    return (2.0 * unit - 1.0).permute(3, 0, 1, 2).unsqueeze(0).to(device, dtype)


def video_as_frames(video: Tensor) -> list[Frames]:
    """Decoded videos (B, frames, 3, H, W) in [0, 1] as uint8 RGB frames, a clip each."""
    pixels = (video.float() * 255).round().to(torch.uint8)
    return list(pixels.permute(0, 1, 3, 4, 2).contiguous().cpu().numpy())
