"""FVD, KVD and interval overlap against real videos, with encoders of the right architecture at tiny size."""

from __future__ import annotations

import shutil
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
from evals.metrics.curves import interval_counts, mean_matrix, overlap, shared_area, similarity
from evals.metrics.embedders import Weights
from evals.metrics.frechet import frechet, kernel
from evals.metrics.score import NotMeasured, Summary
from evals.metrics.video_embedders import DreamSim, VideoEmbedder, VideoMae, open_dreamsim, open_video
from evals.report import page_of, scaled_matrices
from evals.results import Method
from evals.rows import ROWS, read_rows
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


def looked_at(folder: Path) -> list[NDArray[np.float64]]:
    """Similarity matrices of the videos of a folder, pair by pair."""
    from generators.video import read_take

    found = []
    for path in sorted(folder.glob("*.mp4")):
        seen = [one - one.mean() for one in Colour().embed(read_take(path)[0])]
        rows = [[float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for b in seen] for a in seen]
        found.append(np.array(rows))
    return found


@pytest.mark.slow
def test_the_curve_of_similarity_its_band_and_its_matrix_stand_beside_the_real_ones(
    prompts: Path, real: Path, tmp_path: Path
) -> None:
    films = folder_of(tmp_path / "made", 4, shift=60.0, first=100)
    settings = DistanceSettings(prompts=prompts, real=real)
    benchmark = VideoDistance(settings, {}, {"colour": Colour()})
    result = finish(run(benchmark, FolderFootage(folder=films, name="made"), tmp_path / "out"))
    lines = {(line.summary.metric, line.group): line.summary for line in result.lines}
    theirs, ours = looked_at(real), looked_at(films)
    for metric, matrices in (("similarity of frames", ours), ("similarity of frames of real videos", theirs)):
        for d in (1, 2, 4, 8, 16):  # films of 17 frames
            slow = np.mean([m[i, i + d] for m in matrices for i in range(17 - d)])
            assert lines[f"{metric} (colour)", f"interval {d}"].mean == pytest.approx(slow, abs=1e-6)
        assert (f"{metric} (colour)", "interval 32") not in lines
    apart = np.abs(np.subtract.outer(np.arange(17), np.arange(17)))
    bands = [m[apart <= 2].mean() - m[apart >= 8.5].mean() for m in ours]
    assert lines["similarity near minus far (colour)", "all"].mean == pytest.approx(np.mean(bands), abs=1e-6)
    root = np.sqrt(np.mean((mean_matrix(theirs) - mean_matrix(ours)) ** 2))
    away = lines["similarity of frames away from real videos (RMS) (colour)", "all"]
    assert away.mean == pytest.approx(root, abs=1e-4)  # rows keep four digits
    assert root > 1e-3
    (part,) = page_of(tmp_path / "out").parts
    captions = [picture.caption for picture in part.pictures]
    assert "similarity of frames (colour) over interval" in captions
    assert any(caption.startswith("Similarity of all pairs of frames (colour)") for caption in captions)
    kept = read_rows(result.folder / ROWS)[0]["facts"]["matrices"]["colour"]
    np.testing.assert_allclose(kept["real"], mean_matrix(theirs), atol=1e-4)


