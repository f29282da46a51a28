"""What stands where in single frames, read from pixels: puppets by hue, props by their looks.

Knows nothing of scripts, captions or what happened before. T frames of 96 x 64 pixels; lengths are pixels, y grows
downwards. An absent thing has area 0 and NaN everywhere else.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from evals.world.palette import NOTHING, label
from generators.world.motion import TALL
from generators.world.puppets import BOX, textures
from generators.world.words import HEIGHT, HUES, KINDS, PROPS, WIDTH

Curve = NDArray[np.float64]
"""One value a frame."""
Frames = NDArray[np.uint8]

FAINT = 16
"""Pixels of a hue that are still noise."""
TOGETHER = 0.8 * TALL
"""Parts of one hue nearer than this are one puppet (hat and coat, halves behind a friend); further ones are clones."""
_HUES, _TAIL = tuple(HUES), 0.02


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """One hue in every frame."""

    hue: str
    area: Curve
    x: Curve
    y: Curve
    left: Curve
    right: Curve
    top: Curve
    foot: Curve
    clone: Curve
    """Pixels of the same hue that stand too far off to belong to the puppet."""
    masks: NDArray[np.bool_] = field(repr=False)
    """(T, HEIGHT, WIDTH)"""


def sight(frames: Frames) -> dict[str, Sighting]:
    """Every hue that is more than noise somewhere; frames (T, 64, 96, 3). Raises ValueError for another size."""
    if frames.shape[1:] != (HEIGHT, WIDTH, 3):
        raise ValueError(f"sight: expected frames of {WIDTH}x{HEIGHT} RGB pixels, got shape {frames.shape}")
    labels = label(frames)
    found = {}
    for index, hue in enumerate(_HUES):
        masks = _despeckle(labels == index)
        if masks.sum((1, 2)).max(initial=0) > FAINT:
            found[hue] = _measure(hue, *_bodies(masks))
    return found


def _despeckle(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep pixels with at least three equal neighbours."""
    padded = np.pad(masks, ((0, 0), (1, 1), (1, 1))).astype(np.int8)
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    around = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    kept: NDArray[np.bool_] = masks & (around >= 4)
    return kept


