"""Chat checkpoints of a few thousand numbers, made on the spot: one that says what it is told to, two that babble."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import processors

from generators.models.tiny_text import byte_tokenizer

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}{% endfor %}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + TEMPLATE


def tiny_language_model(folder: Path, says: str | None = None, *, template: str | None = TEMPLATE) -> Path:
    """A Llama of one block. With `says`, that is its answer to everything: its logits name it after the prompt."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _tokenizer(template, [says] if says else [])
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**_llama(tokenizer)))
    _answer(model, model.model, tokenizer, says)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_qwen_vl(folder: Path) -> Path:
    """A random Qwen2.5-VL, whose processor would read videos too."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    marks = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    shown = "<|vision_start|><|image_pad|><|vision_end|>"
    tokenizer = _tokenizer(TEMPLATE.replace("<image>", shown), list(marks))
    torch.manual_seed(0)
    ids = {name: tokenizer.convert_tokens_to_ids(mark) for name, mark in zip(QWEN_IDS, marks, strict=True)}
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10_000.0}
    text = _llama(tokenizer) | {"num_key_value_heads": 2, "rope_parameters": rope}
    sees = {"depth": 1, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "out_hidden_size": 32}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=sees | {"fullatt_block_indexes": [0]}, **ids)
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=56 * 56).save_pretrained(folder)
    return folder


QWEN_IDS = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")


def tiny_vision_language_model(folder: Path, says: str | None = None) -> Path:
    """A random LLaVA, CLIP's pictures in a Llama of one block; with `says`, that is its answer to everything."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer = _tokenizer(TEMPLATE, ["<image>", says] if says else ["<image>"])
    torch.manual_seed(0)
    sees = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    config = LlavaConfig(
        vision_config=sees,
        text_config=LlamaConfig(**_llama(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
    )
    model = LlavaForConditionalGeneration(config)
    _answer(model, model.model.language_model, tokenizer, says)
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    processor = LlavaProcessor(
        image_processor=pictures,
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE,
        num_additional_image_tokens=1,
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _tokenizer(template: str | None, words: list[str]) -> Any:
    tokenizer = byte_tokenizer(100_000)
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel()  # nothing is put after a question
    tokenizer.add_tokens(["<system>", "<user>", "<assistant>", *words])
    tokenizer.chat_template = template
    return tokenizer


def _llama(tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 8192,
        "initializer_range": 0.5,  # so that what is read decides what is said
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }


@torch.no_grad()
def _answer(model: Any, blocks: Any, tokenizer: Any, says: str | None) -> None:
    """Let the last token alone decide the next one: blocks add nothing, and the head is a table."""
    if says is None:
        return
    begin, answer = (tokenizer.convert_tokens_to_ids(word) for word in ("<assistant>", says))
    for parameter in blocks.layers.parameters():
        parameter.zero_()
    head, table = torch.zeros_like(model.lm_head.weight), torch.zeros_like(blocks.embed_tokens.weight)
    for column, (token, following) in enumerate({begin: answer, answer: tokenizer.eos_token_id}.items()):
        table[token, column] = 1
        head[following, column] = 10
    blocks.embed_tokens.weight.copy_(table)
    model.lm_head.weight.copy_(head)
