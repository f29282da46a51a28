"""Scripts to frames, batched, in torch, on any device. Knows how things look, not what they mean.

B clips, T frames, P sprites a clip, H x W canvas.
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
from generators.world.puppets import BOX, textures
from generators.world.script import Script
from generators.world.words import HEIGHT, HUES, KINDS, PLACES, PROPS, TIMES, WIDTH

THINNEST = 0.14
"""A spinning cut-out never gets thinner than this share of its width."""
_FOOT = BOX / 2 - 2
"""From a texture's centre down to its feet, in pixels at scale 1."""


def render(scripts: Sequence[Script], device: torch.device | str = "cpu") -> Tensor:
    """Draw scripts of equal length: uint8 (B, T, 3, HEIGHT, WIDTH). Raises ValueError when lengths differ."""
    lengths = {script.frames for script in scripts}
    if len(lengths) != 1:
        raise ValueError(f"render: expected scripts of one length, got {sorted(lengths)} frames")
    sheet, scenery = _art(str(device))
    rows = [_sprites(script) for script in scripts]
    which = torch.tensor([[PLACES.index(s.place), TIMES.index(s.time)] for s in scripts], device=device)
    frames = lengths.pop()
    canvas = scenery[which[:, 0], which[:, 1]].unsqueeze(1).repeat(1, frames, 1, 1, 1)
    for layer in range(max(len(row) for row in rows)):
        clips = [b for b, row in enumerate(rows) if layer < len(row)]
        states = torch.from_numpy(np.stack([rows[b][layer] for b in clips])).to(device)
        canvas[clips] = _paste(canvas[clips], states, sheet)
    return (canvas * 255).round_().clamp_(0, 255).to(torch.uint8)


@functools.lru_cache(maxsize=4)
def _art(device: str) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(textures()).to(device), torch.from_numpy(backdrops()).to(device)


def _sprites(script: Script) -> list[np.ndarray]:
    """One (T, 10) float32 array a sprite, in drawing order: texture, x, y, sx, sy, tilt, alpha, r, g, b."""
    stage = play(script)
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


def _paste(canvas: Tensor, states: Tensor, sheet: Tensor) -> Tensor:
    """Put one sprite a clip onto (B, T, 3, H, W): rotate and scale its texture to where it stands."""
    flat = states.flatten(0, 1)
    texture, x, y, sx, sy, tilt, alpha = flat[:, :7].unbind(1)
    cos, sin = tilt.cos(), tilt.sin()
    half_w, half_h = WIDTH / BOX, HEIGHT / BOX
    # canvas (-1..1) -> pixels from the sprite's centre -> turned back -> texture (-1..1)
    cx, cy = (WIDTH / 2 - x) / (BOX / 2), (HEIGHT / 2 - y) / (BOX / 2)
    theta = torch.stack(
        [
            torch.stack([cos * half_w / sx, sin * half_h / sx, (cos * cx + sin * cy) / sx], 1),
            torch.stack([-sin * half_w / sy, cos * half_h / sy, (-sin * cx + cos * cy) / sy], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta, [len(flat), 1, HEIGHT, WIDTH], align_corners=False)
    planes = F.grid_sample(sheet[texture.long()], grid, align_corners=False)
    hue = flat[:, 7:].reshape(-1, 3, 1, 1)
    paint = (planes[:, :1] * hue + planes[:, 1:4]) * alpha.reshape(-1, 1, 1, 1)
    cover = planes[:, 4:] * alpha.reshape(-1, 1, 1, 1)
    under = canvas.flatten(0, 1)
    return (paint + (1 - cover) * under).reshape(canvas.shape)
