"""Random LTX-Video pipelines of every kind, small enough to film on a CPU in a blink. The classes are the real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import torch

from generators.models.tiny_text import TEXT_DIM, byte_tokenizer, tiny_t5

TinyLTXKind = Literal["t2v", "i2v", "condition", "t2v-0.9.1"]
"""`0.9.1` has a decoder that is told a timestep."""

CHANNELS = 8


def tiny_ltx(kind: TinyLTXKind, folder: Path | str, *, seed: int = 0) -> Path:
    """Write a random pipeline of the kind into the folder, and return the folder. f32, x8 in time, two blocks."""
    tiny_ltx_pipeline(kind, seed=seed).save_pretrained(str(folder), safe_serialization=True)
    return Path(folder)


def tiny_ltx_pipeline(kind: TinyLTXKind, *, seed: int = 0) -> Any:
    """The pipeline object of `tiny_ltx`, without a folder. Raises ValueError for an unknown kind."""
    from diffusers.pipelines.ltx.pipeline_ltx import LTXPipeline
    from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXConditionPipeline
    from diffusers.pipelines.ltx.pipeline_ltx_image2video import LTXImageToVideoPipeline

    if kind not in get_args(TinyLTXKind):
        raise ValueError(f"kind: expected one of {get_args(TinyLTXKind)}, got {kind!r}")
    family: Any = {"i2v": LTXImageToVideoPipeline, "condition": LTXConditionPipeline}.get(kind, LTXPipeline)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return family(
            tokenizer=byte_tokenizer(128),
            text_encoder=tiny_t5(),
            vae=_vae(told_timestep=kind == "t2v-0.9.1"),
            transformer=_transformer(),
            scheduler=_scheduler(shifts=kind != "condition"),
        )


def _transformer() -> Any:
    from diffusers.models.transformers.transformer_ltx import LTXVideoTransformer3DModel

    model: Any = LTXVideoTransformer3DModel(
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_attention_heads=2,
        attention_head_dim=16,
        cross_attention_dim=32,
        num_layers=2,
        caption_channels=TEXT_DIM,
    )
    for block in model.transformer_blocks:  # default weights leave attention almost uniform: nothing to steer
        for layer in (block.attn2.to_q, block.attn2.to_k, block.attn2.to_v):
            torch.nn.init.normal_(layer.weight, std=0.5)
    return model.eval()


def _vae(*, told_timestep: bool) -> Any:
    from diffusers.models.autoencoders.autoencoder_kl_ltx import AutoencoderKLLTXVideo

    vae: Any = AutoencoderKLLTXVideo(
        latent_channels=CHANNELS,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        timestep_conditioning=told_timestep,
    )
    vae.latents_mean.normal_(std=0.2)
    vae.latents_std.uniform_(0.5, 1.5)
    return vae.eval()


def _scheduler(*, shifts: bool) -> Any:
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

    if not shifts:  # as the checkpoints of the condition pipeline come
        return FlowMatchEulerDiscreteScheduler()
    return FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_shift=0.95,
        max_shift=2.05,
        base_image_seq_len=1024,
        max_image_seq_len=4096,
        shift_terminal=0.1,
    )
