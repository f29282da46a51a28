"""The entity benchmark with a grounder of colours: who is found, compared, counted, and what is not measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evals.benchmarks.entities import (
    CONSISTENCY,
    COPY,
    CROSS,
    DECAY,
    IDENTITY,
    OCCM,
    OWN,
    STYLE,
    TRANSITION,
    TWICE,
    Entities,
    EntitySettings,
    Eyes,
)
from evals.benchmarks.episodes import read_episodes
from evals.benchmarks.protocol import Film
from evals.metrics.consistency import Vectors
from evals.metrics.embedders import Weights
from evals.metrics.grounding import Box, cropped, open_grounder, sharpness_of
from evals.metrics.score import Case, NotMeasured, Score, Summary
from evals.suite import finish, run
from generators.clip import Frames

Cli = Callable[..., Any]
COLOURS = {"a red fox": (255, 0, 0), "a blue owl": (0, 0, 255)}
RED, BLUE = COLOURS.values()
GREEN = (0, 255, 0)
"""Nobody of the cast."""
MEADOW = 90


class Squares:
    """Finds squares of the colours that a query names; a character is a square of any colour."""

    name = "squares"

    def boxes(self, frame: Frames, query: str) -> Sequence[Box]:
        wanted = [RED, BLUE, GREEN] if query == "character" else [COLOURS[text] for text in query.split(" . ")]
        found = []
        for colour in wanted:
            at = np.argwhere((frame == colour).all(-1))
            if len(at):
                (top, left), (bottom, right) = at.min(0), at.max(0) + 1
                found.append(Box(left=float(left), top=float(top), right=float(right), bottom=float(bottom), score=1.0))
        return found


class Colours:
    """Mean colour of a picture's left and of its right half, colours of its pixels, and the colour a text names."""

    name = "colours"

    def embed(self, frames: Frames) -> Vectors:
        middle = frames.shape[2] // 2
        halves = (frames[:, :, :middle], frames[:, :, middle:])
        return np.concatenate([half.reshape(len(frames), -1, 3).mean(1) + 1.0 for half in halves], 1)

    def patches(self, frames: Frames) -> Vectors:
        return np.asarray(frames.reshape(len(frames), -1, 3) + 1.0)

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        return np.array([COLOURS[text] * 2 for text in texts], np.float64) + 1.0


GONE = NotMeasured(reason="gone")
EYES = Eyes(grounder=Squares(), text=Colours(), crops=Colours(), characters=Colours())
EPISODES = """
- name: wood
  cast: {fox: a red fox, owl: a blue owl}
  references: {fox: [fox.png]}
  shots:
    - {prompt: a fox, shows: [fox]}
    - {prompt: an owl, shows: [owl], continues: true}
    - {prompt: both, shows: [fox, owl]}
"""


def shot(*colours: tuple[int, int, int]) -> Film:
    frames = np.full((6, 32, 68, 3), MEADOW, np.uint8)
    for place, colour in enumerate(colours):
        frames[:, 8:20, 4 + 20 * place : 16 + 20 * place] = colour
    return Film(frames=frames, fps=8)


def filmed(*shots: Film) -> Film:
    """One frame of each shot, as one clip."""
    return Film(frames=np.stack([one.frames[0] for one in shots]), fps=8)


class Shots:
    """Footage of prepared shots, by number."""

    name, source = "shots", "array"

    def __init__(self, *films: Film | NotMeasured) -> None:
        self.films = films

    def digest(self, case: Case, seed: int) -> str:
        return ""

    def film(self, case: Case, seed: int) -> Film | NotMeasured:
        return self.films[case.shot - 1]


@pytest.fixture
def episodes(tmp_path: Path) -> Path:
    Image.fromarray(np.full((8, 8, 3), RED, np.uint8)).save(tmp_path / "fox.png")
    path = tmp_path / "episodes.yaml"
    path.write_text(EPISODES)
    return path


