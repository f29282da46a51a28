"""Which shots are filmed as one set, how shots go on, and what the storyboard says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from agents.boardfile import board_text, parse_board
from agents.staging import Staged, again_staged, first_staged, said, stage_board
from agents.storyboard import PlannedShot, Storyboard, Subject
from agents.takespec import TakeSpec, Together, overlap_frames
from generators.clip import Extension, Limits
from generators.controls.config import TSAttn

LIMITS = Limits(width=16, height=16, fps=8, frame_counts=(17, 33), extends=True, films_sets=True)
CAST = (Subject(name="Pim", description="the red fox"), Subject(name="Mo", description="the blue owl"))


def shot(*subjects: str, seconds: float = 4.0, **changes: Any) -> PlannedShot:
    named = {known.name: known.description for known in CAST}
    prompt = f"In the meadow {' and '.join(named[s] for s in subjects) or 'nobody'} rests."
    plain: dict[str, Any] = {"prompt": prompt, "subjects": subjects, "seconds": seconds}
    return PlannedShot(**plain | changes)


def board(*shots: PlannedShot) -> Storyboard:
    return Storyboard(title="Pim", cast=CAST, shots=shots)


def staged(*shots: PlannedShot, sets: bool = True, limits: Limits = LIMITS) -> list[Staged]:
    return list(stage_board(board(*shots), limits, sets=sets))


def test_shots_that_share_a_cast_are_one_set_and_say_what_they_share() -> None:
    one, two, three = staged(shot("Pim"), shot("Mo"), shot("Pim"))
    assert (one.members, two.members, three.members) == ((1, 3), (), (1, 3))
    assert one.why == "filmed as one set with shot 3: share the red fox"
    assert three.why == "filmed as one set with shot 1: share the red fox"
    assert two.why == "filmed alone: shares its cast with no other shot that begins with a cut"


def test_the_first_two_shots_of_a_set_are_its_anchors() -> None:
    made = staged(*[shot("Pim")] * 4)
    assert {one.anchors for one in made} == {(1, 2)}
    assert made[0].why == "filmed as one set with shots 2, 3, 4: share the red fox"


def test_where_a_set_is_one_sequence_it_says_so_and_goes_without_controls() -> None:
    limits = replace(LIMITS, scenes=True)
    one, _ = staged(shot("Pim"), shot("Pim"), limits=limits)
    assert one.why == "filmed in one sequence with shot 2: share the red fox"
    spec = TakeSpec(prompt=shot("Pim").prompt, frames=33, fps=8, width=16, height=16, seed=0, controls=(TSAttn(),))
    first = first_staged(spec, one, CAST)
    assert first.controls == ()
    assert first.together == Together(shots=(1, 2), anchors=(1, 2), words="red fox")
    assert first.staged == f"{one.why}; without TSAttn: a sequence takes no controls"
    assert first_staged(spec, replace(one, sequence=False), CAST).controls == (TSAttn(),)

    again = again_staged(spec, first, "strengthen", CAST, one)
    assert (again.together, again.controls) == (None, (TSAttn(),))
    assert again.staged == "filmed alone, with TSAttn: a sequence takes no controls"
    plain = again_staged(replace(spec, controls=()), first, "reseed", CAST, one)
    assert plain.together == first.together
    assert again_staged(spec, first, "strengthen", CAST, replace(one, sequence=False)).together is not None


def test_a_shot_is_in_one_set_only_the_largest_first() -> None:
    made = staged(shot("Mo"), shot("Mo", "Pim"), shot("Pim"), shot("Pim"))
    assert [one.members for one in made] == [(), (2, 3, 4), (2, 3, 4), (2, 3, 4)]
    assert "shares the blue owl with shot 2, but none of them is left" in made[0].why


def test_only_shots_of_one_length_are_one_set() -> None:
    assert [one.members for one in staged(shot("Pim"), shot("Pim", seconds=2.0))] == [(), ()]


def test_a_shot_that_goes_on_is_extended_and_not_in_the_set() -> None:
    made = staged(shot("Pim"), shot("Pim", transition="continues"), shot("Pim"))
    assert [one.members for one in made] == [(1, 3), (), (1, 3)]
    assert made[1].why == "continues shot 1 from its last 5 frames"


def test_a_shot_that_cannot_go_on_begins_with_a_cut_and_may_be_in_a_set() -> None:
    made = staged(shot("Pim"), shot("Pim", transition="continues"), limits=replace(LIMITS, extends=False))
    assert made[1].members == (1, 2)
    assert made[1].why.startswith("begins with a cut, for this backend cannot go on from frames; filmed as one set")


def test_a_shot_with_the_motion_of_a_clip_is_filmed_alone() -> None:
    told = staged(shot("Pim"), shot("Pim", synopsis=("It sits.", "It stands.")), shot("Pim"))
    assert told[1].why == "filmed alone: its frames read a synopsis"
    assert told[0].members == (1, 3), "the others stay a set"
    made = staged(shot("Pim"), shot("Pim", motion_from="clip.mp4"), shot("Pim"))
    assert [one.members for one in made] == [(1, 3), (), (1, 3)]
    assert made[1].why == "filmed alone: it has the motion of a clip"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"sets": False}, "filmed alone: shares the red fox with shot 2, and sets are off (--sets)"),
        (
            {"limits": replace(LIMITS, films_sets=False)},
            "filmed alone: shares the red fox with shot 2, but this backend films no sets",
        ),
    ],
)
def test_where_no_sets_are_filmed_the_reason_is_said(changes: dict[str, Any], why: str) -> None:
    assert staged(shot("Pim"), shot("Pim"), **changes)[0].why == why


def test_a_prompt_that_does_not_name_the_cast_keeps_its_shot_alone() -> None:
    made = staged(shot("Pim"), shot("Pim"), shot("Pim", prompt="It rests."))
    assert made[2].members == ()
    assert made[2].why == "filmed alone: shares the red fox with shots 1, 2, but its prompt does not name it"


@pytest.mark.parametrize(
    ("way", "frames", "why"),
    [
        ("tokens at zero", 5, "continues shot 1 by given latent frames (its last 5 frames, as tokens at t = 0)"),
        ("diffusion forcing", 9, "continues shot 1 by diffusion forcing (its last 9 frames, at a time of their own)"),
        ("conditions", 5, "continues shot 1 by the model's own conditions (its last 5 frames)"),
        ("last frame", 1, "continues shot 1 from its last frame, as the model's picture"),
        ("noised latents", 5, "continues shot 1 by noised latents held in the place of its last 5 frames"),
    ],
)
def test_a_shot_goes_on_by_the_best_way_its_model_has(way: Extension, frames: int, why: str) -> None:
    limits = replace(LIMITS, continues=way)
    assert overlap_frames(limits) == frames
    assert staged(shot("Pim"), shot("Pim", transition="continues"), limits=limits)[1].why == why


@pytest.mark.parametrize(("shortest", "frames"), [(9, 5), (17, 9), (33, 17), (97, 17)])
def test_diffusion_forcing_goes_on_from_seventeen_frames_or_half_of_a_shorter_clip(shortest: int, frames: int) -> None:
    limits = replace(LIMITS, frame_counts=(shortest, 121), continues="diffusion forcing")
    assert overlap_frames(limits) == frames


def test_the_storyboards_file_says_how_each_shot_is_filmed_and_reads_the_same() -> None:
    whole = board(shot("Pim"), shot("Mo", camera="static"), shot("Pim"))
    text = board_text(whole, said(whole, LIMITS, sets=True))
    assert "# filmed as one set with shot 3: share the red fox\n- prompt: In the meadow the red fox rests.\n" in text
    assert text.count("\n# filmed") == 3
    assert parse_board(text, "it") == whole
    assert yaml.safe_load(text) == yaml.safe_load(board_text(whole))
