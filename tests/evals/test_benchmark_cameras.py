"""A folder films the same cases through our backend and through stock diffusers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

from evals.benchmarks.cameras import autoencoder_of, open_camera
from evals.world.controls import film
from evals.world.splits import cases
from generators.digests import weights_digest
from generators.errors import BackendUnavailable
from generators.models.tiny import tiny_wan
from tests.tiny_adapters import write_adapter


@pytest.mark.slow
def test_stock_diffusers_and_our_backend_film_the_same_pixels(tmp_path: Path) -> None:
    tiny_wan("world", tmp_path)
    listed = cases("both", 1, 1)
    ours, stock = (open_camera(tmp_path, stock=stock, steps=2, guidance=3.0) for stock in (False, True))
    (one,), (other,) = ours.generate(listed, [3]), stock.generate(listed, [3])
    assert one.shape == (33, 64, 96, 3)
    assert np.array_equal(one, other)
    assert not np.array_equal(one, ours.generate(listed, [4])[0])
    assert ours.name != stock.name
    truth = film(listed[0].script)
    assert ours.roundtrip(truth).shape == truth.shape
    assert np.array_equal(ours.roundtrip(truth), stock.roundtrip(truth))


@pytest.mark.slow
def test_stock_diffusers_films_at_its_own_defaults_unless_told(tmp_path: Path) -> None:
    tiny_wan("world", tmp_path)
    listed = cases("both", 1, 1)
    unasked = open_camera(tmp_path, stock=True)
    named = open_camera(tmp_path, stock=True, steps=50, guidance=5.0)  # those of WanPipeline.__call__
    assert unasked.name != named.name
    assert np.array_equal(unasked.generate(listed, [3]), named.generate(listed, [3]))


@pytest.mark.slow
def test_adapters_are_put_on_both_and_are_part_of_the_name(tmp_path: Path) -> None:
    model = tiny_wan("world", tmp_path / "model")
    lora = str(write_adapter("world", tmp_path / "lora"))
    listed = cases("both", 1, 1)
    plain, ours, stock, weak = (
        open_camera(model, steps=2, guidance=1.0, stock=stock, lora=adapters)
        for stock, adapters in ((False, ()), (False, (lora,)), (True, (lora,)), (False, (f"{lora}@0.5",)))
    )
    (one,), (other,) = ours.generate(listed, [3]), stock.generate(listed, [3])
    assert np.array_equal(one, other)
    assert not np.array_equal(one, plain.generate(listed, [3])[0])
    assert len({plain.name, ours.name, stock.name, weak.name}) == 4


def test_an_autoencoder_is_known_by_its_weights_and_make_wherever_it_lies(tmp_path: Path) -> None:
    vaes = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        tiny_wan("world", tmp_path / name, seed=seed)
        vaes.append(AutoencoderKLWan.from_pretrained(str(tmp_path / name / "vae")))
    first, same, other = (autoencoder_of(vae).digest for vae in vaes)
    assert first == same != other
    vaes[1].register_to_config(temperal_downsample=[False, True])
    assert autoencoder_of(vaes[1]).digest != first


def test_the_digest_follows_weights_and_not_the_model_card(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"1")
    first = weights_digest(tmp_path)
    (tmp_path / "README.md").write_text("a card")
    assert weights_digest(tmp_path) == first
    (tmp_path / "weights").write_bytes(b"2")
    assert weights_digest(tmp_path) != first


def test_a_folder_without_a_pipeline_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="model_index.json"):
        open_camera(tmp_path)
