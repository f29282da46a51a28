"""What a diffusers user already has goes on working: adapters, offloading, casting, attention backends, caches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import hooks
from diffusers.models.attention_dispatch import attention_backend
from diffusers.utils import logging

from generators.clip import Event, ShotRequest
from generators.controls.config import VSTAR, ControlConfig, TempoControl, TSAttn
from generators.errors import ControlRejected
from generators.models.loading import take_apart
from generators.models.tiny import tiny_pipeline
from generators.models.tiny_cogvideox import COLUMNS, tiny_cogvideox_pipeline
from generators.models.tiny_ltx import tiny_ltx_pipeline
from generators.sampler import Settings, sample

SETTINGS = Settings(steps=4, guidance=3.0)
FAMILIES: dict[str, Callable[[], Any]] = {
    "cogvideox": lambda: tiny_cogvideox_pipeline("t2v-5b"),
    "ltx": lambda: tiny_ltx_pipeline("t2v"),
    "wan": lambda: tiny_pipeline("t2v-2.1"),
}
REQUEST = ShotRequest(
    prompt="A fox jumps, then the fox walks home.",
    negative_prompt="blurry",
    frames=17,
    fps=8,
    width=32,
    height=32,
    seed=1,
    events=(
        Event(subject="fox", phrase="jumps", start=0, end=1),
        Event(subject="fox", phrase="walks home", start=1, end=2),
    ),
)
STEERED = replace(REQUEST, controls=(TSAttn(steps=1.0, layers="all", region=False),))
METHODS: dict[str, tuple[ControlConfig, ...]] = {
    "TS-Attn": STEERED.controls,
    "VSTAR": (VSTAR(),),
    "TempoControl": (TempoControl(),),
    "all three": (*STEERED.controls, VSTAR(), TempoControl()),
}


@pytest.fixture(params=sorted(FAMILIES))
def pipe(request: pytest.FixtureRequest) -> Iterator[Any]:
    made = FAMILIES[request.param]()
    made.set_progress_bar_config(disable=True)
    yield made
    if made.transformer.is_cache_enabled:
        made.transformer.disable_cache()


def stock(pipe: Any) -> torch.Tensor:
    named = type(pipe).__name__
    own: dict[str, Any] = {"frame_rate": REQUEST.fps} if "LTX" in named else {}
    own |= {"max_sequence_length": COLUMNS} if "Cog" in named else {}
    return pipe(
        prompt=[REQUEST.prompt],
        negative_prompt=[REQUEST.negative_prompt],
        height=REQUEST.height,
        width=REQUEST.width,
        num_frames=REQUEST.frames,
        num_inference_steps=SETTINGS.steps,
        guidance_scale=SETTINGS.guidance,
        generator=torch.Generator().manual_seed(REQUEST.seed),
        output_type="latent",
        **own,
    ).frames


def ours(pipe: Any, request: ShotRequest = REQUEST) -> torch.Tensor:
    latents = sample(take_apart(pipe), [request], SETTINGS).latents
    if "Wan" in type(pipe).__name__:
        return latents
    return latents.transpose(1, 2) if "Cog" in type(pipe).__name__ else pipe._pack_latents(latents)


def assert_works(pipe: Any, before: torch.Tensor, *, changes: bool) -> None:
    """The stock pipeline's bits, which the feature changes or not, and a control that acts."""
    assert torch.equal(ours(pipe), stock(pipe))
    assert torch.equal(ours(pipe), before) is not changes
    assert (ours(pipe, STEERED) - ours(pipe)).abs().max() > 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_every_method_steers_the_clip_and_leaves_nothing_behind(pipe: Any, method: str) -> None:
    long = replace(REQUEST, frames=33)
    plain = ours(pipe, long)
    steered = ours(pipe, replace(long, controls=METHODS[method]))
    assert steered.isfinite().all()
    assert (steered - plain).abs().max() > 1e-4
    assert torch.equal(ours(pipe, long), plain)


def test_an_adapter_is_filmed_with_and_steered(pipe: Any) -> None:
    peft = pytest.importorskip("peft")
    before = ours(pipe)
    config = peft.LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_k", "to_v", "to_out.0"])
    pipe.transformer.add_adapter(config)
    for name, parameter in pipe.transformer.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    assert_works(pipe, before, changes=True)


@pytest.mark.parametrize("kind", ["block_level", "leaf_level"])
def test_group_offload_keeps_every_bit(pipe: Any, kind: str) -> None:
    before, steered = ours(pipe), ours(pipe, STEERED)
    blocks = {"num_blocks_per_group": 1} if kind == "block_level" else {}
    cpu = torch.device("cpu")
    pipe.transformer.enable_group_offload(onload_device=cpu, offload_device=cpu, offload_type=kind, **blocks)
    assert_works(pipe, before, changes=False)
    assert torch.equal(ours(pipe, STEERED), steered)


def test_layerwise_casting_is_filmed_with_and_steered(pipe: Any) -> None:
    before = ours(pipe)
    pipe.transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert_works(pipe, before, changes=True)


@pytest.mark.parametrize("backend", ["native", "_native_math"])
def test_an_attention_backend_is_used_where_it_is_set(pipe: Any, backend: str) -> None:
    with attention_backend(backend):
        assert torch.equal(ours(pipe), stock(pipe))
        assert (ours(pipe, STEERED) - ours(pipe)).abs().max() > 1e-3


@pytest.mark.parametrize("cache", ["first-block", "pyramid"])
def test_a_cache_films_as_in_the_stock_pipeline_and_is_refused_with_a_control(pipe: Any, cache: str) -> None:
    logging.set_verbosity_error()
    config: Any = hooks.FirstBlockCacheConfig(threshold=10.0)
    if cache == "pyramid":
        config = hooks.PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=2,
            spatial_attention_timestep_skip_range=(1, 1000),
            current_timestep_callback=lambda: pipe.current_timestep,
        )
    before = ours(pipe)
    pipe.transformer.enable_cache(config)
    expected = stock(pipe)
    pipe.transformer._reset_stateful_cache()
    assert torch.equal(ours(pipe), expected)
    assert not torch.equal(expected, before)
    with pytest.raises(ControlRejected, match=r"disable_cache\(\)"):
        ours(pipe, STEERED)
    pipe.transformer.disable_cache()
    assert torch.equal(ours(pipe), before)
