"""FVD, KVD and interval overlap against real videos, with encoders of the right architecture at tiny size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from evals.benchmarks.distance import DistanceSettings, VideoDistance
from evals.benchmarks.protocol import Film
from evals.footage import FolderFootage
from evals.metrics.consistency import Vectors
from evals.metrics.curves import interval_counts, overlap, shared_area, similarity
from evals.metrics.embedders import Weights
from evals.metrics.frechet import frechet, kernel
from evals.metrics.score import NotMeasured, Summary
from evals.metrics.video_embedders import DreamSim, VideoEmbedder, VideoMae, open_dreamsim, open_video
from evals.suite import finish, run
from generators.clip import Frames
from generators.video import write_take

Cli = Callable[..., Any]


class Colour:
    """A clip encoder and a frame encoder: mean colours."""

    name = "colour"

    def embed_clip(self, frames: Frames) -> NDArray[np.float64]:
        return np.asarray(frames.reshape(-1, 3).mean(0), np.float64)

    def embed(self, frames: Frames) -> Vectors:
        return np.asarray(frames.reshape(len(frames), -1, 3).mean(1) + np.array([1.0, 2.0, 4.0]))


def clip(seed: int, shift: float = 0.0) -> Frames:
    rng = np.random.default_rng(seed)
    base = rng.integers(20, 160, 3) + shift
    walk = base + rng.normal(0, 12, (17, 3)).cumsum(0)
    frames: Frames = np.broadcast_to(walk[:, None, None], (17, 32, 48, 3)).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(frames)


def folder_of(path: Path, count: int, shift: float = 0.0, first: int = 0) -> Path:
    path.mkdir()
    for number in range(count):
        write_take(path / f"{number:04d}.mp4", clip(first + number, shift), 8)
    return path


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("films") / "real", 4)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("a\nb\nc\nd\n")
    return path


def measured(prompts: Path, real: Path, films: Path, out: Path) -> dict[str, Summary]:
    settings = DistanceSettings(prompts=prompts, real=real)
    clips: dict[str, VideoEmbedder | NotMeasured] = {"colour": Colour(), "i3d_k400": open_video(Weights(), "i3d_k400")}
    benchmark = VideoDistance(settings, clips, {"colour": Colour()})
    lines = finish(run(benchmark, FolderFootage(folder=films, name=films.name), out)).lines
    return {line.summary.metric: line.summary for line in lines}


def test_films_that_are_the_real_videos_have_no_distance_and_full_overlap(
    prompts: Path, real: Path, tmp_path: Path
) -> None:
    found = measured(prompts, real, real, tmp_path / "out")
    assert found["FVD (colour)"].mean == pytest.approx(0.0, abs=1e-6)
    assert found["overlap with real videos at interval 1 (colour)"].mean == pytest.approx(1.0)
    assert found["similarity slope over intervals (colour)"].count == 4
    assert "4 real videos" in found["FVD (colour)"].note
    assert "4 videos are fewer than 5 x 3 features" in found["FVD (colour)"].note
    assert "TorchScript" in str(found["KVD (i3d_k400)"])


def test_other_films_are_as_far_as_their_features_say(prompts: Path, real: Path, tmp_path: Path) -> None:
    films = folder_of(tmp_path / "made", 4, shift=60.0, first=100)
    found = measured(prompts, real, films, tmp_path / "out")
    eye = Colour()
    from generators.video import read_take

    a, b = (np.stack([eye.embed_clip(read_take(p)[0]) for p in sorted(f.glob("*.mp4"))]) for f in (real, films))
    assert found["FVD (colour)"].mean == pytest.approx(frechet(a, b).value)
    assert found["KVD (colour)"].mean == pytest.approx(kernel(a, b).value)
    assert found["FVD (colour)"].error is None
    assert found["FVD (colour)"].low is None


def test_one_film_is_no_crowd(prompts: Path, real: Path, tmp_path: Path) -> None:
    films = folder_of(tmp_path / "made", 1)
    found = measured(prompts, real, films, tmp_path / "out")
    assert found["FVD (colour)"].unmeasured == {"a distance needs at least two films": 1}
    assert sum(found["similarity slope over intervals (colour)"].unmeasured.values()) == 3


def test_two_real_videos_are_needed(prompts: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least two real videos, got 1"):
        VideoDistance(DistanceSettings(prompts=prompts, real=folder_of(tmp_path / "one", 1)), {}, {})


def test_counts_pooled_over_clips_give_the_overlap_of_the_clips() -> None:
    a, b = ([similarity(Colour().embed(clip(seed, shift))) for seed in range(3)] for shift in (0.0, 40.0))
    assert shared_area(interval_counts(a, 2), interval_counts(b, 2)) == pytest.approx(overlap(a, b, 2))


def test_a_video_encoder_sees_sixteen_frames_and_gives_the_mean_token(tmp_path: Path) -> None:
    import torch
    from transformers import VideoMAEConfig, VideoMAEModel

    config = VideoMAEConfig(
        image_size=32, patch_size=16, num_frames=16, tubelet_size=2, hidden_size=16, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=16,
    )  # fmt: skip
    torch.manual_seed(0)
    VideoMAEModel(config).save_pretrained(tmp_path / "videomae_ssv2")
    eye = open_video(Weights(folder=tmp_path), "videomae_ssv2")
    assert isinstance(eye, VideoMae)
    vector = eye.embed_clip(clip(1))
    assert vector.shape == (16,)
    assert np.array_equal(vector, eye.embed_clip(clip(1)))
    assert not np.allclose(vector, eye.embed_clip(clip(2)))
    assert eye.embed_clip(clip(1)[:3]).shape == (16,)


def test_dreamsim_joins_three_encoders_and_is_absent_without_one_of_them(tmp_path: Path) -> None:
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModel, ViTConfig, ViTModel

    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    ViTModel(ViTConfig(**small, image_size=32, patch_size=16)).save_pretrained(tmp_path / "dreamsim" / "dino_vitb16")
    vision = CLIPVisionConfig(**small, image_size=32, patch_size=16)
    CLIPVisionModel(vision).save_pretrained(tmp_path / "dreamsim" / "clip_vitb16")
    lacking = open_dreamsim(Weights(folder=tmp_path))
    assert isinstance(lacking, NotMeasured)
    assert "missing weights dreamsim/open_clip_vitb16" in lacking.reason
    CLIPVisionModel(vision).save_pretrained(tmp_path / "dreamsim" / "open_clip_vitb16")
    eye = open_dreamsim(Weights(folder=tmp_path))
    assert isinstance(eye, DreamSim)
    found = eye.embed(clip(0)[:2])
    assert found.shape == (2, 48)
    assert np.linalg.norm(found.reshape(2, 3, 16), axis=-1) == pytest.approx(np.ones((2, 3)))


def test_the_command_measures_nothing_without_weights_and_says_which(cli: Cli, prompts: Path, real: Path) -> None:
    done = cli("eval", "distance", prompts, "--clips", real, "--real", real, "--out", real.parent / "results")
    assert done.code == 0, done.err
    assert "missing weights videomae_ssv2" in " ".join(done.out.split())
    lacking = cli("eval", "distance", prompts, "--clips", real)
    assert lacking.code == 2
    assert "a folder of real videos" in lacking.err


def test_the_judgement_of_a_missing_film_says_so(prompts: Path, real: Path) -> None:
    benchmark = VideoDistance(DistanceSettings(prompts=prompts, real=real), {}, {"colour": Colour()})
    gone = NotMeasured(reason="gone")
    judged = benchmark.judge(benchmark.units()[0], [gone])
    assert list(judged.outcomes.values()) == [gone]
    still = benchmark.judge(benchmark.units()[0], [Film(frames=clip(0)[:1], fps=8)])
    assert list(still.outcomes.values()) == [NotMeasured(reason="the clip has one frame")]
