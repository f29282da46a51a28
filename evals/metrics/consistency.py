"""Do things look the same: within a shot, across the shots of a story, over the distance between two shots.

Maths on embeddings, (n, d) floats of any encoder; knows no encoder. Nothing to compare gives None, never 1: the
caller says NotMeasured. Read consistency beside text alignment and motion, or a frozen film wins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.floating]
GATE = 0.5
"""EntityBench: an appearance that shows less of what its shot promised is not compared across shots."""


def unit(vectors: Vectors) -> NDArray[np.float64]:
    """Rows of length one. Raises ValueError for a row of zeros."""
    rows = np.asarray(vectors, np.float64)
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    if not np.all(norms > 0):
        raise ValueError("unit: an embedding is all zeros; its picture cannot be compared")
    found: NDArray[np.float64] = rows / norms
    return found


def within_shot(embeddings: Vectors) -> float | None:
    """VBench: `S_i = (max(0, cos(f_i, f_i-1)) + max(0, cos(f_i, f_0))) / 2`, mean over i >= 1; None for one frame."""
    if len(embeddings) < 2:
        return None
    f = unit(embeddings)
    previous = np.maximum((f[1:] * f[:-1]).sum(-1), 0)
    first = np.maximum(f[1:] @ f[0], 0)
    return float((previous + first).mean() / 2)


def frame_weighted(clips: Sequence[tuple[float, float]]) -> float | None:
    """VBench on one process: all frames' S_i over all frames; the mean of `within_shot` is video-weighted.

    A clip is its `within_shot` and how many frames that is the mean of; None for no clip.
    """
    total = sum(count for _, count in clips)
    return sum(value * count for value, count in clips) / total if total else None


def consecutive(embeddings: Vectors) -> float | None:
    """Mean cosine of neighbouring frames (temporal consistency); None for one frame."""
    if len(embeddings) < 2:
        return None
    f = unit(embeddings)
    return float((f[1:] * f[:-1]).sum(-1).mean())


def across_shots(shots: Sequence[Vectors]) -> float | None:
    """Set consistency (MbQ B.8): mean cosine over all pairs of frames that are not of one shot.

    `(|sum of all|^2 - sum over shots |sum of shot|^2) / (N^2 - sum n_s^2)` for unit vectors; None without a pair.
    """
    kept = [unit(shot) for shot in shots if len(shot)]
    if len(kept) < 2:
        return None
    sums = np.stack([shot.sum(0) for shot in kept])
    counts = np.array([len(shot) for shot in kept])
    pairs = counts.sum() ** 2 - (counts**2).sum()
    return float(((sums.sum(0) ** 2).sum() - (sums**2).sum()) / pairs)


def leak(source: Vectors, output: Vectors) -> dict[str, float]:
    """Identity leak: mean cosine of frames of two clips, of the same index and of all pairs; lower is better."""
    a, b = unit(source), unit(output)
    aligned = np.rint(np.linspace(0, len(b) - 1, len(a))).astype(int)
    return {"aligned": float((a * b[aligned]).sum(-1).mean()), "all pairs": float((a @ b.T).mean())}


@dataclass(frozen=True, kw_only=True)
class Appearance:
    """One entity in one shot. `fidelity` (0..1) says how well its own shot shows what was promised, None unjudged."""

    shot: int
    embedding: Vectors = field(repr=False)
    fidelity: float | None = None


@dataclass(frozen=True, kw_only=True)
class EntityConsistency:
    """EntityBench: cosine of every crop to its entity's centre. `outlier` is (entity, shot) of the lowest."""

    mean: float
    lowest: float
    outlier: tuple[str, int]
    crops: int
    gated: int
    """Appearances left out because their own shot does not show what it promised."""


def gated(appearances: Sequence[Appearance], gate: float = GATE) -> list[Appearance]:
    """Those that may enter a comparison across shots, in order of shots. Unjudged ones may."""
    kept = [one for one in appearances if one.fidelity is None or one.fidelity >= gate]
    return sorted(kept, key=lambda one: one.shot)


