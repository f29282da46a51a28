"""The entity benchmark with a grounder of colours: who is found, compared, counted, and what is not measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evals.benchmarks.entities import (
    CONSISTENCY,
    CROSS,
    DECAY,
    IDENTITY,
    OCCM,
    OWN,
    TRANSITION,
    Entities,
    EntitySettings,
    Eyes,
    read_episodes,
)
from evals.benchmarks.protocol import Film
from evals.metrics.consistency import Vectors
from evals.metrics.embedders import Weights
from evals.metrics.grounding import Box, cropped, open_grounder, sharpness_of
from evals.metrics.score import Case, NotMeasured, Score, Summary
from evals.suite import finish, run
from generators.clip import Frames

Cli = Callable[..., Any]
COLOURS = {"a red fox": (255, 0, 0), "a blue owl": (0, 0, 255)}


class Squares:
    """Finds every pure colour of the cast."""

    name = "squares"

    def boxes(self, frame: Frames, query: str) -> Sequence[Box]:
        found = []
        for colour in COLOURS.values():
            at = np.argwhere((frame == colour).all(-1))
            if len(at):
                (top, left), (bottom, right) = at.min(0), at.max(0) + 1
                found.append(Box(left=float(left), top=float(top), right=float(right), bottom=float(bottom), score=1.0))
        return found


class Colours:
    """Mean colour of a picture, and the colour that a text names."""

    name = "colours"

    def embed(self, frames: Frames) -> Vectors:
        return np.asarray(frames.reshape(len(frames), -1, 3).mean(1) + 1.0)

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        return np.array([COLOURS[text] for text in texts], np.float64) + 1.0


EYES = Eyes(grounder=Squares(), text=Colours(), crops=Colours())
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
    frames = np.full((6, 32, 48, 3), 90, np.uint8)
    for place, colour in enumerate(colours):
        frames[:, 8:20, 4 + 20 * place : 16 + 20 * place] = colour
    return Film(frames=frames, fps=8)


RED, BLUE = COLOURS.values()


class Shots:
    """Footage of prepared shots, by number."""

    name, source = "shots", "array"

    def __init__(self, *films: Film | NotMeasured) -> None:
        self.films = films

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
    assert found[OWN, "all"].mean == pytest.approx(1.0, abs=1e-3)
    assert found[CROSS, "all"].mean == pytest.approx(1.0, abs=0.15)  # the rim of a crop is the meadow's grey
    assert found[TRANSITION, "all"].mean == pytest.approx(1.0, abs=0.05)
    assert found[DECAY, "gap 1"].count == found[DECAY, "gap 0"].count == 1
    assert found[IDENTITY, "distance 2"].mean == pytest.approx(1.0, abs=1e-3)


def test_a_stranger_and_a_missing_shot_lower_the_count(episodes: Path) -> None:
    found = measured(episodes, EYES, shot(RED, BLUE), NotMeasured(reason="gone"), shot(RED, BLUE))
    shares = [100 * np.exp(-1), 100 * np.exp(-1), 100.0]
    assert found[OCCM, "all"].mean == pytest.approx(np.mean(shares), abs=1e-3)


def test_who_is_found_once_is_compared_with_nobody(episodes: Path) -> None:
    found = measured(episodes, EYES, shot(RED), shot(), shot())
    assert found[CONSISTENCY, "all"].unmeasured == {"nobody was found in two shots": 1}
    assert found[OWN, "all"].mean is None
    assert found[CROSS, "all"].count == 1


def test_a_wrong_look_is_not_taken_for_the_cast(episodes: Path) -> None:
    eyes = Eyes(grounder=Squares(), text=Opposite(), crops=Colours())
    assert measured(episodes, eyes, shot(RED), shot(BLUE), shot(RED, BLUE))[CONSISTENCY, "all"].mean is None


class Opposite(Colours):
    """Texts that mean no picture."""

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        return np.tile([0.0, -1.0, 0.0], (len(texts), 1))


def test_without_weights_nothing_is_measured_and_the_first_missing_one_is_named(episodes: Path) -> None:
    eyes = Eyes(grounder=open_grounder(Weights()), text=Colours(), crops=Colours())
    found = measured(episodes, eyes, shot(RED), shot(BLUE), shot(RED, BLUE))
    assert found[OCCM, "all"].unmeasured == {"missing weights grounding_dino: no folder of weights was named": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "list of episodes"),
        ("- {name: x, cast: {a: b}, shots: [{prompt: p, shows: [a]}]}", "one shot"),
        ("- {name: x, cast: {a: b}, shots: [{prompt: p, shows: [z]}, {prompt: p, shows: [a]}]}", "z: not in its cast"),
        ("- {name: x, shots: 3}", "expected name, cast and shots"),
        ("- {name: x, cast: {a: b}, references: {a: [n.png]}, shots: []}", "no such picture"),
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
