"""Random UNet video pipelines, small enough to film on a CPU in a blink; written in diffusers' own format.

For tests, CI and benches: the classes are the real ones, only the sizes are tiny and the weights noise. Nothing is
downloaded; the tokenizer knows single bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import torch
from diffusers.utils import logging

TinyUnetKind = Literal["modelscope", "animatediff"]
TinyUnetScheduler = Literal["ddim", "euler", "ancestral", "pndm", "dpm"]

TEXT_DIM = 32
COLUMNS = 77
WIDTHS = (16, 32, 32, 32)


def tiny_unet(kind: TinyUnetKind, folder: Path | str, *, scheduler: TinyUnetScheduler = "ddim", seed: int = 0) -> Path:
    """Write a random pipeline of the kind into the folder, and return the folder."""
    tiny_unet_pipeline(kind, scheduler=scheduler, seed=seed).save_pretrained(str(folder), safe_serialization=True)
    return Path(folder)


def tiny_unet_pipeline(kind: TinyUnetKind, *, scheduler: TinyUnetScheduler = "ddim", seed: int = 0) -> Any:
    """A random pipeline of four levels: f8, 4 latent channels, two attentions over time in every temporal block.

    Raises ValueError for an unknown kind.
    """
    if kind not in get_args(TinyUnetKind):
        raise ValueError(f"kind: expected one of {get_args(TinyUnetKind)}, got {kind!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts = {
            "vae": _vae(),
            "text_encoder": _text_encoder(),
            "tokenizer": _tokenizer(),
            "unet": _unet_3d() if kind == "modelscope" else _unet_motion(),
            "scheduler": _scheduler(scheduler),
        }
    return _modelscope(parts) if kind == "modelscope" else _animatediff(parts)


def _modelscope(parts: dict[str, Any]) -> Any:
    from diffusers.pipelines.deprecated.text_to_video_synthesis.pipeline_text_to_video_synth import (
        TextToVideoSDPipeline,
    )

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # a deprecated home is where this family lives
    try:
        return TextToVideoSDPipeline(**parts)
    finally:
        logging.set_verbosity(verbosity)


def _animatediff(parts: dict[str, Any]) -> Any:
    from diffusers.pipelines.animatediff.pipeline_animatediff import AnimateDiffPipeline

    no_adapter: Any = None  # the motion is in the UNet already
    return AnimateDiffPipeline(motion_adapter=no_adapter, **parts)


def _tokenizer() -> Any:
    from tokenizers import pre_tokenizers
    from transformers import CLIPTokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=COLUMNS)


def _text_encoder() -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=514,
        hidden_size=TEXT_DIM,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=COLUMNS,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )
    return CLIPTextModel(config).eval()


def _unet_3d() -> Any:
    from diffusers.models.unets.unet_3d_condition import UNet3DConditionModel

    unet: Any = UNet3DConditionModel(
        block_out_channels=WIDTHS,
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=TEXT_DIM,
        attention_head_dim=8,
        sample_size=8,
    )
    return _lively(unet).eval()


def _unet_motion() -> Any:
    from diffusers.models.unets.unet_motion_model import UNetMotionModel

    unet: Any = UNetMotionModel(
        block_out_channels=WIDTHS,
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=TEXT_DIM,
        num_attention_heads=2,
        motion_num_attention_heads=2,
        motion_max_seq_length=32,
        sample_size=8,
    )
    return _lively(unet).eval()


def _lively(unet: Any) -> Any:
    """Weights as they come leave attention almost uniform, and outputs that start at zero: nothing to steer."""
    for name, module in unet.named_modules():
        if name.endswith(("attn1", "attn2")):
            for layer in (module.to_q, module.to_k, module.to_v):
                torch.nn.init.normal_(layer.weight, std=0.4)
        if name.endswith(("temp_convs.0.conv4.3", "temp_convs.1.conv4.3", "proj_out")) and hasattr(module, "weight"):
            torch.nn.init.normal_(module.weight, std=0.2)
    return unet


def _vae() -> Any:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    sizes: dict[str, Any] = {
        "block_out_channels": (8, 8, 8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "latent_channels": 4,
        "sample_size": 64,
    }
    return AutoencoderKL(**sizes).eval()


def _scheduler(kind: TinyUnetScheduler) -> Any:
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
    from diffusers.schedulers.scheduling_euler_ancestral_discrete import EulerAncestralDiscreteScheduler
    from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
    from diffusers.schedulers.scheduling_pndm import PNDMScheduler

    betas: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    makers: dict[TinyUnetScheduler, Any] = {
        "ddim": lambda: DDIMScheduler(**betas, clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        "euler": lambda: EulerDiscreteScheduler(**betas),
        "ancestral": lambda: EulerAncestralDiscreteScheduler(**betas),
        "pndm": lambda: PNDMScheduler(**betas, skip_prk_steps=True),
        "dpm": lambda: DPMSolverMultistepScheduler(**betas),
    }
    return makers[kind]()
