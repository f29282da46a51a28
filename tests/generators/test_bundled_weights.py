"""The weights in the box: as small and safe as promised, and a text encoder that tells who does what."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, UMT5EncoderModel

from evals.benchmarks.cameras import open_camera
from evals.world.requests import request_of
from evals.world.splits import cases
from generators.backends import WEIGHTS, BackendConfig, open_backend
from generators.clip import Given
from generators.training.roles import MarkedCaptions, draw_captions
from generators.world.renderer import render

BOX = WEIGHTS / "world"


def test_the_weights_in_the_box_are_small_safetensors_in_small_files() -> None:
    files = [path for path in BOX.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 30_000_000
    assert max(path.stat().st_size for path in files) <= 15_000_000
    assert {path.suffix for path in files} == {".safetensors", ".json", ".md"}


@pytest.mark.slow
def test_diffusers_alone_films_the_same_frames() -> None:
    listed = cases("both", 1, 1, seed=3)
    ours, stock = (open_camera(steps=2, guidance=3.0, stock=alone).generate(listed, [5]) for alone in (False, True))
    assert np.array_equal(ours[0], stock[0])


@pytest.mark.slow
def test_a_window_is_filmed_again_between_kept_frames_and_its_seam_is_judged() -> None:
    kept = render([cases("both", 1, 1, seed=3)[0].script])[0].permute(0, 2, 3, 1).numpy()
    request = request_of(cases("both", 1, 1, seed=3)[0], 5)
    given = (Given(first=0, frames=kept[:13]), Given(first=21, frames=kept[21:]))
    [clip] = open_backend(BackendConfig(steps=2)).shoot([replace(request, given=given)])
    assert np.array_equal(clip.frames[:13], kept[:13])
    assert np.array_equal(clip.frames[21:], kept[21:])
    assert not np.array_equal(clip.frames[13:21], kept[13:21])
    assert clip.seam_jump is not None


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
