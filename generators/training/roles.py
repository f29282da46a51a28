"""The text encoder learns who does what to whom before it hears of films (semantic role labelling).

From films alone it does not: after 425,000 clips no noun's column told whether it acts or is acted on, and a caption
with its two puppets exchanged was as good as the right one (docs/log.md, 2026-11-30). The loss of a clip hardly hangs
on it, and it takes a text encoder that tells roles and a transformer that heeds them at the same time. So the grammar
is taught by itself, in minutes: every column of an event's sentence gets a code of role, order and verb, in the
directions of the hidden states in which the encoder said least; what it said in the others, it is held to.
B captions, M text columns, D channels of a column, K channels of the code.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from generators.errors import TrainingError
from generators.training.checkpoint import RunFolder, State
from generators.training.clips import ClipSource, WorldClips, draw_script
from generators.training.codec import open_codec
from generators.training.config import DenoiserSize, LatentShards, RoleTraining
from generators.training.denoiser import build_denoiser, run_settings
from generators.training.loop import Losses, OnTrainingProgress, TrainingOutcome, fast_dtype, run
from generators.training.optimiser import Muon
from generators.training.text import build_tokenizer
from generators.world.captions import Caption, vocabulary, write_caption
from generators.world.grammar import Split
from generators.world.script import Script
from generators.world.words import LONG, SHORT, VERBS

ROLES = ("acts", "acted on")
ORDERS = 3
"""Sentences that are told apart: the first event, the second, the third."""
_VERBS = tuple(VERBS)
_PARTS = (len(ROLES), ORDERS, len(_VERBS))
_QUIET = 0.5
"""Length of the code of order, and of the verb in words that are no nouns, beside that of a noun's role."""
FOLDER = "text"


@dataclass(frozen=True, kw_only=True)
class MarkedCaptions:
    """Captions as tokens, with what each token is about."""

    ids: Tensor
    """(B, M)."""
    attended: Tensor
    """bool (B, M): a token stands here."""
    marks: Tensor
    """(B, M, 3): index of the role, of the sentence and of its verb; -1 where there is none."""

    def take(self, rows: Tensor) -> MarkedCaptions:
        """These rows, without the columns that none of them needs."""
        width = int(self.attended[rows].sum(1).max())
        return MarkedCaptions(
            ids=self.ids[rows, :width], attended=self.attended[rows, :width], marks=self.marks[rows, :width]
        )


def draw_captions(
    rng: np.random.Generator,
    tokenizer: PreTrainedTokenizerFast,
    count: int,
    split: Split = "train",
    shards: LatentShards | None = None,
) -> MarkedCaptions:
    """Draw captions of as many events, verbs and lengths as the clips of `shards` have, by default those usual."""
    drawn = shards or LatentShards()
    lengths = [LONG if rng.random() < drawn.long_share else SHORT for _ in range(count)]
    scripts = [draw_script(rng, frames, split, drawn.often) for frames in lengths]
    return mark(tokenizer, scripts, [write_caption(script, rng, split) for script in scripts])


def mark(tokenizer: PreTrainedTokenizerFast, scripts: Sequence[Script], captions: Sequence[Caption]) -> MarkedCaptions:
    """Mark every token of every event's sentence with its sentence and verb, nouns and their colours with a role."""
    batch = tokenizer(
        [caption.text for caption in captions], padding=True, return_offsets_mapping=True, return_tensors="pt"
    )
    marks = torch.full((*batch["input_ids"].shape, len(_PARTS)), -1)
    for row, script, caption, offsets in zip(marks, scripts, captions, batch["offset_mapping"].tolist(), strict=True):
        _mark(row, script, caption, offsets)
    return MarkedCaptions(ids=batch["input_ids"], attended=batch["attention_mask"].bool(), marks=marks)


