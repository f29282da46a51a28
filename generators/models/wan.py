"""Wan 2.1 and 2.2 (text or picture to video, two experts, TI2V) and models of Wan's architecture, taken apart.

Every tensor is computed by diffusers' and transformers' own classes; what stands here is the order of the calls in
`WanPipeline` and `WanImageToVideoPipeline`, so that the sampler can own the loop and still give the same bits.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Self

import torch
from diffusers.pipelines.wan.pipeline_wan import WanPipeline
from diffusers.pipelines.wan.pipeline_wan_i2v import WanImageToVideoPipeline
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from generators.clip import Frames, ShotRequest
from generators.controls.base import Run
from generators.errors import BackendUnavailable, RequestRejected
from generators.models.base import (
    Branch,
    Family,
    Layout,
    Reader,
    Site,
    Start,
    Text,
    frames_as_video,
    spread_over_tokens,
)
from generators.models.holding import OneHolder, check_steerable, replace_processors
from generators.models.loading import FAMILIES, load_pipeline
from generators.models.scenes import SceneModel, SceneSettings
from generators.models.stepping import Stepper
from generators.models.wan_attention import TEXT_COLUMNS, ControlledWanAttention
from generators.models.wan_given import WanGiven
from generators.models.wan_walk import WalkedWan, walk
from generators.tokens import TextMap, map_text


class WanShaped:
    """A pipeline around a transformer of Wan's architecture: what Wan's and SkyReels-V2's have in common."""

    family: Family = "wan"
    stride = 4
    joins_branches = False
    walked: type[WalkedWan] = WalkedWan
    """How a block of the network is read."""
    _stepper: Stepper | None = None
    """The newest."""

    def __init__(self, pipe: Any, *, name: str, gives_tokens_at_zero: bool) -> None:
        self.pipe = pipe
        self.name = name
        self.gives_tokens_at_zero = gives_tokens_at_zero
        self.expands_timesteps = bool(pipe.config.get("expand_timesteps"))
        parts = (pipe.transformer, getattr(pipe, "transformer_2", None))
        self.experts: tuple[Any, ...] = tuple(x for x in parts if x is not None)
        self._config = self.experts[0].config
        self.joins_channels = self._config.in_channels != pipe.vae.config.z_dim
        self._holder = OneHolder(name)
        self.held = self._holder.held
        self._given = WanGiven(self)

    @property
    def device(self) -> torch.device:
        """Where latents live."""
        device: torch.device = self.pipe._execution_device
        return device

    @property
    def size_multiple(self) -> int:
        """Width and height are multiples of this."""
        multiple: int = self.pipe.vae_scale_factor_spatial * max(self._config.patch_size[1:])
        return max(multiple, 16)

    @property
    def sites(self) -> tuple[Site, ...]:
        """Self- and cross-attention of every block of every expert."""
        return tuple(
            Site(expert, layer, kind)
            for expert, network in enumerate(self.experts)
            for layer in range(len(network.blocks))
            for kind in ("self", "cross")
        )

    def map_text(self, prompt: str) -> TextMap:
        """Where each token of the prompt stands."""
        return map_text(self.pipe.tokenizer, prompt, TEXT_COLUMNS)

    def encode(self, prompts: Sequence[str], negatives: Sequence[str] | None) -> Text:
        """Encode a batch of prompts, padded with zeros to 512 columns; `negatives` of None leaves guidance off."""
        cond, uncond = self.pipe.encode_prompt(
            prompt=list(prompts),
            negative_prompt=None if negatives is None else list(negatives),
            do_classifier_free_guidance=negatives is not None,
            max_sequence_length=TEXT_COLUMNS,
            device=self.device,
        )
        dtype = self.experts[0].dtype
        return Text(
            cond=cond.to(dtype),
            uncond=None if uncond is None else uncond.to(dtype),
            maps=tuple(self.map_text(prompt) for prompt in prompts),
        )

    def layout(self, frames: int, height: int, width: int) -> Layout:
        """Latents and tokens of a clip of so many pixels. Raises RequestRejected for sizes that do not fit."""
        multiple, spatial = self.size_multiple, self.pipe.vae_scale_factor_spatial
        for side, value in (("height", height), ("width", width)):
            if value % multiple or value < multiple:
                raise RequestRejected(f"{side}: expected a multiple of {multiple}, got {value}")
        if (frames - 1) % self.stride:
            raise RequestRejected(f"frames: expected {self.stride}k + 1, got {frames}")
        return Layout(
            channels=self.pipe.vae.config.z_dim,
            frames=(frames - 1) // self.stride + 1,
            height=height // spatial,
            width=width // spatial,
            patch=tuple(self._config.patch_size),
        )

    def start(self, requests: Sequence[ShotRequest], layout: Layout) -> Start:
        """Noise of each request's own CPU generator, and its given frames as this checkpoint takes them."""
        generators = [torch.Generator().manual_seed(request.seed) for request in requests]
        shape = (len(requests), *layout.shape)
        noise = randn_tensor(shape, generator=generators, device=self.device, dtype=torch.float32)
        return replace(self._given.start(requests, layout, noise), generators=tuple(generators))

    def stepper(self, steps: int, layout: Layout) -> Stepper:
        """A fresh schedule of so many steps."""
        scheduler = type(self.pipe.scheduler).from_config(copy.deepcopy(dict(self.pipe.scheduler.config)))
        scheduler.set_timesteps(steps, device=self.device)
        if isinstance(self.pipe, WanPipeline):  # the picture pipeline leaves it to the first step
            scheduler.set_begin_index(0)
        self._stepper = Stepper(scheduler)
        return self._stepper

    def guidance(self, t: Tensor, guidance: float, guidance_2: float | None, steps: int) -> float:
        """Guidance of the expert that handles this timestep."""
        return guidance if guidance_2 is None or self._is_high_noise(t) else guidance_2

    def _is_high_noise(self, t: Tensor) -> bool:
        ratio = self.pipe.config.get("boundary_ratio")
        return ratio is None or bool(t >= ratio * self.pipe.scheduler.config.num_train_timesteps)

    def expert(self, t: Tensor) -> Any:
        """The transformer that handles this timestep."""
        return self.pipe.transformer if self._is_high_noise(t) else self.pipe.transformer_2

    def expert_at(self, t: Tensor) -> int:
        """Which of the networks that `sites` counts handles this timestep."""
        return self.experts.index(self.expert(t))

    def predict(self, latents: Tensor, t: Tensor, text: Text, branches: Sequence[Branch], start: Start) -> Tensor:
        """Velocity (B, C, F, h, w) of one branch at one timestep."""
        (branch,) = branches
        self.pipe._current_timestep = t  # some of diffusers' caches ask the pipeline
        network = self.expert(t)
        inputs = self._inputs(network, latents, t, text.cond if branch is Branch.COND else text.uncond, start)
        with network.cache_context(str(branch), **self._told_to_caches(network, t)):
            velocity: Tensor = network(**inputs, return_dict=False)[0]
        return velocity

    def _told_to_caches(self, network: Any, t: Tensor) -> dict[str, Any]:
        """Where the loop stands, which the text pipeline tells caches and the picture pipeline does not."""
        if not network.is_cache_enabled or self._stepper is None or not isinstance(self.pipe, WanPipeline):
            return {}
        times, sigmas = self._stepper.timesteps, self._stepper.scheduler.sigmas
        step = int((times == t).nonzero()[0])
        return {"step_index": step, "sigma": float(sigmas[step]), "num_inference_steps": len(times)}

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
        network = self.expert(t)
        inputs = self._inputs(network, latents, t, text.cond, start)
        return walk(network, inputs, layers, read, self.walked, recompute=recompute)

    def _inputs(self, network: Any, latents: Tensor, t: Tensor, states: Tensor | None, start: Start) -> dict[str, Any]:
        if start.channels is not None:
            latents = torch.cat([latents, start.channels], dim=1)
        return {
            "hidden_states": latents.to(network.dtype),
            "timestep": self._timesteps(t, latents, start),
            "encoder_hidden_states": states,
            "encoder_hidden_states_image": start.image,
        }

    def _timesteps(self, t: Tensor, latents: Tensor, start: Start) -> Tensor:
        """(B,), or (B, N) with 0 at finished tokens where the model was trained so."""
        batch, _, frames, height, width = latents.shape
        if not self.expands_timesteps and (start.held is None or not self.gives_tokens_at_zero):
            return t.expand(batch)
        layout = Layout(channels=1, frames=frames, height=height, width=width, patch=tuple(self._config.patch_size))
        noisy = torch.ones(batch, frames, device=latents.device)
        if start.held is not None:
            noisy = noisy * ~start.held.flatten(1)
        return spread_over_tokens(noisy * t, layout)

    def encode_clip(self, frames: Frames) -> Tensor:
        """Normalised latents (1, C, F, h, w) of a clip: the mode of what the VAE makes of it."""
        return self._given.encoded(frames_as_video(frames, self.device, torch.float32))

    def decode(self, latents: Tensor, generators: Sequence[torch.Generator] = ()) -> Tensor:
        """Videos (B, frames, 3, H, W) in [0, 1]."""
        vae = self.pipe.vae
        mean, scale = self.statistics(latents.device, vae.dtype)
        video = vae.decode(latents.to(vae.dtype) / scale + mean, return_dict=False)[0]
        frames: Tensor = self.pipe.video_processor.postprocess_video(video, output_type="pt")
        return frames

    def statistics(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Mean of the VAE's latents, and the scale that normalises them, each (1, C, 1, 1, 1)."""
        config, shape = self.pipe.vae.config, (1, -1, 1, 1, 1)
        mean = torch.tensor(config.latents_mean).view(shape).to(device, dtype)
        return mean, 1.0 / torch.tensor(config.latents_std).view(shape).to(device, dtype)

    def attach(self, run: Run, sites: Sequence[Site]) -> Callable[[], None]:
        """Put controlled attention at the sites; the call returned puts the former processors back."""
        for expert in {site.expert for site in sites}:
            check_steerable(self.experts[expert], "a control", run)
        controlled = ((self._attention(site), partial(self._controlled, site, run)) for site in sites)
        return replace_processors(controlled, self.experts)

    def _attention(self, site: Site) -> Any:
        block = self.experts[site.expert].blocks[site.layer]
        return block.attn1 if site.kind == "self" else block.attn2

    def _controlled(self, site: Site, run: Run, former: Any) -> ControlledWanAttention:
        return ControlledWanAttention(former, site, run, self.experts[site.expert].condition_embedder.text_embedder)


class WanVideoModel(WanShaped):
    """A Wan pipeline as the sampler sees it.

    `gives_tokens_at_zero` says that the transformer was trained with finished tokens at timestep 0; None asks the
    pipeline (true for those that expand timesteps).
    """

    def __init__(self, pipe: Any, *, name: str = "wan", gives_tokens_at_zero: bool | None = None) -> None:
        expands = bool(pipe.config.expand_timesteps)
        knows = expands if gives_tokens_at_zero is None else gives_tokens_at_zero
        super().__init__(pipe, name=name, gives_tokens_at_zero=knows)

    @classmethod
    def from_pipeline(cls, pipe: Any, *, name: str = "wan", gives_tokens_at_zero: bool | None = None) -> Self:
        """Take a loaded pipeline apart; it stays usable. Raises BackendUnavailable for another family."""
        if not isinstance(pipe, WanPipeline | WanImageToVideoPipeline):
            raise BackendUnavailable(
                f"{name}: expected a WanPipeline or WanImageToVideoPipeline, got {type(pipe).__name__}"
            )
        return cls(pipe, name=name, gives_tokens_at_zero=gives_tokens_at_zero)

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        *,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        offload: bool = False,
        gives_tokens_at_zero: bool | None = None,
    ) -> Self:
        """Load a folder or hub id: safetensors only, never remote code; VAE and image encoder stay float32.

        `offload` moves one network at a time to the device. Raises BackendUnavailable when it cannot be loaded.
        """
        float32 = FAMILIES["WanPipeline"].float32
        pipe = load_pipeline(model, dtype=dtype, device=device, offload=offload, float32=float32)
        return cls.from_pipeline(pipe, name=model, gives_tokens_at_zero=gives_tokens_at_zero)

    def of_sets(self, layouts: Sequence[Layout], settings: SceneSettings) -> SceneModel:
        """The same model for sets of shots that are filmed as one sequence (Mask2DiT).

        Raises RequestRejected for picture-to-video checkpoints.
        """
        from generators.models.wan_scenes import WanScenes

        return WanScenes(self, layouts, settings)
