"""Training on sets of shots (Mask2DiT), and making its data out of long videos, from Python."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from agents.errors import UsageError
from agents.order import size_of
from generators.training.config import Machine, Precision, Schedule
from generators.training.scenes_config import SCENES_FOLDER, Lora, NoiseLevels, ScenesTraining, Stage

if TYPE_CHECKING:
    from generators.attention_groups import SceneMask
    from generators.training.loop import OnTrainingProgress, TrainingOutcome
    from generators.training.preparing.pairs import Embedder
    from generators.training.preparing.prepare import Captioner, OnPreparing, Prepared
    from generators.training.scenes_data import SetSource

BUNDLED: dict[str, Any] = {"learning_rate": 2e-4, "noise": NoiseLevels(mean=0.3), "guidance": 3.0, "clip_norm": 1.0}
"""What differs from the paper's settings for the bundled model, which has a thousandth of the size."""
BUNDLED_TRAINING_STEPS = 2000
DATA_FOLDER = Path("training/clips")


@dataclass(frozen=True, kw_only=True)
class SceneWishes:
    """How to train; None leaves the recipe's own value."""

    model: str | None = None
    """A folder or hub id of the Wan or CogVideoX family; None means the bundled model."""
    clips: Path | None = None
    """A folder or table of captioned clips; None draws stories of the puppet world."""
    stage: Literal["1", "2", "both"] = "both"
    out: Path | None = None
    steps: int | None = None
    """Of each stage."""
    minutes: float | None = None
    shots: int = 3
    frames: int | None = None
    size: str | None = None
    stride: int = 3
    mask: SceneMask = "v2"
    sequels: float = 0.5
    full: bool = False
    rank: int = 64
    batch: int = 8
    learning_rate: float | None = None
    ema: float | None = None
    caption_dropout: float = 0.0
    pool: int | None = None
    checkpointing: bool = False
    precision: Precision = "auto"
    device: str = "cpu"
    threads: int | None = None
    sample_every: int = 500
    seed: int = 0


def train_scenes(wishes: SceneWishes, on_progress: OnTrainingProgress | None = None) -> TrainingOutcome:
    """Train one stage or both in turn, or go on; `minutes` are of both together.

    Raises UsageError for wishes that fit no training, TrainingError for files and models that do not.
    """
    source, shown = _sources(wishes)
    stages: dict[str, tuple[Stage, ...]] = {"1": (1,), "2": (2,), "both": (1, 2)}
    left = wishes.minutes
    outcome: TrainingOutcome | None = None
    for stage in stages[wishes.stage]:
        if outcome is not None and left is not None:
            left -= outcome.seconds / 60
            if left <= 0:
                return replace(outcome, reason="minutes")
        config = _config(wishes, stage, left)
        from generators.training.scenes import train_scenes as train

        outcome = train(config, source, shown, on_progress)
        if outcome.reason != "steps":
            break
    assert outcome is not None  # every choice has a stage
    return outcome


def prepare_scenes(
    videos: Path,
    *,
    out: Path | None = None,
    threshold: float = 27.0,
    shortest: int = 15,
    encoder: Path | None = None,
    least_similar: float = 0.8,
    captions: str | None = None,
    environment: Mapping[str, str] | None = None,
    on_progress: OnPreparing | None = None,
) -> Prepared:
    """Find the shots of long videos, keep runs that look alike, write captions; goes on where it stopped.

    `encoder` is a local folder of a CLIP, DINOv2 or ViT model; `captions` a profile whose critic's model writes them,
    with its key from `environment`. Raises UsageError, TrainingError, MediaError or a ModelError.
    """
    from generators.training.preparing.cuts import CutSettings
    from generators.training.preparing.prepare import Preparation, prepare

    try:
        settings = Preparation(cuts=CutSettings(threshold=threshold, shortest=shortest), least_similar=least_similar)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if not videos.is_dir():
        raise UsageError(f"train scenes-data: expected a folder of videos, got {videos}")
    embedder = None if encoder is None else _encoder(encoder)
    with _captioner(captions, environment or {}) as captioner:
        return prepare(videos, out or DATA_FOLDER, settings, embedder, captioner, on_progress)


