"""EntityBench and ViStoryBench: is every character of a story in its shots, alone as often as promised, and the same.

Episodes by path (YAML). A grounder finds the cast in frames, CLIP says whether a crop shows who was asked for, DINOv2
compares crops; maths is in `evals.metrics`. Neither benchmark's data is ours to ship, and nobody judges fidelity here,
so every appearance that was found is compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from evals.benchmarks.protocol import Film, Judged, Judgement, Line, Unit, lines_by_class
from evals.metrics.consistency import Appearance, entity_consistency, gap_decay, over_distance, transition, unit
from evals.metrics.embedders import Embedder, TextEmbedder
from evals.metrics.entities import character_scores, matched, occm
from evals.metrics.frame_indices import linspace_end
from evals.metrics.grounding import Box, Grounder, cropped, sharpness_of
from evals.metrics.score import Case, NotMeasured, Outcome, Score
from generators.clip import Frames

FRAMES = 5
"""Frames of a shot that are searched."""
LIKE = 0.20
"""CLIP cosine of crop and description below which the crop shows somebody else."""
BOUNDARY = 3
CONSISTENCY, LOWEST = "entity consistency", "entity consistency, lowest crop"
TRANSITION, OCCM = "transition of continued shots", "OCCM"
CROSS, OWN = "CIDS-cross", "CIDS-self"
IDENTITY, DECAY = "identity over shot distance (entities)", "identity after shots away"


@dataclass(frozen=True, kw_only=True)
class EntitySettings:
    """Episodes by path; `limit` takes the first so many."""

    episodes: Path
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"EntitySettings.limit: expected at least 1, got {self.limit}")


@dataclass(frozen=True, kw_only=True)
class Episode:
    """A story's cast (name to description), pictures of them, and who is in which shot; `goes_on` continues."""

    name: str
    cast: Mapping[str, str]
    references: Mapping[str, tuple[Path, ...]]
    prompts: tuple[str, ...]
    shows: tuple[tuple[str, ...], ...]
    goes_on: tuple[bool, ...]


@dataclass(frozen=True, kw_only=True)
class Eyes:
    """What finds and compares; anything absent is not measured, for its reason."""

    grounder: Grounder | NotMeasured
    text: TextEmbedder | NotMeasured
    crops: Embedder | NotMeasured

    def missing(self) -> NotMeasured | None:
        """Why entities cannot be looked at, where they cannot."""
        return next((one for one in (self.grounder, self.text, self.crops) if isinstance(one, NotMeasured)), None)

    def names(self) -> dict[str, str | None]:
        """For the manifest."""
        all_of = {"grounder": self.grounder, "text": self.text, "crops": self.crops}
        return {role: None if isinstance(one, NotMeasured) else one.name for role, one in all_of.items()}


