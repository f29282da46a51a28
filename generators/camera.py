"""Clips in which nothing moves but the camera: over a picture, or over a texture that is as rough as natural pictures.

A clip of motion without a subject, so that none can leak into the shot that moves like it. Knows pixels; nothing of
models, shots or where a picture came from.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from generators.camera_moves import CameraMove
from generators.clip import Frames

PACE = 1 / 12
"""A second: the share of the frame that a pan or tilt passes, and the rate at which a zoom's picture grows (e-fold)."""
_TEXTURE = 640
"""Width and height of the texture: larger frames show it enlarged, which early steps do not see."""


def camera_frames(
    move: CameraMove,
    picture: Frames | None = None,
    *,
    count: int,
    fps: int,
    width: int,
    height: int,
    first: float = 0.0,
    last: float = 1.0,
) -> Frames:
    """`count` frames (count, height, width, 3) of a camera that moves over a picture (h, w, 3), or over the texture.

    It moves evenly, at the same pace in a long shot as in a short one. `first` and `last` are shares of the shot, for a
    take of which this is a part. Edges of a picture are never shown: the frame is as large as the move leaves room for.
    """
    scene = Image.fromarray(_texture() if picture is None else picture)
    seconds = count / fps / (last - first)
    shares = first + (last - first) * np.arange(count) / count
    closest = min(x[2] - x[0] for x in (_box(move, share, seconds, scene.size, width / height) for share in (0.0, 1.0)))
    if closest > width:  # a large picture is scaled down once, not in every frame
        scene = scene.resize((round(scene.width * width / closest), round(scene.height * width / closest)))
    boxes = [_box(move, share, seconds, scene.size, width / height) for share in shares]
    shown = [scene.resize((width, height), Image.Resampling.LANCZOS, box=box) for box in boxes]
    return np.stack([np.asarray(frame, dtype=np.uint8) for frame in shown])


def _box(
    move: CameraMove, share: float, seconds: float, size: tuple[int, int], aspect: float
) -> tuple[float, float, float, float]:
    """What is seen of a scene (width, height) at this share of the shot: left, top, right, bottom."""
    kind, way = move.split()
    travel = PACE * seconds
    across, along = (travel if kind == "pan" else 0.0), (travel if kind == "tilt" else 0.0)
    width = min(size[0] / (1 + across), size[1] / (1 + along) * aspect)
    height = width / aspect
    if kind == "zoom":
        scale = float(np.exp(-travel * (share if way == "in" else 1 - share)))
        width, height = width * scale, height * scale
    passed = (share - 0.5) * (1 if way in ("right", "down") else -1)
    x, y = size[0] / 2 + across * width * passed, size[1] / 2 + along * height * passed
    left, top = max(x - width / 2, 0.0), max(y - height / 2, 0.0)
    return left, top, min(x + width / 2, float(size[0])), min(y + height / 2, float(size[1]))


@cache
def _texture() -> NDArray[np.uint8]:
    """Noise whose amplitude falls with frequency, as in natural pictures: grey with a little colour."""
    rows, columns = np.fft.fftfreq(_TEXTURE)[:, None], np.fft.rfftfreq(_TEXTURE)[None]
    fall = 1 / np.maximum(np.hypot(rows, columns), 1 / _TEXTURE)
    white = np.random.default_rng(0).standard_normal((4, _TEXTURE, _TEXTURE))
    grey, *colours = np.fft.irfft2(np.fft.rfft2(white) * fall, s=(_TEXTURE, _TEXTURE))
    mixed = np.stack([grey + 0.3 * colour for colour in colours], axis=-1)
    mixed = (mixed - mixed.mean()) / mixed.std()
    pixels: NDArray[np.uint8] = np.clip(128 + 48 * mixed, 0, 255).astype(np.uint8)
    return pixels
