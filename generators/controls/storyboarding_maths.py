"""The arithmetic of Video Storyboarding (arXiv 2412.07750 v1), without models, steps or batches.

F latent frames, n tokens of one, N = F n, C features, H heads, D head width, A anchors.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from generators.attention_plain import attend_plain

EXCLUDED = 2.0
"""Cosine distance of what may not be chosen: the largest there is."""


class Anchor(NamedTuple):
    """What other shots read of one."""

    k: Tensor
    """(H, N, D)."""
    v: Tensor
    mask: Tensor
    """(N,) bool: where its subject is."""


def subject_attention(
    q_BHND: Tensor, anchors: Sequence[Anchor], frames: int, *, dilution: float = 1.0, also: int | None = None
) -> tuple[Tensor, Tensor]:
    """Attention of every frame to the anchors' subject in the same frame: out (1, H, N, D) and lse (1, H, N).

    `dilution` counts every such key that often; `also` is a frame that every frame reads beside its own. Frames in
    which no anchor shows its subject read nothing: lse -inf.
    """
    out, lse = torch.zeros_like(q_BHND), q_BHND.new_full(q_BHND.shape[:3], -math.inf, dtype=_statistics(q_BHND))
    tokens = q_BHND.shape[2] // frames
    shown = [anchor.mask.view(frames, tokens) for anchor in anchors]
    for frame in range(frames):
        read = {frame, frame if also is None else also}
        where = [torch.cat([mask[f].nonzero().flatten() + f * tokens for f in sorted(read)]) for mask in shown]
        if sum(map(len, where)):
            rows = slice(frame * tokens, (frame + 1) * tokens)
            k = torch.cat([anchor.k[:, places] for anchor, places in zip(anchors, where, strict=True)], dim=1)
            v = torch.cat([anchor.v[:, places] for anchor, places in zip(anchors, where, strict=True)], dim=1)
            out[:, :, rows], part = attend_plain(q_BHND[:, :, rows], k.unsqueeze(0), v.unsqueeze(0))
            lse[:, :, rows] = part + math.log(dilution)
    return out, lse


def as_clip(x_PHND: Tensor) -> Tensor:
    """Frames that attention keeps apart as one sequence, (1, H, P N, D)."""
    return x_PHND.transpose(0, 1).flatten(1, 2).unsqueeze(0)


def as_frames(x_BHND: Tensor, parts: int) -> Tensor:
    """The way back: (P, H, n, D)."""
    frames: Tensor = x_BHND[0].unflatten(1, (parts, -1)).transpose(0, 1)
    return frames


def on_grid(mask_N: Tensor, grid: tuple[int, int, int], wanted: tuple[int, int, int]) -> Tensor:
    """A mask of tokens on a coarser grid of the same frames: on where more than half of a cell is."""
    if grid == wanted:
        return mask_N
    return F.adaptive_avg_pool2d(mask_N.view(grid).float().unsqueeze(0), wanted[1:])[0].flatten() > 0.5


def key_frames(frames: int, spacing: int) -> tuple[int, ...]:
    """0, spacing, 2 spacing, …, and the last."""
    return tuple(sorted({*range(0, frames, spacing), frames - 1}))


class FlowMap(NamedTuple):
    """Where each token of a frame between two keyframes is found in them."""

    frame: int
    before: int
    after: int
    """Keyframes."""
    nearest: Tensor
    """(2, n) int16: places in the one and in the other."""


def flow_maps(features_NC: Tensor, frames: int, keys: Sequence[int]) -> list[FlowMap]:
    """Nearest places by cosine among all of a keyframe's, for every frame that is none."""
    unit_FnC = F.normalize(features_NC.float(), dim=-1).unflatten(0, (frames, -1))
    if unit_FnC.shape[1] > torch.iinfo(torch.int16).max:
        raise ValueError(f"flow_maps: expected at most 32767 tokens in a frame, got {unit_FnC.shape[1]}")
    maps = []
    for before, after in zip(keys[:-1], keys[1:], strict=True):
        for frame in range(before + 1, after):
            found = [(unit_FnC[frame] @ unit_FnC[key].T).argmax(-1) for key in (before, after)]
            maps.append(FlowMap(frame, before, after, torch.stack(found).to(torch.int16)))
    return maps