def test_matrices_are_drawn_on_one_scale_for_all_methods(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def method(name: str, *films: list[list[float]]) -> Method:
        facts = [{"matrices": {"colour": {"film": film, "real": [[1.0, 0.5], [0.5, 1.0]]}}} for film in films]
        rows = tuple({"facts": one} for one in facts)
        return Method(name=name, folder=tmp_path, manifest={}, lines=(), rows=rows)

    both = [
        method("still", [[1.0, 1.0], [1.0, 1.0]]), method("wild", [[1.0, -0.2], [-0.2, 1.0]], [[1.0, 0.2], [0.2, 1.0]])
    ]  # fmt: skip
    monkeypatch.setattr("evals.metrics.curves.SIDE", 2)
    panels = scaled_matrices(both)["colour"]
    assert list(panels) == ["real videos", "still", "wild"]
    np.testing.assert_allclose(panels["real videos"], [[1, 0.5], [0.5, 1]])  # 0 (the mean of ±.2) to 1 is the scale
    np.testing.assert_allclose(panels["still"], np.ones((2, 2)))
    np.testing.assert_allclose(panels["wild"], np.eye(2), atol=1e-12)


def test_the_name_says_on_how_many_axes_the_distance_was_taken(prompts: Path, real: Path, tmp_path: Path) -> None:
    found = measured(prompts, real, real, tmp_path / "out")
    assert "FVD (colour, 3 axes)" in found  # 4 real videos of 3 features
    assert "FVD (i3d_k400, 3 axes)" in found  # as many as 4 real videos would have
    assert not any("64 axes" in name for name in found)

    class Two(Colour):
        def embed_clip(self, frames: Frames) -> NDArray[np.float64]:
            return super().embed_clip(frames)[:2]

    bench = VideoDistance(DistanceSettings(prompts=prompts, real=real), {"two": Two()}, {})
    lines = finish(run(bench, FolderFootage(folder=real, name="real"), tmp_path / "two")).lines
    assert "FVD (two, 2 axes)" in {line.summary.metric for line in lines}


def test_one_film_is_no_crowd(prompts: Path, real: Path, tmp_path: Path) -> None:
    films = folder_of(tmp_path / "made", 1)
    found = measured(prompts, real, films, tmp_path / "out")
    assert found["FVD (colour)"].unmeasured == {"a distance needs at least two films": 1, "no video": 3}
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


SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture
def ensemble(tmp_path: Path) -> Weights:
    """Random parts of DreamSim: a ViT, a whole CLIP, and the picture half of one with its projection."""
    import torch
    from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection, ViTConfig, ViTModel

    torch.manual_seed(0)
    folder, picture = tmp_path / "weights" / "dreamsim", {"image_size": 32, "patch_size": 16}
    ViTModel(ViTConfig(**SMALL, **picture)).save_pretrained(folder / "dino_vitb16")
    text = {**SMALL, "vocab_size": 8, "max_position_embeddings": 6, "bos_token_id": 1, "eos_token_id": 2}
    whole = CLIPConfig(text_config=text, vision_config={**SMALL, **picture}, projection_dim=8)
    CLIPModel(whole).save_pretrained(folder / "clip_vitb16")
    half = CLIPVisionModelWithProjection(CLIPVisionConfig(**SMALL, **picture, projection_dim=4))
    half.save_pretrained(folder / "open_clip_vitb16")
    return Weights(folder=tmp_path / "weights")


def slow_dreamsim(folder: Path, frame: Frames) -> NDArray[np.float64]:
    """One frame through the three networks, block by block where the package hooks one."""
    import torch
    from PIL import Image
    from transformers import CLIPModel, CLIPVisionModelWithProjection, ViTModel

    small = np.asarray(Image.fromarray(frame).resize((32, 32), Image.Resampling.BICUBIC))

    def shown(mean: list[float], deviation: list[float]) -> torch.Tensor:
        scaled = (small / 255.0 - np.array(mean)) / np.array(deviation)
        return torch.tensor(scaled.transpose(2, 0, 1)[None], dtype=torch.float32)

    dino = ViTModel.from_pretrained(folder / "dino_vitb16").eval()
    whole = CLIPModel.from_pretrained(folder / "clip_vitb16").eval()
    half = CLIPVisionModelWithProjection.from_pretrained(folder / "open_clip_vitb16").eval()
    with torch.no_grad():
        tokens = dino.embeddings(shown([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        for block in dino.layers:
            tokens = block(tokens)
        parts = [tokens[0, 0]]
        pixels = shown([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
        for clip_model in (whole, half):
            pooled = clip_model.vision_model(pixels).pooler_output
            parts.append(clip_model.visual_projection.weight @ pooled[0])
    return np.concatenate([np.asarray(part.double().numpy()) for part in parts])


def test_dreamsim_is_one_minus_the_cosine_of_centred_vectors_joined_as_they_are(ensemble: Weights) -> None:
    eye = open_dreamsim(ensemble)
    assert isinstance(eye, DreamSim)
    assert ensemble.folder is not None
    frames = np.random.default_rng(0).integers(0, 256, (3, 40, 72, 3), dtype=np.uint8)
    slow = [slow_dreamsim(ensemble.folder / "dreamsim", frame) for frame in frames]
    found = eye.embed(frames)
    np.testing.assert_allclose(found, slow, atol=1e-4)
    assert found.shape == (3, 16 + 8 + 4)

    def distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        a, b = a - a.mean(), b - b.mean()
        return 1 - float(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))

    expected = [[1 - distance(a, b) for b in slow] for a in slow]
    np.testing.assert_allclose(similarity(found), expected, atol=1e-4)


def test_dreamsim_is_absent_without_one_of_its_parts(ensemble: Weights) -> None:
    assert ensemble.folder is not None
    shutil.rmtree(ensemble.folder / "dreamsim" / "open_clip_vitb16")
    lacking = open_dreamsim(ensemble)
    assert isinstance(lacking, NotMeasured)
    assert "missing weights dreamsim/open_clip_vitb16" in lacking.reason


def test_a_part_of_dreamsim_without_its_projection_or_of_another_kind_is_refused(ensemble: Weights) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    assert ensemble.folder is not None
    folder = ensemble.folder / "dreamsim"
    bare = CLIPVisionModel(CLIPVisionConfig(**SMALL, image_size=32, patch_size=16))
    shutil.rmtree(folder / "clip_vitb16")
    bare.save_pretrained(folder / "clip_vitb16")
    refused = open_dreamsim(ensemble)
    assert isinstance(refused, NotMeasured)
    assert refused.reason == (
        "unfit weights dreamsim/clip_vitb16: expected a CLIP with its projection, got ['CLIPVisionModel']"
    )
    shutil.rmtree(folder / "dino_vitb16")
    shutil.copytree(folder / "clip_vitb16", folder / "dino_vitb16")
    other = open_dreamsim(ensemble)
    assert isinstance(other, NotMeasured)
    assert "dreamsim/dino_vitb16: expected a ViT" in other.reason


def test_parts_of_dreamsim_may_be_in_places_of_their_own(ensemble: Weights, tmp_path: Path) -> None:
    assert ensemble.folder is not None
    places = {f"dreamsim/{part}": str(ensemble.folder / "dreamsim" / part) for part in DreamSim.PARTS}
    shutil.copytree(places["dreamsim/dino_vitb16"], tmp_path / "moved")
    folder, named = open_dreamsim(ensemble), open_dreamsim(Weights(places=places))
    mixed = open_dreamsim(Weights(folder=ensemble.folder, places={"dreamsim/dino_vitb16": str(tmp_path / "moved")}))
    assert isinstance(folder, DreamSim)
    assert isinstance(named, DreamSim)
    assert isinstance(mixed, DreamSim)
    assert folder.name == named.name == mixed.name


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
    assert list(judged.outcomes.values()) == [gone, gone]
    still = benchmark.judge(benchmark.units()[0], [Film(frames=clip(0)[:1], fps=8)])
    assert list(still.outcomes.values()) == [NotMeasured(reason="the clip has too few frames")] * 2
