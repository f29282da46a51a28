"""LTX-Video (text or pictures to video), taken apart.

Every tensor is computed by diffusers' and transformers' own classes; what stands here is the order of the calls in
`LTXPipeline`, `LTXImageToVideoPipeline` and `LTXConditionPipeline`. Those keep latents as a row of tokens, the sampler
as (B, C, F, h, w): they are packed where they enter the network. Finished frames stand at timestep 0, as LTX was
trained; they are held in place wherever they are in the clip.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import torch
from diffusers.pipelines.ltx.pipeline_ltx import LTXPipeline, calculate_shift
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXConditionPipeline, linear_quadratic_schedule
from diffusers.pipelines.ltx.pipeline_ltx_image2video import LTXImageToVideoPipeline
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from generators.clip import Frames, ShotRequest
from generators.controls.base import Run
from generators.errors import BackendUnavailable, RequestRejected
from generators.models.base import Branch, Family, Layout, OneNetwork, Reader, Site, Start, Text, spread_over_tokens
from generators.models.holding import OneHolder, check_steerable, replace_processors
from generators.models.ltx_attention import ControlledLTXAttention, WalkedLTX
from generators.models.ltx_given import LTXGiven
from generators.models.ltx_stepping import LTXConditionStepper, LTXStepper
from generators.models.stepping import Stepper
from generators.models.walking import walk_blocks
from generators.tokens import TextMap, map_text

SHIFT = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15}
"""What the pipelines assume where a scheduler does not say."""
GIVEN_NOISE = 0.15
"""The condition pipeline's own `image_cond_noise_scale`."""