def measured(episodes: Path, eyes: Eyes, *films: Film | NotMeasured) -> dict[tuple[str, str], Summary]:
    benchmark = Entities(EntitySettings(episodes=episodes), eyes)
    lines = finish(run(benchmark, Shots(*films), episodes.parent / "out")).lines
    return {(line.summary.metric, line.group): line.summary for line in lines}


def test_a_cast_that_keeps_its_looks_scores_full_marks(episodes: Path) -> None:
    found = measured(episodes, EYES, shot(RED), shot(BLUE), shot(RED, BLUE))
    assert found[OCCM, "all"].mean == pytest.approx(100.0)
    assert found[CONSISTENCY, "all"].mean == pytest.approx(1.0, abs=1e-3)
    assert found[OWN, "all"].mean == found[TWICE, "all"].mean == pytest.approx(1.0)
    assert found[CROSS, "all"].mean == pytest.approx(1.0)
    assert found[TRANSITION, "all"].mean == pytest.approx(1.0, abs=0.05)
    assert found[DECAY, "gap 1"].count == found[DECAY, "gap 0"].count == 1
    assert found[IDENTITY, "distance 2"].mean == pytest.approx(1.0, abs=1e-3)


def test_a_stranger_of_another_description_and_a_missing_shot_lower_the_count(episodes: Path) -> None:
    found = measured(episodes, EYES, shot(RED, GREEN), GONE, shot(RED, BLUE))
    shares = [100 * np.exp(-1), 100 * np.exp(-1), 100.0]
    assert found[OCCM, "all"].mean == pytest.approx(np.mean(shares), abs=1e-3)
    assert Squares().boxes(shot(RED, GREEN).frames[0], "a red fox")[1:] == []  # the cast's own query never sees them


def test_somebody_who_flits_through_one_frame_is_not_counted(episodes: Path) -> None:
    alone, crowd = shot(RED), shot(RED, GREEN, BLUE)
    passing = filmed(alone, crowd, alone, alone, crowd)
    staying = filmed(crowd, alone, crowd, crowd, alone)
    benchmark = Entities(EntitySettings(episodes=episodes), EYES)

    def figures(film: Film) -> list[int]:
        found: list[int] = benchmark.judge(benchmark.units()[0], [film, shot(BLUE), GONE]).facts["figures"]
        return found

    assert figures(passing) == [1, 1, 0]
    assert figures(staying) == [3, 1, 0]


def test_characters_are_matched_to_their_pictures_and_held_against_them(episodes: Path) -> None:
    pale = (255, 40, 0)

    class Pale(Squares):
        def boxes(self, frame: Frames, query: str) -> Sequence[Box]:
            at = np.argwhere((frame == pale).all(-1))
            (top, left), (bottom, right) = at.min(0), at.max(0) + 1
            one = Box(left=float(left), top=float(top), right=float(right), bottom=float(bottom), score=1.0)
            return [*super().boxes(frame, query), one]

    found = measured(episodes, replace(EYES, grounder=Pale()), shot(pale), shot(BLUE, pale), shot(BLUE, pale))

    def cosine(a: tuple[int, ...], b: tuple[int, ...]) -> float:
        x, y = np.array(a) + 1.0, np.array(b) + 1.0
        return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))

    assert found[CROSS, "all"].mean == pytest.approx(cosine(pale, RED))  # never the owl's box
    assert found[OWN, "all"].mean == pytest.approx(1.0)


def test_who_is_found_once_is_like_itself_only_under_the_released_name(episodes: Path) -> None:
    found = measured(episodes, EYES, shot(RED), shot(), shot())
    alone = {"fewer than two appearances of anybody to compare": 1}
    assert found[CONSISTENCY, "all"].unmeasured == found[TWICE, "all"].unmeasured == alone
    assert found[OWN, "all"].mean == 1.0
    assert found[CROSS, "all"].count == 1


