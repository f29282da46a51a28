"""Random SkyReels-V2 pipelines of every kind, small enough to film on a CPU. The classes are the real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import torch

from generators.models.tiny import IMAGE_DIM, steerable, tiny_clip, tiny_umt5, tiny_wan_vae, wan_scheduler
from generators.models.tiny_text import TEXT_DIM, byte_tokenizer

TinySkyReelsKind = Literal["df", "df-rate", "df-i2v", "df-v2v", "t2v", "i2v"]
"""`df` are diffusion forcing; the network of `df-rate` is told the frame rate."""

SHIFT = 8.0
"""Of the schedule, as the authors recommend for text-to-video."""


def tiny_skyreels(kind: TinySkyReelsKind, folder: Path | str, *, seed: int = 0) -> Path:
    """Write a random pipeline of the kind into the folder, and return the folder. f8, x4 in time, three blocks."""
    tiny_skyreels_pipeline(kind, seed=seed).save_pretrained(str(folder), safe_serialization=True)
    return Path(folder)


def tiny_skyreels_pipeline(kind: TinySkyReelsKind, *, seed: int = 0) -> Any:
    """The pipeline object of `tiny_skyreels`, without a folder. Raises ValueError for an unknown kind."""
    from generators.models.skyreels import FORCING, PLAIN

    if kind not in get_args(TinySkyReelsKind):
        raise ValueError(f"kind: expected one of {get_args(TinySkyReelsKind)}, got {kind!r}")
    (forcing, forcing_picture, forcing_video), (text, picture) = FORCING, PLAIN
    family: dict[TinySkyReelsKind, Any] = {
        "df": forcing,
        "df-rate": forcing,
        "df-i2v": forcing_picture,
        "df-v2v": forcing_video,
        "t2v": text,
        "i2v": picture,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = {
            "tokenizer": byte_tokenizer(),
            "text_encoder": tiny_umt5(),
            "vae": tiny_wan_vae("t2v-2.1"),
            "scheduler": wan_scheduler("unipc", SHIFT),
            "transformer": _transformer(kind),
        }
        if kind == "i2v":
            parts |= tiny_clip(projects=True)
    return family[kind](**parts)


def _transformer(kind: TinySkyReelsKind) -> Any:
    from diffusers.models.transformers.transformer_skyreels_v2 import SkyReelsV2Transformer3DModel

    reads_images = kind == "i2v"
    model: Any = SkyReelsV2Transformer3DModel(
        num_attention_heads=2,
        attention_head_dim=24,
        in_channels=36 if reads_images else 16,
        out_channels=16,
        text_dim=TEXT_DIM,
        freq_dim=32,
        ffn_dim=64,
        num_layers=3,
        rope_max_seq_len=64,
        image_dim=IMAGE_DIM if reads_images else None,
        added_kv_proj_dim=48 if reads_images else None,
        inject_sample_info=kind == "df-rate",
    )
    return steerable(model)
