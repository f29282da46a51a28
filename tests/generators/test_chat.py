"""A chat model in this process: what it is shown decides its answer, drawing is sampling, errors say what to do."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from generators.chat import ChatCheckpoint, Message, _Gumbel
from generators.errors import BackendUnavailable, RequestRejected
from tests.tiny_chat import NO_SYSTEM, tiny_language_model, tiny_qwen_vl, tiny_vision_language_model

TALK = (Message(role="system", text="Be brief."), Message(role="user", text="What does the fox do?"))


def picture(colour: tuple[int, int, int]) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture(scope="module")
def babbler(tmp_path_factory: pytest.TempPathFactory) -> ChatCheckpoint:
    return ChatCheckpoint(str(tiny_language_model(tmp_path_factory.mktemp("babbler"))), device="cpu")


@pytest.fixture(scope="module")
def seer(tmp_path_factory: pytest.TempPathFactory) -> ChatCheckpoint:
    return ChatCheckpoint(str(tiny_vision_language_model(tmp_path_factory.mktemp("seer"))), device="cpu")


def test_it_says_what_its_logits_say_and_stops_at_the_end(tmp_path: Path) -> None:
    model = ChatCheckpoint(str(tiny_language_model(tmp_path / "parrot", "It jumps — naïve 狐.")), device="cpu")
    said = model.answer(TALK, most=20)
    assert (said.text, said.tokens_out, said.cut_off) == ("It jumps — naïve 狐.", 2, False)
    assert said.tokens_in == len(model.tokenizer("<system>Be brief.<user>What does the fox do?<assistant>").input_ids)
    assert model.name.startswith("parrot ")


def test_an_answer_that_reaches_the_limit_is_cut_off(babbler: ChatCheckpoint) -> None:
    said = babbler.answer(TALK, most=5)
    assert (said.tokens_out, said.cut_off) == (5, True)


def test_the_likeliest_answer_is_one_and_the_same_and_drawn_ones_follow_their_seed(babbler: ChatCheckpoint) -> None:
    def drawn(temperature: float, seed: int) -> str:
        return babbler.answer(TALK, most=12, temperature=temperature, seed=seed).text

    assert drawn(0, 1) == drawn(0, 2)
    assert drawn(1, 1) == drawn(1, 1)
    assert len({drawn(1, seed) for seed in range(4)}) == 4


def test_drawing_leaves_everybody_elses_random_numbers_alone(babbler: ChatCheckpoint) -> None:
    before = torch.get_rng_state()
    babbler.answer(TALK, most=4, temperature=1, seed=3)
    assert torch.equal(before, torch.get_rng_state())


def test_the_largest_after_gumbel_noise_is_a_sample_of_the_softmax() -> None:
    logits, draws = torch.tensor([0.0, 1.0, -1.0, 2.0]), 40_000
    noisy = _Gumbel(0.7, seed=0)(torch.zeros(draws, 1, dtype=torch.long), logits.expand(draws, 4))
    shares = torch.bincount(noisy.argmax(1), minlength=4) / draws
    assert torch.allclose(shares, (logits / 0.7).softmax(0), atol=0.01)  # 4 standard errors of a share of one half


def test_pictures_are_seen(seer: ChatCheckpoint) -> None:
    def shown(*colours: tuple[int, int, int]) -> str:
        pictures = tuple(picture(colour) for colour in colours)
        return seer.answer([Message(role="user", text="What is this?", pictures=pictures)], most=8).text

    red, blue = (250, 10, 10), (10, 10, 250)
    assert shown(red) == shown(red)
    assert len({shown(red), shown(blue), shown(red, blue), shown(blue, red)}) == 4


def test_a_model_whose_processor_reads_videos_too_is_shown_pictures(tmp_path: Path) -> None:
    model = ChatCheckpoint(str(tiny_qwen_vl(tmp_path)), device="cpu")

    def said(*colours: tuple[int, int, int]) -> str:
        pictures = tuple(picture(colour) for colour in colours)
        return model.answer([Message(role="user", text="What?", pictures=pictures)], most=8).text

    assert len({said((250, 9, 9)), said((9, 9, 250)), said((250, 9, 9), (9, 9, 250))}) == 3


def test_penalties_of_the_checkpoint_do_not_bend_the_likeliest_answer(tmp_path: Path) -> None:
    folder = tiny_language_model(tmp_path)
    plain = ChatCheckpoint(str(folder), device="cpu").answer(TALK, most=12).text
    told = json.loads((folder / "generation_config.json").read_text())
    bent = told | {"repetition_penalty": 5.0, "no_repeat_ngram_size": 1, "do_sample": True, "temperature": 9.0}
    (folder / "generation_config.json").write_text(json.dumps(bent))
    assert ChatCheckpoint(str(folder), device="cpu").answer(TALK, most=12).text == plain


def test_a_checkpoint_that_lacks_weights_is_refused_instead_of_filled_with_chance(tmp_path: Path) -> None:
    folder = tiny_language_model(tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackendUnavailable, match=r"lacks 1 of its model's weights, such as lm_head\.weight"):
        ChatCheckpoint(str(folder), device="cpu")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BackendUnavailable, match="expected a folder or hub id of a chat model"):
        ChatCheckpoint(str(folder), device="cpu")


def test_a_template_that_refuses_the_conversation_is_named(tmp_path: Path) -> None:
    model = ChatCheckpoint(
        str(tiny_language_model(tmp_path, template="{{ raise_exception('two in a row') }}")), device="cpu"
    )
    with pytest.raises(RequestRejected, match="its chat template refuses the conversation: two in a row"):
        model.answer(TALK, most=1)


def test_the_logits_are_those_of_the_model_run_by_hand(seer: ChatCheckpoint) -> None:
    said = seer.answer([Message(role="user", text="Look.", pictures=(picture((9, 99, 9)),))], most=1)
    pixels = seer.processor.image_processor(Image.open(io.BytesIO(picture((9, 99, 9)))), return_tensors="pt")
    text = "<user>" + "<image>" * 4 + "Look.<assistant>"
    ids = seer.tokenizer(text, return_tensors="pt").input_ids
    with torch.no_grad():
        logits = seer.model(input_ids=ids, pixel_values=pixels["pixel_values"]).logits
    assert said.text == seer.tokenizer.decode([int(logits[0, -1].argmax())], skip_special_tokens=True)
    assert said.tokens_in == ids.shape[1]


def test_a_model_without_a_system_turn_reads_it_before_the_question(tmp_path: Path) -> None:
    model = ChatCheckpoint(str(tiny_language_model(tmp_path, "yes", template=NO_SYSTEM)), device="cpu")
    said = model.answer(TALK, most=4)
    assert said.text == "yes"
    assert said.tokens_in == len(model.tokenizer("<user>Be brief.\n\nWhat does the fox do?<assistant>").input_ids)


def test_it_stops_when_it_is_told_to(babbler: ChatCheckpoint) -> None:
    stopped = threading.Event()
    stopped.set()
    assert babbler.answer(TALK, most=500, stopped=stopped).tokens_out == 1


def test_a_language_model_refuses_pictures_and_too_long_a_question_is_named(babbler: ChatCheckpoint) -> None:
    with pytest.raises(RequestRejected, match="sees no pictures: name a vision-language model"):
        babbler.answer([Message(role="user", text="?", pictures=(picture((0, 0, 0)),))], most=1)
    with pytest.raises(RequestRejected, match=r"reads at most 8192 tokens, the question has \d{4}"):
        babbler.answer([Message(role="user", text="x" * 9000)], most=1)


def test_what_is_no_chat_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BackendUnavailable, match=r"empty: expected a folder or hub id of a chat model in safetensors"):
        ChatCheckpoint(str(tmp_path / "empty"), device="cpu")
    base = tiny_language_model(tmp_path / "base", template=None)
    with pytest.raises(BackendUnavailable, match="base has no chat template: expected a checkpoint that was trained"):
        ChatCheckpoint(str(base), device="cpu")


def test_weights_in_pickle_are_not_read(tmp_path: Path) -> None:
    folder = tiny_language_model(tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save({"weight": torch.from_numpy(np.zeros(1))}, folder / "pytorch_model.bin")
    with pytest.raises(BackendUnavailable, match="safetensors"):
        ChatCheckpoint(str(folder), device="cpu")
