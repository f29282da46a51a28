"""Training on sets of shots: the loss by hand, the mask while learning, bits after a kill, files for diffusers."""

from __future__ import annotations

import copy
import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import CogVideoXPipeline, WanPipeline
from safetensors.torch import load_file
from torch import Tensor

from generators.adapters import LORA_FILES
from generators.attention_groups import ACROSS, SceneMask, Scenes
from generators.clip import Given, ShotRequest
from generators.controls.base import attached
from generators.errors import TrainingError
from generators.models.base import Branch, Layout
from generators.models.cogvideox_attention import placed, projected
from generators.models.loading import open_model, take_apart
from generators.models.scenes import SceneSettings
from generators.models.tiny import tiny_pipeline, tiny_wan
from generators.models.tiny_cogvideox import COLUMNS, tiny_cogvideox, tiny_cogvideox_pipeline
from generators.models.tiny_ltx import tiny_ltx
from generators.training.checkpoint import read_checkpoint
from generators.training.config import Machine, Schedule
from generators.training.processes import Processes
from generators.training.scenes import LEARNT, ScenesTrainee, train_scenes
from generators.training.scenes_config import Lora, NoiseLevels, ScenesTraining
from generators.training.scenes_data import DrawnSet, WorldStories
from generators.training.scenes_noise import lesson_of, loss_of, objective_of
from generators.world.grammar import is_held_out

SIDE = 32
CAPTIONS = ("A fox jumps.", "A cat sleeps.", "The fox and the cat walk home.")
LAYOUTS = tuple(Layout(channels=4, frames=frames, height=4, width=4) for frames in (3, 1, 3))


