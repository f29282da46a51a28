"""The network that reads clips of the world: what it is asked, its features, its file, how it is taught."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from evals.benchmarks.world_controls import ControlFootage
from evals.benchmarks.world_films import World
from evals.metrics.score import NotMeasured
from evals.metrics.video_embedders import VideoEmbedder
from evals.suite import finish, run
from evals.world.controls import film, reversed_in_time
from evals.world.reader import CHOICES, FRAMES, SETS, WEIGHTS, Answers, Reader, WorldReader, answers, open_reader, shown
from evals.world.reader import packed as pack
from evals.world.reader_training import ReaderTraining, draw, examine, question_losses, train_reader
from generators.errors import TrainingError
from generators.training.checkpoint import read_checkpoint
from generators.training.config import Schedule
from generators.world.script import Actor, Prop, Script, ScriptEvent
from generators.world.words import VERBS

LIFT = Script(
    place="beach",
    time="night",
    actors=(Actor(hue="red", kind="fox"), Actor(hue="blue", kind="cat", x=20.0)),
    props=(Prop(kind="ball", x=70.0),),
    events=(
        ScriptEvent(verb="lift", actor=0, start=2.0, end=3.5, prop=0),  # told second
        ScriptEvent(verb="jump", actor=1, start=0.2, end=1.8),
    ),
)


def tiny(folder: Path, steps: int) -> ReaderTraining:
    schedule = Schedule(steps=steps, warmup=1, decay_steps=4, log_every=1, sample_every=0)
    return ReaderTraining(out=folder, to=folder / "reader.safetensors", batch=2, unseen=4, schedule=schedule)


def test_the_right_answers_are_the_scripts_own() -> None:
    right = answers([LIFT])
    said = {
        name: {word for word, there in zip(words, right.sets[name][0], strict=True) if there}
        for name, words in SETS.items()
    }
    assert said == {"kinds": {"fox", "cat"}, "hues": {"red", "blue"}, "props": {"ball"}, "verbs": {"lift", "jump"}}
    chosen = {name: words[int(right.choices[name][0])] for name, words in CHOICES.items()}
    assert chosen == {"place": "beach", "time": "night", "first verb": "jump", "last verb": "lift"}


def test_it_is_shown_frames_from_the_first_to_the_last() -> None:
    frames = np.arange(33, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 6, 3), np.uint8)
    seen = shown(frames)
    assert seen.shape == (FRAMES, 3, 4, 6)
    assert seen[:, 0, 0, 0].tolist() == [int(i * 32 / 15) for i in range(16)]


def test_features_are_what_the_last_layer_reads_and_one_clips_own() -> None:
    network = Reader().eval()
    clips = torch.stack([shown(film(LIFT)), shown(reversed_in_time(film(LIFT)))])
    with torch.no_grad():
        features, said = network.features(clips), network(clips)
        assert torch.allclose(network.names["place"](features), said["place"])
    alone = WorldReader(network, "0").embed_clip(film(LIFT))
    assert alone.shape == (128,)
    assert np.allclose(alone, features[0].double().numpy(), atol=1e-5)
    assert isinstance(WorldReader(network, "0"), VideoEmbedder)


def test_losses_are_cross_entropies_added_up_over_a_sets_words() -> None:
    logits = {name: torch.randn(2, len(words)) for name, words in (*SETS.items(), *CHOICES.items())}
    right: Answers = answers([LIFT, replace(LIFT, place="city", time="day")])
    losses = question_losses(logits, right)
    by_hand = 0.0
    for row in range(2):
        for logit, there in zip(logits["verbs"][row].tolist(), right.sets["verbs"][row].tolist(), strict=True):
            share = 1 / (1 + np.exp(-logit))
            by_hand -= np.log(share if there else 1 - share) / 2
    assert losses["verbs"].item() == pytest.approx(by_hand, rel=1e-5)
    first = logits["first verb"].log_softmax(1)[:, list(VERBS).index("jump")]
    assert losses["first verb"].item() == pytest.approx(-first.mean().item(), rel=1e-5)


def test_its_file_gives_the_same_features_to_half_precision_and_says_what_it_was_taught(tmp_path: Path) -> None:
    network = Reader(widths=(8, 16, 8)).eval()
    path = tmp_path / "reader.safetensors"
    path.write_bytes(pack(network, {"steps": 3}))
    opened = open_reader(path)
    assert isinstance(opened, WorldReader)
    with torch.no_grad():
        features = network.features(shown(film(LIFT))[None])[0].double().numpy()
    assert np.abs(opened.embed_clip(film(LIFT)) - features).max() < 5e-3 * np.abs(features).max()
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["reader"] == '{"steps": 3, "widths": [8, 16, 8]}'


def test_a_missing_file_and_a_foreign_one_are_not_measured(tmp_path: Path) -> None:
    missing = open_reader(tmp_path / "none.safetensors")
    assert isinstance(missing, NotMeasured)
    assert "main.py train reader" in missing.reason
    save_file({"weight": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(pack(Reader(), {})[:5000])
    for name in ("foreign", "torn"):
        found = open_reader(tmp_path / f"{name}.safetensors")
        assert isinstance(found, NotMeasured)
        assert f"{name}.safetensors is not this reader's weights" in found.reason


@pytest.mark.slow
def test_a_lesson_that_was_stopped_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole = train_reader(tiny(tmp_path / "whole", 4))
    first = tiny(tmp_path / "parts", 4)
    train_reader(replace(first, schedule=replace(first.schedule, minutes=1e-6)))
    assert not first.to.exists()
    train_reader(first)
    one, other = (
        read_checkpoint(path)["trainee"]["network"] for path in (whole.checkpoint, first.out / "checkpoint.pt")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert isinstance(open_reader(first.to), WorldReader)
    with pytest.raises(TrainingError, match="batch: 2 there, 3 now"):
        train_reader(replace(first, batch=3))


@pytest.mark.slow
def test_a_few_steps_on_one_batch_teach_it() -> None:
    torch.manual_seed(0)
    network, rng = Reader(widths=(8, 16, 16)), np.random.default_rng(0)
    clips, right = draw(rng, 8, 33, "train")
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(25):
        loss = torch.stack(list(question_losses(network(clips), right).values())).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
def test_the_reader_that_comes_with_the_program_names_what_it_never_saw_together() -> None:
    reader = open_reader()
    assert isinstance(reader, WorldReader)
    assert WEIGHTS.stat().st_size < 4_000_000
    found = examine(reader.network, 32, seed=3)
    assert found["unseen time"] == 1.0
    assert found["unseen place"] > 0.9
    assert found["unseen first verb"] > 0.5  # one of sixteen by chance
    assert not reader.network.training


@pytest.mark.slow
def test_the_worlds_benchmark_holds_films_against_their_truth_by_its_features(tmp_path: Path) -> None:
    reader = open_reader()
    assert isinstance(reader, WorldReader)
    none = NotMeasured(reason="no model")

    def distance(control: str) -> float:
        world = World({"both": 4}, none, reader=reader)
        result = finish(run(world, ControlFootage(control, world.cases, none), tmp_path))
        found = {line.summary.metric: line.summary.mean for line in result.lines}
        assert f"KVD-SW ({reader.name})" in found
        value = found[f"FVD-SW ({reader.name}, 3 axes)"]
        assert value is not None
        return value

    assert distance("truth") == pytest.approx(0.0, abs=1e-6)
    assert distance("frozen") > 1e-3
