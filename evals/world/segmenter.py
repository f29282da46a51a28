"""The puppet world's own segmenter: a puppet by the colour that its words say, read from pixels.

For Video Storyboarding on the bundled model. Knows nothing of scripts, shots or models.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evals.world.detectors import outline, sight
from evals.world.phrases import Unreadable, read_look
from generators.errors import RequestRejected


class WorldSegmenter:
    """Finds the puppet of one colour, its belly and face included."""

    name = "puppet world"

    def __call__(self, frames: NDArray[np.uint8], subject: str) -> NDArray[np.bool_]:
        """Where the puppet is, (frames, 64, 96). Raises RequestRejected for words that name no puppet by its colour."""
        try:
            look = read_look(subject, subject)
        except Unreadable as error:
            raise RequestRejected(f"subject: {error}") from error
        seen = sight(frames).get(look.hue)
        return np.zeros(frames.shape[:3], dtype=bool) if seen is None else outline(seen.masks)
