"""Wan filming several shots as one sequence: Mask2DiT on a network whose words are read by cross-attention.

Video is one sequence [V_1 .. V_n]; positions run on from shot to shot by themselves, and times are a token's own as in
TI2V. A shot's video reads its own words (masks v1 to v3) or everybody's (v4, v5), and all video (v2 to v5) or its own
(v1): words do not see each other in Wan, so v3 is v2 and v5 is v4. The network's own processors compute each part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from generators.attention_groups import Scenes
from generators.clip import ShotRequest
from generators.controls.base import Run
from generators.errors import ControlRejected, RequestRejected
from generators.models.base import Layout, Site, Start, Text, frames_as_video
from generators.models.given import known_frames
from generators.models.holding import check_steerable, replace_processors
from generators.models.scenes import SceneSettings, by_sets, joined_text, split_shots, start_of_sets, whole_layout
from generators.models.wan import WanVideoModel
from generators.models.wan_attention import TEXT_COLUMNS


class WanScenes(WanVideoModel):
    """A Wan model whose rows are sets of n shots; it shares its holder with the model it is made of."""

    def __init__(self, model: WanVideoModel, layouts: Sequence[Layout], settings: SceneSettings) -> None:
        super().__init__(model.pipe, name=model.name, gives_tokens_at_zero=model.gives_tokens_at_zero)
        self._model = model
        self.layouts = tuple(layouts)
        self.settings = settings
        if self.joins_channels or self._config.image_dim is not None:
            raise RequestRejected(
                f"{model.name} starts from a picture, which several shots in one sequence have no place for; "
                "expected a text-to-video or TI2V checkpoint"
            )
        self.scenes = Scenes(
            texts=(TEXT_COLUMNS,) * len(layouts), videos=tuple(layout.tokens for layout in self.layouts)
        )

    def held(self) -> Any:
        """Be the one holder of the model it is made of."""
        return self._model.held()

    def encode(self, prompts: Sequence[str], negatives: Sequence[str] | None) -> Text:
        """Encode each shot's prompt by itself, then put the texts of a set side by side."""
        return joined_text(super().encode(prompts, negatives), len(self.layouts))

    def start_sets(self, requests: Sequence[ShotRequest], finished: Mapping[int, Tensor]) -> Start:
        """Noise for what is filmed, context for what is finished: at time 0, or noised anew for every step."""
        start = start_of_sets(
            requests, self.layouts, finished, draw=self._noise, context=self._context, by=self.settings.noise
        )
        if start.held is None or self.gives_tokens_at_zero:
            return start
        whole = whole_layout(self.layouts)
        seeds = [of_set[0].seed for _, of_set in by_sets(requests, len(self.layouts))]
        noise = torch.cat([self._noise(whole, torch.Generator().manual_seed(seed)) for seed in seeds])
        return replace(start, noise=torch.where(start.held, noise, start.noise))

    def _noise(self, layout: Layout, generator: torch.Generator) -> Tensor:
        shape = (1, *layout.shape)
        noise: Tensor = randn_tensor(shape, generator=generator, device=self.device, dtype=torch.float32)
        return noise

    def _context(self, request: ShotRequest, layout: Layout, latents: Tensor | None) -> Tensor:
        """A finished shot's latents; a flow has no noise at t = 0, so noised and clean context are one here."""
        if latents is not None:
            return latents.to(self.device, torch.float32)
        return self.encode_shot(request, layout)

    def encode_shot(self, request: ShotRequest, layout: Layout) -> Tensor:
        """Latents (1, C, F, h, w) of a shot all of whose frames are given: the mode of what the VAE makes of it."""
        pixels = known_frames(request, self.stride).pixels
        assert pixels is not None  # all frames are given
        return self._given.encoded(frames_as_video(pixels, self.device, torch.float32))

    def decode(self, latents: Tensor, generators: Sequence[torch.Generator] = ()) -> Tensor:
        """Videos (B, frames of all shots, 3, H, W) in [0, 1]; the VAE begins anew with every shot."""
        return torch.cat([super(WanScenes, self).decode(x) for x in split_shots(latents, self.layouts)], dim=1)

    def attach(self, run: Run, sites: Sequence[Site]) -> Callable[[], None]:
        """Put attention by shots on the networks; the call returned takes it off.

        Raises ControlRejected for controls, for blocks that a cache may skip, and for split sequences.
        """
        if sites:
            raise ControlRejected("controls: expected none on shots that are filmed in one sequence, got some")
        if len(self.layouts) == 1:
            return lambda: None
        for network in self.experts:
            check_steerable(network, "filming several shots in one sequence")
        blocks = [block for network in self.experts for block in network.blocks]
        own_video, own_words = self.settings.mask == "v1", self.settings.mask in ("v1", "v2", "v3")
        modules = [block.attn1 for block in blocks if own_video] + [block.attn2 for block in blocks if own_words]
        by_shot = ((module, lambda plain: ShotByShot(plain, self.scenes)) for module in modules)
        return replace_processors(by_shot, self.experts)


class ShotByShot:
    """Runs the network's own processor on each shot's video, with itself or with its words alone."""

    _attention_backend = None
    _parallel_config = None

    def __init__(self, plain: Any, scenes: Scenes) -> None:
        self.plain, self.scenes = plain, scenes

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """(B, N, D), N tokens of all shots."""
        shots = hidden_states.split(list(self.scenes.videos), dim=1)
        words: Sequence[Tensor | None] = [None] * len(shots)
        if encoder_hidden_states is not None:
            words = encoder_hidden_states.split(list(self.scenes.texts), dim=1)
        turns: Sequence[Any] = [None] * len(shots)
        if rotary_emb is not None:
            turns = list(zip(*(table.split(list(self.scenes.videos), dim=1) for table in rotary_emb), strict=True))
        made = zip(shots, words, turns, strict=True)
        return torch.cat([self.plain(attn, shot, own, attention_mask, turn) for shot, own, turn in made], dim=1)
