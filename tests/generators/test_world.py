"""The puppet world: what its grammar allows, how it is told, and how it is drawn."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from generators.world.captions import predicates, tell, vocabulary, write_caption
from generators.world.grammar import (
    LEAD,
    SHORTEST,
    Split,
    clip_frames,
    event_times,
    held_out_act,
    held_out_look,
    is_held_out,
    possible,
    sample_script,
)
from generators.world.motion import play
from generators.world.places import backdrops
from generators.world.puppets import BOX, textures
from generators.world.renderer import _sprites, render
from generators.world.script import Actor, Prop, Script, ScriptEvent
from generators.world.words import FPS, HEIGHT, HUES, KINDS, LONG, PLACES, SHORT, TIMES, VERBS, WIDTH

SPLITS: tuple[Split, ...] = ("train", "heldout")


def drawn(count: int, split: Split = "train", events: int = 1, seed: int = 0) -> list[Script]:
    rng = np.random.default_rng(seed)
    return [sample_script(rng, events=events, split=split) for _ in range(count)]


def alone(verb: str, start: float = 0.5, end: float = 2.0, **slots: str) -> ScriptEvent:
    return ScriptEvent(verb=verb, actor=0, start=start, end=end, side=slots.get("side"))


def test_held_out_looks_and_acts_never_stand_in_training_scripts() -> None:
    for script in drawn(40) + drawn(20, events=2):
        assert not any(held_out_look(actor.hue, actor.kind) for actor in script.actors)
        assert not any(held_out_act(script.actors[e.actor].kind, e.verb) for e in script.events)
    assert all(is_held_out(script) for script in drawn(20, "heldout"))


def test_every_kind_keeps_one_hue_and_some_verb_from_training_and_no_verb_misses_all_kinds() -> None:
    for kind in KINDS:
        assert sum(held_out_look(hue, kind) for hue in HUES) == 1
        assert 0 < sum(held_out_act(kind, verb) for verb in VERBS) < len(VERBS) / 2
    for verb in VERBS:
        assert sum(held_out_act(kind, verb) for kind in KINDS) < len(KINDS)


def test_the_same_random_state_draws_the_same_script() -> None:
    assert drawn(3, seed=4) == drawn(3, seed=4)
    assert drawn(3, seed=4) != drawn(3, seed=5)


def test_events_follow_each_other_and_rest_at_both_ends() -> None:
    for script in drawn(15, events=2):
        first, second = script.events
        assert first.end <= second.start
        assert first.start >= LEAD - 0.01
        assert second.end <= script.seconds - LEAD + 0.01


def test_times_of_many_events_are_each_long_enough() -> None:
    slots = list(event_times(np.random.default_rng(0), LONG, 4))
    assert all(end - start >= SHORTEST - 1e-9 for start, end in slots)


def test_who_has_left_vanished_lain_down_or_floated_does_nothing_more() -> None:
    for settled in (alone("leave", side="left"), alone("vanish"), alone("lie_down"), alone("float")):
        script = Script(place="meadow", time="day", actors=(Actor(hue="red", kind="cat"),), events=(settled,))
        assert not possible(script, alone("jump", 2.2, 3.8))


def test_the_same_verb_twice_or_growing_and_shrinking_is_refused() -> None:
    script = Script(place="snow", time="day", actors=(Actor(hue="red", kind="cat"),), events=(alone("grow"),))
    assert not possible(script, alone("grow", 2.2, 3.8))
    assert not possible(script, alone("shrink", 2.2, 3.8))
    assert possible(script, alone("jump", 2.2, 3.8))


def test_more_events_than_fit_are_refused_with_the_numbers() -> None:
    with pytest.raises(ValueError, match="3 events of 1.5 s do not fit into 33 frames"):
        sample_script(np.random.default_rng(0), frames=SHORT, events=3)
    assert (clip_frames(2), clip_frames(3)) == (SHORT, LONG)
    with pytest.raises(ValueError, match="at most 5"):
        clip_frames(6)


@pytest.mark.parametrize("split", SPLITS)
def test_phrases_and_subjects_stand_verbatim_in_the_caption_in_the_order_of_events(split: Split) -> None:
    rng = np.random.default_rng(1)
    for script in drawn(10, split, events=2):
        caption = write_caption(script, rng, split)
        assert len(caption.phrases) == len(caption.subjects) == 2
        places = [caption.text.find(f"{s} {p}") for s, p in zip(caption.subjects, caption.phrases, strict=True)]
        assert 0 <= places[0] < places[1]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_twenty_predicates_half_of_them_held_out(verb: str) -> None:
    trained, held = set(predicates(verb, "train")), set(predicates(verb, "heldout"))
    assert len(set(predicates(verb))) == 20
    assert (len(trained), len(held)) == (10, 10)
    assert not trained & held


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+|[,.]", re.sub(r"\{\w+\}", " ", text).lower()))


def test_every_word_of_held_out_sentences_was_trained_and_is_in_the_vocabulary() -> None:
    trained = {word for verb in VERBS for p in predicates(verb, "train") for word in words(p)}
    held = {word for verb in VERBS for p in predicates(verb, "heldout") for word in words(p)}
    assert held <= trained
    rng = np.random.default_rng(2)
    told = {word for script in drawn(30, "heldout", 2) for word in words(write_caption(script, rng, "heldout").text)}
    assert told <= set(vocabulary())


def test_a_caption_needs_a_predicate_an_event() -> None:
    with pytest.raises(ValueError, match="expected 2 predicates"):
        tell(drawn(1, events=2)[0], ("jumps up",))


def test_a_script_always_gives_the_same_frames_alone_or_in_a_batch() -> None:
    scripts = drawn(4, events=2)
    batch = render(scripts)
    assert batch.shape == (4, SHORT, 3, HEIGHT, WIDTH)
    assert batch.dtype == torch.uint8
    assert torch.equal(batch, torch.cat([render([script]) for script in scripts]))
    assert torch.equal(batch, render(scripts))


@pytest.mark.slow
def test_every_pixel_is_what_every_sprite_put_there() -> None:
    """Sprites at rest, turned, tipped, grown, at the canvas's edges and off it, against each asked for every pixel."""
    scripts = drawn(16, events=1) + drawn(12, events=2, seed=1)
    lain = Script(
        place="city",
        time="night",
        actors=(Actor(hue="red", kind="fox", x=12.0),),
        events=(alone("grow", 0.3, 2.0), alone("lie_down", 2.1, 3.7)),
    )
    seen = render([*scripts, lain]).int()
    for script, frames in zip([*scripts, lain], seen, strict=True):
        wanted = slowly_drawn(script)
        assert (frames - wanted).abs().max() <= 1
        assert ((frames - wanted) != 0).double().mean() < 0.002  # roundings


