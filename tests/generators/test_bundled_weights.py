"""The weights in the box: as small and safe as promised, and a text encoder that tells who does what."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, UMT5EncoderModel

from generators.backends import WEIGHTS
from generators.training.roles import MarkedCaptions, draw_captions

BOX = WEIGHTS / "world"


def test_the_weights_in_the_box_are_small_safetensors_in_small_files() -> None:
    files = [path for path in BOX.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 30_000_000
    assert max(path.stat().st_size for path in files) <= 15_000_000
    assert {path.suffix for path in files} == {".safetensors", ".json", ".md"}


@pytest.mark.slow
def test_nouns_of_unseen_sentences_tell_the_transformer_who_acts() -> None:
    """A linear reader, fitted on one half of the captions by least squares, reads roles in the other half."""
    tokenizer = AutoTokenizer.from_pretrained(BOX / "tokenizer", local_files_only=True)
    encoder = UMT5EncoderModel.from_pretrained(BOX / "text_encoder", local_files_only=True).eval()

    def nouns(captions: MarkedCaptions) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            said = encoder(captions.ids, captions.attended.long()).last_hidden_state
        noun = captions.marks[..., 0] >= 0
        columns = torch.cat([said[noun], torch.ones(int(noun.sum()), 1)], 1)
        return columns, 2.0 * captions.marks[noun][:, 0] - 1

    x, y = nouns(draw_captions(np.random.default_rng(1), tokenizer, 500))
    unseen, roles = nouns(draw_captions(np.random.default_rng(2), tokenizer, 200, "heldout"))
    reader = torch.linalg.solve(x.T @ x + 10 * torch.eye(x.shape[1]), x.T @ y)
    right = ((unseen @ reader).sign() == roles).float()
    acted_on = roles > 0
    assert right[acted_on].mean() > 0.9
    assert right[~acted_on].mean() > 0.9