class LTXVideoModel(OneNetwork):
    """An LTX-Video pipeline as the sampler sees it.

    `decode_timestep` and `decode_noise` are for decoders that are told a timestep (0.9.1 and later): the pipelines'
    `decode_timestep` and `decode_noise_scale`, which None makes the timestep. `given_noise` is the condition
    pipeline's `image_cond_noise_scale`: how much given frames are stirred at every step. Defaults are the pipelines'.
    """

    family: Family = "ltx"
    joins_branches = True
    joins_channels = False
    gives_tokens_at_zero = True

    def __init__(
        self,
        pipe: Any,
        *,
        name: str = "ltx",
        decode_timestep: float = 0.0,
        decode_noise: float | None = None,
        given_noise: float = GIVEN_NOISE,
    ) -> None:
        self.pipe = pipe
        self.name = name
        self.decode_timestep = decode_timestep
        self.decode_noise = decode_timestep if decode_noise is None else decode_noise
        self.given_noise = given_noise
        self.network = pipe.transformer
        self.conditions = isinstance(pipe, LTXConditionPipeline)
        self.columns = 256 if self.conditions else 128
        self.stride: int = pipe.vae_temporal_compression_ratio
        self._holder = OneHolder(name)
        self.held = self._holder.held
        self._given = LTXGiven(self)

    @classmethod
    def from_pipeline(cls, pipe: Any, *, name: str = "ltx", **options: Any) -> Self:
        """Take a loaded pipeline apart; it stays usable. `options` are the class's own.

        Raises BackendUnavailable for another family.
        """
        if not isinstance(pipe, LTXPipeline | LTXImageToVideoPipeline | LTXConditionPipeline):
            raise BackendUnavailable(
                f"{name}: expected an LTXPipeline, LTXImageToVideoPipeline or LTXConditionPipeline, "
                f"got {type(pipe).__name__}"
            )
        return cls(pipe, name=name, **options)

    @property
    def device(self) -> torch.device:
        """Where latents live."""
        device: torch.device = self.pipe._execution_device
        return device

    @property
    def size_multiple(self) -> int:
        """Width and height are multiples of this."""
        multiple: int = self.pipe.vae_spatial_compression_ratio * self.patch[1]
        return max(32, multiple)

    @property
    def patch(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns in a token."""
        side: int = self.pipe.transformer_spatial_patch_size
        return self.pipe.transformer_temporal_patch_size, side, side

    @property
    def frame_step(self) -> int:
        """Legal frame counts are `frame_step * k + 1`."""
        return self.stride

    @property
    def sites(self) -> tuple[Site, ...]:
        """Self- and cross-attention of every block."""
        layers = range(len(self.network.transformer_blocks))
        return tuple(Site(0, layer, kind) for layer in layers for kind in ("self", "cross"))

    def map_text(self, prompt: str) -> TextMap:
        """Where each token of the prompt stands; the pipelines tokenise prompts as they are."""
        return map_text(self.pipe.tokenizer, prompt, self.columns, clean=False)

    def encode(self, prompts: Sequence[str], negatives: Sequence[str] | None) -> Text:
        """Encode a batch of prompts; padding is encoded too, and hidden by the masks."""
        cond, cond_mask, uncond, uncond_mask = self.pipe.encode_prompt(
            list(prompts),
            None if negatives is None else list(negatives),
            negatives is not None,
            max_sequence_length=self.columns,
            device=self.device,
        )
        maps = tuple(self.map_text(prompt) for prompt in prompts)
        return Text(cond=cond, uncond=uncond, maps=maps, cond_mask=cond_mask, uncond_mask=uncond_mask)

    def layout(self, frames: int, height: int, width: int) -> Layout:
        """Latents and tokens of a clip of so many pixels. Raises RequestRejected for sizes that do not fit."""
        multiple, spatial = self.size_multiple, self.pipe.vae_spatial_compression_ratio
        for side, value in (("height", height), ("width", width)):
            if value % multiple or value < multiple:
                raise RequestRejected(f"{side}: expected a multiple of {multiple}, got {value}")
        if (frames - 1) % self.stride:
            raise RequestRejected(f"frames: expected {self.stride}k + 1, got {frames}")
        return Layout(
            channels=self.network.config.in_channels,
            frames=(frames - 1) // self.stride + 1,
            height=height // spatial,
            width=width // spatial,
            patch=self.patch,
        )

    def start(self, requests: Sequence[ShotRequest], layout: Layout) -> Start:
        """Noise and given frames, each request's from its own generator, in the pipeline's order.

        Raises RequestRejected for frames that cannot be held, and for requests of different frame rates: LTX is told
        one for the batch.
        """
        rates = {request.fps for request in requests}
        if len(rates) > 1:
            raise RequestRejected(f"fps: expected one in a batch, for LTX is told the frame rate, got {sorted(rates)}")
        generators = [torch.Generator().manual_seed(request.seed) for request in requests]
        given = any(request.given for request in requests)
        noise = self._noise(layout, generators) if self.conditions else None  # that pipeline draws it first
        held, clean = self._given.held(requests, layout, generators) if given else (None, None)
        noise = self._noise(layout, generators) if noise is None else noise
        return Start(noise=noise, held=held, clean=clean, generators=tuple(generators), fps=rates.pop())

    def _noise(self, layout: Layout, generators: list[torch.Generator]) -> Tensor:
        shape = (len(generators), *layout.shape)
        noise: Tensor = randn_tensor(shape, generator=generators, device=self.device, dtype=torch.float32)
        return noise

    def stepper(self, steps: int, layout: Layout) -> Stepper:
        """A fresh schedule of so many steps, shifted for the number of tokens where the pipeline does."""
        scheduler = type(self.pipe.scheduler).from_config(copy.deepcopy(dict(self.pipe.scheduler.config)))
        convert = (lambda latents: self._packed(latents, 1)), (lambda tokens: self._unpacked(tokens, layout.shape))
        if self.conditions:
            scheduler.set_timesteps(timesteps=linear_quadratic_schedule(steps) * 1000, device=self.device)
            return LTXConditionStepper(scheduler, self.given_noise, *convert)
        shift = calculate_shift(
            layout.frames * layout.height * layout.width,
            *(scheduler.config.get(key, usual) for key, usual in SHIFT.items()),
        )
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), device=self.device, mu=shift)
        return LTXStepper(scheduler, *convert)

    def guidance(self, t: Tensor, guidance: float, guidance_2: float | None, steps: int) -> float:
        """The request's guidance."""
        return guidance

    def predict(self, latents: Tensor, t: Tensor, text: Text, branches: Sequence[Branch], start: Start) -> Tensor:
        """Velocity, float32 (len(branches) * B, C, F, h, w), all branches in one pass."""
        states, masks = _text_of(text, branches)
        self.pipe._current_timestep = t  # some of diffusers' caches ask the pipeline
        with self.network.cache_context("cond_uncond"):
            velocity = self.network(**self._inputs(latents, t, states, masks, start), return_dict=False)[0]
        return self._unpacked(velocity if self.conditions else velocity.float(), latents.shape)

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
        """What `read` makes of the text attention of these layers; the pass ends after the last of them."""
        states, masks = _text_of(text, (Branch.COND,))
        inputs = self._inputs(latents, t, states, masks, start)
        return walk_blocks(self.network, inputs, layers, read, WalkedLTX, recompute=recompute)

    def _inputs(self, latents: Tensor, t: Tensor, states: Tensor, masks: Tensor, start: Start) -> dict[str, Any]:
        count = len(states) // len(latents)
        return {
            "hidden_states": self._packed(latents, count).to(states.dtype),
            "encoder_hidden_states": states,
            "timestep": self._timesteps(t, latents, start, count),
            "encoder_attention_mask": masks,
            **self._places(latents, start, count),
        }

    def _packed(self, latents: Tensor, count: int) -> Tensor:
        """(count * B, N, D). A single copy keeps the strides it has in the pipeline, on which the last bits depend."""
        packed: Tensor = self.pipe._pack_latents(latents, self.patch[1], self.patch[0])
        return packed if count == 1 else torch.cat([packed] * count)

    def _unpacked(self, tokens: Tensor, shape: Sequence[int]) -> Tensor:
        """(B, N, D) as latents whose frames, height and width are the last of a shape."""
        frames, height, width = (side // patch for side, patch in zip(shape[-3:], self.patch, strict=True))
        latents: Tensor = self.pipe._unpack_latents(tokens, frames, height, width, self.patch[1], self.patch[0])
        return latents

    def _timesteps(self, t: Tensor, latents: Tensor, start: Start, count: int) -> Tensor:
        """(count * B,), or (count * B, N) with 0 at finished tokens."""
        batch, _, frames, height, width = latents.shape
        if start.held is None:
            timesteps = t.expand(count * batch)
            return timesteps.unsqueeze(-1).float() if self.conditions else timesteps
        layout = Layout(channels=1, frames=frames, height=height, width=width, patch=self.patch)
        noisy = (~start.held.flatten(1)).to(torch.float32)
        return torch.cat([spread_over_tokens(noisy * t, layout)] * count)

    def _places(self, latents: Tensor, start: Start, count: int) -> dict[str, Any]:
        """Where tokens stand in seconds and pixels, as the pipeline's class tells the network."""
        batch, _, frames, height, width = latents.shape
        spatial = self.pipe.vae_spatial_compression_ratio
        if not self.conditions:
            scale = (self.stride / start.fps, spatial, spatial)
            return {"num_frames": frames, "height": height, "width": width, "rope_interpolation_scale": scale}
        ids = self.pipe._prepare_video_ids(
            batch, frames, height, width, self.patch[1], self.patch[0], device=latents.device
        )
        places = self.pipe._scale_video_ids(
            ids, scale_factor=spatial, scale_factor_t=self.stride, frame_index=0, device=latents.device
        ).float()
        places[:, 0] = places[:, 0] * (1.0 / start.fps)
        return {"video_coords": torch.cat([places] * count)}

    def encode_clip(self, frames: Frames) -> Tensor:
        """Normalised latents (1, C, F, h, w) of a clip: the mode of what the VAE makes of it."""
        return self._given.encoded(frames)

    def decode(self, latents: Tensor, generators: Sequence[torch.Generator] = ()) -> Tensor:
        """Videos (B, frames, 3, H, W) in [0, 1]. `generators` feed `decode_noise`; raises ValueError without them."""
        vae = self.pipe.vae
        latents = self.pipe._denormalize_latents(
            latents, vae.latents_mean, vae.latents_std, vae.config.scaling_factor
        ).to(self.pipe.text_encoder.dtype)
        timestep = None
        if vae.config.timestep_conditioning:
            timestep = torch.tensor([self.decode_timestep] * len(latents), device=latents.device, dtype=latents.dtype)
            latents = self._noised(latents, generators)
        video = vae.decode(latents.to(vae.dtype), timestep, return_dict=False)[0]
        frames: Tensor = self.pipe.video_processor.postprocess_video(video, output_type="pt")
        return frames

    def _noised(self, latents: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        if not self.decode_noise:
            return latents
        if len(generators) != len(latents):
            raise ValueError(f"generators: decode_noise needs one a clip, {len(latents)}, got {len(generators)}")
        noise = randn_tensor(latents.shape, generator=list(generators), device=latents.device, dtype=latents.dtype)
        scale = torch.tensor(self.decode_noise, device=latents.device, dtype=latents.dtype)
        noised: Tensor = (1 - scale) * latents + scale * noise
        return noised

    def attach(self, run: Run, sites: Sequence[Site]) -> Callable[[], None]:
        """Put controlled attention at the sites; the call returned puts the former processors back.

        Raises ControlRejected where blocks are skipped by a cache or split between devices.
        """
        if sites:
            check_steerable(self.network, "a control", run)

        def controlled(site: Site) -> tuple[Any, Callable[[Any], Any]]:
            block = self.network.transformer_blocks[site.layer]
            module = block.attn1 if site.kind == "self" else block.attn2
            return module, lambda plain: ControlledLTXAttention(plain, site, run, self.network.caption_projection)

        return replace_processors((controlled(site) for site in sites), [self.network])


def _text_of(text: Text, branches: Sequence[Branch]) -> tuple[Tensor, Tensor]:
    """States and masks of the branches' rows, (len(branches) * B, M, D) and (len(branches) * B, M)."""
    rows = [
        (text.cond, text.cond_mask) if branch is Branch.COND else (text.uncond, text.uncond_mask) for branch in branches
    ]
    states, masks = zip(*rows, strict=True)
    return torch.cat(states), torch.cat(masks)
