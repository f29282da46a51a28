"""The text encoder's lessons: what every word is about, its code, what is kept, and who gets what was learnt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from generators.errors import TrainingError
from generators.training.checkpoint import read_checkpoint
from generators.training.clips import DrawnClips
from generators.training.config import DenoiserSize, DenoiserTraining, LatentShards, Machine, RoleTraining, Schedule
from generators.training.denoiser import build_denoiser, train_denoiser
from generators.training.roles import RoleTrainee, code, draw_captions, mark, train_roles
from generators.training.text import build_tokenizer
from generators.world.captions import tell, vocabulary
from generators.world.script import Actor, Prop, Script, ScriptEvent
from generators.world.words import LONG, VERBS

pytestmark = pytest.mark.slow

TINY = DenoiserSize(channels=16, layers=1, heads=2, head_dim=24, ffn=64, text_width=48, text_heads=4, text_ffn=64)
TOKENIZER = build_tokenizer(vocabulary())


class GreyClips:
    """Noise that any caption may go with."""

    def draw(self, rng: np.random.Generator, *, clips: int, frames: int, captions: int) -> DrawnClips:
        pixels = torch.from_numpy(rng.integers(255, size=(clips, frames, 3, 32, 48), dtype=np.uint8))
        return DrawnClips(frames=pixels, captions=(("the red fox jumps up.",) * captions,) * clips)


def tiny(out: Path, steps: int, captions: int = 60) -> RoleTraining:
    return RoleTraining(
        denoiser=DenoiserTraining(
            out=out,
            size=TINY,
            batch=2,
            shards=LatentShards(clips=2, count=1, first=1, batch=2, long_share=0.0),
            schedule=Schedule(steps=1, warmup=1, sample_every=0),
            machine=Machine(precision="float32"),
        ),
        schedule=Schedule(steps=steps, warmup=1, sample_every=0, log_every=1),
        captions=captions,
        batch=8,
    )


def test_every_word_of_a_sentence_knows_its_event_and_nouns_know_their_role() -> None:
    script = Script(
        place="meadow",
        time="day",
        actors=(Actor(hue="red", kind="fox"), Actor(hue="blue", kind="cat")),
        props=(Prop(kind="ball", x=40.0),),
        events=(
            ScriptEvent(verb="lift", actor=0, start=3.0, end=5.0, prop=0),  # told second
            ScriptEvent(verb="chase", actor=1, start=0.5, end=2.5, other=0),
            ScriptEvent(verb="jump", actor=0, start=5.5, end=7.5),
        ),
        frames=LONG,
    )
    caption = tell(script, ("runs after the {other} quickly", "picks up the {prop}", "jumps high up"))
    marked = mark(TOKENIZER, [script], [caption])
    words = TOKENIZER.convert_ids_to_tokens(marked.ids[0].tolist())
    told = [
        (word, *marks) for word, marks in zip(words, marked.marks[0].tolist(), strict=True) if marks != [-1, -1, -1]
    ]
    chase, lift, jump = (list(VERBS).index(verb) for verb in ("chase", "lift", "jump"))
    first = [(w, -1, 0, chase) for w in ("runs", "after", "the")]
    assert told == [
        ("blue", 0, 0, chase),
        ("cat", 0, 0, chase),
        *first,
        ("red", 1, 0, chase),
        ("fox", 1, 0, chase),
        ("quickly", -1, 0, chase),
        ("red", 0, 1, lift),
        ("fox", 0, 1, lift),
        *[(w, -1, 1, lift) for w in ("picks", "up", "the")],
        ("ball", 1, 1, lift),
        ("red", 0, 2, jump),
        ("fox", 0, 2, jump),
        *[(w, -1, 2, jump) for w in ("jumps", "high", "up")],
    ]


def test_the_code_has_a_channel_for_every_role_sentence_and_verb() -> None:
    marked = draw_captions(np.random.default_rng(3), TOKENIZER, 12)
    found = code(marked.marks, 1.4)
    for row, told in zip(marked.marks.flatten(0, 1).tolist(), found.flatten(0, 1), strict=True):
        role, order, verb = row
        wanted = [0.0] * (2 + 3 + len(VERBS))
        if order >= 0:
            wanted[2 + order] = 0.7
            wanted[5 + verb] = 1.4 if role >= 0 else 0.7
        if role >= 0:
            wanted[role] = 1.4
        torch.testing.assert_close(told, torch.tensor(wanted))


@pytest.mark.slow
def test_a_lesson_teaches_roles_and_keeps_what_the_encoder_said() -> None:
    config = replace(tiny(Path("unused"), 1, captions=600), batch=32, learning_rate=2e-2)
    encoder = build_denoiser(TINY, 16, len(TOKENIZER), 0).text_encoder
    trainee = RoleTrainee(config, encoder, TOKENIZER)
    torch.testing.assert_close(
        trainee.directions_KD @ trainee.directions_KD.T, torch.eye(len(trainee.directions_KD)), atol=1e-4, rtol=0
    )
    before = trainee.examine(Path())
    for index in range(240):
        trainee.step(index, 1 - index / 240)
    after = trainee.examine(Path())
    assert before["unseen roles right"] < 0.7 < 0.9 < after["unseen roles right"]
    said = trainee.before(trainee.unseen.ids, trainee.unseen.attended.long()).last_hidden_state
    assert after["unseen moved"] < 0.5 * said[trainee.unseen.attended].var(0).sum().item()


def test_a_resumed_lesson_has_the_bits_of_an_uninterrupted_one(tmp_path: Path) -> None:
    for name, lengths in (("whole", (3,)), ("parts", (1, 3))):
        for steps in lengths:
            config = tiny(tmp_path / name, 3)
            minutes = None if steps == 3 else 1e-9  # stops after the first step
            train_roles(replace(config, schedule=replace(config.schedule, minutes=minutes)), source=GreyClips())
    one, two = (read_checkpoint(tmp_path / name / "denoiser" / "checkpoint.pt") for name in ("whole", "parts"))
    assert one["step"] == two["step"] == 0
    for key, tensor in one["trainee"]["nets"].items():
        assert torch.equal(tensor, two["trainee"]["nets"][key]), key


def test_the_denoiser_gets_the_taught_encoder_and_goes_on(tmp_path: Path) -> None:
    config = tiny(tmp_path, 2)
    of = config.denoiser
    train_denoiser(of, source=GreyClips())
    was = read_checkpoint(tmp_path / "denoiser" / "checkpoint.pt")
    assert train_roles(config).reason == "steps"
    now = read_checkpoint(tmp_path / "denoiser" / "checkpoint.pt")
    assert (now["step"], now["fresh"], now["settings"]) == (1, 1, was["settings"])
    for key, tensor in now["trainee"]["nets"].items():
        assert torch.equal(tensor, was["trainee"]["nets"][key]) != key.startswith("text_encoder"), key
        assert torch.equal(tensor, now["trainee"]["average"][key])
    train_roles(config)  # changes nothing
    assert torch.equal(
        read_checkpoint(tmp_path / "denoiser" / "checkpoint.pt")["trainee"]["nets"]["text_encoder.shared.weight"],
        now["trainee"]["nets"]["text_encoder.shared.weight"],
    )
    assert train_denoiser(replace(of, schedule=replace(of.schedule, steps=2)), source=GreyClips()).step == 2
    with pytest.raises(TrainingError, match="of a denoiser at step 1; .* delete that folder"):
        train_roles(config)
