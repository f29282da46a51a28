"""Training on sets of shots, Mask2DiT's two stages, for every family that films sets (Wan, CogVideoX).

A set goes through the network exactly as it is filmed: the family's own attention by shots, positions and times are put
on for the pass and its way back. Stage 1 noises all shots of a set of strangers; stage 2 takes consecutive shots and
noises, in a share of the sets, the last shot alone, the others clean at time 0 (Eq. 2 and 3 of the paper).

    loss = mean over the noised shots of (prediction - target)^2

Step i of a stage is a function of the state after step i - 1 and of (seed, stage, i), whatever the number of processes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from generators.clip import Given, ShotRequest
from generators.controls.base import attached
from generators.digests import weights_digest
from generators.errors import TrainingError
from generators.models.base import Branch, Layout, VideoModel, video_as_frames
from generators.models.loading import FAMILIES, class_of, open_model
from generators.models.scenes import FilmsSets, SceneModel, SceneSettings
from generators.sampler import Settings
from generators.scenes import sample_sets
from generators.training.checkpoint import RunFolder, State, read_checkpoint, require_same
from generators.training.loop import Losses, OnTrainingProgress, TrainingOutcome, autocast, fast_dtype, run
from generators.training.pictures import draw_sheet
from generators.training.processes import Processes
from generators.training.scenes_config import ScenesTraining
from generators.training.scenes_data import DrawnSet, SetSource
from generators.training.scenes_noise import Lesson, lesson_of, loss_of, objective_of
from generators.training.scenes_weights import Learning, learnt_digest

log = logging.getLogger(__name__)

LEARNT = "learnt"
"""Folder, in a stage's own, of what stock diffusers loads."""
FIRST = "first stage"
"""Setting of stage 2: step and digest of the stage 1 it began from, None where there was none."""
NEWER = (
    *("batch", "learning_rate", "betas", "epsilon", "weight_decay", "clip_norm", "warmup", "ema_decay", "noise"),
    *("caption_dropout", "pool"),
)
"""Settings that the first checkpoints of this training did not tell."""
FREE = ("model", "out", "ema", "schedule", "machine", "checkpointing", "sample_steps", "guidance")
"""Settings that may change when a training goes on, or are told in other words."""


@dataclass(frozen=True, kw_only=True)
class EncodedSet:
    """Clean latents (1, C, F of all shots, h, w) of a set, on the CPU, and what tells it."""

    clean: Tensor
    layouts: tuple[Layout, ...]
    captions: tuple[str, ...]