def _mark(row: Tensor, script: Script, caption: Caption, offsets: list[tuple[int, int]]) -> None:
    text, end = caption.text.lower(), 0
    events = sorted(script.events, key=lambda event: event.start)
    for order, (event, phrase, subject) in enumerate(zip(events, caption.phrases, caption.subjects, strict=True)):
        begin = text.index(f"{subject} {phrase}", end)
        predicate = begin + len(subject)
        end = predicate + 1 + len(phrase)
        done_to: set[str] = set()
        if event.other is not None:
            done_to |= set(script.actors[event.other].words.split())
        if event.prop is not None:
            done_to.add(script.props[event.prop].kind)
        for column, (first, last) in enumerate(offsets):
            if begin <= first < last <= end:
                acts = last <= predicate
                role = 0 if acts else 1 if text[first:last] in done_to else -1
                row[column] = torch.tensor([role, order, _VERBS.index(event.verb)])


def code(marks: Tensor, loudness: float) -> Tensor:
    """(B, M, 3) marks to their code (B, M, K): one channel a role, a sentence, a verb; loudest in nouns."""
    role, order, verb = (
        F.one_hot(marks[..., part].clamp(min=0), size) * (marks[..., part, None] >= 0)
        for part, size in enumerate(_PARTS)
    )
    noun = marks[..., :1] >= 0
    return loudness * torch.cat([role, _QUIET * order, torch.where(noun, 1.0, _QUIET) * verb], -1)


class RoleTrainee:
    """The text encoder, what it was before, the directions of the code, and the captions."""

    def __init__(self, config: RoleTraining, encoder: UMT5EncoderModel, tokenizer: PreTrainedTokenizerFast) -> None:
        self.config, self.encoder, self.clips_per_step = config, encoder.train(), config.batch
        self.before = copy.deepcopy(encoder).eval().requires_grad_(False)
        seed, shards = config.denoiser.seed, config.denoiser.shards
        self.captions = draw_captions(np.random.default_rng([seed, 5]), tokenizer, config.captions, shards=shards)
        self.unseen = draw_captions(np.random.default_rng([seed, 6]), tokenizer, 200, "heldout", shards)
        self.middle_D, self.directions_KD = self._quietest()
        self.optimiser = Muon(
            [self.encoder],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            products=fast_dtype(config.denoiser.machine),
        )

    @torch.no_grad()
    def _quietest(self) -> tuple[Tensor, Tensor]:
        """Mean of the columns, and orthonormal directions (K, D) in which they vary least, turned at random."""
        some = self.captions.take(torch.arange(min(400, len(self.captions.ids))))
        said = self.before(some.ids, some.attended.long()).last_hidden_state[some.attended]
        middle = said.mean(0)
        _, axes = torch.linalg.eigh((said - middle).T @ (said - middle))
        size = sum(_PARTS)
        generator = torch.Generator().manual_seed(self.config.denoiser.seed)
        turn, _ = torch.linalg.qr(torch.randn(size, size, generator=generator))
        return middle, turn @ axes[:, :size].T

    def step(self, index: int, rate: float) -> Losses:
        """One step on captions drawn from (seed, index)."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * rate
        rng = np.random.default_rng([self.config.denoiser.seed, 7, index])
        rows = torch.from_numpy(rng.integers(len(self.captions.ids), size=self.config.batch))
        told, kept, losses = self._losses(self.captions.take(rows))
        self.optimiser.zero_grad(set_to_none=True)
        (told + self.config.kept * kept).backward()
        torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
        self.optimiser.step()
        return losses

    def _losses(self, captions: MarkedCaptions) -> tuple[Tensor, Tensor, Losses]:
        """Squared distances a column: of its code, and of the rest from what it said; and what nouns tell."""
        here, attended = captions.attended, captions.attended.long()
        wanted = code(captions.marks, self.config.loudness)
        with torch.no_grad():
            before = self.before(captions.ids, attended).last_hidden_state
        now = self.encoder(captions.ids, attended).last_hidden_state
        tells = (now - self.middle_D) @ self.directions_KD.T
        moved = now - before
        moved = moved - (moved @ self.directions_KD.T) @ self.directions_KD
        told = (tells - wanted)[here].square().sum(-1).mean()
        kept = moved[here].square().sum(-1).mean()
        noun = captions.marks[..., 0] >= 0
        role, _, verb = tells[noun].split(_PARTS, -1)
        right = {
            "roles right": (role.argmax(-1) == captions.marks[noun][:, 0]).float().mean().item(),
            "verbs right": (verb.argmax(-1) == captions.marks[noun][:, 2]).float().mean().item(),
        }
        return told, kept, {"loss": told.item(), "moved": kept.item(), **right}

    def state(self) -> State:
        """The encoder now and before, the code's directions, and the optimiser; captions come from the seed."""
        return {
            "encoder": self.encoder.state_dict(),
            "before": self.before.state_dict(),
            "middle": self.middle_D,
            "directions": self.directions_KD,
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: State) -> None:
        """Load what `state` gave."""
        self.before.load_state_dict(state["before"])
        self.middle_D, self.directions_KD = state["middle"], state["directions"]
        self.encoder.load_state_dict(state["encoder"])
        self.optimiser.load_state_dict(state["optimiser"])

    @torch.no_grad()
    def examine(self, path: Path) -> Losses:
        """How often nouns of held-out captions tell their role and verb."""
        _, _, losses = self._losses(self.unseen)
        return {f"unseen {name}": value for name, value in losses.items()}