def _bodies(masks: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], Curve]:
    """The puppet's own pixels in every frame, and how many of its hue stand elsewhere."""
    coarse: NDArray[np.bool_] = masks.reshape(len(masks), HEIGHT // 2, 2, WIDTH // 2, 2).max((2, 4))
    names = _components(coarse).repeat(2, 1).repeat(2, 2) * masks
    own, spare = np.zeros_like(masks), np.zeros(len(masks))
    before: tuple[float, float] | None = None
    for frame, named in enumerate(names):
        own[frame], before = _own(named, before)
        spare[frame] = masks[frame].sum() - own[frame].sum()
    return own, spare


def _components(masks: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Name every 8-connected component by its largest pixel number; 0 is background."""
    names = np.arange(1, masks.size + 1, dtype=np.int32).reshape(masks.shape) * masks
    while True:
        padded = np.pad(names, ((0, 0), (1, 1), (1, 1)))
        rows = np.maximum(np.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
        spread = np.maximum(np.maximum(rows[..., :-2], rows[..., 1:-1]), rows[..., 2:]) * masks
        if (spread == names).all():
            return names
        names = spread


def _own(
    named: NDArray[np.int32], before: tuple[float, float] | None
) -> tuple[NDArray[np.bool_], tuple[float, float] | None]:
    """Pixels of the biggest component, preferring the one nearest to where the puppet was, and of its neighbours."""
    rows, columns = np.nonzero(named)
    if not len(rows):
        return named > 0, before
    _, group, sizes = np.unique(named[rows, columns], return_inverse=True, return_counts=True)
    at_x = np.bincount(group, columns) / sizes
    at_y = np.bincount(group, rows) / sizes
    far = 0.0 if before is None else np.hypot(at_x - before[0], at_y - before[1])
    main = int(np.argmax(sizes * np.exp(-np.minimum(far, 60.0) / TALL)))
    mine = np.hypot(at_x - at_x[main], at_y - at_y[main]) < TOGETHER
    own = np.zeros(named.shape, dtype=bool)
    own[rows, columns] = mine[group]
    return own, (float(at_x[main]), float(at_y[main]))


def _measure(hue: str, masks: NDArray[np.bool_], clone: Curve) -> Sighting:
    across, down = masks.sum(1).astype(float), masks.sum(2).astype(float)
    area = across.sum(1)
    area[area <= FAINT / 2] = 0
    seen = np.where(area > 0, 1.0, np.nan)
    whole = np.maximum(area, 1)
    return Sighting(
        hue=hue, area=area, clone=clone, masks=masks,
        x=across @ (np.arange(WIDTH) + 0.5) / whole * seen,
        y=down @ (np.arange(HEIGHT) + 0.5) / whole * seen,
        left=_reach(across, _TAIL) * seen, right=_reach(across, 1 - _TAIL) * seen,
        top=_reach(down, _TAIL) * seen, foot=_reach(down, 1 - _TAIL) * seen,
    )  # fmt: skip


def _reach(profile: NDArray[np.float64], share: float) -> Curve:
    """Where so much of a profile's mass is passed, a value a row, in pixels."""
    passed = np.concatenate([np.zeros((len(profile), 1)), profile.cumsum(1)], 1)
    wanted = np.maximum(passed[:, -1:], 1e-9) * share
    after = (passed[:, 1:] < wanted).sum(1).clip(max=profile.shape[1] - 1)
    row = np.arange(len(profile))
    step = np.maximum(profile[row, after], 1e-9)
    answer: Curve = after + np.clip((wanted[:, 0] - passed[row, after]) / step, 0, 1)
    return answer


@dataclass(frozen=True, kw_only=True)
class PropSighting:
    """The best place for one prop in every frame. `misfit` is the mean RGB difference to its picture, 0..255."""

    kind: str
    x: Curve
    foot: Curve
    misfit: Curve


def sight_props(frames: Frames, empty: NDArray[np.float32], kinds: tuple[str, ...] = PROPS) -> dict[str, PropSighting]:
    """Where each prop fits best, by template; a prop that is not there has a high misfit.

    `empty` (64, 96, 3) is the stage without anybody: where that looks like a prop itself, a prop is less likely.
    """
    image = _soften(torch.from_numpy(frames).permute(0, 3, 1, 2).float())
    labels = label(frames)
    labels[(labels == _HUES.index("orange")) & (frames[..., 0] < _GLOWS)] = NOTHING
    hidden = torch.from_numpy(_outlines(labels)).float().unsqueeze(1)
    free = 1 - F.max_pool2d(hidden, 3, 1, 1)
    bare = _soften(torch.from_numpy(empty).permute(2, 0, 1).unsqueeze(0))
    lures = _LURE * (_ALIKE - prop_misfits(bare, torch.ones_like(free[:1]), kinds)).clamp(min=0)
    seen = prop_misfits(image, free, kinds) + lures
    return {kind: _fit_prop(seen[:, index], kind) for index, kind in enumerate(kinds)}


def _outlines(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Everything a puppet covers, its white belly too: pixels with its hue on all four sides. Props stand behind."""
    covered = np.zeros(labels.shape, dtype=bool)
    for index in np.unique(labels[labels != NOTHING]):
        mask = labels == index
        covered |= outline(mask)
    return covered


def outline(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Masks (T, H, W) with what they enclose: pixels that have them on all four sides."""
    return _between(masks, 1) & _between(masks, 2)


def _between(mask: NDArray[np.bool_], axis: int) -> NDArray[np.bool_]:
    """Pixels with a true one before and one after them along the axis, or true themselves."""
    before = np.logical_or.accumulate(mask, axis)
    after = np.flip(np.logical_or.accumulate(np.flip(mask, axis), axis), axis)
    both: NDArray[np.bool_] = before & after
    return both


def _soften(image: torch.Tensor) -> torch.Tensor:
    """RGB to a blurred (brightness, red - green, green - blue): forgives half pixels, tells brown from dark."""
    red, green, blue = image.unbind(1)
    opponent = torch.stack([(red + green + blue) / 3, 1.5 * (red - green), 1.5 * (green - blue)], 1)
    return F.avg_pool2d(F.pad(opponent, (1, 1, 1, 1), mode="replicate"), 3, 1)


def prop_misfits(image: torch.Tensor, free: torch.Tensor, kinds: tuple[str, ...]) -> torch.Tensor:
    """(T, kinds, rows, columns): how far the 12 x 12 pixels from each place on are from a prop's picture, 0..255.

    Root of the mean square of softened `image` (T, 3, 64, 96) less the picture, weighted by the prop's cover and by
    what no puppet covers (`free`, (T, 1, 64, 96)), and something for what is hidden; 255 where most would be. The
    square is taken apart, so that all places of all props are one convolution.
    """
    templates = _templates(kinds)
    seen = F.conv2d(torch.cat([image**2 * free, image * free, free], 1), templates)
    square, shown = seen.unflatten(1, (len(kinds), 2)).unbind(2)
    share = shown / templates[1::2, 6].sum((1, 2))[:, None, None]
    error = (square / (3 * shown).clamp(min=1e-6)).clamp(min=0).sqrt()
    return torch.where(share > _SHOWN, error + _HIDDEN * (1 - share), 255.0)


@functools.cache
def _templates(kinds: tuple[str, ...]) -> torch.Tensor:
    """(2 kinds, 7, 12, 12). In: squared image (3), image (3), free. Out, kind by kind: squared error, free cover."""
    rows = []
    for kind in kinds:
        picture, cover = prop_picture(kind)
        error = torch.cat([cover.expand(3, -1, -1), -2 * picture * cover, (picture**2 * cover).sum(0, keepdim=True)])
        rows += [error, torch.cat([torch.zeros_like(error[:6]), cover])]
    return torch.stack(rows)


def _fit_prop(error: torch.Tensor, kind: str) -> PropSighting:
    rows, columns, misfits = _best_places(error)
    chosen = _smoothest(columns, rows, misfits)
    frame = np.arange(len(chosen))
    return PropSighting(
        kind=kind,
        x=columns[frame, chosen] + _WINDOW / 2,
        foot=rows[frame, chosen] + _WINDOW - 1.0,
        misfit=misfits[frame, chosen],
    )


def _best_places(misfit: torch.Tensor) -> tuple[Curve, Curve, Curve]:
    """(T, _PLACES) rows, columns and misfits of the best local minima."""
    lowest = -F.max_pool2d(-misfit.unsqueeze(1), 5, 1, 2)[:, 0]
    minima = torch.where(misfit <= lowest, misfit, 255.0)
    values, at = minima.flatten(1).topk(_PLACES, largest=False)
    rows, columns = np.divmod(at.numpy(), misfit.shape[2])
    return rows.astype(float), columns.astype(float), values.numpy().astype(float)


def _smoothest(x: Curve, y: Curve, misfit: Curve) -> NDArray[np.intp]:
    """Which place to take in every frame so that misfits and leaps together are least (dynamic programming)."""
    cost = misfit[0]
    came = []
    for t in range(1, len(x)):
        leap = np.hypot(x[t][:, None] - x[t - 1], y[t][:, None] - y[t - 1])
        total = cost[None] + _LEAP * np.clip(leap - 4.0, 0.0, 40.0)
        came.append(total.argmin(1))
        cost = total.min(1) + misfit[t]
    path = [int(cost.argmin())]
    for back in reversed(came):
        path.append(int(back[path[-1]]))
    return np.array(path[::-1])


_PLACES, _LEAP = 5, 0.5
"""Places considered a frame; what a pixel of movement costs, in misfit."""
_ALIKE, _LURE = 40.0, 0.25
"""Misfit at which a stage begins to look like a prop (a snowy peak, the moon); what each level below it costs there."""
_GLOWS = 176
"""Red of the darkest orange that hides a prop: a box that a decoder made brighter looks like less, and hid itself."""
_SHOWN, _HIDDEN = 0.5, 30.0
"""Share of a prop that must be free of puppets; what being wholly hidden would cost, in misfit."""
_WINDOW = 12
"""Side of a prop's picture; its foot stands one pixel above the lower edge."""


@functools.cache
def prop_picture(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Softened (3, 12, 12) and cover (1, 12, 12) of a prop; the blurred rim counts less than the inside."""
    sheet = torch.from_numpy(textures()[2 * len(KINDS) + PROPS.index(kind)])[None]
    share = _WINDOW / BOX
    theta = torch.tensor([[[share, 0.0, 0.0], [0.0, share, 1 - 2 * (2 - 1 + _WINDOW / 2) / BOX]]])
    grid = F.affine_grid(theta, [1, 5, _WINDOW, _WINDOW], align_corners=False)
    planes = F.grid_sample(sheet, grid, align_corners=False)
    inside = F.avg_pool2d(F.pad((planes[:, 4:] > 0.9).float(), (1, 1, 1, 1)), 3, 1)[0]
    cover = torch.where(inside > 0.99, 1.0, 0.1 * inside)
    return _soften(planes[:, 1:4] / planes[:, 4:].clamp(min=0.1) * 255)[0], cover


def sharpness(frames: Frames) -> float:
    """How crisp edges are: the 99th percentile of brightness steps over that of spread, about 1 when rendered."""
    grey = frames.astype(np.float32).mean(-1)
    steps = np.abs(np.diff(grey, axis=2))
    spread = np.abs(grey[:, :, 3:] - grey[:, :, :-3])
    return float(np.percentile(steps, 99) / max(float(np.percentile(spread, 99)), 1.0))
