"""A still picture becomes a clip's first frame, or is refused by name."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from generators.errors import MediaError
from generators.stills import check_picture, first_frame


def png(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    held = io.BytesIO()
    image.save(held, kind, **options)  # type: ignore[arg-type]
    return held.getvalue()


def test_a_picture_of_the_clips_size_comes_back_pixel_for_pixel() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    frames = first_frame(png(Image.fromarray(pixels)), "it", width=32, height=24)
    assert frames.shape == (1, 24, 32, 3)
    assert np.array_equal(frames[0], pixels)


def test_another_shape_is_covered_and_its_middle_taken() -> None:
    wide = Image.new("RGB", (300, 100), "red")
    wide.paste("blue", (100, 0, 200, 100))
    frame = first_frame(png(wide), "it", width=32, height=32)[0]
    assert frame.shape == (32, 32, 3)
    assert (frame[:, 4:-4] == (0, 0, 255)).all()


def test_a_photo_taken_on_its_side_stands_upright() -> None:
    lying = Image.new("RGB", (40, 20), "red")
    lying.paste("blue", (20, 0, 40, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it
    frame = first_frame(png(lying, exif=exif), "it", width=20, height=40)[0]
    assert tuple(frame[2, 10]) == (255, 0, 0)
    assert tuple(frame[37, 10]) == (0, 0, 255)


def test_grey_pictures_and_transparent_ones_are_taken_too() -> None:
    for mode in ("L", "RGBA", "P"):
        assert first_frame(png(Image.new(mode, (16, 16))), "it", width=16, height=16).shape == (1, 16, 16, 3)


@pytest.mark.parametrize(
    "data", [b"", b"no picture", png(Image.new("RGB", (64, 64), "red"))[:60], png(Image.new("RGB", (8, 8)), "BMP")]
)
def test_what_is_no_picture_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(MediaError, match="holiday.png cannot be read as a picture.*PNG, JPEG, WEBP") as refused:
        check_picture(data, "holiday.png")
    assert "BytesIO" not in str(refused.value)
