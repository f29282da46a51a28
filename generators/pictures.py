"""Still pictures of moving ones: strips of frames, captions drawn on frames, contact sheets with time axes.

Draws what it is handed with PIL's own font (Latin letters; name a font file for other scripts). Knows nothing of takes
or verdicts.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from generators.clip import Frames
from generators.errors import MediaError

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

PAPER, INK, FAINT, LINE = "#faf8f3", "#23211d", "#8b8578", "#d9d3c6"
PROMISED, SEEN, MISSED = "#e4dccb", "#2f7d5b", "#c2452d"
COLOURS = ("#2f7d5b", "#c2452d", "#3a6ea5", "#b8862b", "#7a5195", "#5f6b6d")
"""Of curves and bars, in turn."""
MARGIN = 32
PNG = {"pred": "up", "compression_level": "2"}
"""One filter for all rows, a low level of zlib's: as small as PIL's at level 3 in half of the time (`docs/log.md`)."""


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One event on a time axis: seconds when it was promised and, when it was seen, when that was.

    What is not seen was missed, unless it was never `judged`.
    """

    text: str
    promised: tuple[float, float]
    seen: tuple[float, float] | None
    judged: bool = True


@dataclass(frozen=True, kw_only=True)
class SheetRow:
    """One shot on a contact sheet; without frames it says `missing` instead."""

    label: str
    text: str
    seconds: float
    frames: Frames | None = field(default=None, repr=False)
    lanes: tuple[Lane, ...] = ()
    missing: str = ""