class ScenesTrainee:
    """The transformers of a pipeline, what of them learns, and where their sets come from."""

    def __init__(
        self, config: ScenesTraining, model: VideoModel, source: SetSource, shown: SetSource, processes: Processes
    ) -> None:
        self.config, self.source, self.shown_source, self.processes = config, source, shown, processes
        self.model = _filming_sets(model)
        self.learning = Learning(self.model.pipe, config.lora, ema=config.ema, seed=config.seed)
        self.objective = objective_of(self.model.pipe.scheduler, config.noise)
        self.clips_per_step = config.batch * config.shots
        self.optimiser = torch.optim.AdamW(
            self.learning.parameters,
            lr=config.learning_rate,
            betas=config.betas,
            eps=config.epsilon,
            weight_decay=config.weight_decay,
        )
        for network in self.learning.networks:
            network.train()
            if config.checkpointing:
                network.enable_gradient_checkpointing()
        self._pool: dict[int, EncodedSet] = {}
        self._sets: dict[tuple[Layout, ...], SceneModel] = {}

    def step(self, index: int, rate: float) -> Losses:
        """One step on the sets of `index`; everything random comes from (seed, stage, index, number of the set)."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * rate
        self.optimiser.zero_grad(set_to_none=True)
        sums = torch.zeros(2, 2)  # loss and number, of sets noised whole and of sequels
        for number in self.processes.share(range(self.config.batch)):
            rng = np.random.default_rng([self.config.seed, self.config.stage, index, number])
            loss, sequel = self._learn(rng)
            sums[int(sequel)] += torch.tensor([loss, 1.0])
        self.processes.sum_gradients(self.learning.parameters)
        size = torch.nn.utils.clip_grad_norm_(self.learning.parameters, self.config.clip_norm)
        self.optimiser.step()
        self.learning.follow(index)
        sums = self.processes.total(sums).cpu()
        kinds = zip(("whole", "sequel"), sums.tolist(), strict=True)
        means = {name: total / count for name, (total, count) in kinds if count}
        return {"loss": float(sums[:, 0].sum() / self.config.batch), "gradient": float(size), **means}

    def _learn(self, rng: np.random.Generator) -> tuple[float, bool]:
        """Add one set's gradients; gives its loss, and whether it was a sequel."""
        config = self.config
        sequel = config.stage == 2 and bool(rng.random() < config.sequels)
        encoded = self._encoded(rng)
        told = ["" if rng.random() < config.caption_dropout else caption for caption in encoded.captions]
        of_sets = self._of_sets(encoded.layouts)
        clean = encoded.clean.to(self.model.device)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        lesson = lesson_of(clean, of_sets.layouts, self.objective, generator, sequel=sequel)
        with attached(of_sets, [()]):  # until the way back is done: checkpointed blocks are computed again there
            loss = self._loss(of_sets, told, lesson)
            (loss / config.batch).backward()
        return float(loss.detach()), sequel

    def _loss(self, of_sets: SceneModel, told: Sequence[str], lesson: Lesson) -> Tensor:
        with torch.no_grad():
            text = of_sets.encode(told, None)
        with autocast(self.config.machine):
            predicted = of_sets.predict(lesson.shown, lesson.time, text, (Branch.COND,), lesson.start)
        return loss_of(predicted, lesson)

    def _encoded(self, rng: np.random.Generator) -> EncodedSet:
        """A new set, or one of the pool, which is encoded once."""
        if self.config.pool is None:
            return self._draw(rng)
        number = int(rng.integers(self.config.pool))
        if number not in self._pool:
            own = np.random.default_rng([self.config.seed, self.config.stage, 2**31, number])
            self._pool[number] = self._draw(own)
        return self._pool[number]

    @torch.no_grad()
    def _draw(self, rng: np.random.Generator) -> EncodedSet:
        drawn = self.source.draw(rng, shots=self.config.shots, related=self.config.stage == 2)
        requests = _requests(drawn, int(rng.integers(2**31)), given=range(len(drawn.shots)))
        layouts = tuple(self.model.layout(asked.frames, asked.height, asked.width) for asked in requests)
        of_sets = self._of_sets(layouts)
        latents = [of_sets.encode_shot(*pair).float().cpu() for pair in zip(requests, layouts, strict=True)]
        return EncodedSet(clean=torch.cat(latents, dim=2), layouts=layouts, captions=drawn.captions)

    def _of_sets(self, layouts: tuple[Layout, ...]) -> SceneModel:
        if layouts not in self._sets:
            self._sets[layouts] = self.model.of_sets(layouts, SceneSettings(mask=self.config.mask, context="clean"))
        return self._sets[layouts]

    def state(self) -> State:
        """What learns, and the optimiser; the random state is a function of the step."""
        return {"learning": self.learning.state(), "optimiser": self.optimiser.state_dict()}

    def restore(self, state: State) -> None:
        """Load what `state` gave."""
        self.learning.restore(state["learning"])
        self.optimiser.load_state_dict(state["optimiser"])

    def examine(self, path: Path) -> Losses:
        """A story filmed whole, and in stage 2 its last shot filmed after the true ones before it: a row a shot."""
        if not self.processes.is_first:
            return {}
        config = self.config
        rng = np.random.default_rng([config.seed, 2**31])
        drawn = self.shown_source.draw(rng, shots=config.shots, related=config.stage == 2)
        rows = [("filmed", i) for i in range(config.shots)]
        with self.learning.averaged(), _evaluating(self.learning.networks):
            clips = self._film(drawn, given=())
            if config.stage == 2:
                clips += self._film(drawn, given=range(config.shots - 1))[-1:]
                rows.append(("after the true shots", config.shots - 1))
        told = [f"{how}: {drawn.captions[i]}" for how, i in rows]
        draw_sheet(list(zip(told, clips, strict=True)), path)
        return {}

    def _film(self, drawn: DrawnSet, given: Sequence[int]) -> list[Any]:
        asked = _requests(drawn, self.config.seed, given=given)
        settings = Settings(steps=self.config.sample_steps, guidance=self.config.guidance)
        taken = sample_sets(self.model, [asked], settings, SceneSettings(mask=self.config.mask, context="clean"))
        with torch.no_grad():
            return [video_as_frames(self.model.decode(latents))[0] for latents in taken.shots[0]]