def slowly_drawn(script: Script) -> torch.Tensor:
    """(T, 3, H, W): the whole canvas asks each sprite's texture, back to front."""
    canvas = torch.from_numpy(backdrops())[PLACES.index(script.place), TIMES.index(script.time)]
    canvas = canvas.repeat(script.frames, 1, 1, 1)
    down, across = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    for sprite in _sprites(script, play(script)):
        for frame, (texture, x, y, sx, sy, tilt, alpha, *hue) in enumerate(torch.from_numpy(sprite).tolist()):
            right, below = (across - x) / (BOX / 2), (down - y) / (BOX / 2)
            cos, sin = math.cos(tilt), math.sin(tilt)
            grid = torch.stack([(cos * right + sin * below) / sx, (cos * below - sin * right) / sy], -1)
            planes = F.grid_sample(torch.from_numpy(textures())[None, int(texture)], grid[None], align_corners=False)[0]
            paint = planes[:1] * torch.tensor(hue).view(3, 1, 1) + planes[1:4]
            canvas[frame] = alpha * paint + (1 - alpha * planes[4:]) * canvas[frame]
    return (canvas * 255).round().clamp(0, 255).int()


def test_scripts_of_unequal_lengths_are_refused() -> None:
    long = sample_script(np.random.default_rng(0), frames=LONG, events=1)
    with pytest.raises(ValueError, match=rf"\[{SHORT}, {LONG}\]"):
        render([*drawn(1), long])


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_every_hue_is_visible_in_every_place_by_day_and_night(place: str) -> None:
    scripts = [
        Script(place=place, time=time, actors=(Actor(hue=hue, kind="robot"),), events=(), frames=SHORT)
        for time in TIMES
        for hue in HUES
    ]
    empty = [Script(place=place, time=time, actors=(), props=(Prop(kind="box", x=-40.0),), events=()) for time in TIMES]
    bare = render(empty)[:, 0].int()
    for index, (script, clip) in enumerate(zip(scripts, render(scripts), strict=True)):
        hue = torch.tensor(HUES[script.actors[0].hue]).reshape(3, 1, 1)
        near = ((clip[0].int() - hue).abs().amax(0) <= 12).sum()
        without = ((bare[index // len(HUES)] - hue).abs().amax(0) <= 12).sum()
        assert near >= 60, script.actors[0].words
        assert without == 0, script.actors[0].words


def test_a_script_reads_back_from_its_sidecar() -> None:
    for script in drawn(5, events=2) + [sample_script(np.random.default_rng(3), verb="push")]:
        assert Script.from_json(script.to_json()) == script


@pytest.mark.parametrize("text", ["no JSON", "[]", "{}", '{"actors": [{"hat": "top"}], "props": [], "events": []}'])
def test_what_is_no_sidecar_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Script|Expecting value"):
        Script.from_json(text)


def test_a_script_with_two_puppets_of_one_hue_or_an_unknown_place_is_refused() -> None:
    with pytest.raises(ValueError, match="hue of its own"):
        Script(
            place="meadow", time="day", actors=(Actor(hue="red", kind="cat"), Actor(hue="red", kind="fox")), events=()
        )
    with pytest.raises(ValueError, match=r"Script.place: expected one of .* got 'moon'"):
        Script(place="moon", time="day", actors=(), events=())
    assert drawn(1)[0].seconds == SHORT / FPS
