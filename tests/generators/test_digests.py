"""A digest follows a checkpoint's contents, whole files and sampled ones alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from generators import digests
from generators.digests import ENDS, WHOLE, file_digest, weights_digest


def test_it_follows_names_and_contents_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "model.safetensors").write_bytes(b"1")
    first = weights_digest(tmp_path)
    (tmp_path / "README.md").write_text("a card")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "download.lock").write_text("")
    assert weights_digest(tmp_path) == first
    (tmp_path / "vae" / "model.safetensors").write_bytes(b"2")
    second = weights_digest(tmp_path)
    (tmp_path / "vae" / "model.safetensors").rename(tmp_path / "vae" / "other.safetensors")
    assert len({first, second, weights_digest(tmp_path)}) == 3


def test_a_copy_elsewhere_has_the_same_digest(tmp_path: Path) -> None:
    for place in ("here", "there"):
        (tmp_path / place / "transformer").mkdir(parents=True)
        (tmp_path / place / "transformer" / "w").write_bytes(bytes(range(256)))
    assert weights_digest(tmp_path / "here") == weights_digest(tmp_path / "there")


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A sparse file, larger than what is read whole."""
    file = tmp_path / "large"
    with file.open("wb") as opened:
        opened.truncate(2 * WHOLE)
    return file


@pytest.mark.parametrize("place", [0, ENDS - 1, 2 * WHOLE - 1, "sample"])
def test_a_large_file_is_told_apart_by_its_ends_its_samples_and_its_size(large: Path, place: int | str) -> None:
    before = file_digest(large)
    at = list(digests._places(2 * WHOLE))[9][0] if place == "sample" else int(place)
    with large.open("r+b") as opened:
        opened.seek(at)
        opened.write(b"x")
    changed = file_digest(large)
    with large.open("r+b") as opened:
        opened.truncate(2 * WHOLE + 1)
    assert len({before, changed, file_digest(large)}) == 3
    assert sum(length for _, length in digests._places(2 * WHOLE)) < 8 * 2**20