def train_roles(
    config: RoleTraining, on_progress: OnTrainingProgress | None = None, source: ClipSource | None = None
) -> TrainingOutcome:
    """Teach the denoiser's text encoder who does what to whom, or go on; at the end the denoiser's run has it.

    Where that run has steps behind it, its average begins anew and its rate warms up again; where there is none, one
    is laid out at step 0. Raises TrainingError when a denoiser that has learnt on meanwhile would be set back.
    """
    if config.denoiser.machine.threads is not None:
        torch.set_num_threads(config.denoiser.machine.threads)
    run_of_denoiser = RunFolder(config.denoiser.out / "denoiser")
    state = run_of_denoiser.load() or _fresh(config, source)
    settings = state["settings"]
    tokenizer = build_tokenizer(settings["words"])
    size = DenoiserSize(**settings["size"])
    nets = build_denoiser(size, size.channels, len(tokenizer), settings["seed"])
    nets.load_state_dict(state["trainee"]["nets"])
    folder = RunFolder(config.denoiser.out / FOLDER)
    _require_own(folder, state["step"], nets.text_encoder)
    trainee = RoleTrainee(config, nets.text_encoder, tokenizer)
    about = {"denoiser": state["step"], "seed": config.denoiser.seed, "captions": config.captions} | {
        name: getattr(config, name) for name in ("batch", "learning_rate", "loudness", "kept")
    }
    outcome = run(trainee, config.schedule, folder, about, on_progress)
    if outcome.reason == "steps":
        folder.append({"step": outcome.step, **trainee.examine(folder.folder)})
        nets_state = {name: value.clone() for name, value in nets.state_dict().items()}
        learnt = state["trainee"] | {"nets": nets.state_dict(), "average": nets_state}
        run_of_denoiser.save(state | {"fresh": state["step"], "trainee": learnt})
    return outcome


def _fresh(config: RoleTraining, source: ClipSource | None) -> State:
    """A denoiser's run before its first step."""
    of = config.denoiser
    codec = open_codec(of.out, source or WorldClips(device=of.machine.device), seed=of.seed, channels=of.size.channels)
    tokenizer = build_tokenizer(vocabulary())
    nets = build_denoiser(of.size, codec.channels, len(tokenizer), of.seed).state_dict()
    return {
        "step": 0,
        "fresh": 0,
        "settings": run_settings(of, codec, tokenizer),
        "trainee": {"nets": nets, "average": nets, "optimiser": None},
    }


def _require_own(folder: RunFolder, step: int, encoder: UMT5EncoderModel) -> None:
    """Raise TrainingError where a lesson is of another denoiser, or of this one before it learnt on."""
    state = folder.load()
    if state is None:
        return
    now = encoder.state_dict()
    own = any(
        all(torch.equal(now[name], value) for name, value in state["trainee"][which].items())
        for which in ("before", "encoder")
    )
    if state["settings"]["denoiser"] != step or not own:
        raise TrainingError(
            f"{folder.folder} taught the text encoder of a denoiser at step {state['settings']['denoiser']}; the one "
            f"there now is at step {step} and not the same; delete that folder to teach it again"
        )


__all__ = ["ROLES", "MarkedCaptions", "RoleTrainee", "code", "draw_captions", "mark", "train_roles"]
