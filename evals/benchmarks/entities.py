"""EntityBench and ViStoryBench: is every character of a story in its shots, alone as often as promised, and the same.

Episodes by path (YAML); neither benchmark's data is ours to ship. EntityBench looks for the cast by its descriptions:
a grounder finds boxes, CLIP says whether a crop shows who was asked for, DINOv2 compares crops. ViStoryBench looks for
every character, expected or not, and matches them to pictures of the cast. Maths is in `evals.metrics`. Nobody judges
fidelity here; an episode may say it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np
from PIL import Image

from evals.benchmarks.episodes import Episode, read_episodes
from evals.benchmarks.protocol import Film, Judged, Judgement, Line, Unit, lines_by_class
from evals.metrics.consistency import (
    Appearance,
    Vectors,
    entity_consistency,
    gap_decay,
    gram,
    over_distance,
    style_consistency,
    transition,
    unit,
)
from evals.metrics.embedders import Embedder, PatchEmbedder, TextEmbedder
from evals.metrics.entities import CharacterScores, character_scores, copy_paste, matched, occm
from evals.metrics.frame_indices import linspace_end
from evals.metrics.grounding import Box, Grounder, cropped, sharpness_of
from evals.metrics.score import Case, NotMeasured, Outcome, Score
from generators.clip import Frames

FRAMES = 5
"""Frames of a shot that are searched."""
LIKE = 0.20
"""CLIP cosine of crop and description below which the crop shows somebody else."""
BOUNDARY = 3
ANYBODY = "character"
"""What ViStoryBench asks its grounder for."""
CONSISTENCY, LOWEST = "entity consistency", "entity consistency, lowest crop"
TRANSITION, STYLE, OCCM = "transition of continued shots", "style consistency (dinov2_vitb14)", "OCCM"
CROSS, OWN, COPY = "CIDS-cross (clip_vitl14)", "CIDS-self (clip_vitl14)", "copy-paste (clip_vitl14)"
TWICE = f"{OWN}, seen twice"
IDENTITY, DECAY = "identity over shot distance (entities)", "identity after shots away"
ALONE = NotMeasured(reason="fewer than two appearances of anybody to compare")


@dataclass(frozen=True, kw_only=True)
class EntitySettings:
    """Episodes by path; `limit` takes the first so many."""

    episodes: Path
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"EntitySettings.limit: expected at least 1, got {self.limit}")


@dataclass(frozen=True, kw_only=True)
class Eyes:
    """What finds and compares; what rests on an absent one is not measured, for its reason."""

    grounder: Grounder | NotMeasured
    text: TextEmbedder | NotMeasured
    crops: PatchEmbedder | NotMeasured
    """Compares crops, styles and seams (EntityBench)."""
    characters: Embedder | NotMeasured
    """Compares characters with their pictures (ViStoryBench)."""

    def names(self) -> dict[str, str | None]:
        """For the manifest."""
        all_of = {"grounder": self.grounder, "text": self.text, "crops": self.crops, "characters": self.characters}
        return {role: None if isinstance(one, NotMeasured) else one.name for role, one in all_of.items()}


class Entities:
    """The benchmark; a unit is an episode."""

    name = "entities"

    def __init__(self, settings: EntitySettings, eyes: Eyes) -> None:
        self._settings, self._eyes = settings, eyes
        self._episodes = {one.name: one for one in read_episodes(settings.episodes)[: settings.limit]}

    def settings(self) -> Mapping[str, Any]:
        """Episodes by digest, encoders by name."""
        digest = hashlib.sha256(self._settings.episodes.read_bytes()).hexdigest()
        return {"episodes": digest, "frames": FRAMES, "like": LIKE, **self._eyes.names()}

    def units(self) -> Sequence[Unit]:
        """One episode each, a case a shot."""
        return [
            Unit(
                name=one.name,
                cases=tuple(
                    Case(name=f"{one.name}-{shot}", prompt=prompt, group=one.name, shot=shot)
                    for shot, prompt in enumerate(one.prompts, 1)
                ),
            )
            for one in self._episodes.values()
        ]

    def judge(self, unit: Unit, films: Sequence[Film | NotMeasured]) -> Judgement:
        """A shot that is missing shows nobody (OCCM) and is compared with nothing."""
        episode = self._episodes[unit.name]
        shots = [_shown(film.frames) if isinstance(film, Film) else None for film in films]
        found = self._appearances(episode, shots)
        stages = self._stages(shots)
        outcomes: dict[str, Outcome] = {
            **_consistency(found),
            TRANSITION: self._transition(episode, films),
            STYLE: self._style(films),
            OCCM: stages
            if isinstance(stages, NotMeasured)
            else Score(value=occm([len(one.boxes) for one in stages], [len(shows) for shows in episode.shows])),
            **self._characters(episode, stages),
        }
        known = {} if isinstance(found, NotMeasured) else found
        figures = [] if isinstance(stages, NotMeasured) else [len(one.boxes) for one in stages]
        facts = {"distances": _means(over_distance(known)), "gaps": _means(gap_decay(known)), "figures": figures}
        return Judgement(outcomes=outcomes, facts=facts, headline=CONSISTENCY)

    def lines(self, judged: Sequence[Judged]) -> list[Line]:
        """Every score over all episodes, then identity by distance and by how long somebody was away."""
        found = lines_by_class(judged)
        for metric, key, word in ((IDENTITY, "distances", "distance"), (DECAY, "gaps", "gap")):
            for at in sorted({int(d) for one in judged for d in one.judgement.facts[key]}):
                values = [one.judgement.facts[key].get(str(at)) for one in judged]
                inside = [
                    Judged(unit=one.unit, judgement=Judgement(outcomes={metric: Score(value=value)}))
                    for one, value in zip(judged, values, strict=True)
                    if value is not None
                ]
                found += [Line(group=f"{word} {at}", summary=line.summary) for line in lines_by_class(inside)]
        return found

    def _appearances(
        self, episode: Episode, shots: Sequence[Frames | None]
    ) -> dict[str, list[Appearance]] | NotMeasured:
        """EntityBench: of each member of the cast the best crop of every shot that promises it."""
        grounder, text, crops = self._eyes.grounder, self._eyes.text, self._eyes.crops
        if isinstance(grounder, NotMeasured):
            return grounder
        if isinstance(text, NotMeasured):
            return text
        if isinstance(crops, NotMeasured):
            return crops
        found: dict[str, list[Appearance]] = {}
        for number, (frames, shows, fidelity) in enumerate(zip(shots, episode.shows, episode.fidelity, strict=True), 1):
            if frames is None or not shows:
                continue
            cast = {name: episode.cast[name] for name in shows}
            for name, crop in _best_crops(frames, cast, grounder, text).items():
                seen = Appearance(shot=number, embedding=crops.embed(crop[None])[0], fidelity=fidelity.get(name))
                found.setdefault(name, []).append(seen)
        return found

    def _stages(self, shots: Sequence[Frames | None]) -> list[_Stage] | NotMeasured:
        """ViStoryBench: everybody in every shot, whoever was promised."""
        grounder = self._eyes.grounder
        if isinstance(grounder, NotMeasured):
            return grounder
        return [_Stage() if frames is None else _stage(frames, grounder) for frames in shots]

    def _characters(self, episode: Episode, stages: Sequence[_Stage] | NotMeasured) -> dict[str, Outcome]:
        """CIDS and copy-paste over those of the cast who have pictures."""
        names, eye = (CROSS, OWN, TWICE, COPY), self._eyes.characters
        if isinstance(stages, NotMeasured):
            return dict.fromkeys(names, stages)
        if isinstance(eye, NotMeasured):
            return dict.fromkeys(names, eye)
        if not episode.references:
            return dict.fromkeys(names, NotMeasured(reason="no reference pictures"))
        pictures = {name: [_picture(path) for path in paths] for name, paths in episode.references.items() if paths}
        references = {name: _embedded(eye, several) for name, several in pictures.items()}
        crops: dict[str, list[np.ndarray]] = {}
        for stage, shows in zip(stages, episode.shows, strict=True):
            boxes = _embedded(eye, stage.crops()) if stage.boxes else np.zeros((0, 1))
            wanted = {name: references[name] for name in shows if name in references}
            for name, index in matched(boxes, wanted).items():
                crops.setdefault(name, []).append(boxes[index])
        found = {name: np.stack(several) for name, several in crops.items()}
        if not found:
            return dict.fromkeys(names, NotMeasured(reason="nobody of the reference pictures was found"))
        scores = [character_scores(seen, references[name]) for name, seen in found.items()]
        copied = [
            copy_paste(seen, references[name][0], _embedded(eye, [pictures[name][0][:, ::-1]])[0])
            for name, seen in found.items()
        ]
        return {**_cids([one for one in scores if one]), COPY: _mean(copied, [len(seen) for seen in found.values()])}

    def _transition(self, episode: Episode, films: Sequence[Film | NotMeasured]) -> Outcome:
        eye, values = self._eyes.crops, []
        if isinstance(eye, NotMeasured):
            return eye
        for before, after, goes_on in zip(films[:-1], films[1:], episode.goes_on[1:], strict=True):
            if goes_on and isinstance(before, Film) and isinstance(after, Film):
                last, first = eye.embed(before.frames[-BOUNDARY:]), eye.embed(after.frames[:BOUNDARY])
                values.append(transition(last, first, BOUNDARY))
        return _mean(values) if values else NotMeasured(reason="no shot continues another")

    def _style(self, films: Sequence[Film | NotMeasured]) -> Outcome:
        """EntityBench's style over the middle frame of every shot."""
        eye = self._eyes.crops
        if isinstance(eye, NotMeasured):
            return eye
        middles = [film.frames[len(film.frames) // 2] for film in films if isinstance(film, Film)]
        value = style_consistency([gram(eye.patches(frame[None])[0]) for frame in middles])
        return NotMeasured(reason="fewer than two shots") if value is None else Score(value=value)


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """The one frame that stands for a shot, and everybody in it; nobody for a missing shot."""

    frame: Frames | None = field(default=None, repr=False)
    boxes: Sequence[Box] = ()

    def crops(self) -> list[Frames]:
        """Each box as it is, without a rim."""
        return [] if self.frame is None else [cropped(self.frame, box, pad=0) for box in self.boxes]


def _shown(frames: Frames) -> Frames:
    return frames[linspace_end(len(frames), min(FRAMES, len(frames)))]


def _stage(frames: Frames, grounder: Grounder) -> _Stage:
    """ViStoryBench judges pictures: of a shot the first frame whose count is the (lower) median of its frames."""
    found = [grounder.boxes(frame, ANYBODY) for frame in frames]
    counts = [len(boxes) for boxes in found]
    at = counts.index(median_low(counts))
    return _Stage(frame=frames[at], boxes=found[at])


def _best_crops(frames: Frames, cast: Mapping[str, str], grounder: Grounder, text: TextEmbedder) -> dict[str, Frames]:
    """Of each member of the cast that is found the crop that is likest, largest and sharpest."""
    told = dict(zip(cast, unit(text.embed_texts(list(cast.values()))), strict=True))
    best: dict[str, tuple[float, Frames]] = {}
    for frame in frames:
        if boxes := grounder.boxes(frame, " . ".join(cast.values())):
            _keep_better(best, frame, boxes, text, told)
    return {name: crop for name, (_, crop) in best.items()}


def _keep_better(
    best: dict[str, tuple[float, Frames]],
    frame: Frames,
    boxes: Sequence[Box],
    text: TextEmbedder,
    told: Mapping[str, np.ndarray],
) -> None:
    """Give each member of the cast its box of this frame, where it is a better crop than the one so far."""
    crops = [cropped(frame, box) for box in boxes]
    seen = unit(np.concatenate([text.embed(crop[None]) for crop in crops]))
    for name, index in matched(seen, {name: vector[None] for name, vector in told.items()}).items():
        like = float(seen[index] @ told[name])
        worth = like * boxes[index].area ** 0.5 * sharpness_of(crops[index])
        if like >= LIKE and (name not in best or worth > best[name][0]):
            best[name] = (worth, crops[index])


def _consistency(found: Mapping[str, Sequence[Appearance]] | NotMeasured) -> dict[str, Outcome]:
    whole = found if isinstance(found, NotMeasured) else entity_consistency(found) or ALONE
    if isinstance(whole, NotMeasured):
        return dict.fromkeys((CONSISTENCY, LOWEST), whole)
    return {
        CONSISTENCY: Score(value=whole.mean, details={"crops": float(whole.crops), "gated": float(whole.gated)}),
        LOWEST: Score(value=whole.lowest, details={"shot": float(whole.outlier[1])}),
    }


def _cids(scores: Sequence[CharacterScores]) -> dict[str, Outcome]:
    """Over characters. The released code calls a character of one crop like itself; that line has its name."""
    twice = [one.own for one in scores if one.own is not None]
    return {
        CROSS: _mean([one.cross for one in scores]),
        OWN: _mean([1.0 if one.own is None else one.own for one in scores]),
        TWICE: _mean(twice) if twice else ALONE,
    }


def _mean(values: Sequence[float], weights: Sequence[float] | None = None) -> Score:
    return Score(value=float(np.average(values, weights=weights)))


def _embedded(eye: Embedder, pictures: Sequence[Frames]) -> Vectors:
    """Pictures of any sizes, one at a time (n, d)."""
    return np.concatenate([eye.embed(picture[None]) for picture in pictures])


def _picture(path: Path) -> Frames:
    return np.asarray(Image.open(path).convert("RGB"))


def _means(curve: Mapping[int, Sequence[float]]) -> dict[str, float]:
    return {str(at): float(np.mean(values)) for at, values in curve.items()}