class NoiseClips:
    """Sets of noise: `lengths` frames, three captions. Fails at a call, as a machine would that is switched off."""

    name = "noise"

    def __init__(self, lengths: Sequence[int] = (1, 1, 1), fails_at: int | None = None) -> None:
        self.lengths, self.fails_at, self.calls = lengths, fails_at, 0

    def draw(self, rng: np.random.Generator, *, shots: int, related: bool) -> DrawnSet:
        if self.calls == self.fails_at:
            raise RuntimeError("switched off")
        self.calls += 1
        clips = tuple(rng.integers(256, size=(n, SIDE, SIDE, 3), dtype=np.uint8) for n in self.lengths[:shots])
        return DrawnSet(shots=clips, captions=CAPTIONS[:shots], fps=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CogVideoX-2B of tiny size."""
    return tiny_cogvideox("t2v-2b", tmp_path_factory.mktemp("cogvideox"))


def training(model: Path, out: Path, steps: int = 2, **changes: Any) -> ScenesTraining:
    usual = ScenesTraining(
        model=str(model),
        out=out,
        lora=Lora(rank=2),
        batch=2,
        learning_rate=1e-2,
        ema=0.9,
        schedule=Schedule(steps=steps, warmup=1, sample_every=0, log_every=1),
        machine=Machine(precision="float32"),
        sample_steps=1,
    )
    return replace(usual, **changes)


def trainee(pipe: Any, source: Any = None, **changes: Any) -> ScenesTrainee:
    config = training(Path("unread"), Path("unread"), **changes)
    source = source or NoiseClips()
    return ScenesTrainee(config, take_apart(pipe), source, source, Processes("cpu"))


def gradients(learner: ScenesTrainee) -> dict[str, Tensor]:
    return {name: p.grad for name, p in learner.learning.named.items() if p.grad is not None}


# ---- the loss --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sequel", [False, True])
def test_the_loss_on_cogvideox_is_that_of_the_velocity_on_the_noised_shots(sequel: bool) -> None:
    scheduler = tiny_cogvideox_pipeline("t2v-2b").scheduler
    objective = objective_of(scheduler, NoiseLevels())
    clean = torch.randn(1, 4, 7, 4, 4, generator=torch.Generator().manual_seed(1))
    lesson = lesson_of(clean, LAYOUTS, objective, torch.Generator().manual_seed(2), sequel=sequel)
    again = torch.Generator().manual_seed(2)
    t = int(torch.randint(1000, (), generator=again))
    noise = torch.randn(clean.shape, generator=again)
    signal = float(scheduler.alphas_cumprod[t]) ** 0.5
    rest = (1 - float(scheduler.alphas_cumprod[t])) ** 0.5
    predicted = torch.randn(clean.shape, generator=again)
    errors = []
    for frame in range(7):
        if sequel and frame < 4:  # the first two shots are finished
            assert torch.equal(lesson.shown[:, :, frame], clean[:, :, frame])
            continue
        shown = signal * clean[:, :, frame] + rest * noise[:, :, frame]
        torch.testing.assert_close(lesson.shown[:, :, frame], shown, atol=1e-5, rtol=1e-5)
        velocity = signal * noise[:, :, frame] - rest * clean[:, :, frame]
        errors.append((predicted[:, :, frame] - velocity).square())
    assert int(lesson.time) == t
    torch.testing.assert_close(loss_of(predicted, lesson), torch.stack(errors).mean())
    assert (lesson.start.held is None) == (not sequel)


@pytest.mark.parametrize(("prediction", "wanted"), [("epsilon", "noise"), ("sample", "clean")])
def test_other_predictions_are_asked_of_schedulers_that_mean_them(prediction: str, wanted: str) -> None:
    pipe = tiny_cogvideox_pipeline("t2v-2b")
    scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, prediction_type=prediction)
    clean, noise = torch.zeros(1, 4, 1, 4, 4), torch.ones(1, 4, 1, 4, 4)
    target = objective_of(scheduler, NoiseLevels()).target(clean, noise, torch.tensor(500))
    assert torch.equal(target, {"noise": noise, "clean": clean}[wanted])


@pytest.mark.parametrize(("scheduler", "shift"), [("unipc", 3.0), ("euler", 3.0)])
def test_on_wan_clips_and_noise_mix_linearly_at_the_schedulers_own_shift(scheduler: Any, shift: float) -> None:
    objective = objective_of(tiny_pipeline("world", scheduler=scheduler).scheduler, NoiseLevels(mean=0.5))
    clean = torch.randn(1, 4, 7, 4, 4, generator=torch.Generator().manual_seed(1))
    lesson = lesson_of(clean, LAYOUTS, objective, torch.Generator().manual_seed(2), sequel=False)
    again = torch.Generator().manual_seed(2)
    plain = torch.sigmoid(torch.randn((), generator=again) + 0.5)
    level = float(shift * plain / (1 + (shift - 1) * plain))
    noise = torch.randn(clean.shape, generator=again)
    assert float(lesson.time) == pytest.approx(1000 * level, rel=1e-5)
    torch.testing.assert_close(lesson.shown, (1 - level) * clean + level * noise)
    torch.testing.assert_close(lesson.target, noise - clean)


# ---- what the network sees while it learns ---------------------------------------------------------------------------


class DenseJoint:
    """The stock joint attention under a dense mask: the slow reference."""

    def __init__(self, allowed_SS: Tensor) -> None:
        self.allowed = allowed_SS

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,
    ) -> tuple[Tensor, Tensor]:
        video, text = hidden_states, encoder_hidden_states
        q, k, v = projected(attn, torch.cat([text, video], dim=1))
        q, k = (placed(norm, x, text.shape[1], image_rotary_emb) for norm, x in ((attn.norm_q, q), (attn.norm_k, k)))
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).masked_fill(~self.allowed, -torch.inf).softmax(-1)
        out = attn.to_out[0]((weights @ v).transpose(1, 2).flatten(2))
        return out[:, text.shape[1] :], out[:, : text.shape[1]]


def dense(scenes: Scenes, mask: SceneMask) -> Tensor:
    shot = torch.tensor([i for runs in (scenes.texts, scenes.videos) for i, n in enumerate(runs) for _ in range(n)])
    video = torch.arange(scenes.tokens) >= scenes.columns
    both = {"VV": video[:, None] & video, "TT": ~video[:, None] & ~video, "TV": video[:, None] != video}
    allowed = shot[:, None] == shot
    for kind in ACROSS[mask]:
        allowed = allowed | both[kind]
    return allowed


@pytest.mark.parametrize("mask", ["v1", "v2", "v4"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_grouped_attention_learns_what_a_dense_mask_would(mask: SceneMask, checkpointing: bool) -> None:
    learner = trainee(tiny_cogvideox_pipeline("t2v-5b"), mask=mask, lora=None, checkpointing=checkpointing)
    layouts = tuple(learner.model.layout(frames, SIDE, SIDE) for frames in (9, 1, 9))
    of_sets = learner.model.of_sets(layouts, SceneSettings(mask=mask, context="clean"))
    clean = torch.randn(1, 4, 7, 4, 4, generator=torch.Generator().manual_seed(1))
    lesson = lesson_of(clean, layouts, learner.objective, torch.Generator().manual_seed(2), sequel=True)
    found = []
    for grouped in (True, False):
        learner.optimiser.zero_grad()
        with attached(of_sets, [()]):
            if not grouped:
                for block in learner.learning.networks[0].transformer_blocks:
                    block.attn1.set_processor(DenseJoint(dense(of_sets.scenes, mask)))
            loss = learner._loss(of_sets, CAPTIONS, lesson)
            loss.backward()
        found.append((loss.detach(), gradients(learner)))
    (loss, ours), (wanted, theirs) = found
    torch.testing.assert_close(loss, wanted, atol=1e-5, rtol=1e-5)
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], atol=1e-5, rtol=1e-3, msg=name)


@pytest.mark.slow
def test_a_step_learns_from_every_set_and_tells_sequels_apart() -> None:
    learner = trainee(tiny_cogvideox_pipeline("t2v-2b"), stage=2, batch=6, ema=None, clip_norm=1e9)
    before = copy.deepcopy(learner.learning.state()["weights"])
    losses = learner.step(0, rate=0.0)
    whole = gradients(learner)
    alone = [np.random.default_rng([0, 2, 0, number]) for number in range(6)]
    learner.optimiser.zero_grad()
    parts = [learner._learn(rng) for rng in alone]
    for name, gradient in gradients(learner).items():
        torch.testing.assert_close(gradient, whole[name], msg=name)
    assert losses["loss"] == pytest.approx(np.mean([loss for loss, _ in parts]))
    assert losses["sequel"] == pytest.approx(np.mean([loss for loss, sequel in parts if sequel]))
    assert losses["whole"] == pytest.approx(np.mean([loss for loss, sequel in parts if not sequel]))
    for name, weight in learner.learning.state()["weights"].items():
        assert torch.equal(weight, before[name])  # the rate was 0


def test_finished_shots_are_read_clean_at_time_zero_while_a_sequel_is_learnt() -> None:
    learner = trainee(tiny_cogvideox_pipeline("t2v-2b"), stage=2, sequels=1.0, batch=1)
    seen: list[dict[str, Any]] = []
    learner.learning.networks[0].register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True
    )
    learner.step(0, rate=1.0)
    times = seen[0]["timestep"]
    assert times[:2].tolist() == [0, 0]
    assert times[2] > 0
    encoded = learner._encoded(np.random.default_rng([0, 2, 0, 0]))
    assert encoded.clean.shape == seen[0]["hidden_states"].transpose(1, 2).shape
    # stage 1 draws no sequel, whatever their share
    assert "sequel" not in trainee(tiny_cogvideox_pipeline("t2v-2b"), stage=1, sequels=1.0).step(0, 1.0)


def test_a_pool_of_sets_is_encoded_once() -> None:
    source = NoiseClips()
    learner = trainee(tiny_cogvideox_pipeline("t2v-2b"), source, pool=2, batch=4)
    for index in range(3):
        learner.step(index, rate=1.0)
    assert source.calls == 2


# ---- runs ------------------------------------------------------------------------------------------------------------


def learnt(out: Path, stage: int) -> dict[str, Any]:
    state: dict[str, Any] = read_checkpoint(out / f"stage-{stage}" / "checkpoint.pt")["trainee"]["learning"]
    return state


def assert_same(one: dict[str, Any], two: dict[str, Any]) -> None:
    for kind in ("weights", "average"):
        assert one[kind].keys() == two[kind].keys()
        for name, tensor in one[kind].items():
            assert torch.equal(tensor, two[kind][name]), f"{kind}.{name}"


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_bits_of_an_uninterrupted_one(folder: Path, tmp_path: Path) -> None:
    whole, killed = (training(folder, tmp_path / name, steps=3, stage=2) for name in ("whole", "killed"))
    train_scenes(whole, NoiseClips())
    often = replace(killed, schedule=replace(killed.schedule, checkpoint_minutes=0.0))
    with pytest.raises(RuntimeError, match="switched off"):
        train_scenes(often, NoiseClips(fails_at=5))  # in the middle of the third step
    assert read_checkpoint(killed.folder / "checkpoint.pt")["step"] == 2
    assert train_scenes(killed, NoiseClips()).reason == "steps"
    assert_same(learnt(whole.out, 2), learnt(killed.out, 2))


@pytest.mark.slow
def test_the_metadata_of_adapters_is_written_in_the_order_of_its_names(folder: Path, tmp_path: Path) -> None:
    config = training(folder, tmp_path, steps=1)
    train_scenes(config, NoiseClips())
    file = config.folder / LEARNT / LORA_FILES[0]
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    told = header["__metadata__"]
    assert size % 8 == 0
    assert list(told) == sorted(told)
    targets = json.loads(told["lora_adapter_metadata"])["transformer.target_modules"]
    assert targets == sorted(targets)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wan", "cogvideox"])
def test_adapters_load_with_stock_diffusers(kind: str, tmp_path: Path) -> None:
    made = {"wan": lambda to: tiny_wan("world", to), "cogvideox": lambda to: tiny_cogvideox("t2v-5b", to)}
    folder = made[kind](tmp_path / "model")
    config = training(folder, tmp_path / "out", lora=Lora(rank=2, alpha=4), learning_rate=0.1)
    train_scenes(config, NoiseClips())
    file = config.folder / LEARNT / LORA_FILES[0]
    assert all("lora" in name for name in load_file(file))
    stock = (WanPipeline if kind == "wan" else CogVideoXPipeline).from_pretrained(folder)
    plain = copy.deepcopy(stock.transformer)
    stock.load_lora_weights(config.folder / LEARNT)
    average = learnt(config.out, 1)["average"]
    held = dict(stock.transformer.named_parameters())
    assert average
    for name, tensor in average.items():
        (own,) = [held[other] for other in held if lora_name(other) == lora_name(name.removeprefix("0."))]
        assert torch.equal(own, tensor)
    scales = {m.scaling[next(iter(m.scaling))] for m in stock.transformer.modules() if hasattr(m, "scaling")}
    assert scales == {2.0}
    assert changes(stock.transformer, plain, kind)


def lora_name(name: str) -> str:
    """A parameter's name without its adapter's."""
    parts = name.split(".")
    at = next((i for i, part in enumerate(parts) if part in ("lora_A", "lora_B")), None)
    return name if at is None else ".".join(parts[: at + 1] + parts[at + 2 :])


def changes(adapted: Any, plain: Any, kind: str) -> bool:
    shape = (1, 16, 2, 4, 4) if kind == "wan" else (1, 2, 4, 4, 4)
    words = torch.randn(1, 512 if kind == "wan" else COLUMNS, 32, generator=torch.Generator().manual_seed(0))
    rotary = None if kind == "wan" else (torch.ones(8, 16), torch.zeros(8, 16))
    options = {} if rotary is None else {"image_rotary_emb": rotary}
    with torch.no_grad():
        one, two = (
            network(torch.ones(shape), timestep=torch.tensor([5]), encoder_hidden_states=words, **options)[0]
            for network in (adapted.eval(), plain.eval())
        )
    return bool((one - two).abs().max() > 1e-4)


@pytest.mark.slow
def test_all_weights_are_written_as_a_stock_pipeline_that_films_sets(folder: Path, tmp_path: Path) -> None:
    config = training(folder, tmp_path, lora=None, ema=None, sample_steps=1)
    config = replace(config, stage=2, schedule=replace(config.schedule, sample_every=2))
    train_scenes(config, NoiseClips((9, 9, 9)))
    assert (config.folder / "samples-0000002.png").stat().st_size > 1000
    written = CogVideoXPipeline.from_pretrained(config.folder / LEARNT)
    kept = learnt(tmp_path, 2)["weights"]
    for name, tensor in written.transformer.named_parameters():
        assert torch.equal(tensor, kept[f"0.{name}"])
    before = CogVideoXPipeline.from_pretrained(folder)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(written.transformer.parameters(), before.transformer.parameters(), strict=True)
    )
    for a, b in zip(written.vae.parameters(), before.vae.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.slow
def test_both_experts_of_wan_learn_and_are_written(tmp_path: Path) -> None:
    config = training(tiny_wan("t2v-2.2", tmp_path / "model"), tmp_path / "out", batch=4)
    train_scenes(config, NoiseClips())
    one, two = (load_file(config.folder / LEARNT / name) for name in LORA_FILES)
    assert one.keys() == two.keys()
    stock = WanPipeline.from_pretrained(tmp_path / "model")
    stock.load_lora_weights(config.folder / LEARNT, weight_name=LORA_FILES[1], load_into_transformer_2=True)
    assert stock.transformer_2.peft_config


def test_models_that_film_no_sets_and_wrong_targets_are_refused(folder: Path, tmp_path: Path) -> None:
    ltx = tiny_ltx("t2v", tmp_path / "ltx")
    with pytest.raises(TrainingError, match="expected Wan or CogVideoX"):
        train_scenes(training(ltx, tmp_path / "out"), NoiseClips())
    wrong = training(folder, tmp_path / "out", lora=Lora(rank=2, targets=("to_nothing",)))
    with pytest.raises(TrainingError, match="to_nothing"):
        train_scenes(wrong, NoiseClips())
    with pytest.raises(ValueError, match="at least 2"):
        training(folder, tmp_path, shots=1)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(folder: Path, tmp_path: Path) -> None:
    one = training(folder, tmp_path / "one", batch=4)
    train_scenes(one, NoiseClips())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "import sys, importlib.util; spec = importlib.util.spec_from_file_location('t', sys.argv[1]);"
        "t = importlib.util.module_from_spec(spec); spec.loader.exec_module(t); from pathlib import Path;"
        "t.train_scenes(t.training(Path(sys.argv[2]), Path(sys.argv[3]), batch=4), t.NoiseClips())"
    )
    command = [sys.executable, "-c", code, __file__, str(folder), str(tmp_path / "two")]
    places = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    both = [
        subprocess.Popen(
            command,
            env={**_environment(), **places, "RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"},
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    alone, together = learnt(tmp_path / "one", 1), learnt(tmp_path / "two", 1)
    for name, tensor in alone["weights"].items():
        torch.testing.assert_close(together["weights"][name], tensor, atol=1e-4, rtol=1e-3, msg=name)


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}


# ---- stories of the puppet world -------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_stories_keep_cast_and_place_and_stay_in_their_split(split: Any) -> None:
    world = WorldStories(split=split)
    casts = []
    for seed in range(12):
        story = world.story(np.random.default_rng(seed), 3)
        looks = [{(actor.hue, actor.kind) for actor in script.actors} for script in story]
        assert all(look <= looks[0] for look in looks)
        assert len({(script.place, script.time) for script in story}) == 1
        assert all(is_held_out(script) == (split == "heldout") for script in story)
        assert len({script.events for script in story}) == 3
        casts.append(len(looks[0]))
    assert set(casts) == {1, 2}


def test_a_set_of_the_world_is_a_function_of_its_seed_and_every_caption_names_its_cast() -> None:
    one, two = (WorldStories().draw(np.random.default_rng(3), shots=3, related=True) for _ in range(2))
    assert one.captions == two.captions
    assert all(np.array_equal(a, b) for a, b in zip(one.shots, two.shots, strict=True))
    story = WorldStories().story(np.random.default_rng(3), 3)
    for script, caption in zip(story, one.captions, strict=True):
        assert all(actor.words in caption for actor in script.actors)
    strangers = WorldStories().draw(np.random.default_rng(3), shots=3, related=False)
    assert {shot.shape for shot in strangers.shots} == {(33, 64, 96, 3)}
    with pytest.raises(TrainingError, match="33 or 65"):
        WorldStories(frames=20)


def test_what_was_trained_is_filmed_with_tokens_at_time_zero(tmp_path: Path) -> None:
    folder = tiny_wan("t2v-2.1", tmp_path / "model")
    learner = trainee(tiny_pipeline("t2v-2.1"), stage=2)
    assert not learner.model.gives_tokens_at_zero  # taken apart as it comes
    opened = open_model(str(folder), gives_tokens_at_zero=True)
    asked = ShotRequest(
        prompt="A fox.",
        frames=9,
        fps=8,
        width=SIDE,
        height=SIDE,
        seed=0,
        given=(Given(first=0, frames=np.zeros((9, SIDE, SIDE, 3), np.uint8)),),
    )
    sets = ScenesTrainee(training(folder, tmp_path, stage=2), opened, NoiseClips(), NoiseClips(), Processes("cpu"))
    layouts = (opened.layout(9, SIDE, SIDE),) * 2
    of_sets = sets.model.of_sets(layouts, SceneSettings(context="clean"))
    clean = torch.cat([of_sets.encode_shot(asked, layout) for layout in layouts], dim=2)
    lesson = lesson_of(clean, layouts, sets.objective, torch.Generator().manual_seed(0), sequel=True)
    times = of_sets._timesteps(lesson.time, lesson.shown, lesson.start)
    tokens = layouts[0].tokens
    assert times[0, :tokens].eq(0).all()
    assert times[0, tokens:].eq(lesson.time).all()
    with attached(of_sets, [()]), torch.no_grad():
        text = of_sets.encode(CAPTIONS[:2], None)
        predicted = of_sets.predict(lesson.shown, lesson.time, text, (Branch.COND,), lesson.start)
    assert F.mse_loss(predicted, lesson.target).isfinite()
