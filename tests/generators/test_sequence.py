"""Sets filmed as one sequence by a backend: anchors first, every other shot behind them, whoever is filmed along."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from generators.backends import BackendConfig, open_backend
from generators.backends.local import LocalBackend
from generators.backends.sequence import SCENES, film_in_sequence
from generators.clip import Canvas, Progress, ShotRequest, ShotSet
from generators.controls.config import TSAttn
from generators.errors import BackendUnavailable, RequestRejected
from generators.models.loading import open_model
from generators.models.tiny import TinyKind, tiny_wan
from generators.models.tiny_ltx import tiny_ltx
from generators.sampler import Settings
from generators.scenes import sample_sets

PROMPTS = ("A red fox jumps.", "The red fox spins.", "The red fox lies down.", "The red fox leaves.")
SETTINGS = Settings(steps=2, guidance=2.0)
pytestmark = pytest.mark.slow


def shots(*wanted: int, count: int = 4) -> ShotSet:
    requests = tuple(
        ShotRequest(prompt=prompt, seed=seed, frames=9, fps=8, width=32, height=32)
        for seed, prompt in enumerate(PROMPTS[:count])
    )
    return ShotSet(requests=requests, subjects=("red fox",) * count, anchors=2, wanted=wanted)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_wan("world", tmp_path_factory.mktemp("model"), scheduler="euler")


def backend(folder: Path) -> LocalBackend:
    canvas = Canvas(width=32, height=32, fps=8, frame_counts=(9,))
    config = BackendConfig(kind="local", model=str(folder), device="cpu", canvas=canvas, scenes=True)
    made = open_backend(replace(config, steps=SETTINGS.steps, guidance=SETTINGS.guidance))
    assert isinstance(made, LocalBackend)
    return made


def test_the_anchors_are_one_sequence_and_others_come_behind_them_finished(folder: Path) -> None:
    model = open_model(str(folder), gives_tokens_at_zero=True)
    asked = shots(0, 1, 2, 3)
    found = film_in_sequence(model, asked, SETTINGS)
    first, second = sample_sets(model, [asked.requests[:2]], SETTINGS, SCENES).shots[0]
    assert torch.equal(found[0].latents, first)
    assert torch.equal(found[1].latents, second)
    for place in (2, 3):
        row = [*asked.requests[:2], asked.requests[place]]
        taken = sample_sets(model, [row], SETTINGS, SCENES, finished={0: first, 1: second})
        assert torch.equal(found[place].latents, taken.shots[0][2])
        assert found[place].composition == tuple(request.digest() for request in row)


def test_a_shot_has_the_same_bits_whichever_shots_are_filmed_along(folder: Path) -> None:
    model = open_model(str(folder), gives_tokens_at_zero=True)
    together, alone = film_in_sequence(model, shots(0, 1, 2, 3), SETTINGS), film_in_sequence(model, shots(3), SETTINGS)
    assert list(alone) == [3]
    assert torch.equal(alone[3].latents, together[3].latents)
    assert alone[3].composition == together[3].composition


def test_a_sequence_takes_no_steering_of_shared_attention(folder: Path) -> None:
    with pytest.raises(RequestRejected, match="filmed as one sequence takes none, got refine"):
        backend(folder).shoot_set(replace(shots(0, 1), steering={"refine": None}))


def test_a_backend_gives_the_wanted_clips_in_order_and_counts_every_pass(folder: Path) -> None:
    made, heard = backend(folder), list[Progress]()
    clips = made.shoot_set(shots(1, 3), heard.append)
    assert [clip.seed for clip in clips] == [1, 3]
    assert [len(clip.composition) for clip in clips] == [2, 3]
    assert [progress.step for progress in heard] == [1, 2, 3, 4]
    assert {progress.of for progress in heard} == {4}
    (again,) = made.shoot_set(shots(3))
    assert np.array_equal(again.frames, clips[1].frames)
    assert made.limits.scenes


@pytest.mark.parametrize("kind", ["world", "t2v-2.1"])
def test_finished_shots_are_at_time_zero_as_they_were_in_training(tmp_path: Path, kind: TinyKind) -> None:
    made, heard = backend(tiny_wan(kind, tmp_path, scheduler="euler")), list[Tensor]()
    assert made.model is not None
    (network,) = made.model.experts  # type: ignore[attr-defined]
    network.register_forward_pre_hook(lambda module, args, told: heard.append(told["timestep"]), with_kwargs=True)
    made.shoot_set(shots(0, 1, 2))
    calls = 2 * SETTINGS.steps  # both branches
    assert [times.ndim for times in heard] == [1] * calls + [2] * calls  # nothing is finished in the anchors' pass
    for times in heard[calls:]:
        first, second, filmed = times[0].chunk(3)
        assert not first.any()
        assert not second.any()
        assert (filmed > 0).all()


def test_a_model_is_asked_for_its_times_without_sequences_and_may_be_told(folder: Path) -> None:
    plain = LocalBackend(str(folder), device="cpu").model
    told = LocalBackend(str(folder), device="cpu", scenes=True, gives_tokens_at_zero=False).model
    assert plain is not None
    assert told is not None
    assert not plain.gives_tokens_at_zero
    assert not told.gives_tokens_at_zero


def test_a_family_that_films_no_sequences_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    model = tiny_ltx("t2v", tmp_path / "ltx")
    with pytest.raises(BackendUnavailable, match=r"scenes: .* cannot film several shots in one sequence"):
        open_backend(BackendConfig(kind="local", model=str(model), device="cpu", scenes=True))


def test_a_control_on_a_shot_of_a_sequence_is_refused_by_name(folder: Path) -> None:
    asked = shots(0, 1)
    steered = (replace(asked.requests[0], controls=(TSAttn(),)), *asked.requests[1:])
    with pytest.raises(RequestRejected, match="got TSAttn; film it alone"):
        backend(folder).shoot_set(replace(asked, requests=steered))
