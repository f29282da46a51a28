"""Two stages of training on sets of shots: which first one the second stays on, and what a checkpoint must tell."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from generators.errors import TrainingError
from generators.models.tiny_cogvideox import tiny_cogvideox
from generators.training.checkpoint import read_checkpoint
from generators.training.scenes import FIRST, NEWER, settings_of, train_scenes
from generators.training.scenes_config import Lora, NoiseLevels
from tests.generators.test_training_scenes import NoiseClips, learnt, training


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_cogvideox("t2v-2b", tmp_path_factory.mktemp("cogvideox"))


@pytest.mark.slow
def test_the_second_stage_begins_where_the_first_ended(folder: Path, tmp_path: Path) -> None:
    train_scenes(training(folder, tmp_path, stage=1), NoiseClips())
    second = training(folder, tmp_path, steps=1, stage=2, learning_rate=0.0)
    train_scenes(second, NoiseClips())
    first, then = learnt(tmp_path, 1), learnt(tmp_path, 2)
    for name, tensor in first["average"].items():
        assert torch.equal(then["weights"][name], tensor)
    with pytest.raises(TrainingError, match="lora"):
        train_scenes(replace(second, lora=Lora(rank=3)), NoiseClips())


@pytest.mark.slow
def test_the_second_stage_stays_on_the_first_it_began_from(folder: Path, tmp_path: Path) -> None:
    first, second = (training(folder, tmp_path, steps=1, stage=stage) for stage in (1, 2))
    for config in (first, second, first, second):  # what is finished may be asked for again
        train_scenes(config, NoiseClips())
    kept = read_checkpoint(second.folder / "checkpoint.pt")["settings"][FIRST]
    assert kept["step"] == 1
    more = replace(first, schedule=replace(first.schedule, steps=2))
    with pytest.raises(
        TrainingError, match=r"began from step 1 of stage 1 .* to 2; use another folder, or remove .*stage-2"
    ):
        train_scenes(more, NoiseClips())
    second.folder.rename(tmp_path / "away")
    train_scenes(more, NoiseClips())
    (tmp_path / "away").rename(second.folder)
    with pytest.raises(TrainingError, match=r"step 1 of stage 1 .* is step 2 of stage 1 .* remove .*stage-2"):
        train_scenes(second, NoiseClips())
    shutil.rmtree(first.folder)  # its weights are in stage 2
    train_scenes(replace(second, schedule=replace(second.schedule, steps=2)), NoiseClips())
    assert read_checkpoint(second.folder / "checkpoint.pt")["settings"][FIRST] == kept


@pytest.mark.slow
def test_a_second_stage_waits_for_a_finished_first(folder: Path, tmp_path: Path) -> None:
    first, second = (training(folder, tmp_path, steps=1, stage=stage) for stage in (1, 2))
    train_scenes(replace(first, schedule=replace(first.schedule, steps=3, minutes=1e-9)), NoiseClips())
    with pytest.raises(TrainingError, match="expected a finished stage 1 .* step 1 of 3; .*--stage 1 --steps 1"):
        train_scenes(second, NoiseClips())
    train_scenes(first, NoiseClips())
    assert train_scenes(second, NoiseClips()).step == 1


@pytest.mark.slow
def test_every_setting_that_changes_the_arithmetic_must_be_the_same(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = training(folder, tmp_path, steps=1)
    train_scenes(config, NoiseClips())
    other: dict[str, Any] = {
        "batch": 3, "learning_rate": 1e-3, "betas": (0.8, 0.9), "epsilon": 1e-8, "weight_decay": 0.5, "clip_norm": 1.0,
        "ema": 0.5, "caption_dropout": 0.9, "pool": 2, "noise": NoiseLevels(mean=1.0), "mask": "v1", "seed": 1,
        "schedule": replace(config.schedule, warmup=9),
    }  # fmt: skip
    for name, value in other.items():
        said = {"ema": "ema_decay", "schedule": "warmup"}.get(name, name)
        with pytest.raises(TrainingError, match=rf"checkpoint\.pt was trained with other settings \({said}: "):
            train_scenes(replace(config, **{name: value}), NoiseClips())
    free = replace(config, checkpointing=True, sample_steps=2, guidance=1.0)
    train_scenes(free, NoiseClips())
    assert not caplog.messages

    state = read_checkpoint(config.folder / "checkpoint.pt")
    for name in NEWER:
        del state["settings"][name]
    torch.save(state, config.folder / "checkpoint.pt")
    train_scenes(replace(config, batch=3), NoiseClips())
    (said,) = caplog.messages
    assert "checkpoint.pt is older and does not tell every setting; it goes on with " in said
    assert "batch 3, " in said
    assert all(name in said for name in NEWER)
    assert read_checkpoint(config.folder / "checkpoint.pt")["settings"]["batch"] == 3


@pytest.mark.parametrize("stage", [1, 2])
def test_what_is_no_checkpoint_is_named(stage: int, folder: Path, tmp_path: Path) -> None:
    config = training(folder, tmp_path, steps=1, stage=stage)
    file = tmp_path / "stage-1" / "checkpoint.pt"
    file.parent.mkdir()
    settings = settings_of(replace(config, stage=1), NoiseClips())
    cases: list[tuple[Any, str]] = [
        ({}, "lacks step, settings, trainee"),
        ([1], "got a list"),
        ({"step": 1, "settings": settings, "trainee": {}}, "lacks 'learning'"),
    ]
    for state, said in cases:
        torch.save(state, file)
        with pytest.raises(TrainingError, match=rf"stage-1.checkpoint\.pt.*{said}"):
            train_scenes(config, NoiseClips())
