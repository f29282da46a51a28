"""What a diffusers user already has goes on working: adapters, offloading, casting, compiling, backends, caches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from diffusers import hooks
from diffusers.models._modeling_parallel import ContextParallelConfig
from diffusers.models.attention_dispatch import attention_backend
from diffusers.utils import logging

from generators.clip import Event, ShotRequest
from generators.controls.config import VSTAR, ControlConfig, MotionQueries, TempoControl, TSAttn
from generators.errors import ControlRejected
from generators.models.loading import take_apart
from generators.models.tiny import tiny_pipeline
from generators.models.tiny_cogvideox import COLUMNS, tiny_cogvideox_pipeline
from generators.models.tiny_ltx import tiny_ltx_pipeline
from generators.models.tiny_skyreels import tiny_skyreels_pipeline
from generators.models.tiny_unet import tiny_unet_pipeline
from generators.sampler import Settings, sample

SETTINGS = Settings(steps=3, guidance=3.0)
FEW = Settings(steps=4, guidance=1.0)
"""As few-step adapters are filmed with."""
TRANSFORMERS: dict[str, Callable[[], Any]] = {
    "cogvideox": lambda: tiny_cogvideox_pipeline("t2v-5b"),
    "ltx": lambda: tiny_ltx_pipeline("t2v"),
    "skyreels": lambda: tiny_skyreels_pipeline("df"),
    "wan": lambda: tiny_pipeline("t2v-2.1"),
}
UNETS: dict[str, Callable[[], Any]] = {
    "animatediff": lambda: tiny_unet_pipeline("animatediff"),
    "modelscope": lambda: tiny_unet_pipeline("modelscope"),
}
REQUEST = ShotRequest(
    prompt="A fox jumps, then the fox walks home.",
    negative_prompt="blurry",
    frames=25,
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
STRONG: dict[str, tuple[ControlConfig, ...]] = {
    "TS-Attn": STEERED.controls,
    "VSTAR": (VSTAR(scale=8.0, steps=1.0),),
    "TempoControl": (TempoControl(rate=0.05, steps=0.5, layers="all", enough=1.0),),
}
"""So that what they do is far above what rounding does."""

logging.set_verbosity_error()  # diffusers warns of ModelScope's age and of its own caches


def made(family: str) -> Any:
    pipe = (TRANSFORMERS | UNETS)[family]()
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(params=sorted(TRANSFORMERS))
def pipe(request: pytest.FixtureRequest) -> Iterator[Any]:
    pipe = made(request.param)
    yield pipe
    if pipe.transformer.is_cache_enabled:
        pipe.transformer.disable_cache()


@pytest.fixture(params=[*sorted(TRANSFORMERS), *(pytest.param(unet, marks=pytest.mark.slow) for unet in UNETS)])
def any_pipe(request: pytest.FixtureRequest) -> Any:
    return made(request.param)


def network(pipe: Any) -> Any:
    return getattr(pipe, "transformer", None) or pipe.unet


def stock(pipe: Any, settings: Settings = SETTINGS) -> torch.Tensor:
    named = type(pipe).__name__
    own: dict[str, Any] = {"frame_rate": REQUEST.fps} if "LTX" in named else {}
    own |= {"max_sequence_length": COLUMNS} if "Cog" in named else {}
    return pipe(
        prompt=[REQUEST.prompt],
        negative_prompt=[REQUEST.negative_prompt],
        height=REQUEST.height,
        width=REQUEST.width,
        num_frames=REQUEST.frames,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        generator=torch.Generator().manual_seed(REQUEST.seed),
        output_type="latent",
        **own,
    ).frames


def ours(pipe: Any, request: ShotRequest = REQUEST, settings: Settings = SETTINGS) -> torch.Tensor:
    latents = sample(take_apart(pipe), [request], settings).latents
    if "LTX" in type(pipe).__name__:
        return pipe._pack_latents(latents)
    return latents.transpose(1, 2) if "Cog" in type(pipe).__name__ else latents


def steered(pipe: Any) -> dict[str, torch.Tensor]:
    """Clips by every method, or by VSTAR alone on what frames read text one by one."""
    return {name: ours(pipe, replace(REQUEST, controls=controls)) for name, controls in methods_of(pipe).items()}


def methods_of(pipe: Any) -> dict[str, tuple[ControlConfig, ...]]:
    return STRONG if hasattr(pipe, "transformer") else {"VSTAR": (VSTAR(),)}


def assert_works(pipe: Any, before: torch.Tensor, *, changes: bool) -> None:
    """The stock pipeline's bits, which the feature changes or not, and controls that act."""
    plain = ours(pipe)
    assert torch.equal(plain, stock(pipe))
    assert torch.equal(plain, before) is not changes
    for name, clip in steered(pipe).items():
        assert (clip - plain).norm() > 0.02 * plain.norm(), name


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


