"""CogVideoX filming several shots as one sequence (Mask2DiT), on the stock network with the stock weights.

The sequence is [T_1 .. T_n | V_1 .. V_n]. Three things are put on the network and taken off again: attention by groups,
norms that take a time of each shot, and, where positions are added (2B), a table stretched over the whole set. Rotary
positions (5B) run on from shot to shot by themselves. Every shot is encoded and decoded alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from generators.attention_groups import Group, Scenes, attend_groups, groups
from generators.clip import ShotRequest
from generators.controls.base import Run
from generators.errors import ControlRejected, RequestRejected
from generators.models.base import Layout, Site, Start, Text, frames_as_video
from generators.models.cogvideox import CogVideoXVideoModel, turned
from generators.models.cogvideox_attention import placed, projected
from generators.models.given import known_frames
from generators.models.holding import check_steerable, replace_processors
from generators.models.scenes import (
    SceneSettings,
    context_of_shots,
    joined_text,
    split_shots,
    start_of_sets,
    whole_layout,
)

PADDED = (
    "this checkpoint's patches span two latent frames: every shot of a set has a latent frame of padding of its own"
)


class CogVideoXScenes(CogVideoXVideoModel):
    """A CogVideoX model whose rows are sets of n shots; it shares its holder with the model it is made of."""

    gives_tokens_at_zero = True

    def __init__(self, model: CogVideoXVideoModel, layouts: Sequence[Layout], settings: SceneSettings) -> None:
        super().__init__(model.pipe, name=model.name, dynamic_guidance=model.dynamic_guidance)
        self.held = model.held
        self.layouts = tuple(layouts)
        self.settings = settings
        if self.joins_channels:
            raise RequestRejected(
                f"{model.name} starts from a picture, which several shots in one sequence have no place for; "
                "expected a text-to-video CogVideoX checkpoint"
            )
        self.scenes = Scenes(
            texts=(self.columns,) * len(layouts), videos=tuple(layout.tokens for layout in self.layouts)
        )
        self._check_lengths()

    @property
    def _adds_positions(self) -> bool:
        return not self.network.config.use_rotary_positional_embeddings

    def _check_lengths(self) -> None:
        """Of positions that are added, the released code stretches n times the trained number, and reads the first."""
        frames, held = whole_layout(self.layouts).frames, len(self.layouts) * _trained_frames(self.network.patch_embed)
        if self._adds_positions and len(self.layouts) > 1 and frames > held:
            raise RequestRejected(
                f"frames: this checkpoint's positions hold {held} latent frames for {len(self.layouts)} shots, "
                f"got {frames}; film shorter shots"
            )

    def encode(self, prompts: Sequence[str], negatives: Sequence[str] | None) -> Text:
        """Encode each shot's prompt by itself, then put the texts of a set side by side."""
        return joined_text(super().encode(prompts, negatives), len(self.layouts))

    def start_sets(self, requests: Sequence[ShotRequest], finished: Mapping[int, Tensor]) -> Start:
        """Noise for what is filmed, context for what is finished. Raises RequestRejected for a set all finished."""
        start = start_of_sets(
            requests, self.layouts, finished, draw=self._noise, context=self._context, by=self.settings.noise
        )
        padded = self.patch[0] > 1 and len(self.layouts) > 1
        return replace(start, notes=(PADDED,) if padded else ())

    def _noise(self, layout: Layout, generator: torch.Generator) -> Tensor:
        shape = (1, layout.frames, layout.channels, layout.height, layout.width)
        return turned(randn_tensor(shape, generator=generator, device=self.device, dtype=self.dtype))

    def _context(self, request: ShotRequest, layout: Layout, latents: Tensor | None) -> Tensor:
        """A finished shot as the network reads it: a sample of what the VAE makes of it, at t = 0.

        `alphas_cumprod` of t = 0 leaves a little noise, which the released code adds when it films.
        """
        generator = torch.Generator().manual_seed(request.seed)
        if latents is None:
            latents = self._encoded(request, layout, generator)
        latents = latents.to(self.device, self.dtype)
        if self.settings.context == "clean":
            return latents
        noised: Tensor = self.pipe.scheduler.add_noise(
            latents, self._noise(layout, generator), torch.zeros(1, dtype=torch.long, device=self.device)
        )
        return noised

    def encode_shot(self, request: ShotRequest, layout: Layout) -> Tensor:
        """Latents (1, C, F, h, w) without noise of a shot all of whose frames are given, drawn from its own seed."""
        return self._encoded(request, layout, torch.Generator().manual_seed(request.seed))

    def _encoded(self, request: ShotRequest, layout: Layout, generator: torch.Generator) -> Tensor:
        """Latents of a finished shot; padding repeats the first of them, as the picture pipeline of 1.5 does."""
        pixels = known_frames(request, self.stride).pixels
        assert pixels is not None  # all frames are given
        video = frames_as_video(pixels, self.device, self.dtype)
        latents = self.pipe.vae.encode(video).latent_dist.sample(generator) * self.pipe.vae_scaling_factor_image
        return torch.cat([latents[:, :, : layout.lead], latents], dim=2)

    def _inputs(self, latents: Tensor, t: Tensor, states: Tensor, start: Start) -> dict[str, Any]:
        """Times of all shots, row by row, where some are finished: (rows n,)."""
        inputs = super()._inputs(latents, t, states, start)
        if start.held is not None:
            times = t * ~context_of_shots(start.held, self.layouts)
            inputs["timestep"] = times.repeat(len(states) // len(latents), 1).flatten()
        return inputs

    def decode(self, latents: Tensor, generators: Sequence[torch.Generator] = ()) -> Tensor:
        """Videos (B, frames of all shots, 3, H, W) in [0, 1]; the VAE begins anew with every shot."""
        return torch.cat([super(CogVideoXScenes, self).decode(x) for x in split_shots(latents, self.layouts)], dim=1)

    def attach(self, run: Run, sites: Sequence[Site]) -> Callable[[], None]:
        """Put attention by groups, times of shots and positions on the network; the call returned takes them off.

        Raises ControlRejected for controls, for blocks that a cache may skip, and for split sequences.
        """
        if sites:
            raise ControlRejected("controls: expected none on shots that are filmed in one sequence, got some")
        if len(self.layouts) == 1:
            return lambda: None
        check_steerable(self.network, "filming several shots in one sequence")
        undo: list[Callable[[], None]] = []

        def detach() -> None:
            while undo:
                undo.pop()()

        try:
            if self.settings.mask != "v5":
                undo.append(self._group_attention())
            undo.append(self._time_shots())
            if self._adds_positions:
                undo.append(self._stretch_positions())
        except BaseException:
            detach()
            raise
        return detach

    def _group_attention(self) -> Callable[[], None]:
        parts = groups(self.scenes, self.settings.mask)
        blocks = self.network.transformer_blocks
        grouped = ((block.attn1, lambda plain: GroupedJointAttention(parts)) for block in blocks)
        return replace_processors(grouped, [self.network])

    def _time_shots(self) -> Callable[[], None]:
        blocks = self.network.transformer_blocks
        places = [(block, name) for block in blocks for name in ("norm1", "norm2")] + [(self.network, "norm_out")]
        for owner, name in places:
            wrapper = TimedOut if name == "norm_out" else TimedNorm
            setattr(owner, name, wrapper(getattr(owner, name), self.scenes))

        def restore() -> None:
            for owner, name in places:
                setattr(owner, name, getattr(owner, name).plain)

        return restore

    def _stretch_positions(self) -> Callable[[], None]:
        embed, layout = self.network.patch_embed, whole_layout(self.layouts)
        table = stretched_positions(embed, len(self.layouts), layout)
        joint = torch.cat([table.new_zeros(1, self.scenes.columns, table.shape[2]), table], dim=1)
        handle = embed.register_forward_hook(lambda module, args, out: out + joint.to(out.device, out.dtype))
        embed.use_positional_embeddings = False

        def restore() -> None:
            handle.remove()
            embed.use_positional_embeddings = True

        return restore


def stretched_positions(embed: Any, shots: int, layout: Layout) -> Tensor:
    """The trained table of positions, stretched to so many times its length, for the frames of a set: (1, N, D).

    The published models were trained on this, not on positions that are counted on, as stock networks would.
    """
    height, width = embed.sample_height // embed.patch_size, embed.sample_width // embed.patch_size
    trained = embed.pos_embedding[:, embed.max_text_seq_length :].unflatten(1, (_trained_frames(embed), height, width))
    size = (shots * _trained_frames(embed), *layout.grid[1:])
    table = F.interpolate(trained.permute(0, 4, 1, 2, 3), size=size, mode="trilinear", align_corners=False)
    return table.permute(0, 2, 3, 4, 1)[:, : layout.grid[0]].flatten(1, 3)


def _trained_frames(embed: Any) -> int:
    frames: int = (embed.sample_frames - 1) // embed.temporal_compression_ratio + 1
    return frames


class GroupedJointAttention:
    """What the stock processor computes, row by row over the keys of the row's group."""

    def __init__(self, parts: Sequence[Group]) -> None:
        self.parts = parts

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,
    ) -> tuple[Tensor, Tensor]:
        columns = encoder_hidden_states.shape[1]
        q, k, v = projected(attn, torch.cat([encoder_hidden_states, hidden_states], dim=1))
        q = placed(attn.norm_q, q, columns, image_rotary_emb)
        k = placed(attn.norm_k, k, columns, image_rotary_emb)
        out = attend_groups(q, k, v, self.parts)
        out = attn.to_out[1](attn.to_out[0](out.transpose(1, 2).flatten(2)))
        return out[:, columns:], out[:, :columns]


