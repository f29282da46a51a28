"""CogVideoX 1.0 and 1.5 (2B and 5B; text or picture to video), taken apart.

Every tensor is computed by diffusers' and transformers' own classes; what stands here is the order of the calls in
`CogVideoXPipeline` and `CogVideoXImageToVideoPipeline`. Those keep frames before channels, the sampler channels before
frames: tensors are turned where they enter and leave the family, and noise is drawn in the family's own order.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from diffusers.pipelines.cogvideo.pipeline_cogvideox import CogVideoXPipeline
from diffusers.pipelines.cogvideo.pipeline_cogvideox_image2video import CogVideoXImageToVideoPipeline
from diffusers.schedulers.scheduling_dpm_cogvideox import CogVideoXDPMScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from generators.clip import Frames, ShotRequest
from generators.controls.base import Run
from generators.errors import BackendUnavailable, RequestRejected
from generators.models.base import Branch, Family, Layout, OneNetwork, Reader, Site, Start, Text
from generators.models.cogvideox_attention import ControlledJointAttention, WalkedJoint
from generators.models.cogvideox_given import CogVideoXGiven
from generators.models.holding import OneHolder, check_steerable, replace_processors
from generators.models.scenes import SceneModel, SceneSettings
from generators.models.stepping import Stepper
from generators.models.walking import walk_blocks
from generators.tokens import TextMap, map_text


class CogVideoXStepper(Stepper):
    """CogVideoX's schedulers: DPM remembers one prediction and draws noise; latents keep the dtype they came in."""

    def __init__(self, scheduler: Any) -> None:
        super().__init__(scheduler)
        self._former: Tensor | None = None

    def step(self, prediction: Tensor, i: int, latents: Tensor, generators: tuple[torch.Generator, ...] = ()) -> Tensor:
        """Latents of step i + 1. Both schedulers' arithmetic is the pipeline's, in the pipeline's order of axes."""
        predicted, before = turned(prediction), turned(latents)
        t = self.timesteps[i]
        if isinstance(self.scheduler, CogVideoXDPMScheduler):
            remembering: Any = self.scheduler  # its annotations are narrower than what its pipeline gives it
            after, self._former = remembering.step(
                predicted,
                self._former,
                t,
                self.timesteps[i - 1] if i > 0 else None,
                before,
                generator=list(generators) or None,
                return_dict=False,
            )
        else:
            after = self.scheduler.step(predicted, t, before, return_dict=False)[0]
        return turned(after.to(latents.dtype))