@pytest.mark.parametrize("method", METHODS)
def test_every_method_steers_the_clip_and_leaves_nothing_behind(pipe: Any, method: str) -> None:
    plain = ours(pipe)
    steered = ours(pipe, replace(REQUEST, controls=METHODS[method]))
    assert steered.isfinite().all()
    assert (steered - plain).abs().max() > 1e-4
    assert torch.equal(ours(pipe), plain)


def in_bfloat16(family: str) -> Any:
    """As checkpoints are loaded: the autoencoders of Wan and SkyReels-V2 stay float32."""
    pipe = made(family).to(torch.bfloat16)
    if family in ("wan", "skyreels"):
        pipe.vae.to(torch.float32)
    return pipe


@pytest.mark.parametrize("family", [*TRANSFORMERS, *(pytest.param(unet, marks=pytest.mark.slow) for unet in UNETS)])
def test_in_bfloat16_clips_are_the_stock_pipelines_bit_for_bit(family: str) -> None:
    pipe = in_bfloat16(family)
    assert torch.equal(ours(pipe), stock(pipe))


@pytest.mark.slow
@pytest.mark.parametrize("family", TRANSFORMERS)
def test_every_method_does_in_bfloat16_what_it_does_in_float32(family: str) -> None:
    exact, rounded = (
        {name: (clip - ours(pipe)).float().flatten() for name, clip in steered(pipe).items()}
        for pipe in (made(family), in_bfloat16(family))
    )
    for name, change in exact.items():
        assert torch.cosine_similarity(change, rounded[name], dim=0) > 0.95, name
        assert float(rounded[name].norm()) == pytest.approx(float(change.norm()), rel=0.1), name


def add_adapter(pipe: Any) -> None:
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)  # peft draws from it; how much a control moves hangs on the adapter
    config = peft.LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_k", "to_v", "to_out.0"])
    if hasattr(network(pipe), "add_adapter"):
        network(pipe).add_adapter(config)
    else:  # ModelScope's network leaves it to peft
        peft.inject_adapter_in_model(config, network(pipe))
    for name, parameter in network(pipe).named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)


@pytest.mark.slow
def test_an_adapter_is_filmed_with_and_steered(any_pipe: Any) -> None:
    before = ours(any_pipe)
    add_adapter(any_pipe)
    assert_works(any_pipe, before, changes=True)


@pytest.mark.slow
def test_a_few_step_adapter_without_guidance_is_steered_in_one_step_at_least(any_pipe: Any) -> None:
    add_adapter(any_pipe)
    assert torch.equal(ours(any_pipe, settings=FEW), stock(any_pipe, FEW))
    methods = METHODS if hasattr(any_pipe, "transformer") else {"VSTAR": (VSTAR(steps=0.2),)}
    plain = ours(any_pipe, settings=FEW)
    for name, controls in methods.items():
        in_few = tuple(replace(control, steps=0.05) for control in controls)  # a share that rounds to nothing
        assert (ours(any_pipe, replace(REQUEST, controls=in_few), FEW) - plain).abs().max() > 1e-4, name


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["block_level", "leaf_level"])
def test_group_offload_keeps_every_bit(any_pipe: Any, kind: str) -> None:
    before, was_steered = ours(any_pipe), steered(any_pipe)
    blocks = {"num_blocks_per_group": 1} if kind == "block_level" else {}
    cpu = torch.device("cpu")
    network(any_pipe).enable_group_offload(onload_device=cpu, offload_device=cpu, offload_type=kind, **blocks)
    assert_works(any_pipe, before, changes=False)
    assert_same(steered(any_pipe), was_steered)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["model", "sequential"])
def test_accelerates_offload_hooks_keep_every_bit(any_pipe: Any, kind: str) -> None:
    """What `enable_model_cpu_offload` and `enable_sequential_cpu_offload` install, which want an accelerator."""
    before, was_steered = ours(any_pipe), steered(any_pipe)
    for part in (any_pipe.text_encoder, network(any_pipe), any_pipe.vae):
        install = accelerate.cpu_offload_with_hook if kind == "model" else accelerate.cpu_offload
        install(part, torch.device("cpu"))
    assert_works(any_pipe, before, changes=False)
    assert_same(steered(any_pipe), was_steered)


