"""UNet families with attention over time of its own: ModelScope's text-to-video model and AnimateDiff, taken apart.

Every tensor is computed by diffusers' and transformers' own classes; what stands here is the order of the calls in
`TextToVideoSDPipeline` and `AnimateDiffPipeline`. A latent frame is a pixel frame. Both branches of guidance are one
pass. Levels count how often the picture is halved: VSTAR's 64, 32, 16 and 8 are levels 0 to 3.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Self

import torch
from diffusers.loaders.textual_inversion import TextualInversionLoaderMixin
from diffusers.pipelines.animatediff.pipeline_animatediff import AnimateDiffPipeline
from diffusers.pipelines.deprecated.text_to_video_synthesis.pipeline_text_to_video_synth import TextToVideoSDPipeline
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from generators.clip import Frames, ShotRequest
from generators.controls.base import Run
from generators.errors import BackendUnavailable, RequestRejected
from generators.models.base import Branch, Family, Layout, OneNetwork, Site, Start, Text, Way, frames_as_video
from generators.models.given import known_frames
from generators.models.holding import OneHolder, check_steerable, replace_processors
from generators.models.loading import load_pipeline
from generators.models.stepping import Stepper
from generators.models.unet_attention import ControlledUnetAttention
from generators.models.unet_stepping import UnetStepper
from generators.tokens import TextMap, map_text

Place = tuple[Site, Any]
"""A site and its attention module."""


class UnetVideoModel(OneNetwork):
    """A UNet pipeline as the sampler sees it. `eta` is DDIM's noise of every step, which VSTAR sets to 1."""

    family: Family = "unet"
    stride = 1
    joins_branches = True
    gives_tokens_at_zero = False

    def __init__(self, pipe: Any, *, name: str, eta: float = 0.0) -> None:
        self.pipe = pipe
        self.name = name
        self.eta = eta
        self.is_animatediff = isinstance(pipe, AnimateDiffPipeline)
        self.network = pipe.unet
        self._places: tuple[Place, ...] = tuple(_places(self.network))
        self._modules = dict(self._places)
        self._holder = OneHolder(name)

    @classmethod
    def from_pipeline(cls, pipe: Any, *, name: str = "unet", eta: float = 0.0) -> Self:
        """Take a loaded pipeline apart; it stays usable.

        Raises BackendUnavailable for another family, and for extensions that change what the loop does.
        """
        if not isinstance(pipe, TextToVideoSDPipeline | AnimateDiffPipeline):
            raise BackendUnavailable(
                f"{name}: expected a TextToVideoSDPipeline or AnimateDiffPipeline, got {type(pipe).__name__}"
            )
        for feature in ("free_noise", "free_init"):
            if getattr(pipe, f"{feature}_enabled", False):
                raise BackendUnavailable(f"{name}: {feature} rewrites the loop; call pipe.disable_{feature}() first")
        if getattr(pipe.unet.config, "encoder_hid_dim_type", None) is not None:
            raise BackendUnavailable(f"{name}: an IP adapter wants pictures; call pipe.unload_ip_adapter() first")
        return cls(pipe, name=name, eta=eta)

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        *,
        motion_adapter: str | None = None,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        offload: bool = False,
        eta: float = 0.0,
    ) -> Self:
        """Load a folder or hub id: safetensors only, never remote code.

        `motion_adapter` makes an AnimateDiff pipeline of a Stable Diffusion checkpoint. `offload` moves one network at
        a time to the device. Raises BackendUnavailable when it cannot be loaded.
        """
        if motion_adapter is None:
            return cls.from_pipeline(
                load_pipeline(model, dtype=dtype, device=device, offload=offload), name=model, eta=eta
            )
        pipe = _with_adapter(model, motion_adapter, dtype)
        pipe.set_progress_bar_config(disable=True)
        if offload:
            pipe.enable_model_cpu_offload(device=device)
        else:
            pipe.to(device)
        return cls.from_pipeline(pipe, name=model, eta=eta)

    @property
    def device(self) -> torch.device:
        """Where latents live."""
        device: torch.device = self.pipe._execution_device
        return device

    @property
    def size_multiple(self) -> int:
        """Width and height are multiples of this."""
        multiple: int = self.pipe.vae_scale_factor
        return multiple

    @property
    def sites(self) -> tuple[Site, ...]:
        """Spatial self- and text cross-attention, and both attentions over time of every temporal block.

        The temporal attention before ModelScope's first block is not among them: no method steers it.
        """
        return tuple(site for site, _ in self._places)

    def held(self) -> AbstractContextManager[None]:
        """Be the one holder; raises RuntimeError when there is another."""
        return self._holder.held()

    def map_text(self, prompt: str) -> TextMap:
        """Where each token of the prompt stands."""
        tokenizer = self.pipe.tokenizer
        if isinstance(self.pipe, TextualInversionLoaderMixin):  # a learnt word may be several tokens
            (prompt,) = self.pipe.maybe_convert_prompt([prompt], tokenizer)
        return map_text(tokenizer, prompt, tokenizer.model_max_length, clean=False)

    def encode(self, prompts: Sequence[str], negatives: Sequence[str] | None) -> Text:
        """Encode a batch of prompts, padded to the tokenizer's length; `negatives` of None leaves guidance off."""
        cond, uncond = self.pipe.encode_prompt(
            list(prompts), self.device, 1, negatives is not None, None if negatives is None else list(negatives)
        )
        return Text(cond=cond, uncond=uncond, maps=tuple(self.map_text(prompt) for prompt in prompts))

    def layout(self, frames: int, height: int, width: int) -> Layout:
        """Latents and tokens of a clip of so many pixels. Raises RequestRejected for sizes that do not fit."""
        multiple = self.size_multiple
        for side, value in (("height", height), ("width", width)):
            if value % multiple or value < multiple:
                raise RequestRejected(f"{side}: expected a multiple of {multiple}, got {value}")
        longest = self.network.config.motion_max_seq_length if self.is_animatediff else None
        if frames < 1 or (longest is not None and frames > longest):
            raise RequestRejected(f"frames: expected 1 to {longest or 'any number'}, got {frames}")
        return Layout(
            channels=self.network.config.in_channels,
            frames=frames,
            height=height // multiple,
            width=width // multiple,
            patch=(1, 1, 1),
        )

    def start(self, requests: Sequence[ShotRequest], layout: Layout) -> Start:
        """Noise of each request's own CPU generator, in the text encoder's dtype as in the stock pipelines.

        Given frames are held as noised latents: neither family knows finished ones.
        """
        generators = tuple(torch.Generator().manual_seed(request.seed) for request in requests)
        shape, dtype = (len(requests), *layout.shape), self.pipe.text_encoder.dtype
        noise = randn_tensor(shape, generator=list(generators), device=self.device, dtype=dtype)
        if not any(request.given for request in requests):
            return Start(noise=noise, generators=generators)
        held, clean = zip(*(self._known(request, layout) for request in requests), strict=True)
        return Start(noise=noise, held=torch.cat(held), clean=torch.cat(clean).to(dtype), generators=generators)

    def _known(self, request: ShotRequest, layout: Layout) -> tuple[Tensor, Tensor]:
        known = known_frames(request, self.stride)
        clean = torch.zeros(1, *layout.shape, device=self.device)
        if known.pixels is not None:
            clean[:, :, : known.latents] = self.encode_clip(known.pixels)
        mask = torch.tensor(known.held, device=self.device).view(1, 1, -1, 1, 1)
        return mask, torch.where(mask, clean, 0.0)

    def stepper(self, steps: int, layout: Layout) -> Stepper:
        """A fresh schedule of so many steps."""
        scheduler = type(self.pipe.scheduler).from_config(copy.deepcopy(dict(self.pipe.scheduler.config)))
        scheduler.set_timesteps(steps, device=self.device)
        return UnetStepper(scheduler, eta=self.eta, folds_frames=not self.is_animatediff)

    def guidance(self, t: Tensor, guidance: float, guidance_2: float | None, steps: int) -> float:
        """The same at every timestep."""
        return guidance

    def predict(self, latents: Tensor, t: Tensor, text: Text, branches: Sequence[Branch], start: Start) -> Tensor:
        """Noise (or velocity) (len(branches) * B, C, F, h, w) of the branches in one pass."""
        states = torch.cat([_states(text, branch) for branch in branches])
        if self.is_animatediff:  # ModelScope's network repeats the text for every frame itself
            states = states.repeat_interleave(latents.shape[2], dim=0)
        joined = torch.cat([latents] * len(branches)) if len(branches) > 1 else latents
        shown = joined.to(states.dtype)  # float32 where a control edits them
        prediction: Tensor = self.network(shown, t, encoder_hidden_states=states, return_dict=False)[0]
        return prediction

    def encode_clip(self, frames: Frames) -> Tensor:
        """Latents (1, C, F, h, w) of a clip, a picture at a time: the mode of what the VAE makes of each."""
        vae = self.pipe.vae
        pictures = frames_as_video(frames, self.device, vae.dtype)[0].transpose(0, 1)
        latents: Tensor = vae.encode(pictures).latent_dist.mode() * vae.config.scaling_factor
        return latents.transpose(0, 1).unsqueeze(0)

    def decode(self, latents: Tensor, generators: Sequence[torch.Generator] = ()) -> Tensor:
        """Videos (B, frames, 3, H, W) in [0, 1]."""
        frames: Tensor = self.pipe.video_processor.postprocess_video(
            self.pipe.decode_latents(latents), output_type="pt"
        )
        return frames

    def attach(self, run: Run, sites: Sequence[Site]) -> Callable[[], None]:
        """Put controlled attention at the sites; the call returned puts the former processors back."""
        if sites:
            check_steerable(self.network, "A control")

        def controlled(site: Site) -> tuple[Any, Callable[[Any], Any]]:
            module = self._modules[site]
            return module, lambda plain: ControlledUnetAttention(plain, module, site, run)

        return replace_processors((controlled(site) for site in sites), [self.network])


