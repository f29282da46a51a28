"""Scripts to frames, batched, in torch, on any device. Knows how things look, not what they mean.

B clips, T frames, N sprites, C colours, P pixels of a canvas, H x W of a window.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from generators.world.motion import GROUND, Stage, play
from generators.world.places import backdrops
from generators.world.puppets import BOX, TEXTURE, textures
from generators.world.script import Script
from generators.world.words import HEIGHT, HUES, KINDS, PLACES, PROPS, TIMES, WIDTH

THINNEST = 0.14
"""A spinning cut-out never gets thinner than this share of its width."""
_FOOT = BOX / 2 - 2
"""From a texture's centre down to its feet, in pixels at scale 1."""
_WINDOWS = (32, 48, 64, 2 * WIDTH)
"""Pixels a side of the windows that sprites are drawn in; a grown puppet half-way down needs 62."""


def render(scripts: Sequence[Script], device: torch.device | str = "cpu") -> Tensor:
    """Draw scripts of equal length: uint8 (B, T, 3, HEIGHT, WIDTH). Raises ValueError when lengths differ."""
    return draw(scripts, [play(script) for script in scripts], device)


def draw(scripts: Sequence[Script], stages: Sequence[Stage], device: torch.device | str = "cpu") -> Tensor:
    """The same where the states of every sprite are given, whatever the scripts say that happens."""
    lengths = {script.frames for script in scripts}
    if len(lengths) != 1:
        raise ValueError(f"render: expected scripts of one length, got {sorted(lengths)} frames")
    sheet, scenery = _art(str(device))
    rows = [_sprites(script, stage) for script, stage in zip(scripts, stages, strict=True)]
    places = torch.tensor([[PLACES.index(s.place), TIMES.index(s.time)] for s in scripts], device=device)
    frames, pixels = lengths.pop(), HEIGHT * WIDTH
    canvas_BTPC = scenery.new_zeros(len(scripts), frames, pixels + 1, 3)  # the last pixel is off the canvas
    canvas_BTPC[:, :, :pixels] = scenery[places[:, 0], places[:, 1]].unsqueeze(1)
    for layer in range(max(len(row) for row in rows)):
        clips = [b for b, row in enumerate(rows) if layer < len(row)]
        states = torch.from_numpy(np.stack([rows[b][layer] for b in clips])).to(device).flatten(0, 1)
        canvases = torch.tensor(clips, device=device).repeat_interleave(frames) * frames
        canvases += torch.arange(frames, device=device).repeat(len(clips))
        _paste(canvas_BTPC.view(-1, 3), canvases * (pixels + 1), states, sheet)
    levels = (canvas_BTPC[:, :, :pixels] * 255).round_().clamp_(0, 255).to(torch.uint8)
    return levels.transpose(2, 3).contiguous().view(len(scripts), frames, 3, HEIGHT, WIDTH)


@functools.lru_cache(maxsize=4)
def _art(device: str) -> tuple[Tensor, Tensor]:
    """Textures (textures, 5, side, side) and backdrops (places, times, pixels, 3)."""
    scenery = torch.from_numpy(backdrops()).to(device)
    return torch.from_numpy(textures()).to(device), scenery.flatten(3).transpose(2, 3).contiguous()


def _sprites(script: Script, stage: Stage) -> list[np.ndarray]:
    """One (T, 10) float32 array a sprite, in drawing order: texture, x, y, sx, sy, tilt, alpha, r, g, b."""
    return [_thing(script, stage, i) for i in range(len(script.props))] + [
        _puppet(script, stage, i) for i in range(len(script.actors))
    ]