def test_nobody_in_any_shot_is_not_measured(episodes: Path) -> None:
    found = measured(episodes, EYES, shot(), shot(), shot())
    nobody = {"nobody of the reference pictures was found": 1}
    assert found[CROSS, "all"].unmeasured == found[OWN, "all"].unmeasured == found[COPY, "all"].unmeasured == nobody


def test_a_picture_that_is_copied_is_told_from_its_mirror_image(episodes: Path) -> None:
    two = np.full((8, 8, 3), RED, np.uint8)
    two[:, 4:] = (200, 0, 0)
    Image.fromarray(two).save(episodes.parent / "fox.png")

    class Left(Squares):
        def boxes(self, frame: Frames, query: str) -> Sequence[Box]:
            return [Box(left=4, top=8, right=16, bottom=20, score=1.0)]

    benchmark = Entities(EntitySettings(episodes=episodes), replace(EYES, grounder=Left()))

    def copied(left: tuple[int, int, int], right: tuple[int, int, int]) -> float:
        film = shot(left)
        film.frames[:, 8:20, 10:16] = right
        found = benchmark.judge(benchmark.units()[0], [film, shot(BLUE), film]).outcomes[COPY]
        assert isinstance(found, Score)
        return found.value

    other = (200, 0, 0)
    same, mirrored = 256**2 + 201**2 + 4, 2 * 256 * 201 + 4  # products of (256, 1, 1, 201, 1, 1) and its two halves
    copy = 1 / (1 + np.exp((mirrored / same - 1) / 0.01))
    assert copied(RED, other) == pytest.approx(copy)
    assert copied(other, RED) == pytest.approx(1 - copy)
    assert copied(RED, RED) == pytest.approx(0.5)


def test_style_is_the_mean_product_of_gram_matrices_of_middle_frames(episodes: Path) -> None:
    films = [shot(RED), shot(BLUE), shot(RED, GREEN, BLUE)]
    films[0].frames[0] = 0  # not the middle
    grams = []
    for film in films:
        total = np.zeros((3, 3))
        for pixel in film.frames[3].reshape(-1, 3).astype(float) + 1:
            total += np.outer(pixel, pixel)
        grams.append(total / np.sqrt((total**2).sum()))
    slow = np.mean([(grams[a] * grams[b]).sum() for a, b in ((0, 1), (0, 2), (1, 2))])
    assert slow < 1 - 1e-4
    assert measured(episodes, EYES, *films)[STYLE, "all"].mean == pytest.approx(slow)


def test_one_shot_has_no_style_to_keep(episodes: Path) -> None:
    assert measured(episodes, EYES, shot(RED), GONE, GONE)[STYLE, "all"].unmeasured == {"fewer than two shots": 1}


def test_an_appearance_of_low_fidelity_is_not_compared_across_shots(episodes: Path) -> None:
    films = (shot(RED), shot(BLUE), shot(RED, BLUE))
    assert measured(episodes, EYES, *films)[IDENTITY, "distance 2"].count == 1
    told = EPISODES.replace("shows: [fox, owl]}", "shows: [fox, owl], fidelity: {fox: 0.49, owl: 0.5}}")
    episodes.write_text(told)
    found = measured(episodes, EYES, *films)
    assert (IDENTITY, "distance 2") not in found  # the fox of the last shot
    assert found[IDENTITY, "distance 1"].count == 1
    benchmark = Entities(EntitySettings(episodes=episodes), EYES)
    outcome = benchmark.judge(benchmark.units()[0], films).outcomes[CONSISTENCY]
    assert isinstance(outcome, Score)
    assert outcome.details == {"crops": 2.0, "gated": 1.0}


def test_a_wrong_look_is_not_taken_for_the_cast(episodes: Path) -> None:
    eyes = replace(EYES, text=Opposite())
    assert measured(episodes, eyes, shot(RED), shot(BLUE), shot(RED, BLUE))[CONSISTENCY, "all"].mean is None


class Opposite(Colours):
    """Texts that mean no picture."""

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        return np.tile([0.0, -1.0, 0.0] * 2, (len(texts), 1))