def _with_adapter(model: str, motion_adapter: str, dtype: torch.dtype) -> Any:
    from diffusers.models.unets.unet_motion_model import MotionAdapter

    options: dict[str, Any] = {"torch_dtype": dtype, "use_safetensors": True}
    try:
        adapter = MotionAdapter.from_pretrained(motion_adapter, **options)
        return AnimateDiffPipeline.from_pretrained(model, motion_adapter=adapter, **options)
    except (OSError, ValueError, ImportError) as error:
        raise BackendUnavailable(
            f"{model} with motion adapter {motion_adapter}: expected a Stable Diffusion checkpoint and an adapter of "
            f"its width: {error}"
        ) from error


def _states(text: Text, branch: Branch) -> Tensor:
    if branch is Branch.COND:
        return text.cond
    if text.uncond is None:
        raise ValueError("text.uncond: expected the negative prompts' embeddings for an unconditional pass, got None")
    return text.uncond


def _places(unet: Any) -> Iterator[Place]:
    """Every attention that can be steered, in the order of the forward pass; layers are counted apart by kind."""
    deepest = len(unet.down_blocks) - 1
    blocks: list[tuple[int, Way, Any]] = [
        *((level, "down", block) for level, block in enumerate(unet.down_blocks)),
        (deepest, "middle", unet.mid_block),
        *((deepest - number, "up", block) for number, block in enumerate(unet.up_blocks)),
    ]
    space = time = 0
    for level, way, block in blocks:
        for transformer in getattr(block, "attentions", ()):
            for part in transformer.transformer_blocks:
                yield Site(0, space, "self", level, way), part.attn1
                yield Site(0, space, "cross", level, way), part.attn2
                space += 1
        for transformer in _over_time(block):
            for part in transformer.transformer_blocks:
                for attention in (part.attn1, part.attn2):
                    if attention is not None:
                        yield Site(0, time, "temporal", level, way), attention
                        time += 1


def _over_time(block: Any) -> Sequence[Any]:
    """Temporal transformers of a block, by the name its family gives them."""
    for name in ("temp_attentions", "motion_modules"):
        found: Sequence[Any] | None = getattr(block, name, None)
        if found is not None:
            return found
    return ()