class FlowMaps:
    """Correspondences of one clip, kept from one sweep to the next by place (a layer, a branch) and step."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, dict[int, list[FlowMap]]] = {}

    def keep(self, place: Hashable, step: int, maps: list[FlowMap]) -> None:
        """Those of a step."""
        self._kept.setdefault(place, {})[step] = maps

    def read(self, place: Hashable, step: int) -> list[FlowMap]:
        """Those of a step, else the newest before it, else the first there are. Raises KeyError for a new place."""
        kept = self._kept[place]
        before = [there for there in kept if there <= step]
        return kept[max(before) if before else min(kept)]

    @property
    def bytes(self) -> int:
        """Memory that they take."""
        each = (one.nearest for kept in self._kept.values() for maps in kept.values() for one in maps)
        return sum(nearest.numel() * nearest.element_size() for nearest in each)


def flow_weight(frame: int, before: int, after: int, kind: Literal["sigmoid", "linear"]) -> float:
    """Share of the keyframe before: `sigmoid((after - frame) / (after - before))`, or that share itself."""
    share = (after - frame) / (after - before)
    return share if kind == "linear" else 1 / (1 + math.exp(-share))


def flow_queries(
    q_BHND: Tensor, maps: Sequence[FlowMap], frames: int, weight: Literal["sigmoid", "linear"] = "sigmoid"
) -> Tensor:
    """Queries (1, H, N, D) of frames between keyframes, mixed from where their tokens are in both; keyframes stay.

    All are read before any is written.
    """
    q_BHFnD = q_BHND.unflatten(2, (frames, -1))
    led = q_BHFnD.clone()
    for frame, before, after, nearest in maps:
        first, second = q_BHFnD[:, :, before, nearest[0].long()], q_BHFnD[:, :, after, nearest[1].long()]
        share = flow_weight(frame, before, after, weight)
        led[:, :, frame] = share * first + (1 - share) * second
    flat: Tensor = led.flatten(2, 3)
    return flat


def dropped(tokens: int, share: float, *, seed: int, step: int, layer: int) -> Tensor:
    """Tokens (N,) that keep their own queries: the same for all heads and both branches of one shot, step and layer."""
    state = (seed * 1_000_003 + step) * 1_000_003 + layer
    return torch.rand(tokens, generator=torch.Generator().manual_seed(state % 2**63)) < share


def otsu(values: Tensor) -> Tensor:
    """The threshold that parts values (m,) into two groups with the most variance between them; above it is on.

    Midway between two neighbouring values; of equal parts the first. Equal values have none: the value itself.
    """
    sorted_m = values.double().flatten().sort().values
    count = torch.arange(1, len(sorted_m), device=values.device, dtype=torch.float64)
    below = sorted_m.cumsum(0)[:-1]
    mean_0, mean_1 = below / count, (sorted_m.sum() - below) / (len(sorted_m) - count)
    between = count * (len(sorted_m) - count) * (mean_0 - mean_1) ** 2
    between[sorted_m[1:] == sorted_m[:-1]] = 0
    if not len(between) or between.max() == 0:
        return sorted_m[-1].to(values.dtype)
    at = int(between.argmax())
    return ((sorted_m[at] + sorted_m[at + 1]) / 2).to(values.dtype)


def subject_tokens(map_FHW: Tensor) -> Tensor:
    """Where a map of attention is on, frame by frame by Otsu: (F H W,) bool."""
    return torch.cat([frame.flatten() > otsu(frame) for frame in map_FHW])


def mask_tokens(mask_FHW: Tensor, groups: Sequence[range], grid: tuple[int, int, int]) -> Tensor:
    """Pixel masks as token masks (N,) bool: on where more than half of a token's cell is on in one of its frames.

    `groups` are the pixel frames of each step of the token grid.
    """
    seen = torch.stack([mask_FHW[list(group)].any(0) for group in groups]).float()
    return F.adaptive_avg_pool2d(seen.unsqueeze(0), grid[1:])[0].flatten() > 0.5


class Matches(NamedTuple):
    """For each token of a shot, the most like one among the anchors' subjects."""

    anchor: Tensor
    """(N,) which anchor."""
    place: Tensor
    """(N,) which of its tokens, of all frames."""
    distance: Tensor
    """(N,) 1 - cosine."""