def test_without_a_grounder_only_whole_frames_are_compared(episodes: Path) -> None:
    eyes = replace(EYES, grounder=open_grounder(Weights()))
    found = measured(episodes, eyes, shot(RED), shot(BLUE), shot(RED, BLUE))
    missing = {"missing weights grounding_dino: no folder of weights was named": 1}
    assert all(found[name, "all"].unmeasured == missing for name in (CONSISTENCY, OCCM, CROSS, OWN, TWICE, COPY))
    assert found[STYLE, "all"].count == found[TRANSITION, "all"].count == 1


@pytest.mark.parametrize(
    ("role", "lost"),
    [("text", {CONSISTENCY}), ("crops", {CONSISTENCY, STYLE, TRANSITION}), ("characters", {CROSS, OWN, TWICE, COPY})],
)
def test_an_absent_encoder_takes_only_what_rests_on_it(episodes: Path, role: str, lost: set[str]) -> None:
    found = measured(episodes, replace(EYES, **{role: GONE}), shot(RED), shot(BLUE), shot(RED, BLUE))
    names = {CONSISTENCY, STYLE, TRANSITION, OCCM, CROSS, OWN, TWICE, COPY}
    assert {name for name in names if found[name, "all"].unmeasured == {"gone": 1}} == lost


TWO = "{prompt: p, shows: [a]}, {prompt: p, shows: [a]}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "list of episodes"),
        ("- {name: x, cast: {a: b}, shots: [{prompt: p, shows: [a]}]}", "one shot"),
        ("- {name: x, cast: {a: b}, shots: [{prompt: p, shows: [z]}, {prompt: p, shows: [a]}]}", "z: not in its cast"),
        ("- {name: x, shots: 3}", "expected name, cast and shots"),
        ("- {name: x, cast: {a: b}, references: {a: [n.png]}, shots: []}", "no such picture"),
        (f"- {{name: x, cast: {{a: b}}, references: {{z: []}}, shots: [{TWO}]}}", "z: not in its cast"),
        (
            f"- {{name: x, cast: {{a: b}}, shots: [{TWO.replace('}', ', fidelity: {a: 1.1}}', 1)}]}}",
            "fidelity: expected",
        ),
        (f"- {{name: x, cast: {{a: b}}, shots: [{TWO.replace('}', ', fidelity: {z: 1}}', 1)}]}}", "fidelity: expected"),
        (f"- {{name: x, cast: {{a: b}}, shots: [{TWO.replace('}', ', fidelity: 0.5}', 1)}]}}", "expected name, cast"),
    ],
)
def test_an_episode_that_is_none_is_named(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_episodes(path)


def test_crops_have_a_rim_and_stay_inside_the_frame() -> None:
    frame = np.zeros((20, 30, 3), np.uint8)
    assert cropped(frame, Box(left=10, top=5, right=20, bottom=15, score=1)).shape == (12, 12, 3)
    assert cropped(frame, Box(left=-5, top=-5, right=100, bottom=100, score=1)).shape == (20, 30, 3)
    assert cropped(frame, Box(left=40, top=40, right=40, bottom=40, score=1)).shape == (1, 1, 3)
    assert sharpness_of(frame) == 1.0


def test_the_command_says_which_weights_are_missing(cli: Cli, episodes: Path, tmp_path: Path) -> None:
    words = ("eval", "entities", episodes, "--profile", "instant", "--seconds", "1", "--out", tmp_path / "results")
    done = cli(*words)
    assert done.code == 0, done.err
    assert "missing weights grounding_dino" in " ".join(done.out.split())


def test_outcomes_are_scores(episodes: Path) -> None:
    benchmark = Entities(EntitySettings(episodes=episodes), EYES)
    judged = benchmark.judge(benchmark.units()[0], [shot(RED), shot(BLUE), shot(RED, BLUE)])
    assert isinstance(judged.outcomes[judged.headline], Score)
    assert judged.facts["figures"] == [1, 1, 2]
