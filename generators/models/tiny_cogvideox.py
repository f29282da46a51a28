"""Random CogVideoX pipelines of every kind, small enough to film on a CPU in a blink. The classes are the real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import torch

from generators.models.tiny_text import TEXT_DIM, byte_tokenizer, tiny_t5

TinyCogVideoXKind = Literal["t2v-2b", "t2v-5b", "t2v-1.5", "i2v-5b", "i2v-1.5"]
"""`2b` adds sine positions, the others rotate; `1.5` has patches of two latent frames; `i2v-5b` learns positions."""
TinyCogVideoXScheduler = Literal["ddim", "dpm"]

CHANNELS, SIDE, FRAMES, COLUMNS = 4, 32, 9, 64
"""Latent channels, pixels a side and frames that the position tables are made for, and text columns."""


def tiny_cogvideox(
    kind: TinyCogVideoXKind, folder: Path | str, *, scheduler: TinyCogVideoXScheduler = "ddim", seed: int = 0
) -> Path:
    """Write a random pipeline of the kind into the folder, and return the folder. f8, x4 in time, two blocks."""
    tiny_cogvideox_pipeline(kind, scheduler=scheduler, seed=seed).save_pretrained(str(folder), safe_serialization=True)
    return Path(folder)


def tiny_cogvideox_pipeline(
    kind: TinyCogVideoXKind, *, scheduler: TinyCogVideoXScheduler = "ddim", seed: int = 0
) -> Any:
    """The pipeline object of `tiny_cogvideox`, without a folder. Raises ValueError for an unknown kind."""
    from diffusers.pipelines.cogvideo.pipeline_cogvideox import CogVideoXPipeline
    from diffusers.pipelines.cogvideo.pipeline_cogvideox_image2video import CogVideoXImageToVideoPipeline

    if kind not in get_args(TinyCogVideoXKind):
        raise ValueError(f"kind: expected one of {get_args(TinyCogVideoXKind)}, got {kind!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = {
            "tokenizer": byte_tokenizer(COLUMNS),
            "text_encoder": tiny_t5(),
            "vae": _vae(kind),
            "transformer": _transformer(kind),
            "scheduler": _scheduler(scheduler),
        }
    return (CogVideoXImageToVideoPipeline if kind.startswith("i2v") else CogVideoXPipeline)(**parts)


def _transformer(kind: TinyCogVideoXKind) -> Any:
    from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXTransformer3DModel

    reads_pictures, patched_in_time = kind.startswith("i2v"), kind.endswith("1.5")
    model: Any = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=2 * CHANNELS if reads_pictures else CHANNELS,
        out_channels=CHANNELS,
        time_embed_dim=8,
        ofs_embed_dim=8 if kind == "i2v-1.5" else None,
        text_embed_dim=TEXT_DIM,
        num_layers=2,
        sample_width=SIDE // 8,
        sample_height=SIDE // 8,
        sample_frames=FRAMES,
        patch_size_t=2 if patched_in_time else None,
        max_text_seq_length=COLUMNS,
        use_rotary_positional_embeddings=kind != "t2v-2b",
        use_learned_positional_embeddings=kind == "i2v-5b",
    )
    for block in model.transformer_blocks:  # default weights leave attention almost uniform: nothing to steer
        for layer in (block.attn1.to_q, block.attn1.to_k, block.attn1.to_v):
            torch.nn.init.normal_(layer.weight, std=0.5)
        for norm in (block.attn1.norm_q, block.attn1.norm_k):
            torch.nn.init.normal_(norm.weight, mean=1.0, std=0.2)
    return model.eval()


def _vae(kind: TinyCogVideoXKind) -> Any:
    from diffusers.models.autoencoders.autoencoder_kl_cogvideox import AutoencoderKLCogVideoX

    blocks: dict[str, Any] = {
        "down_block_types": ("CogVideoXDownBlock3D",) * 4,
        "up_block_types": ("CogVideoXUpBlock3D",) * 4,
        "block_out_channels": (4, 4, 4, 4),
    }
    vae: Any = AutoencoderKLCogVideoX(
        **blocks,
        latent_channels=CHANNELS,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
        scaling_factor=0.7,
        invert_scale_latents=kind == "i2v-1.5",
    )
    return vae.eval()


def _scheduler(kind: TinyCogVideoXScheduler) -> Any:
    from diffusers.schedulers.scheduling_ddim_cogvideox import CogVideoXDDIMScheduler
    from diffusers.schedulers.scheduling_dpm_cogvideox import CogVideoXDPMScheduler

    published = {
        "prediction_type": "v_prediction",
        "timestep_spacing": "trailing",
        "rescale_betas_zero_snr": True,
        "clip_sample": False,
        "snr_shift_scale": 3.0,
    }
    return (CogVideoXDPMScheduler if kind == "dpm" else CogVideoXDDIMScheduler)(**published)
