"""A file is whole or not there."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from storage.errors import DiskError
from storage.media import LEFTOVER, Media, keep_file, slug


def files_under(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_kept_file_has_its_name_its_bytes_and_their_digest(tmp_path: Path) -> None:
    media = Media(tmp_path / "deep" / "media")
    digest = media.keep("run-1/a.bin", b"frames")
    assert digest == hashlib.sha256(b"frames").hexdigest()
    assert media.intact("run-1/a.bin", digest) == tmp_path / "deep" / "media" / "run-1" / "a.bin"
    assert files_under(tmp_path) == ["a.bin"]


def test_bytes_are_on_disk_before_the_name_and_the_name_before_anybody_hears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.replace

    def synced(handle: int) -> None:
        fsync(handle)
        done.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "bytes")

    def renamed(old: Path, new: Path) -> None:
        rename(old, new)
        done.append("name")

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    keep_file(tmp_path / "a.bin", b"x")
    assert done == ["bytes", "name", "folder"]


def test_others_may_read_what_the_umask_allows(tmp_path: Path) -> None:
    keep_file(tmp_path / "a.bin", b"x")
    plain = tmp_path / "plain"
    plain.write_bytes(b"x")
    assert (tmp_path / "a.bin").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("damage", ["cut", "altered", "gone", "folder"])
def test_a_damaged_file_is_not_there(tmp_path: Path, damage: str) -> None:
    media = Media(tmp_path)
    digest = media.keep("a.bin", b"0123456789")
    path = tmp_path / "a.bin"
    if damage == "cut":
        path.write_bytes(b"01234")
    elif damage == "altered":
        path.write_bytes(b"0123456780")
    else:
        path.unlink()
    if damage == "folder":
        path.mkdir()
    assert media.intact("a.bin", digest) is None


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "free some space"), (errno.EACCES, "writable"), (errno.EIO, "check the disk")],
)
def test_a_write_that_fails_half_way_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, number: int, said: str
) -> None:
    keep_file(tmp_path / "a.bin", b"before")

    def half(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(number, os.strerror(number))

    with pytest.raises(DiskError, match=rf"a\.bin.*{os.strerror(number)}.*{said}"):
        keep_file(tmp_path / "a.bin", half)
    assert files_under(tmp_path) == ["a.bin"]
    assert (tmp_path / "a.bin").read_bytes() == b"before"


def test_another_error_of_the_writer_passes_through_and_leaves_nothing(tmp_path: Path) -> None:
    def refuse(path: Path) -> None:
        path.write_bytes(b"half")
        raise ValueError("no frames")

    with pytest.raises(ValueError, match="no frames"):
        keep_file(tmp_path / "a.bin", refuse)
    assert files_under(tmp_path) == []


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "media").write_text("in the way")
    with pytest.raises(DiskError, match=r"media.*move it away"):
        Media(tmp_path / "media")
    with pytest.raises(DiskError, match=r"media.*move it away"):
        keep_file(tmp_path / "media" / "a.bin", b"x")


def test_sweeping_a_run_takes_only_its_leftovers(tmp_path: Path) -> None:
    media = Media(tmp_path)
    media.keep("run-1/a.bin", b"x")
    media.keep("run-2/b.bin", b"x")
    for run in ("run-1", "run-2"):
        (tmp_path / run / f"{LEFTOVER}123.mkv").write_bytes(b"half")
    assert media.sweep("run-1") == 1
    assert media.sweep("run-3") == 0
    assert files_under(tmp_path) == [f"{LEFTOVER}123.mkv", "a.bin", "b.bin"]


@pytest.mark.parametrize("name", ["../out.bin", "/etc/out.bin", "a/../../out.bin"])
def test_a_name_cannot_point_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(DiskError, match="points out of the media folder"):
        Media(tmp_path / "media").keep(name, b"x")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("The Fox & the Cat", "the-fox-the-cat"),
        ("../../etc/passwd", "etc-passwd"),
        ("Äpfel und Öl", "apfel-und-ol"),
        ("狐と猫", "untitled"),
        ("a" * 100, "a" * 48),
        ("", "untitled"),
    ],
)
def test_untrusted_text_makes_a_harmless_file_name(text: str, name: str) -> None:
    assert slug(text) == name
