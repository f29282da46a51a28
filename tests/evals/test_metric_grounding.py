"""GroundingDINO at tiny size: its boxes are those of its raw answer, in pixels of the frame."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from evals.metrics.embedders import Weights, digest
from evals.metrics.grounding import BOX, GroundingDino, open_grounder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """A random GroundingDINO of the right architecture."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        BertConfig,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        PreTrainedTokenizerFast,
        SwinConfig,
    )

    folder = tmp_path_factory.mktemp("weights")
    eye = SwinConfig(
        image_size=64, embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=2,
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    words = BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=9,
        max_position_embeddings=32,
    )  # fmt: skip
    config = GroundingDinoConfig(
        backbone_config=eye, text_config=words, d_model=32, encoder_layers=1, decoder_layers=2, num_queries=12,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
        num_feature_levels=3, max_text_len=16,
    )  # fmt: skip
    torch.manual_seed(0)
    GroundingDinoForObjectDetection(config).save_pretrained(folder / "grounding_dino")
    known = {word: at for at, word in enumerate(("[PAD]", "[CLS]", "[SEP]", "[UNK]", ".", "a", "red", "fox"))}
    plain = Tokenizer(models.WordLevel(known, "[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    plain.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 1), ("[SEP]", 2)])
    tokens = PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    pictures = GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    GroundingDinoProcessor(pictures, tokens).save_pretrained(folder / "grounding_dino")
    return Weights(folder=folder)


def test_boxes_are_those_of_enough_certainty_in_pixels(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    grounder = open_grounder(weights)
    assert isinstance(grounder, GroundingDino)
    assert weights.folder is not None
    assert grounder.name == f"grounding_dino {digest(str(weights.folder / 'grounding_dino'))}"
    frame = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    inputs = grounder.processor(images=Image.fromarray(frame), text="a red fox.", return_tensors="pt")
    with torch.no_grad():
        raw = grounder.model(**inputs)
    every = []
    for logits, (x, y, wide, tall) in zip(raw.logits[0], raw.pred_boxes[0].tolist(), strict=True):
        score = max(1 / (1 + np.exp(-float(one))) for one in logits)
        every.append(((x - wide / 2) * 60, (y - tall / 2) * 40, (x + wide / 2) * 60, (y + tall / 2) * 40, score))
    assert BOX == 0.25
    least = float(np.median([score for *_, score in every]))  # a network that learnt nothing is sure of everything
    monkeypatch.setattr("evals.metrics.grounding.BOX", least)
    slow = [one for one in every if one[-1] > least]
    assert len(slow) == 6
    found = [(box.left, box.top, box.right, box.bottom, box.score) for box in grounder.boxes(frame, "A red FOX")]
    np.testing.assert_allclose(found, slow, atol=1e-4)
