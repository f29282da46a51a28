"""The bundled model's text side: a word-level tokenizer and a shallow UMT5 encoder, both transformers' own classes.

Every word of the puppet world is one column; two layers keep a word's meaning mostly in its own column.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from generators.training.config import DenoiserSize

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
COLUMNS = 512
"""Text columns a stock Wan pipeline attends to, padding included."""
_ROUND = 32
"""Columns are kept in multiples of this, so that few shapes are compiled."""


def build_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """Lower-case words and punctuation to ids; `<pad>` 0, `</s>` 1 (appended), `<unk>` 2, then the words in order."""
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys([PAD, END, UNKNOWN, *words]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, vocabulary[END])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        unk_token=UNKNOWN,
        model_max_length=COLUMNS,
        clean_up_tokenization_spaces=False,
    )


def build_text_encoder(size: DenoiserSize, tokens: int) -> UMT5EncoderModel:
    """A fresh encoder over `tokens` ids. Draws from torch's global random state."""
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=tokens,
            d_model=size.text_width,
            d_kv=size.text_width // size.text_heads,
            d_ff=size.text_ffn,
            num_layers=size.text_layers,
            num_heads=size.text_heads,
            relative_attention_num_buckets=16,
            relative_attention_max_distance=48,
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
        )
    )


def text_columns(
    tokenizer: PreTrainedTokenizerFast, encoder: UMT5EncoderModel, captions: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Encode captions as a stock pipeline does, in few columns: (B, M, D) and a bias (B, 1, 1, M) for their logits.

    Stock pads with zero columns to 512 and attends to all of them. All zero columns are alike, so the ones kept stand
    for the rest when their logits are raised by the log of how many they stand for.
    """
    device = encoder.device
    batch = tokenizer(list(captions), padding=True, truncation=True, max_length=COLUMNS, return_tensors="pt")
    ids, mask = batch["input_ids"].to(device), batch["attention_mask"].to(device)
    hidden = encoder(ids, mask).last_hidden_state * mask.unsqueeze(-1)
    keep = min(mask.shape[1] // _ROUND * _ROUND + _ROUND, COLUMNS)  # at least one zero column more than words
    hidden = torch.nn.functional.pad(hidden, (0, 0, 0, keep - mask.shape[1]))
    lengths = mask.sum(1, keepdim=True)
    zero = torch.arange(keep, device=device).unsqueeze(0) >= lengths
    stands_for = (COLUMNS - lengths).clamp(min=1) / (keep - lengths).clamp(min=1)
    return hidden, (zero * stands_for.log()).view(len(ids), 1, 1, keep)