def _puppet(script: Script, stage: Stage, index: int) -> np.ndarray:
    puppet, actor = stage.puppets[index], script.actors[index]
    turn = np.sign(puppet.turn + 1e-9) * np.maximum(np.abs(puppet.turn), THINNEST)
    hue = np.array(HUES[actor.hue]) / 255
    texture = 2 * KINDS.index(actor.kind) + puppet.step
    # it tips over its feet: the centre swings down to half the width above the ground
    drop = _FOOT * puppet.scale * (1 - np.abs(np.cos(puppet.tilt))) * 0.45
    y = GROUND - puppet.y - _FOOT * puppet.scale + drop
    columns = (
        texture,
        puppet.x,
        y,
        puppet.scale * turn * puppet.faces,
        puppet.scale,
        puppet.tilt,
        puppet.alpha,
    )
    return np.concatenate([np.stack(columns, 1), np.tile(hue, (script.frames, 1))], 1).astype(np.float32)


def _thing(script: Script, stage: Stage, index: int) -> np.ndarray:
    one = np.ones(script.frames)
    texture = 2 * len(KINDS) + PROPS.index(script.props[index].kind)
    y = GROUND - stage.prop_y[index] - _FOOT
    columns = (one * texture, stage.prop_x[index], y, one, one, one * 0, one, one * 0, one * 0, one * 0)
    return np.stack(columns, 1).astype(np.float32)


def _paste(pixels: Tensor, first: Tensor, states: Tensor, sheet: Tensor) -> None:
    """Put N sprites onto canvases that lie behind each other in `pixels` (all, 3): sprite n on that from `first[n]`.

    A sprite is drawn in the smallest window that holds it, for most of them a sixth of the canvas.
    """
    spread = _spread(states)
    smaller = torch.zeros_like(spread)
    for side in _WINDOWS:
        fits = torch.nonzero((spread <= side) & (spread > smaller)).squeeze(1)
        smaller = torch.full_like(spread, side)
        if len(fits):
            _paste_window(pixels, first[fits], states[fits], sheet, side)


def _spread(states: Tensor) -> Tensor:
    """Pixels a side of a window that holds each sprite, with one to spare for roundings."""
    sx, sy, tilt = states[:, 3].abs(), states[:, 4].abs(), states[:, 5]
    cos, sin = tilt.cos().abs(), tilt.sin().abs()
    return (BOX + BOX / TEXTURE) * torch.maximum(sx * cos + sy * sin, sx * sin + sy * cos) + 1


def _paste_window(pixels: Tensor, first: Tensor, states: Tensor, sheet: Tensor, side: int) -> None:
    """Rotate and scale each sprite's texture to where it stands, in a window of `side` pixels around its centre."""
    texture, x, y, sx, sy, tilt, alpha = (column.view(-1, 1, 1) for column in states[:, :7].unbind(1))
    offsets = torch.arange(side, device=states.device) - side // 2
    column_NW = x.round().long() + offsets  # N 1 W
    row_NH = y.round().long() + offsets.unsqueeze(1)  # N H 1
    across, down = (column_NW + 0.5 - x) / (BOX / 2), (row_NH + 0.5 - y) / (BOX / 2)
    cos, sin = tilt.cos(), tilt.sin()
    # pixels from the sprite's centre -> turned back -> texture (-1..1)
    grid_NHW2 = torch.stack([(cos * across + sin * down) / sx, (cos * down - sin * across) / sy], -1)
    planes = F.grid_sample(sheet[texture.flatten().long()], grid_NHW2, align_corners=False).permute(0, 2, 3, 1)
    alpha = alpha.unsqueeze(-1)
    paint_NHWC = (planes[..., :1] * states[:, None, None, 7:] + planes[..., 1:4]) * alpha
    cover_NHW1 = planes[..., 4:] * alpha
    inside = (column_NW >= 0) & (column_NW < WIDTH) & (row_NH >= 0) & (row_NH < HEIGHT)
    where = first.view(-1, 1, 1) + (row_NH * WIDTH + column_NW).where(inside, HEIGHT * WIDTH)
    pixels[where] = paint_NHWC + (1 - cover_NHW1) * pixels[where]