def spread(count: int, wanted: int) -> list[int]:
    """Indices of `wanted` frames out of `count`, each in the middle of its share of the time."""
    wanted = min(count, wanted)
    return [(2 * i + 1) * count // (2 * wanted) for i in range(wanted)]


def thumbnails(frames: Frames, count: int, width: int) -> Frames:
    """`count` frames spread over the clip, made smaller to at most `width` pixels wide."""
    picked = frames[spread(len(frames), count)]
    _, height, full, _ = frames.shape
    if full <= width:
        return picked
    size = (width, max(1, round(height * width / full)))
    return np.stack([np.asarray(Image.fromarray(f).resize(size, Image.Resampling.BOX)) for f in picked])


def strip_jpeg(frames: Frames, quality: int = 88) -> bytes:
    """Frames side by side as one JPEG without colour subsampling (thin puppets would bleed)."""
    out = io.BytesIO()
    Image.fromarray(np.concatenate(list(frames), axis=1)).save(out, "JPEG", quality=quality, subsampling=0)
    return out.getvalue()


def draw_caption(frames: Frames, text: str, font: Path | None = None) -> Frames:
    """The frames with a line of text near their lower edge, wrapped to their width."""
    if not text or not len(frames):
        return frames
    _, height, width, _ = frames.shape
    letters = _font(max(10, height // 18), font)
    mask = Image.new("L", (width, height))
    edge = Image.new("L", (width, height))
    lines = wrap(text, letters, round(width * 0.9))
    at = (width / 2, height - height / 24)
    for layer, stroke in ((mask, 0), (edge, max(1, height // 180))):
        ImageDraw.Draw(layer).multiline_text(
            at, "\n".join(lines), fill=255, font=letters, anchor="md", align="center", stroke_width=stroke
        )
    ink = np.asarray(mask, np.uint16)[None, ..., None]
    rim = np.asarray(edge, np.uint16)[None, ..., None]
    dark = (frames * (255 - rim) + 127) // 255  # a dark rim keeps white letters readable on snow
    return ((dark * (255 - ink) + 255 * ink + 127) // 255).astype(np.uint8)


def contact_sheet(title: str, under: str, rows: list[SheetRow], *, font: Path | None = None) -> bytes:
    """A PNG with one band a shot: its frames, and beneath them its events on the same time axis, a tick a second."""
    columns = max((len(row.frames) for row in rows if row.frames is not None), default=5)
    width = 1200
    cell = (width - 2 * MARGIN) // columns
    heights = [_row_height(row, cell) for row in rows]
    sheet = Image.new("RGB", (width, 120 + sum(heights) + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 30), _fit(title, _font(34, font), width - 2 * MARGIN), fill=INK, font=_font(34, font))
    draw.text((MARGIN, 76), _fit(under, _font(18, font), width - 2 * MARGIN), fill=FAINT, font=_font(18, font))
    top = 120
    for row, height in zip(rows, heights, strict=True):
        _draw_row(sheet, draw, row, top, cell, font)
        top += height
    return png(np.asarray(sheet))


def png(picture: Frames) -> bytes:
    """One RGB picture as PNG: most rows of a drawn page are like the one above."""
    import av

    coder = av.CodecContext.create("png", "w")
    coder.height, coder.width = picture.shape[:2]
    coder.pix_fmt, coder.options = "rgb24", PNG
    coder.time_base = coder.sample_aspect_ratio = Fraction(1)
    page = av.VideoFrame.from_numpy_buffer(picture, format="rgb24")
    return b"".join(bytes(packet) for packet in [*coder.encode(page), *coder.encode(None)])


def check_font(path: Path) -> None:
    """Look before anything is filmed whether letters can be drawn with this file. Raises MediaError."""
    _font(12, path)


def wrap(text: str, letters: Font, width: int) -> list[str]:
    """Lines of whole words no wider than `width` pixels; a longer word stands alone and is cut."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and letters.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(_fit(word, letters, width))
    return lines


def _draw_row(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, row: SheetRow, top: int, cell: int, font: Path | None
) -> None:
    right = sheet.width - MARGIN
    draw.line((MARGIN, top, right, top), fill=LINE)
    draw.text((MARGIN, top + 14), row.label, fill=INK, font=_font(24, font))
    small = _font(18, font)
    draw.text((MARGIN + 56, top + 18), _fit(row.text, small, right - MARGIN - 56), fill=INK, font=small)
    top += 52
    if row.frames is None:
        why = _fit(f"not filmed: {row.missing}" if row.missing else "not filmed", small, right - MARGIN)
        draw.text((MARGIN, top + 8), why, fill=MISSED, font=small)
        return
    for index, frame in enumerate(row.frames):
        picture = Image.fromarray(frame)
        size = (cell - 6, _picture_height(row, cell))
        sheet.paste(picture.resize(size, Image.Resampling.LANCZOS), (MARGIN + index * cell + 3, top))
    top += _picture_height(row, cell) + 10
    _draw_axis(draw, row, top, MARGIN, MARGIN + len(row.frames) * cell, font)


def _draw_axis(draw: ImageDraw.ImageDraw, row: SheetRow, top: int, left: int, right: int, font: Path | None) -> None:
    def x(seconds: float) -> float:
        return left + (right - left) * min(max(seconds, 0.0), row.seconds) / row.seconds

    bottom = top + 34 * len(row.lanes)
    for second in range(int(row.seconds) + 1):
        draw.line((x(second), top, x(second), bottom + 5), fill=LINE)
        anchor = "la" if second == 0 else "ma"
        draw.text((x(second), bottom + 7), f"{second} s", fill=FAINT, font=_font(13, font), anchor=anchor)
    for index, lane in enumerate(row.lanes):
        y = top + 34 * index + 4
        draw.rectangle((x(lane.promised[0]), y, x(lane.promised[1]), y + 26), fill=PROMISED)
        colour, text = SEEN, lane.text
        if lane.seen is not None:
            draw.rectangle((x(lane.seen[0]), y + 20, max(x(lane.seen[1]), x(lane.seen[0]) + 3), y + 26), fill=SEEN)
        elif lane.judged:
            colour, text = MISSED, f"{lane.text} · not seen"
            draw.rectangle((x(lane.promised[0]), y, x(lane.promised[1]), y + 26), outline=MISSED, width=2)
        else:
            colour, text = INK, f"{lane.text} · not judged"
        wide = _font(15, font).getlength(text)
        draw.text((min(x(lane.promised[0]) + 6, right - wide), y + 2), text, fill=colour, font=_font(15, font))


def _picture_height(row: SheetRow, cell: int) -> int:
    if row.frames is None:
        return 0
    height, width = row.frames.shape[1:3]
    return int((cell - 6) * height / width + 0.5)


def _row_height(row: SheetRow, cell: int) -> int:
    return 100 if row.frames is None else 52 + _picture_height(row, cell) + 10 + 34 * len(row.lanes) + 46


def _fit(text: str, letters: Font, width: float) -> str:
    """One line of the text, cut with dots where it is too wide."""
    line = " ".join(text.split())
    if letters.getlength(line) <= width:
        return line
    low, high = 0, len(line)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if letters.getlength(line[:middle] + "…") <= width else (low, middle - 1)
    whole = line[:low] if line[low] == " " else line[:low].rpartition(" ")[0]
    return (whole or line[:low]).rstrip() + "…"


@lru_cache(maxsize=32)
def _font(size: int, path: Path | None = None) -> Font:
    if path is None:
        return ImageFont.load_default(size)
    try:
        return ImageFont.truetype(str(path), size)
    except OSError as error:
        raise MediaError(f"{path} is not a font file that can be read: {error}") from error