def entity_consistency(entities: Mapping[str, Sequence[Appearance]], gate: float = GATE) -> EntityConsistency | None:
    """Over all crops of entities that appear at least twice, pooled; None when there is none."""
    found: list[tuple[float, str, int]] = []
    left_out = 0
    for name, appearances in entities.items():
        kept = gated(appearances, gate)
        left_out += len(appearances) - len(kept)
        if len(kept) < 2:
            continue
        crops = unit(np.stack([one.embedding for one in kept]))
        centre = unit(crops.mean(0))
        found += [(float(crop @ centre), name, one.shot) for crop, one in zip(crops, kept, strict=True)]
    if not found:
        return None
    low, entity, shot = min(found)
    mean = float(np.mean([value for value, _, _ in found]))
    return EntityConsistency(mean=mean, lowest=low, outlier=(entity, shot), crops=len(found), gated=left_out)


Curve = dict[int, list[float]]
"""Cosines by distance in shots."""


def over_distance(entities: Mapping[str, Sequence[Appearance]], gate: float = GATE) -> Curve:
    """Identity over shot distance: cosines of all pairs of appearances, by how many shots apart they are."""
    pairs = (pair for appearances in entities.values() for pair in combinations(gated(appearances, gate), 2))
    return _curve([pair for pair in pairs if pair[0].shot != pair[1].shot], away=0)


def gap_decay(entities: Mapping[str, Sequence[Appearance]], gate: float = GATE) -> Curve:
    """Cosines of an appearance and the next one, by the number of shots between in which the entity was away."""
    lists = [gated(appearances, gate) for appearances in entities.values()]
    return _curve([pair for one in lists for pair in zip(one[:-1], one[1:], strict=True)], away=1)


def _curve(pairs: Sequence[tuple[Appearance, Appearance]], away: int) -> Curve:
    found: Curve = {}
    for first, second in pairs:
        cosine = float(unit(first.embedding) @ unit(second.embedding))
        found.setdefault(second.shot - first.shot - away, []).append(cosine)
    return dict(sorted(found.items()))


def gram(patches: Vectors) -> NDArray[np.float64]:
    """Gram matrix of patch tokens (n, d), of Frobenius norm one: the style of a picture."""
    tokens = np.asarray(patches, np.float64)
    product = tokens.T @ tokens
    norm = np.linalg.norm(product)
    if norm == 0:
        raise ValueError("gram: patch tokens are all zeros")
    found: NDArray[np.float64] = product / norm
    return found


def style_consistency(grams: Sequence[NDArray[np.float64]]) -> float | None:
    """Mean dot product of the Gram matrices of all pairs of pictures; None for fewer than two."""
    return across_shots([one.reshape(1, -1) for one in grams])


def transition(before: Vectors, after: Vectors, boundary: int = 3) -> float:
    """EntityBench, for a shot that continues another: mean cosine of (last - i, first + i) for i < `boundary`."""
    count = min(boundary, len(before), len(after))
    a, b = unit(before[::-1][:count]), unit(after[:count])
    return float((a * b).sum(-1).mean())


@dataclass(frozen=True, kw_only=True)
class SequenceConsistency:
    """Mask2DiT: how alike the scenes look and how well each shows its own prompt, times 100."""

    visual: float
    visual_adjacent: float
    semantic: float

    @property
    def sequence(self) -> float:
        """Mean of visual and semantic."""
        return (self.visual + self.semantic) / 2


def sequence_consistency(scenes: Vectors, prompts: Vectors) -> SequenceConsistency | None:
    """From a video embedding and a prompt embedding a scene; which pairs are meant is not published, so both are given.

    None for one scene.
    """
    if len(scenes) < 2:
        return None
    a, b = unit(scenes), unit(prompts)
    pairs = (a @ a.T)[np.triu_indices(len(a), 1)]
    return SequenceConsistency(
        visual=100 * float(pairs.mean()),
        visual_adjacent=100 * float((a[1:] * a[:-1]).sum(-1).mean()),
        semantic=100 * float((a * b).sum(-1).mean()),
    )
