from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

from generators.clip import Event, Given, ShotRequest
from generators.controls.config import TSAttn
from generators.errors import BackendUnavailable, RequestRejected
from generators.models import wan_attention
from generators.models.base import Site, spread_over_tokens
from generators.models.tiny import TinyKind, tiny_pipeline, tiny_wan
from generators.models.wan import WanVideoModel
from generators.sampler import Settings, sample

SETTINGS = Settings(steps=2, guidance=3.0)
PIXELS = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), dtype=np.uint8)


def request(given: tuple[Given, ...] = ()) -> ShotRequest:
    return ShotRequest(prompt="a fox", frames=9, fps=8, width=32, height=32, seed=1, given=given)


def test_a_folder_films_the_same_bits_whenever_it_is_loaded(tmp_path: Path) -> None:
    folder = tiny_wan("t2v-2.1", tmp_path / "wan")
    first, second = (WanVideoModel.from_pretrained(str(folder)) for _ in range(2))
    made = WanVideoModel.from_pipeline(tiny_pipeline("t2v-2.1"))
    assert first.name == str(folder)
    latents = [sample(model, [request()], SETTINGS).latents for model in (first, second, made)]
    assert torch.equal(latents[0], latents[1])
    # weights mapped from a file lie at other addresses than weights in memory, which moves the last bits
    torch.testing.assert_close(latents[0], latents[2], atol=1e-4, rtol=1e-4)


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    folder = tiny_wan("t2v-2.1", tmp_path / "wan")
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(BackendUnavailable, match="no diffusers pipeline could be loaded"):
        WanVideoModel.from_pretrained(str(folder))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="nowhere"):
        WanVideoModel.from_pretrained(str(tmp_path / "nowhere"))


def test_another_family_is_refused_by_name() -> None:
    with pytest.raises(BackendUnavailable, match="expected a WanPipeline .* got FlowMatchEulerDiscreteScheduler"):
        WanVideoModel.from_pipeline(FlowMatchEulerDiscreteScheduler())


@pytest.mark.parametrize(
    ("frames", "height", "width", "message"),
    [(9, 40, 32, "height: expected a multiple of 16"), (9, 32, 8, "width"), (10, 32, 32, "frames: expected 4k")],
)
def test_sizes_that_do_not_fit_are_refused(frames: int, height: int, width: int, message: str) -> None:
    with pytest.raises(RequestRejected, match=message):
        WanVideoModel.from_pipeline(tiny_pipeline("t2v-2.1")).layout(frames, height, width)


def test_layout_counts_the_tokens_the_transformer_sees() -> None:
    layout = WanVideoModel.from_pipeline(tiny_pipeline("t2v-2.1")).layout(9, 32, 64)
    assert (layout.shape, layout.grid, layout.tokens) == ((16, 3, 4, 8), (3, 2, 4), 24)
    spread = spread_over_tokens(torch.tensor([[1.0, 2.0, 3.0]]), layout)
    assert spread.tolist() == [[1.0] * 8 + [2.0] * 8 + [3.0] * 8]


def test_sites_are_the_attentions_of_every_block_of_every_expert() -> None:
    sites = WanVideoModel.from_pipeline(tiny_pipeline("t2v-2.2")).sites
    assert len(sites) == len(set(sites)) == 2 * 3 * 2
    assert Site(1, 2, "cross") in sites


@pytest.mark.parametrize("kind", ["i2v-2.1", "i2v-2.2"])
def test_a_picture_checkpoint_without_a_picture_films_from_grey_and_says_so(kind: TinyKind) -> None:
    model = WanVideoModel.from_pipeline(tiny_pipeline(kind))
    start = sample(model, [request()], SETTINGS).start
    assert start.channels is not None
    assert not start.channels[:, :4].any()
    assert "plain grey" in start.notes[0]
    assert sample(model, [request((Given(first=0, frames=PIXELS[:1]),))], SETTINGS).start.notes == ()


def test_a_picture_checkpoint_reads_given_frames_as_channels_with_a_mask() -> None:
    model = WanVideoModel.from_pipeline(tiny_pipeline("i2v-2.2"))
    given = (Given(first=0, frames=PIXELS[:1]), Given(first=7, frames=PIXELS[7:]))
    start = sample(model, [request(given)], SETTINGS).start
    assert start.held is None
    assert start.channels is not None
    assert start.channels.shape[1] == 20
    assert start.channels[0, :4, :, 0, 0].T.tolist() == [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 1, 1]]


def test_a_held_prefix_does_not_depend_on_what_comes_after() -> None:
    model = WanVideoModel.from_pipeline(tiny_pipeline("world"))
    layout = model.layout(9, 32, 32)
    short = model.start([request((Given(first=0, frames=PIXELS[:5]),))], layout)
    whole = model.start([request((Given(first=0, frames=PIXELS),))], layout)
    assert short.clean is not None
    assert whole.clean is not None
    torch.testing.assert_close(short.clean[:, :, :2], whole.clean[:, :, :2])
    assert not short.clean[:, :, 2].any()


def test_an_unknown_tiny_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of"):
        tiny_pipeline("t2v-9")  # type: ignore[arg-type]


def test_rows_at_rest_use_the_attention_backend_of_their_own_network(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tiny_pipeline("t2v-2.2")
    pipe.transformer.set_attention_backend("_native_math")
    pipe.transformer_2.set_attention_backend("native")
    asked: list[str] = []
    stock = wan_attention.dispatch_attention_fn

    def told(*args: Any, **kwargs: Any) -> torch.Tensor:
        asked.append(str(kwargs["backend"].value))
        return stock(*args, **kwargs)

    monkeypatch.setattr(wan_attention, "dispatch_attention_fn", told)
    event = Event(subject="fox", phrase="jumps", start=0, end=0.5)
    plain = ShotRequest(prompt="The fox jumps.", frames=9, fps=8, width=32, height=32, seed=1, events=(event,))
    steered = replace(plain, controls=(TSAttn(steps=1.0, layers="all", region=False),))
    sample(WanVideoModel.from_pipeline(pipe), [plain, steered], Settings(steps=4, guidance=1.0))
    assert asked
    assert set(asked) == {"_native_math", "native"}
    assert asked == sorted(asked)  # the first network's steps, then the second's