def matches(features_NC: Tensor, anchors: Sequence[tuple[Tensor, Tensor]], *, chunk: int = 1024) -> Matches:
    """The nearest token by cosine of features; anchors are (features (N, C), subject mask (N,)).

    No more than `chunk` tokens are compared at once.
    """
    own = F.normalize(features_NC, dim=-1)
    found = [_nearest(own, features, mask, chunk) for features, mask in anchors]
    distance_AN = torch.stack([distance for distance, _ in found])
    anchor = distance_AN.argmin(0)
    place = torch.stack([places for _, places in found]).gather(0, anchor.unsqueeze(0))[0]
    return Matches(anchor, place, distance_AN.amin(0))


def _nearest(own_NC: Tensor, features_NC: Tensor, mask_N: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Distances and places of the nearest tokens that the mask shows."""
    shown = mask_N.nonzero().flatten()
    if not len(shown):
        return own_NC.new_full((len(own_NC),), EXCLUDED), shown.new_zeros(len(own_NC))
    unit = F.normalize(features_NC[shown], dim=-1).T
    found = [(1 - part @ unit).min(-1) for part in own_NC.split(chunk)]
    return torch.cat([one.values for one in found]), shown[torch.cat([one.indices for one in found])]


class Refinement(NamedTuple):
    """Which tokens of a shot take from an anchor's token, and from which."""

    near: Tensor
    """(N,) bool."""
    anchor: Tensor
    """(N,)."""
    place: Tensor
    """(N,)."""


def refinement(match: Matches, mask_N: Tensor) -> Refinement:
    """Subject tokens that are near enough: under Otsu's threshold of the subject's distances."""
    near = mask_N & (match.distance < otsu(match.distance[mask_N])) if mask_N.any() else mask_N
    return Refinement(near, match.anchor, match.place)


def blended(own_HND: Tensor, anchors: Sequence[Tensor], found: Refinement, alpha: float = 0.8) -> Tensor:
    """`h_p <- alpha h_anchor[nn(p)] + (1 - alpha) h_p` where that is near, of outputs (H, N, D)."""
    made = own_HND.clone()
    for number, anchor in enumerate(anchors):
        here = (found.near & (found.anchor == number)).nonzero().flatten()
        made[:, here] = alpha * anchor[:, found.place[here]] + (1 - alpha) * own_HND[:, here]
    return made


def injected(
    out_SNC: Tensor,
    found: Sequence[Matches],
    masks_SN: Tensor,
    anchors: Sequence[Sequence[int]],
    *,
    alpha: float = 0.8,
    order: Literal["simultaneous", "sequential"] = "simultaneous",
) -> Tensor:
    """Outputs of S shots, each blended with its anchors'.

    `anchors` names, for each shot, the rows that its matches count. `sequential` is the released order: a
    shot reads rows that earlier ones have already changed.
    """
    made = out_SNC.clone()
    for shot, (match, names) in enumerate(zip(found, anchors, strict=True)):
        source = made if order == "sequential" else out_SNC
        read = [source[name].unsqueeze(0) for name in names]
        made[shot] = blended(made[shot].unsqueeze(0), read, refinement(match, masks_SN[shot]), alpha)[0]
    return made


def resized(maps_FCHW: Tensor, size: Sequence[int]) -> Tensor:
    """Maps of every frame in another size, bilinear; those of that size as they are."""
    if tuple(maps_FCHW.shape[2:]) == tuple(size):
        return maps_FCHW
    return F.interpolate(maps_FCHW, size=tuple(size), mode="bilinear", align_corners=False)


def smoothed(features_FCHW: Tensor) -> Tensor:
    """Features of every frame under a 3 x 3 Gaussian of sigma 1, edges repeated."""
    line = torch.tensor([math.exp(-0.5), 1.0, math.exp(-0.5)], device=features_FCHW.device)
    kernel = torch.outer(line, line) / line.sum() ** 2
    padded = F.pad(features_FCHW.flatten(0, 1).unsqueeze(1), (1, 1, 1, 1), mode="replicate")
    made = F.conv2d(padded, kernel.to(features_FCHW.dtype).view(1, 1, 3, 3))
    smooth: Tensor = made.squeeze(1).unflatten(0, features_FCHW.shape[:2])
    return smooth


def _statistics(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
