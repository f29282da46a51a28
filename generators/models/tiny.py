"""Random Wan pipelines of every kind, small enough to film on a CPU in a blink; written in diffusers' own format.

For tests, CI and benches: the classes are the real ones, only the sizes are tiny and the weights noise. Nothing is
downloaded; the tokenizer is byte-level. Other families: `tiny_skyreels`, `tiny_cogvideox`, `tiny_ltx`, `tiny_unet`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import torch

from generators.models.tiny_text import TEXT_DIM, byte_tokenizer

TinyKind = Literal["t2v-2.1", "i2v-2.1", "t2v-2.2", "i2v-2.2", "ti2v-2.2", "world"]
"""`ti2v-2.2` expands timesteps per token; `world` is shaped like the bundled model."""
TinyScheduler = Literal["unipc", "euler", "stochastic"]

IMAGE_DIM = 32


def tiny_wan(kind: TinyKind, folder: Path | str, *, scheduler: TinyScheduler = "unipc", seed: int = 0) -> Path:
    """Write a random pipeline of the kind into the folder, and return the folder.

    16 latent channels, f8 (f16 for `ti2v-2.2`) and x4 in time, patches (1, 2, 2), two or three blocks.
    """
    tiny_pipeline(kind, scheduler=scheduler, seed=seed).save_pretrained(str(folder), safe_serialization=True)
    return Path(folder)


def tiny_pipeline(kind: TinyKind, *, scheduler: TinyScheduler = "unipc", seed: int = 0) -> Any:
    """The pipeline object of `tiny_wan`, without a folder. Raises ValueError for an unknown kind."""
    from diffusers.pipelines.wan.pipeline_wan import WanPipeline
    from diffusers.pipelines.wan.pipeline_wan_i2v import WanImageToVideoPipeline

    if kind not in get_args(TinyKind):
        raise ValueError(f"kind: expected one of {get_args(TinyKind)}, got {kind!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = {
            "tokenizer": byte_tokenizer(),
            "text_encoder": tiny_umt5(),
            "vae": tiny_wan_vae(kind),
            "scheduler": wan_scheduler(scheduler),
            "transformer": _transformer(kind),
        }
        if kind in ("t2v-2.2", "i2v-2.2"):
            parts |= {"transformer_2": _transformer(kind), "boundary_ratio": 0.875}
        if kind == "ti2v-2.2":
            parts |= {"expand_timesteps": True}
        if kind == "i2v-2.1":
            parts |= tiny_clip()
    return (WanImageToVideoPipeline if kind.startswith("i2v") else WanPipeline)(**parts)


def tiny_umt5() -> Any:
    """A random UMT5 encoder of one block, `TEXT_DIM` wide."""
    from transformers import UMT5Config, UMT5EncoderModel

    config = UMT5Config(
        vocab_size=259,
        d_model=TEXT_DIM,
        d_kv=8,
        d_ff=64,
        num_layers=1,
        num_heads=4,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    return UMT5EncoderModel(config).eval()


def _transformer(kind: TinyKind) -> Any:
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    channels = 48 if kind == "ti2v-2.2" else 16
    reads_images = kind == "i2v-2.1"
    model: Any = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=24,
        in_channels=36 if kind.startswith("i2v") else channels,
        out_channels=channels,
        text_dim=TEXT_DIM,
        freq_dim=32,
        ffn_dim=64,
        num_layers=3,
        rope_max_seq_len=64,
        image_dim=IMAGE_DIM if reads_images else None,
        added_kv_proj_dim=48 if reads_images else None,
    )
    return steerable(model)


def steerable(network: Any) -> Any:
    """The network with wider weights in cross-attention, which the default leaves almost uniform: nothing to steer."""
    for block in network.blocks:
        for layer in (block.attn2.to_q, block.attn2.to_k, block.attn2.to_v):
            torch.nn.init.normal_(layer.weight, std=0.5)
    return network.eval()


def tiny_wan_vae(kind: TinyKind) -> Any:
    """A random VAE of the kind's strides and channels."""
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    sizes: dict[str, Any] = {
        "base_dim": 4,
        "z_dim": 16,
        "dim_mult": [1, 1, 1, 1],
        "num_res_blocks": 1,
        "temperal_downsample": [False, True, True],
    }
    patched = {"is_residual": True, "patch_size": 2, "in_channels": 12, "out_channels": 12}
    if kind == "ti2v-2.2":
        means = {"latents_mean": [0.0] * 48, "latents_std": [1.0] * 48}
        sizes |= patched | means | {"z_dim": 48, "scale_factor_spatial": 16}
    if kind == "world":
        sizes |= patched | {"dim_mult": [1, 1, 1], "temperal_downsample": [True, True]}
    return AutoencoderKLWan(**sizes).eval()


def wan_scheduler(kind: TinyScheduler, shift: float = 3.0) -> Any:
    """As the checkpoints of Wan and of models of its architecture come, as the bundled one does, or drawing noise."""
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
    from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

    if kind != "unipc":
        return FlowMatchEulerDiscreteScheduler(shift=shift, stochastic_sampling=kind == "stochastic")
    return UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=shift
    )


def tiny_clip(*, projects: bool = False) -> dict[str, Any]:
    """A random image encoder with its processor, `IMAGE_DIM` wide."""
    from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=IMAGE_DIM,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=16,
        patch_size=4,
    )
    processor = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    encoder: Any = CLIPVisionModelWithProjection if projects else CLIPVisionModel
    return {"image_encoder": encoder(config).eval(), "image_processor": processor}
