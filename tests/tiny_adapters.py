"""Random adapters for tiny pipelines, in the files that diffusers writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model_state_dict

from generators.adapters import LORA_FILES
from generators.models.tiny import tiny_pipeline


def write_adapter(kind: Any, folder: Path, *, seed: int = 0) -> Path:
    """Random adapters of rank 2 for the tiny Wan of a kind, as diffusers writes them; two files for two experts."""
    pipe: Any = tiny_pipeline(kind)
    torch.manual_seed(seed)
    networks = [pipe.transformer, *([pipe.transformer_2] if getattr(pipe, "transformer_2", None) else [])]
    for network, name in zip(networks, LORA_FILES, strict=False):
        network.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
        layers = get_peft_model_state_dict(network)
        config = network.peft_config["default"].to_dict()
        pipe.save_lora_weights(
            folder, transformer_lora_layers=layers, weight_name=name, transformer_lora_adapter_metadata=config
        )
    return folder