def train_scenes(
    config: ScenesTraining,
    source: SetSource,
    shown: SetSource | None = None,
    on_progress: OnTrainingProgress | None = None,
) -> TrainingOutcome:
    """Train one stage, or go on training it, in `config.out / "stage-N"`; writes what was learnt when it ends.

    `source` draws the sets, `shown` those of the contact sheets. Stage 2 begins where stage 1 of the same folder ended,
    if there is one. Raises TrainingError for a model that films no sets, when the folder's settings differ, for a stage
    1 that is not finished, and for one that is not, or would no longer be, the one stage 2 began from.
    """
    if config.machine.threads is not None:
        torch.set_num_threads(config.machine.threads)
    processes = Processes(config.machine.device)
    config = replace(config, machine=replace(config.machine, device=str(processes.device)))
    folder = processes.folder(config.folder)
    settings = settings_of(config, source)
    first = _first_stage(config, settings) if config.stage == 2 else None
    if config.stage == 1:
        _require_unread(config)
    trainee = ScenesTrainee(config, open_trained(config), source, shown or source, processes)
    if first is not None and not folder.checkpoint.exists():
        trainee.learning.begin_from(first)
    tell = on_progress if processes.is_first else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")  # norms under autocast
        outcome = run(trainee, config.schedule, folder, settings, tell, agree=processes.agree, newer=NEWER)
    if processes.is_first:
        trainee.learning.write(config.folder / LEARNT)
    processes.agree(False)  # nobody reads this stage before it is written
    return outcome


def open_trained(config: ScenesTraining) -> VideoModel:
    """The model to train: float32, but where adapters learn on an accelerator in what it multiplies fastest."""
    accelerated = torch.device(config.machine.device).type != "cpu"
    dtype = fast_dtype(config.machine) if config.lora is not None and accelerated else torch.float32
    takes_times = "gives_tokens_at_zero" in FAMILIES[_known(config.model)].options
    options: dict[str, Any] = {"gives_tokens_at_zero": True} if takes_times else {}
    return open_model(config.model, dtype=dtype, device=config.machine.device, **options)


def settings_of(config: ScenesTraining, source: SetSource) -> dict[str, Any]:
    """What a checkpoint must have been trained with to go on."""
    folder = Path(config.model)
    told = {name: value for name, value in asdict(config).items() if name not in FREE}
    settings: dict[str, Any] = json.loads(json.dumps(told))  # as a checkpoint holds them, tuples as lists
    return settings | {
        "model": weights_digest(folder) if folder.is_dir() else config.model,
        "sequels": config.sequels if config.stage == 2 else None,
        "ema": config.ema is not None,
        "ema_decay": config.ema,
        "warmup": config.schedule.warmup,
        "source": source.name,
    }