class CogVideoXVideoModel(OneNetwork):
    """A CogVideoX pipeline as the sampler sees it.

    `dynamic_guidance` is the pipelines' `use_dynamic_cfg`, as they compute it: from the scheduler's time, not from the
    number of the step.
    """

    family: Family = "cogvideox"
    joins_branches = True
    gives_tokens_at_zero = False

    def __init__(self, pipe: Any, *, name: str = "cogvideox", dynamic_guidance: bool = False) -> None:
        self.pipe = pipe
        self.name = name
        self.dynamic_guidance = dynamic_guidance
        self.network = pipe.transformer
        self.stride: int = pipe.vae_scale_factor_temporal
        self.joins_channels = self.network.config.in_channels != pipe.vae.config.latent_channels
        self.columns: int = self.network.config.max_text_seq_length
        self._holder = OneHolder(name)
        self.held = self._holder.held
        self._given = CogVideoXGiven(self)

    @classmethod
    def from_pipeline(cls, pipe: Any, *, name: str = "cogvideox", dynamic_guidance: bool = False) -> Self:
        """Take a loaded pipeline apart; it stays usable. Raises BackendUnavailable for another family."""
        if not isinstance(pipe, CogVideoXPipeline | CogVideoXImageToVideoPipeline):
            raise BackendUnavailable(
                f"{name}: expected a CogVideoXPipeline or CogVideoXImageToVideoPipeline, got {type(pipe).__name__}"
            )
        return cls(pipe, name=name, dynamic_guidance=dynamic_guidance)

    @property
    def device(self) -> torch.device:
        """Where latents live."""
        device: torch.device = self.pipe._execution_device
        return device

    @property
    def size_multiple(self) -> int:
        """Width and height are multiples of this."""
        multiple: int = self.pipe.vae_scale_factor_spatial * self.network.config.patch_size
        return multiple

    @property
    def patch(self) -> tuple[int, int, int]:
        """Latent frames, rows and columns in a token."""
        side: int = self.network.config.patch_size
        return self.network.config.patch_size_t or 1, side, side

    @property
    def frame_step(self) -> int:
        """Legal frame counts are `frame_step * k + 1`: the autoencoder decodes latent frames in pairs after the first.

        It turns an even number of latent frames into another length than was asked for.
        """
        return 2 * self.stride

    @property
    def sites(self) -> tuple[Site, ...]:
        """The joint attention of every block."""
        return tuple(Site(0, layer, "joint") for layer in range(len(self.network.transformer_blocks)))

    def map_text(self, prompt: str) -> TextMap:
        """Where each token of the prompt stands; the pipelines tokenise prompts as they are."""
        return map_text(self.pipe.tokenizer, prompt, self.columns, clean=False)

    def encode(self, prompts: Sequence[str], negatives: Sequence[str] | None) -> Text:
        """Encode a batch of prompts with their padding, which CogVideoX reads; `negatives` of None: no guidance."""
        cond, uncond = self.pipe.encode_prompt(
            list(prompts),
            None if negatives is None else list(negatives),
            negatives is not None,
            max_sequence_length=self.columns,
            device=self.device,
        )
        return Text(cond=cond, uncond=uncond, maps=tuple(self.map_text(prompt) for prompt in prompts))

    def layout(self, frames: int, height: int, width: int) -> Layout:
        """Latents and tokens of a clip of so many pixels. Raises RequestRejected for sizes that do not fit."""
        multiple, spatial, step = self.size_multiple, self.pipe.vae_scale_factor_spatial, self.frame_step
        for side, value in (("height", height), ("width", width)):
            if value % multiple or value < multiple:
                raise RequestRejected(f"{side}: expected a multiple of {multiple}, got {value}")
        if (frames - 1) % step:
            raise RequestRejected(f"frames: expected {step}k + 1, got {frames}")
        layout = Layout(
            channels=self.pipe.vae.config.latent_channels,
            frames=(frames - 1) // self.stride + self.patch[0],
            height=height // spatial,
            width=width // spatial,
            patch=self.patch,
            lead=self.patch[0] - 1,
        )
        self._check_positions(layout)
        return layout

    def _check_positions(self, layout: Layout) -> None:
        """Learned positions (CogVideoX-5b-I2V) are for one size, those of 1.5 for sizes up to one."""
        config, spatial = self.network.config, self.pipe.vae_scale_factor_spatial
        height, width = config.sample_height, config.sample_width
        fits = {"alone": True, "at most": True}
        if config.use_learned_positional_embeddings:
            fits["alone"] = (layout.height, layout.width) == (height, width)
        if config.patch_size_t is not None:
            fits["at most"] = layout.height <= height and layout.width <= width
        for bound, holds in fits.items():
            if not holds:
                raise RequestRejected(
                    f"height, width: this checkpoint's positions are for {height * spatial} x {width * spatial} "
                    f"{bound}, got {layout.height * spatial} x {layout.width * spatial}"
                )

    def start(self, requests: Sequence[ShotRequest], layout: Layout) -> Start:
        """Each request's generator gives its picture's latents, then its noise, then what its scheduler draws."""
        generators = [torch.Generator().manual_seed(request.seed) for request in requests]
        pictures = self._given.pictures(requests, layout, generators) if self.joins_channels else None
        noise = randn_tensor(
            (len(requests), layout.frames, layout.channels, layout.height, layout.width),
            generator=generators,
            device=self.device,
            dtype=self.dtype,
        )
        return self._given.start(requests, layout, turned(noise), pictures, tuple(generators))

    @property
    def dtype(self) -> torch.dtype:
        """Of latents, as in the pipelines: the text encoder's."""
        dtype: torch.dtype = self.pipe.text_encoder.dtype
        return dtype

    def stepper(self, steps: int, layout: Layout) -> Stepper:
        """A fresh schedule of so many steps."""
        scheduler = type(self.pipe.scheduler).from_config(copy.deepcopy(dict(self.pipe.scheduler.config)))
        scheduler.set_timesteps(steps, device=self.device)
        return CogVideoXStepper(scheduler)

    def guidance(self, t: Tensor, guidance: float, guidance_2: float | None, steps: int) -> float:
        """The request's guidance, or what dynamic guidance makes of it at this timestep."""
        if not self.dynamic_guidance:
            return guidance
        return 1 + guidance * ((1 - math.cos(math.pi * ((steps - t.item()) / steps) ** 5.0)) / 2)

    def predict(self, latents: Tensor, t: Tensor, text: Text, branches: Sequence[Branch], start: Start) -> Tensor:
        """The network's prediction, float32 (len(branches) * B, C, F, h, w), all branches in one pass."""
        states = [text.cond if branch is Branch.COND else text.uncond for branch in branches]
        inputs = self._inputs(latents, t, torch.cat([state for state in states if state is not None]), start)
        self.pipe._current_timestep = t  # some of diffusers' caches ask the pipeline
        with self.network.cache_context("cond_uncond"):
            prediction = self.network(**inputs, return_dict=False)[0]
        return turned(prediction.float())

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
        """What `read` makes of video's questions to text in these layers; the pass ends after the last of them."""
        inputs = self._inputs(latents, t, text.cond, start)
        return walk_blocks(self.network, inputs, layers, read, WalkedJoint, recompute=recompute)

    def _inputs(self, latents: Tensor, t: Tensor, states: Tensor, start: Start) -> dict[str, Any]:
        count = len(states) // len(latents)
        inputs = torch.cat([turned(latents)] * count)
        if start.channels is not None:
            inputs = torch.cat([inputs, torch.cat([turned(start.channels)] * count)], dim=2)
        offset = None if self.network.config.ofs_embed_dim is None else states.new_full((1,), fill_value=2.0)
        return {
            "hidden_states": inputs.to(states.dtype),
            "encoder_hidden_states": states,
            "timestep": t.expand(len(inputs)),
            "ofs": offset,
            "image_rotary_emb": self._rotary(latents),
        }

    def _rotary(self, latents: Tensor) -> Any:
        if not self.network.config.use_rotary_positional_embeddings:
            return None
        _, _, frames, height, width = latents.shape
        spatial = self.pipe.vae_scale_factor_spatial
        return self.pipe._prepare_rotary_positional_embeddings(
            height * spatial, width * spatial, frames, latents.device
        )

    def encode_clip(self, frames: Frames) -> Tensor:
        """Latents (1, C, F, h, w) of a clip; those of padding stand still at its first."""
        latents = self._given.encoded(frames)
        return torch.cat([latents[:, :, :1]] * (self.patch[0] - 1) + [latents], dim=2)

    def decode(self, latents: Tensor, generators: Sequence[torch.Generator] = ()) -> Tensor:
        """Videos (B, frames, 3, H, W) in [0, 1]; latent frames of padding are left out."""
        video = self.pipe.decode_latents(turned(latents)[:, self.patch[0] - 1 :])
        frames: Tensor = self.pipe.video_processor.postprocess_video(video=video, output_type="pt")
        return frames

    def of_sets(self, layouts: Sequence[Layout], settings: SceneSettings) -> SceneModel:
        """The same model for sets of shots that are filmed as one sequence (Mask2DiT).

        Raises RequestRejected for picture-to-video checkpoints and for more frames than the positions hold.
        """
        from generators.models.cogvideox_scenes import CogVideoXScenes

        return CogVideoXScenes(self, layouts, settings)

    def attach(self, run: Run, sites: Sequence[Site]) -> Callable[[], None]:
        """Put controlled attention at the sites; the call returned puts the former processors back.

        Raises ControlRejected where blocks are skipped by a cache or split between devices.
        """
        if sites:
            check_steerable(self.network, "a control", run)

        def controlled(site: Site) -> tuple[Any, Callable[[Any], Any]]:
            module = self.network.transformer_blocks[site.layer].attn1
            return module, lambda plain: ControlledJointAttention(plain, site, run)

        return replace_processors((controlled(site) for site in sites), [self.network])


def turned(x: Tensor) -> Tensor:
    """(B, C, F, h, w) from (B, F, C, h, w), and back; contiguous, as the pipelines hold it."""
    return x.transpose(1, 2).contiguous()
