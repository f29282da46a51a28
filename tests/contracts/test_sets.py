"""What every backend that films sets promises of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from generators.backends import BackendConfig
from generators.backends.instant import SMALL, InstantBackend
from generators.backends.lazy import LazyBackend
from generators.backends.local import LocalBackend
from generators.clip import Backend, Clip, FilmsTogether, Limits, Progress, ShotRequest, ShotSet
from generators.errors import RequestRejected, ShootingCancelled
from generators.models.loading import made_for, take_apart
from generators.models.tiny import TinyKind, tiny_pipeline, tiny_wan
from generators.models.tiny_ltx import tiny_ltx_pipeline
from generators.models.tiny_skyreels import TinySkyReelsKind, tiny_skyreels_pipeline
from generators.models.tiny_unet import tiny_unet

SIDE, FRAMES = 32, 9
LIMITS = Limits(width=SIDE, height=SIDE, fps=8, frame_counts=(FRAMES,), extends=True)
PROMPTS = ("A red fox runs.", "A red fox sleeps.", "A red fox swims.")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_wan("world", tmp_path_factory.mktemp("wan"), scheduler="euler")


@pytest.fixture(params=["instant", "local", "bundled"])
def backend(request: pytest.FixtureRequest, weights: Path) -> Iterator[LazyBackend]:
    limits = replace(LIMITS, films_sets=True)
    config = BackendConfig(kind=request.param, model=str(weights), device="cpu", steps=6, guidance=2.0, limits=limits)
    opened = LazyBackend(config)
    yield opened
    opened.close()


def shots(wanted: tuple[int, ...] = (0, 1, 2), **changes: Any) -> ShotSet:
    asked = ShotRequest(prompt="x", frames=FRAMES, fps=8, width=SIDE, height=SIDE, seed=1)
    requests = tuple(replace(asked, prompt=prompt, seed=i, **changes) for i, prompt in enumerate(PROMPTS))
    return ShotSet(requests=requests, subjects=("red fox",) * 3, anchors=2, wanted=wanted)


def same(a: Clip, b: Clip) -> bool:
    return np.array_equal(a.frames, b.frames)


def test_it_says_that_it_films_sets(backend: LazyBackend) -> None:
    assert isinstance(backend, Backend)
    assert isinstance(backend.open(), FilmsTogether)
    assert backend.open().limits.films_sets


@pytest.mark.slow
def test_the_wanted_shots_come_in_order_each_with_the_whole_batch_as_its_composition(backend: LazyBackend) -> None:
    seen: list[Progress] = []
    clips = backend.shoot_set(shots((2, 0)), seen.append)
    assert [clip.seed for clip in clips] == [2, 0]
    assert [clip.frames.shape for clip in clips] == [(FRAMES, SIDE, SIDE, 3)] * 2
    plain = tuple(request.digest() for request in shots().requests)
    assert all(clip.composition[:3] == plain and len(clip.composition) == 6 for clip in clips)
    assert seen[-1].step == seen[-1].of


@pytest.mark.slow
def test_a_set_gives_other_frames_than_its_shots_alone_and_the_same_again(backend: LazyBackend) -> None:
    clips = backend.shoot_set(shots())
    assert all(same(a, b) for a, b in zip(clips, backend.shoot_set(shots()), strict=True))
    alone = backend.shoot(list(shots().requests))
    assert not any(same(a, b) for a, b in zip(clips, alone, strict=True))


@pytest.mark.slow
def test_a_shot_is_the_same_to_rounding_in_a_smaller_batch_with_the_same_anchors(backend: LazyBackend) -> None:
    whole = shots()
    fewer = replace(whole, requests=whole.requests[:2], subjects=whole.subjects[:2], wanted=(1,))
    (clip,) = backend.shoot_set(fewer)
    difference = np.abs(clip.frames.astype(int) - backend.shoot_set(whole)[1].frames)
    assert difference.max() <= 2


@pytest.mark.slow
def test_a_set_can_be_cancelled(backend: LazyBackend) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(ShootingCancelled):
        backend.shoot_set(shots(), None, stop)


def test_a_shot_of_a_size_that_cannot_be_is_refused(backend: LazyBackend) -> None:
    with pytest.raises(RequestRejected, match="size"):
        backend.shoot_set(shots(width=SIDE + 1))


def test_what_cannot_be_a_set_is_refused_by_name() -> None:
    whole = shots()
    with pytest.raises(ValueError, match="a subject for each of 3 shots"):
        replace(whole, subjects=("red fox",))
    with pytest.raises(ValueError, match="wanted: expected places among 0..2"):
        replace(whole, wanted=(3,))
    with pytest.raises(ValueError, match="one size, length and frame rate"):
        replace(whole, requests=(*whole.requests[:2], replace(whole.requests[2], frames=5)))


@pytest.mark.slow
def test_a_unet_films_sets_too(tmp_path: Path) -> None:
    limits = replace(LIMITS, width=64, height=64, frame_counts=(4,))
    backend = LocalBackend(str(tiny_unet("modelscope", tmp_path / "unet")), device="cpu", steps=6, limits=limits)
    assert (backend.limits.films_sets, backend.limits.continues) == (True, "noised latents")
    asked = shots((1,), frames=4, width=64, height=64)
    (clip,) = backend.shoot_set(asked)
    assert not same(clip, backend.shoot([asked.requests[1]])[0])
    backend.limits = replace(backend.limits, films_sets=False)
    with pytest.raises(RequestRejected, match="cannot film shots as one set"):
        backend.shoot_set(asked)


def test_a_backend_that_knows_no_sets_says_so() -> None:
    class OneByOne:
        name = "one by one"
        weights = None
        limits = SMALL
        shoot = InstantBackend.shoot
        close = InstantBackend.close

    lazy = LazyBackend(BackendConfig(kind="instant"))
    lazy._backend = OneByOne()
    with pytest.raises(RequestRejected, match="films shots one by one; it knows no sets"):
        lazy.shoot_set(shots())


@pytest.mark.parametrize(
    ("kind", "way"),
    [("t2v-2.1", "noised latents"), ("i2v-2.1", "last frame"), ("ti2v-2.2", "tokens at zero")],
)
def test_a_wan_checkpoint_names_the_best_way_it_has_of_going_on(kind: TinyKind, way: str) -> None:
    assert made_for(take_apart(tiny_pipeline(kind))).limits.continues == way


@pytest.mark.parametrize(
    ("kind", "way"), [("df", "diffusion forcing"), ("t2v", "noised latents"), ("i2v", "last frame")]
)
def test_a_skyreels_checkpoint_names_the_best_way_it_has_of_going_on(kind: TinySkyReelsKind, way: str) -> None:
    assert made_for(take_apart(tiny_skyreels_pipeline(kind))).limits.continues == way


def test_ltx_goes_on_by_its_own_conditions() -> None:
    assert made_for(take_apart(tiny_ltx_pipeline("condition"))).limits.continues == "conditions"