@pytest.mark.slow
def test_layerwise_casting_is_filmed_with_and_steered(any_pipe: Any) -> None:
    before = ours(any_pipe)
    network(any_pipe).enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert_works(any_pipe, before, changes=True)


@pytest.mark.filterwarnings("ignore")  # torchao's own
def test_weights_quantised_by_torchao_are_filmed_with_and_steered(any_pipe: Any) -> None:
    quantization = pytest.importorskip("torchao.quantization")
    before = ours(any_pipe)
    quantization.quantize_(network(any_pipe), quantization.Int8WeightOnlyConfig())
    assert_works(any_pipe, before, changes=True)


@pytest.mark.parametrize("backend", ["native", "_native_math"])
def test_an_attention_backend_is_used_where_it_is_set(any_pipe: Any, backend: str) -> None:
    with attention_backend(backend):
        assert_works(any_pipe, ours(any_pipe), changes=False)


def compiled(network: Any) -> None:
    """Each block for itself, as `compile_repeated_blocks` does; CogVideoX and the UNets name no blocks to it."""
    if getattr(network, "_repeated_blocks", None):
        network.compile_repeated_blocks(fullgraph=True, backend="eager")
        return
    for part in network.modules():
        if type(part).__name__ in ("CogVideoXBlock", "BasicTransformerBlock"):
            part.compile(fullgraph=True, backend="eager")


def for_two_steps(pipe: Any) -> dict[str, torch.Tensor]:
    """Of four, so that methods act and rest."""
    halves = {name: [replace(one, steps=0.5) for one in controls] for name, controls in methods_of(pipe).items()}
    return {name: ours(pipe, replace(REQUEST, controls=tuple(half))) for name, half in halves.items()}


@pytest.mark.slow
def test_compiled_blocks_are_compiled_once_whatever_acts_in_which_step(any_pipe: Any) -> None:
    torch.compiler.reset()
    before, was_steered = ours(any_pipe), for_two_steps(any_pipe)
    compiled(network(any_pipe))
    assert torch.equal(ours(any_pipe), stock(any_pipe))
    with torch.compiler.set_stance("fail_on_recompile"):  # two steps with it, two without, both branches of guidance
        now_steered = for_two_steps(any_pipe)
        assert torch.equal(ours(any_pipe), before)
    assert_same(now_steered, was_steered)
    assert any(part._compiled_call_impl is not None for part in network(any_pipe).modules())


@pytest.mark.slow
def test_a_control_that_comes_first_leaves_compiling_to_the_steps_where_it_rests(pipe: Any) -> None:
    torch.compiler.reset()
    was_steered = for_two_steps(pipe)
    network(pipe).compile(backend="eager")  # the whole network at once
    whole = network(pipe)._compiled_call_impl
    assert_same(for_two_steps(pipe), was_steered)
    assert network(pipe)._compiled_call_impl is whole
    with torch.compiler.set_stance("fail_on_recompile"):
        plain = ours(pipe)
    assert torch.equal(plain, stock(pipe))


@pytest.mark.slow
def test_a_wrapped_network_is_filmed_with_and_refused_with_a_control(pipe: Any) -> None:
    before = ours(pipe)
    pipe.transformer = torch.compile(pipe.transformer, backend="eager")
    assert torch.equal(ours(pipe), before)
    with pytest.raises(ControlRejected, match=r"compile_repeated_blocks\(\) or network\.compile\(\)"):
        ours(pipe, STEERED)
    pipe.transformer = pipe.transformer._orig_mod


