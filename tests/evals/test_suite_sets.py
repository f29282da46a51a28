"""Sets of shots under the suite: held against each other, against themselves, over scenes and distances."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from evals.benchmarks.protocol import ALL, Film, as_json
from evals.benchmarks.shot_sets import ShotSets, ShotSetsSettings, shot_distances
from evals.metrics.consistency import Vectors
from evals.metrics.embedders import Weights
from evals.metrics.score import NotMeasured, Score
from evals.suite import finish, run
from generators.clip import Frames
from tests.evals.test_suite import MeanColour, Strips, by_name, set_list


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    return set_list(tmp_path)


def test_shots_of_a_set_are_held_against_each_other(sets: Path, tmp_path: Path) -> None:
    bench = ShotSets(
        ShotSetsSettings(sets=sets, encoder="mean colour"),
        MeanColour(),
        NotMeasured(reason="missing weights clip_vitb32"),
    )
    lines = finish(run(bench, Strips(), tmp_path / "out")).lines
    found = by_name(lines)
    assert found[bench.consistency].mean == pytest.approx(100, abs=0.5)
    assert found["text alignment (clip_vitb32)"].mean is None
    assert found["dynamic degree (dis)"].count == 1
    assert [line.group for line in lines if line.group != ALL] == ["distance 1", "distance 2"]


def test_a_set_with_a_missing_shot_has_no_number_at_all(sets: Path) -> None:
    none = NotMeasured(reason="x")
    bench = ShotSets(ShotSetsSettings(sets=sets, encoder="mean colour"), MeanColour(), none, Spots(), Scenes())
    unit = bench.units()[0]
    film = Film(frames=np.zeros((9, 24, 32, 3), np.uint8), fps=8)
    found = bench.judge(unit, [film, NotMeasured(reason="no video"), film]).outcomes
    assert len(found) == 9
    assert set(found.values()) == {NotMeasured(reason="a shot of the set is missing")}


class Spots:
    """Heat maps: hot where a frame is red, and a little elsewhere; nothing is hot in a frame without red."""

    name = "spots"
    asked: Sequence[str] = ()

    def heat(self, frames: Frames, subject: str) -> np.ndarray:
        self.asked = (*self.asked, subject)
        return np.where(frames[..., 0] > 200, 0.9, 0.1)


class Scenes:
    """Sees a scene as its first three pixels, and a prompt by the number of its words."""

    name = "scenes"
    lengths: Sequence[int] = ()

    def embed_clip(self, frames: Frames) -> np.ndarray:
        self.lengths = (*self.lengths, len(frames))
        return frames[0, 0, :3, 0].astype(np.float64) + 1

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        return np.array([[len(text.split()), 1.0, 0.0] for text in texts])


def spotted(corner: int, around: int) -> Film:
    """A red square with a green stripe in it, somewhere on a grey of its own."""
    frames = np.full((9, 40, 60, 3), around, np.uint8)
    frames[:, corner : corner + 10, corner : corner + 10] = (255, 0, 0)
    frames[:, corner : corner + 3, corner : corner + 10] = (255, 255, 0)
    return Film(frames=frames, fps=8)


def test_the_subject_is_held_against_itself_without_what_is_around_it(sets: Path) -> None:
    maps, none = Spots(), NotMeasured(reason="x")
    bench = ShotSets(ShotSetsSettings(sets=sets, encoder="mean colour"), MeanColour(), none, maps)
    unit = bench.units()[0]
    found = bench.judge(unit, [spotted(2, 20), spotted(11, 120), spotted(25, 180)])
    subject, whole = (found.outcomes[name] for name in (bench.of_subject, bench.consistency))
    assert isinstance(subject, Score)
    assert isinstance(whole, Score)
    assert subject.value == pytest.approx(100, abs=1e-6)  # the same crop on the same grey, wherever it stood
    assert whole.value < 99.9
    assert maps.asked == ("a red fox",) * 3
    assert found.facts["distances"]["subject"] == {"1": pytest.approx(100), "2": pytest.approx(100)}
    lost = bench.judge(unit, [spotted(2, 20), Film(frames=np.zeros((9, 40, 60, 3), np.uint8), fps=8), spotted(2, 20)])
    assert lost.outcomes[bench.of_subject] == NotMeasured(reason="the subject was found in no frame of a shot")
    assert isinstance(lost.outcomes[bench.consistency], Score)
    blind = ShotSets(ShotSetsSettings(sets=sets, encoder="mean colour"), MeanColour(), none)
    assert isinstance(blind.judge(unit, [spotted(2, 20)] * 3).outcomes[blind.of_subject], NotMeasured)


def test_mask2dits_consistency_is_over_scenes_and_their_own_prompts(sets: Path) -> None:
    scenes = Scenes()
    bench = ShotSets(ShotSetsSettings(sets=sets, encoder="x"), NotMeasured(reason="x"), NotMeasured(reason="x"),
                     scenes=scenes)  # fmt: skip
    unit = bench.units()[0]
    films = [Film(frames=np.random.default_rng(i).integers(0, 256, (12, 24, 32, 3), dtype=np.uint8), fps=8)
             for i in range(3)]  # fmt: skip
    found = bench.judge(unit, films).outcomes
    seen = [film.frames[0, 0, :3, 0] + 1.0 for film in films]
    asked = [np.array([len(case.prompt.split()), 1.0, 0.0]) for case in unit.cases]

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    visual = 100 * np.mean([cosine(seen[i], seen[j]) for i, j in ((0, 1), (0, 2), (1, 2))])
    beside = 100 * np.mean([cosine(seen[i], seen[i + 1]) for i in range(2)])
    semantic = 100 * np.mean([cosine(a, b) for a, b in zip(seen, asked, strict=True)])
    expected = (visual, beside, semantic, (visual + semantic) / 2)
    assert [as_json(found[name])["value"] for name in bench.sequence] == pytest.approx(expected)
    assert scenes.lengths == (8, 8, 8)
    published = ShotSets.with_weights(ShotSetsSettings(sets=sets), Weights())
    missing = published.judge(unit, films).outcomes["Mask2DiT sequence consistency (viclip)"]
    assert isinstance(missing, NotMeasured)
    assert missing.reason.startswith("missing weights viclip")


def test_shot_distances_are_means_over_all_pairs_of_frames() -> None:
    shots = [np.random.default_rng(i).normal(size=(3, 4)) for i in range(3)]
    slow: dict[str, list[float]] = {}
    for i in range(3):
        for j in range(i + 1, 3):
            cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a in shots[i] for b in shots[j]]
            slow.setdefault(str(j - i), []).append(100 * float(np.mean(cosines)))
    assert shot_distances(shots) == {d: pytest.approx(np.mean(v)) for d, v in slow.items()}
