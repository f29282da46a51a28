"""A still picture, as the first frame of a clip too: read from untrusted bytes, upright, cropped to the clip's size.

Knows pictures and pixels; nothing of models, shots or where a picture came from.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from generators.clip import Frames
from generators.errors import MediaError

FORMATS = ("PNG", "JPEG", "WEBP")
MOST_BYTES = 50_000_000


def check_picture(data: bytes, source: str) -> None:
    """Raise MediaError, naming the source, unless the bytes are a picture that can be read."""
    _read(data, source)


def first_frame(data: bytes, source: str, *, width: int, height: int) -> Frames:
    """The picture as one frame (1, height, width, 3): scaled until it covers the frame, its middle cut out.

    Raises MediaError when it is no picture.
    """
    fitted = ImageOps.fit(_read(data, source), (width, height), method=Image.Resampling.LANCZOS)
    return np.asarray(fitted, dtype=np.uint8)[None].copy()


def picture_pixels(data: bytes, source: str) -> Frames:
    """The picture as it is, (height, width, 3). Raises MediaError when it is none."""
    return np.asarray(_read(data, source), dtype=np.uint8)


def _read(data: bytes, source: str) -> Image.Image:
    if len(data) > MOST_BYTES:
        raise MediaError(f"{source} is larger than {MOST_BYTES // 1_000_000} MB; scale the picture down")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            return ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        reason = "it is none" if isinstance(error, UnidentifiedImageError) else error
        raise MediaError(f"{source} cannot be read as a picture ({reason}); expected {', '.join(FORMATS)}") from error