CACHES: dict[str, Callable[[Any], Any]] = {
    "first block": lambda pipe: hooks.FirstBlockCacheConfig(threshold=10.0),
    "magnitude": lambda pipe: hooks.MagCacheConfig(
        mag_ratios=[1.0] * SETTINGS.steps, threshold=10.0, num_inference_steps=SETTINGS.steps
    ),
    "pyramid": lambda pipe: hooks.PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=(1, 1000),
        current_timestep_callback=lambda: pipe.current_timestep,
    ),
    "sea": lambda pipe: hooks.SeaCacheConfig(threshold=10.0),
    "taylor": lambda pipe: hooks.TaylorSeerCacheConfig(
        cache_interval=2, disable_cache_before_step=1, use_lite_mode=True
    ),
    "text": lambda pipe: hooks.TextKVCacheConfig(),
    "faster": lambda pipe: hooks.FasterCacheConfig(
        spatial_attention_timestep_skip_range=(-1, 1001),
        unconditional_batch_skip_range=2,
        unconditional_batch_timestep_skip_range=(-1, 1001),
        attention_weight_callback=lambda _: 0.5,
        current_timestep_callback=lambda: pipe.current_timestep,
        tensor_format="BFCHW",
    ),
}
IDLE = {("sea", "cogvideox"), ("sea", "ltx"), *(("text", family) for family in TRANSFORMERS)}
"""Caches that do nothing in these pipelines, stock or ours: they are told no step, or know no text of theirs."""
BROKEN = {
    ("faster", "ltx"),
    ("faster", "wan"),
    *((cache, "skyreels") for cache in ("faster", "first block", "magnitude", "pyramid", "sea")),
}
"""The stock pipelines fail with these: FasterCache wants both branches in one batch of five axes; SkyReels-V2's blocks
are not known to most caches, and under diffusion forcing its pipeline tells them a time of every frame."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:torch.meshgrid")  # FasterCache's
@pytest.mark.parametrize("cache", CACHES)
def test_a_cache_films_as_in_the_stock_pipeline_and_most_are_refused_with_a_control(pipe: Any, cache: str) -> None:
    family = next(name for name in TRANSFORMERS if name in type(pipe).__name__.lower())
    if (cache, family) in BROKEN:
        pytest.skip("diffusers' own pipeline fails with it")
    before = ours(pipe)
    pipe.transformer.enable_cache(CACHES[cache](pipe))
    expected = stock(pipe)
    pipe.transformer._reset_stateful_cache()
    assert torch.equal(ours(pipe), expected)
    assert torch.equal(ours(pipe), expected)
    assert torch.equal(expected, before) is ((cache, family) in IDLE)
    for controls in METHODS.values():
        if cache != "first block" or any(isinstance(control, TempoControl) for control in controls):
            with pytest.raises(ControlRejected, match=r"disable_cache\(\)"):
                ours(pipe, replace(REQUEST, controls=controls))
    pipe.transformer.disable_cache()
    assert torch.equal(ours(pipe), before)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["cogvideox", "ltx", "wan"])
@pytest.mark.parametrize("method", ["TS-Attn", "VSTAR"])
def test_a_first_block_cache_skips_nothing_in_the_steps_of_a_control(family: str, method: str) -> None:
    """A cache that would skip all it can: steered in every step it changes no bit, in some it skips after them."""
    pipe = made(family)
    steps = Settings(steps=6, guidance=SETTINGS.guidance)
    kinds: dict[str, Callable[[float], ControlConfig]] = {
        "TS-Attn": lambda share: replace(TSAttn(), steps=share),
        "VSTAR": lambda share: VSTAR(scale=8.0, steps=share),
    }
    whole, some = (replace(REQUEST, controls=(kinds[method](share),)) for share in (1.0, 0.5))
    ran: list[int] = []
    last = pipe.transformer.blocks[-1] if family == "wan" else pipe.transformer.transformer_blocks[-1]
    before, partly = ours(pipe, whole, steps), ours(pipe, some, steps)
    pipe.transformer.enable_cache(hooks.FirstBlockCacheConfig(threshold=1e9))
    (last.ffn if family == "wan" else last.ff).register_forward_hook(lambda *_: ran.append(1))
    assert torch.equal(ours(pipe, whole, steps), before)
    passes = len(ran)
    assert not torch.equal(ours(pipe, some, steps), partly)
    assert len(ran) - passes == passes // steps.steps * 4  # three steps of the control, and the first one after
    with pytest.raises(ControlRejected, match="MotionQueries needs every block"):
        ours(pipe, replace(REQUEST, controls=(MotionQueries(frames=np.zeros((9, 32, 32, 3), np.uint8)),)), steps)


def test_context_parallelism_is_refused_with_a_control(pipe: Any) -> None:
    """As `enable_parallelism` leaves a network; splitting itself wants several devices."""
    pipe.transformer._parallel_config = ContextParallelConfig(ring_degree=2)
    with pytest.raises(ControlRejected, match="whole clips, which context parallelism splits"):
        ours(pipe, STEERED)