def _first_stage(config: ScenesTraining, settings: dict[str, Any]) -> State | None:
    """What stage 1 learnt, None without one; `settings` get its step and digest.

    Raises TrainingError when it was trained otherwise, is not finished, or is not the one that stage 2 began from.
    """
    first, own = _checkpoints(config)
    state = read_checkpoint(first, mapped=True) if first.exists() else None
    learning = None if state is None else _learning(state, first)
    now = None if state is None or learning is None else {"step": state["step"], "digest": learnt_digest(learning)}
    if not own.exists():
        if state is not None:
            shared = {name: settings[name] for name in ("model", "shots", "mask", "lora")}
            require_same(state["settings"], shared, first)
            _require_finished(state, first)
        settings[FIRST] = now
        return learning
    was = read_checkpoint(own, mapped=True)["settings"]
    if FIRST not in was:
        log.warning("%s does not tell which stage 1 it began from; it goes on unchecked against %s", own, first)
        return learning
    if state is not None and was[FIRST] != now:
        raise TrainingError(
            f"{own} began from {_named(was[FIRST])}, and {first} is {_named(now)}; use another folder, or remove "
            f"{own.parent} to begin stage 2 anew"
        )
    settings[FIRST] = was[FIRST]
    return learning


def _require_unread(config: ScenesTraining) -> None:
    """Raise TrainingError when stage 1 would go on after stage 2 began from it."""
    first, second = _checkpoints(config)
    step = read_checkpoint(first, mapped=True)["step"] if first.exists() else 0
    if step >= config.schedule.steps or not second.exists():
        return
    was = read_checkpoint(second, mapped=True)["settings"]
    if FIRST in was:
        raise TrainingError(
            f"{second} began from {_named(was[FIRST])}, and stage 1 would go on from step {step} to "
            f"{config.schedule.steps}; use another folder, or remove {second.parent} to begin stage 2 anew"
        )


def _require_finished(state: State, path: Path) -> None:
    if "of" not in state:
        log.warning(
            "%s does not tell how many steps it was to have; stage 2 begins from its step %s", path, state["step"]
        )
    elif state["step"] < state["of"]:
        raise TrainingError(
            f"{path}: expected a finished stage 1 to begin stage 2 from, got step {state['step']} of {state['of']}; go "
            f"on training it first, or end it there with --stage 1 --steps {state['step']}"
        )


def _checkpoints(config: ScenesTraining) -> tuple[Path, Path]:
    """Of stage 1 and of stage 2."""
    return RunFolder(replace(config, stage=1).folder).checkpoint, RunFolder(replace(config, stage=2).folder).checkpoint


def _learning(state: State, path: Path) -> State:
    learning = state["trainee"].get("learning")
    if not isinstance(learning, dict) or "weights" not in learning:
        raise TrainingError(f"{path} lacks 'learning': it is no checkpoint of sets of shots; use another folder")
    return learning


def _named(first: dict[str, Any] | None) -> str:
    """A stage 1 in words."""
    return "no stage 1" if first is None else f"step {first['step']} of stage 1 ({first['digest'][:12]})"


def _known(model: str) -> str:
    kind = class_of(model)
    if kind not in FAMILIES:
        raise TrainingError(f"{model} is a {kind}; expected one of {', '.join(FAMILIES)}")
    return kind


def _requests(drawn: DrawnSet, seed: int, given: Sequence[int]) -> list[ShotRequest]:
    """The shots of a set as they are asked for; those in `given` are finished."""
    return [
        ShotRequest(
            prompt=caption,
            frames=len(shot),
            fps=drawn.fps,
            width=shot.shape[2],
            height=shot.shape[1],
            seed=seed + i,
            given=(Given(first=0, frames=shot),) if i in given else (),
        )
        for i, (shot, caption) in enumerate(zip(drawn.shots, drawn.captions, strict=True))
    ]


@contextlib.contextmanager
def _evaluating(networks: Sequence[Any]) -> Iterator[None]:
    """Networks as they film, within the block."""
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for network in networks:
            network.train()


def _filming_sets(model: VideoModel) -> Any:
    if not isinstance(model, FilmsSets):
        raise TrainingError(
            f"{model.name}: {type(model).__name__} cannot film several shots in one sequence; expected Wan or CogVideoX"
        )
    return model