def _config(wishes: SceneWishes, stage: Stage, minutes: float | None) -> ScenesTraining:
    from generators.backends import bundled_folder

    recipe = dict(BUNDLED) if wishes.model is None else {}
    if wishes.learning_rate is not None:
        recipe["learning_rate"] = wishes.learning_rate
    usual = BUNDLED_TRAINING_STEPS if wishes.model is None else 10_000
    try:
        return ScenesTraining(
            model=str(bundled_folder()) if wishes.model is None else wishes.model,
            out=wishes.out or SCENES_FOLDER,
            stage=stage,
            seed=wishes.seed,
            shots=wishes.shots,
            mask=wishes.mask,
            sequels=wishes.sequels,
            lora=None if wishes.full else Lora(rank=wishes.rank),
            schedule=Schedule(
                steps=usual if wishes.steps is None else wishes.steps,
                minutes=minutes,
                warmup=100,
                sample_every=wishes.sample_every,
            ),
            machine=Machine(device=wishes.device, precision=wishes.precision, threads=wishes.threads),
            batch=wishes.batch,
            ema=wishes.ema,
            caption_dropout=wishes.caption_dropout,
            pool=wishes.pool,
            checkpointing=wishes.checkpointing,
            **recipe,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def _sources(wishes: SceneWishes) -> tuple[SetSource, SetSource]:
    """Where sets come from, and where those of the contact sheets do."""
    from generators.training.preparing.footage import read_rows
    from generators.training.scenes_data import FootageSets, Framing, WorldStories
    from generators.world.words import HEIGHT, SHORT, WIDTH

    size = size_of(wishes.size)
    if wishes.clips is None:
        if size not in (None, (WIDTH, HEIGHT)):
            raise UsageError(
                f"size: the puppet world's clips are {WIDTH}x{HEIGHT}, got {wishes.size}; name your own clips"
            )
        world = WorldStories(frames=wishes.frames or SHORT)
        return world, replace(world, split="heldout")
    if wishes.frames is None or size is None:
        raise UsageError(
            "Clips of your own are cut to the length and size that the model films: name --frames and --size, such as "
            "49 and 720x480 for CogVideoX, 81 and 832x480 for Wan"
        )
    try:
        framing = Framing(frames=wishes.frames, width=size[0], height=size[1], stride=wishes.stride)
    except ValueError as error:
        raise UsageError(str(error)) from error
    footage = FootageSets(read_rows(wishes.clips), framing)
    return footage, footage


def _encoder(folder: Path) -> Embedder:
    from evals.metrics.embedders import Clip, VisionTransformer

    kinds: dict[str, Callable[[str, str], Embedder]] = {
        "clip": Clip,
        "dinov2": VisionTransformer,
        "vit": VisionTransformer,
    }
    try:
        kind = str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"])
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"--encoder: expected a folder with a model's config.json, got {folder}: {error}") from error
    if kind not in kinds:
        raise UsageError(f"--encoder: {folder} is a {kind}; expected one of {', '.join(kinds)}")
    return kinds[kind](folder.name, str(folder))


@contextmanager
def _captioner(profile: str | None, environment: Mapping[str, str]) -> Iterator[Captioner | None]:
    if profile is None:
        yield None
        return
    from agents.captioner import ModelCaptioner
    from agents.casting import profile_for
    from agents.minds import Minds
    from agents.order import Order
    from agents.profile import MINDS

    chosen = profile_for(Order(story=""), profile, None)
    if chosen.critic.kind not in MINDS:
        raise UsageError(f"--captions: expected a profile whose critic asks a vision model, got {profile}")
    minds = Minds(chosen, environment)
    with closing(ModelCaptioner(minds.of("critic"), minds.close)) as captioner:
        yield captioner
