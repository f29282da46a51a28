"""SkyReels-V2 taken apart: plain text- or picture-to-video, and diffusion forcing, where each frame has its own time.

The network is Wan's but for how it is told times, so is the rest of the pipeline; what differs stands here. Diffusion
forcing is filmed in the synchronous way: all frames that are not given are at one time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from diffusers.pipelines.skyreels_v2.pipeline_skyreels_v2 import SkyReelsV2Pipeline
from diffusers.pipelines.skyreels_v2.pipeline_skyreels_v2_diffusion_forcing import SkyReelsV2DiffusionForcingPipeline
from diffusers.pipelines.skyreels_v2.pipeline_skyreels_v2_diffusion_forcing_i2v import (
    SkyReelsV2DiffusionForcingImageToVideoPipeline,
)
from diffusers.pipelines.skyreels_v2.pipeline_skyreels_v2_diffusion_forcing_v2v import (
    SkyReelsV2DiffusionForcingVideoToVideoPipeline,
)
from diffusers.pipelines.skyreels_v2.pipeline_skyreels_v2_i2v import SkyReelsV2ImageToVideoPipeline
from torch import Tensor

from generators.clip import ShotRequest
from generators.controls.base import Run
from generators.errors import BackendUnavailable, ControlRejected, RequestRejected
from generators.models.base import Layout, Reader, Site, Start, Text
from generators.models.skyreels_stepping import ForcingStepper
from generators.models.stepping import Stepper
from generators.models.wan import WanShaped
from generators.models.wan_walk import WalkedSkyReels

PLAIN = (SkyReelsV2Pipeline, SkyReelsV2ImageToVideoPipeline)
FORCING = (
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2DiffusionForcingImageToVideoPipeline,
    SkyReelsV2DiffusionForcingVideoToVideoPipeline,
)
GIVEN_TIME = 20.0
"""What the authors recommend for going on from a clip; their pipelines' own default is 0."""
SLOW = 16
"""The one frame rate that networks which are told the rate know apart from all others."""


class SkyReelsVideoModel(WanShaped):
    """A SkyReels-V2 pipeline as the sampler sees it.

    Diffusion forcing reads given frames at `given_time`, the pipelines' `addnoise_condition`, with that many
    thousandths of noise: 0 reads them clean, None is what the authors recommend. Plain pipelines know no such time.
    """

    walked = WalkedSkyReels

    def __init__(self, pipe: Any, *, name: str = "skyreels", given_time: float | None = None) -> None:
        self.diffusion_forcing = isinstance(pipe, FORCING)
        if given_time is not None and not self.diffusion_forcing:
            raise ValueError(f"given_time: expected a pipeline of diffusion forcing, got a {type(pipe).__name__}")
        self.given_time = GIVEN_TIME if given_time is None else given_time
        if not 0 <= self.given_time < 1000:
            raise ValueError(f"given_time: expected at least 0 and less than 1000, got {given_time}")
        super().__init__(pipe, name=name, gives_tokens_at_zero=self.diffusion_forcing)

    @classmethod
    def from_pipeline(cls, pipe: Any, *, name: str = "skyreels", given_time: float | None = None) -> Self:
        """Take a loaded pipeline apart; it stays usable. Raises BackendUnavailable for another family."""
        if not isinstance(pipe, PLAIN + FORCING):
            known = ", ".join(kind.__name__ for kind in PLAIN + FORCING)
            raise BackendUnavailable(f"{name}: expected one of {known}, got {type(pipe).__name__}")
        return cls(pipe, name=name, given_time=given_time)

    def layout(self, frames: int, height: int, width: int) -> Layout:
        """Latents and tokens of a clip of so many pixels. Raises RequestRejected for sizes that do not fit."""
        layout = super().layout(frames, height, width)
        if layout.frames % self.frames_a_block:
            raise RequestRejected(
                f"frames: expected {self.frames_a_block} latent frames or a multiple (num_frame_per_block), "
                f"got {frames} frames, which are {layout.frames} latent ones"
            )
        return layout

    @property
    def frames_a_block(self) -> int:
        """Latent frames that see one another; 1 means that all do."""
        block: int = self._config.num_frame_per_block
        return block

    def start(self, requests: Sequence[ShotRequest], layout: Layout) -> Start:
        """Noise of each request's own CPU generator, and its given frames.

        Raises RequestRejected for frames that cannot be held, and for several frame rates where the network is told.
        """
        rates = {request.fps for request in requests}
        if len({rate == SLOW for rate in rates}) > 1 and self.diffusion_forcing and self._config.inject_sample_info:
            raise RequestRejected(
                f"fps: this model is told whether it is {SLOW}; expected all or none of a batch, got {sorted(rates)}"
            )
        return replace(super().start(requests, layout), fps=requests[0].fps)

    def stepper(self, steps: int, layout: Layout) -> Stepper:
        """A fresh schedule of so many steps."""
        plain = super().stepper(steps, layout)
        if not self.diffusion_forcing:
            return plain
        self._stepper = ForcingStepper(plain.scheduler, self.given_time, self.experts[0].dtype)
        return self._stepper

    def _inputs(self, network: Any, latents: Tensor, t: Tensor, states: Tensor | None, start: Start) -> dict[str, Any]:
        inputs = super()._inputs(network, latents, t, states, start)
        if self.diffusion_forcing:  # one rate for the batch: the network cannot add several to the times of frames
            inputs |= {"enable_diffusion_forcing": True, "fps": [0 if start.fps == SLOW else 1]}
        return inputs

    def _timesteps(self, t: Tensor, latents: Tensor, start: Start) -> Tensor:
        """(B,), or (B, F) under diffusion forcing: given frames stand at a time of their own."""
        if not self.diffusion_forcing:
            return super()._timesteps(t, latents, start)
        times = t.expand(len(latents), latents.shape[2])
        if start.held is None:
            return times
        return torch.where(start.held.flatten(1), times.new_tensor(self.given_time), times)

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
        self._check_whole("a probe")
        return super().read(latents, t, text, start, layers, read, recompute=recompute)

    def attach(self, run: Run, sites: Sequence[Site]) -> Callable[[], None]:
        """Put controlled attention at the sites; the call returned puts the former processors back.

        Raises ControlRejected for a network whose frames see only those before them.
        """
        if sites:
            self._check_whole("a control")
        return super().attach(run, sites)

    def _check_whole(self, what: str) -> None:
        if self.frames_a_block > 1:
            raise ControlRejected(
                f"{what} needs attention that sees the whole clip, and {self.name} reads frames in causal blocks of "
                f"{self.frames_a_block} (num_frame_per_block); set it to 1 in the transformer's config"
            )
