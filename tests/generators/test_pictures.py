"""Still pictures: what is written as PNG is what was drawn."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from generators.pictures import png


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (77, 1199)])
def test_a_png_holds_every_pixel_and_the_same_picture_gives_the_same_bytes(height: int, width: int) -> None:
    drawn = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(png(drawn))) as read:
        assert (read.mode, read.format) == ("RGB", "PNG")
        np.testing.assert_array_equal(np.asarray(read), drawn)
    assert png(drawn) == png(drawn)
