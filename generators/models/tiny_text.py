"""The byte-level tokenizer and the random T5 that tiny pipelines read prompts with. Nothing is downloaded."""

from __future__ import annotations

from typing import Any

TEXT_DIM = 32


def byte_tokenizer(length: int = 512) -> Any:
    """A fast tokenizer of bytes, padded and ended as T5's is; `length` is the most it keeps."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=length,
    )


def tiny_t5() -> Any:
    """A random T5 encoder of one block, `TEXT_DIM` wide."""
    from transformers import T5Config, T5EncoderModel

    sizes: dict[str, Any] = {"vocab_size": 259, "d_model": TEXT_DIM, "d_kv": 8, "d_ff": 64, "num_layers": 1}
    marks: dict[str, Any] = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
    return T5EncoderModel(T5Config(num_heads=4, **sizes, **marks)).eval()