class TimedNorm(torch.nn.Module):
    """A block's norm, given one time a row, or one time for each shot of a row, its text and its video alike."""

    def __init__(self, plain: Any, scenes: Scenes) -> None:
        super().__init__()
        self.plain, self.scenes = plain, scenes

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor, temb: Tensor) -> tuple[Tensor, ...]:
        """Video and text, normed and modulated, and the gates of both."""
        if len(temb) == len(hidden_states):
            stock: tuple[Tensor, ...] = self.plain(hidden_states, encoder_hidden_states, temb)
            return stock
        made = self.plain.linear(self.plain.silu(temb)).unflatten(0, (len(hidden_states), -1))
        shift, scale, gate, text_shift, text_scale, text_gate = made.chunk(6, dim=2)
        return (
            _modulated(self.plain.norm(hidden_states), shift, scale, self.scenes.videos),
            _modulated(self.plain.norm(encoder_hidden_states), text_shift, text_scale, self.scenes.texts),
            _spread(gate, self.scenes.videos),
            _spread(text_gate, self.scenes.texts),
        )


class TimedOut(torch.nn.Module):
    """The last modulated norm, of video alone, given one time a row or one for each shot of a row."""

    def __init__(self, plain: Any, scenes: Scenes) -> None:
        super().__init__()
        self.plain, self.scenes = plain, scenes

    def forward(self, x: Tensor, timestep: Tensor | None = None, temb: Tensor | None = None) -> Tensor:
        """Video, normed and modulated."""
        if temb is None or len(temb) == len(x):
            stock: Tensor = self.plain(x, timestep, temb)
            return stock
        made = self.plain.linear(self.plain.silu(temb)).unflatten(0, (len(x), -1))
        shift, scale = made.chunk(2, dim=2)
        return _modulated(self.plain.norm(x), shift, scale, self.scenes.videos)


def _modulated(x_BND: Tensor, shift_BnD: Tensor, scale_BnD: Tensor, lengths: Sequence[int]) -> Tensor:
    parts = x_BND.split(list(lengths), dim=1)
    return torch.cat(
        [part * (1 + scale_BnD[:, i : i + 1]) + shift_BnD[:, i : i + 1] for i, part in enumerate(parts)], dim=1
    )


def _spread(x_BnD: Tensor, lengths: Sequence[int]) -> Tensor:
    """Values of shots, repeated for every token of the shot."""
    parts = [x_BnD[:, i : i + 1].expand(-1, length, -1) for i, length in enumerate(lengths)]
    return torch.cat(parts, dim=1)