def read_episodes(path: Path) -> tuple[Episode, ...]:
    """Raises ValueError naming the entry that is no episode."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(found, list) or not found:
        raise ValueError(f"{path}: expected a list of episodes with name, cast and shots")
    return tuple(_episode(path, entry) for entry in found)


def _episode(path: Path, entry: Any) -> Episode:
    try:
        cast = {str(name): str(text) for name, text in entry["cast"].items()}
        shots = [(str(s["prompt"]), tuple(map(str, s["shows"])), bool(s.get("continues"))) for s in entry["shots"]]
        pictures = {str(n): tuple(path.parent / p for p in files) for n, files in entry.get("references", {}).items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: expected name, cast and shots (prompt, shows), got {entry!r:.120}") from error
    if lost := [str(path) for files in pictures.values() for path in files if not path.is_file()]:
        raise ValueError(f"{path}: {entry['name']!r}: no such picture: {', '.join(lost)}")
    strangers = sorted({name for _, shows, _ in shots for name in shows} - set(cast))
    if len(shots) < 2 or strangers:
        raise ValueError(
            f"{path}: {entry.get('name')!r}: {'; '.join(strangers) or 'one shot'}: not in its cast, or alone"
        )
    prompts, shows, goes_on = zip(*shots, strict=True)
    return Episode(
        name=str(entry["name"]), cast=cast, references=pictures, prompts=prompts, shows=shows, goes_on=goes_on
    )


@dataclass(frozen=True, kw_only=True)
class _Look:
    """One shot as it was searched: its cast's crops as vectors, and how many figures stand in it."""

    crops: Mapping[str, np.ndarray] = field(repr=False)
    figures: int


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
        episode, missing = self._episodes[unit.name], self._eyes.missing()
        if missing is not None:
            everything = (CONSISTENCY, LOWEST, TRANSITION, OCCM, OWN, CROSS)
            return Judgement(outcomes=dict.fromkeys(everything, missing), facts=_no_curves(), headline=CONSISTENCY)
        looks = [
            self._look(film.frames, {name: episode.cast[name] for name in shows}) if isinstance(film, Film) else None
            for film, shows in zip(films, episode.shows, strict=True)
        ]
        found: dict[str, list[Appearance]] = {}
        for shot, look in enumerate(looks, 1):
            for name, vector in look.crops.items() if look else ():
                found.setdefault(name, []).append(Appearance(shot=shot, embedding=vector))
        outcomes = {**_consistency(found), **self._characters(episode, found)}
        outcomes[TRANSITION] = self._transition(episode, films)
        counts = [look.figures if look else 0 for look in looks]
        outcomes[OCCM] = Score(value=occm(counts, [len(shows) for shows in episode.shows]))
        facts = {"distances": _means(over_distance(found)), "gaps": _means(gap_decay(found)), "figures": counts}
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

    def _look(self, frames: Frames, cast: Mapping[str, str]) -> _Look:
        """Find the cast in frames of one shot: of each member the best crop, and the most figures in one frame."""
        grounder, text, crops = self._eyes.grounder, self._eyes.text, self._eyes.crops
        assert not isinstance(grounder, NotMeasured)
        assert not isinstance(text, NotMeasured)
        assert not isinstance(crops, NotMeasured)
        told = unit(text.embed_texts(list(cast.values()))) if cast else np.zeros((0, 1))
        best: dict[str, tuple[float, Frames]] = {}
        figures = 0
        for frame in frames[linspace_end(len(frames), min(FRAMES, len(frames)))]:
            boxes = grounder.boxes(frame, " . ".join(cast.values()) or "character")
            figures = max(figures, len(boxes))
            if boxes and cast:
                _keep_better(best, frame, boxes, text, dict(zip(cast, told, strict=True)))
        return _Look(crops={name: crops.embed(crop[None])[0] for name, (_, crop) in best.items()}, figures=figures)

    def _characters(self, episode: Episode, found: Mapping[str, Sequence[Appearance]]) -> dict[str, Outcome]:
        """CIDS over the cast: among a member's own crops, and against its pictures."""
        own, cross = [], []
        for name, appearances in found.items():
            crops = np.stack([one.embedding for one in appearances])
            pictures = [_picture(path) for path in episode.references.get(name, ())]
            references = self._embedded(pictures) if pictures else crops
            scores = character_scores(crops, references)
            if scores is not None and scores.own is not None:
                own.append(scores.own)
            if scores is not None and pictures:
                cross.append(scores.cross)
        return {
            OWN: Score(value=float(np.mean(own))) if own else NotMeasured(reason="nobody was found in two shots"),
            CROSS: Score(value=float(np.mean(cross))) if cross else NotMeasured(reason="no reference pictures"),
        }

    def _embedded(self, pictures: Sequence[Frames]) -> np.ndarray:
        crops = self._eyes.crops
        assert not isinstance(crops, NotMeasured)
        return np.concatenate([crops.embed(picture[None]) for picture in pictures])

    def _transition(self, episode: Episode, films: Sequence[Film | NotMeasured]) -> Outcome:
        values = []
        for before, after, goes_on in zip(films[:-1], films[1:], episode.goes_on[1:], strict=True):
            if goes_on and isinstance(before, Film) and isinstance(after, Film):
                last, first = (
                    self._embedded(list(part)) for part in (before.frames[-BOUNDARY:], after.frames[:BOUNDARY])
                )
                values.append(transition(last, first, BOUNDARY))
        return Score(value=float(np.mean(values))) if values else NotMeasured(reason="no shot continues another")


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


def _consistency(found: Mapping[str, Sequence[Appearance]]) -> dict[str, Outcome]:
    whole = entity_consistency(found)
    if whole is None:
        return dict.fromkeys((CONSISTENCY, LOWEST), NotMeasured(reason="nobody was found in two shots"))
    return {
        CONSISTENCY: Score(value=whole.mean, details={"crops": float(whole.crops)}),
        LOWEST: Score(value=whole.lowest, details={"shot": float(whole.outlier[1])}),
    }


def _picture(path: Path) -> Frames:
    return np.asarray(Image.open(path).convert("RGB"))


def _means(curve: Mapping[int, Sequence[float]]) -> dict[str, float]:
    return {str(at): float(np.mean(values)) for at, values in curve.items()}


def _no_curves() -> dict[str, Any]:
    return {"distances": {}, "gaps": {}, "figures": []}
