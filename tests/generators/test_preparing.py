"""Training data out of videos: cuts, runs that look alike, captions kept when stopped, tables and windows."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pytest

from generators.clip import Frames
from generators.errors import MediaError, TrainingError
from generators.training.preparing import footage
from generators.training.preparing.cuts import CutSettings, find_shots
from generators.training.preparing.footage import ClipRow, fitted, probe, read_rows, read_window
from generators.training.preparing.pairs import compared, grouped
from generators.training.preparing.prepare import Preparation, prepare
from generators.training.scenes_data import FootageSets, Framing
from generators.video import write_film, write_take

LENGTHS = (20, 25, 18, 16)
COLOURS = ((200, 40, 40), (190, 60, 40), (40, 60, 220), (50, 60, 210))
"""Two reddish shots, two bluish ones."""
CUTS = Preparation(cuts=CutSettings(threshold=5.0, shortest=8))


def shot(colour: Sequence[int], frames: int, count_by: int = 4) -> Frames:
    """A plain colour with a little noise and a frame counter: a corner is so many times the frame's number."""
    noise = np.random.default_rng(0).integers(0, 6, (frames, 64, 96, 3))
    made = (np.array(colour) + noise).astype(np.uint8)
    made[:, :8, :8] = np.arange(frames)[:, None, None, None] * count_by
    return made


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one H.264 film of four shots."""
    folder = tmp_path_factory.mktemp("videos")
    shots = [shot(colour, frames, 8) for colour, frames in zip(COLOURS, LENGTHS, strict=True)]
    write_film(folder / "film.mp4", shots, 8)
    return folder


class Colours:
    """The mean colour as a vector about grey."""

    name = "colours"

    def __init__(self) -> None:
        self.calls = 0

    def embed(self, frames: Frames) -> np.ndarray:
        self.calls += 1
        return frames.reshape(len(frames), -1, 3).mean(axis=1) - 110.0


class Counter:
    """Tells how many frames it was shown; stops at a call, as a person would."""

    def __init__(self, stops_at: int | None = None) -> None:
        self.stops_at, self.calls = stops_at, 0
        self.before: list[list[str]] = []

    def caption(self, frames: Frames, fps: float, before: Sequence[str]) -> str:
        if self.calls == self.stops_at:
            raise KeyboardInterrupt
        self.calls += 1
        self.before.append(list(before))
        return f"{len(frames)} frames at {fps:g} a second"


def test_cuts_are_found_where_they_are(videos: Path) -> None:
    assert find_shots(videos / "film.mp4", CUTS.cuts) == list(pairwise(accumulate(LENGTHS, initial=0)))
    assert find_shots(videos / "film.mp4", CutSettings(threshold=250.0)) == [(0, sum(LENGTHS))]


def test_without_the_package_the_extra_is_named(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    with pytest.raises(TrainingError, match=r"pip install --editable '\.\[train\]'"):
        find_shots(videos / "film.mp4", CUTS.cuts)


def test_neighbours_that_look_alike_are_one_run(videos: Path, tmp_path: Path) -> None:
    made = prepare(videos, tmp_path, CUTS, Colours(), Counter())
    rows = read_rows(made.table)
    assert (made.videos, made.shots, made.runs, made.longest, made.captioned) == (1, 4, 2, 2, 4)
    assert [row.group for row in rows] == ["film.mp4/0", "film.mp4/0", "film.mp4/1", "film.mp4/1"]
    similar = [row.similarity for row in rows]
    assert similar[0] is None
    assert similar[1] is not None
    assert similar[1] > 0.95
    assert similar[2] is not None
    assert similar[2] < 0
    assert [row.caption for row in rows] == [f"{n} frames at 8 a second" for n in LENGTHS]


def test_captioners_hear_the_captions_of_their_own_run_only(videos: Path, tmp_path: Path) -> None:
    counter = Counter()
    prepare(videos, tmp_path, CUTS, Colours(), counter)
    assert counter.before == [[], ["20 frames at 8 a second"], [], ["18 frames at 8 a second"]]


def test_stopped_work_goes_on_without_doing_anything_twice(videos: Path, tmp_path: Path) -> None:
    colours = Colours()
    with pytest.raises(KeyboardInterrupt):
        prepare(videos, tmp_path, CUTS, colours, Counter(stops_at=2))
    assert not (tmp_path / "clips.jsonl").exists()
    counter = Counter()
    made = prepare(videos, tmp_path, CUTS, colours, counter)
    assert (counter.calls, colours.calls, made.captioned) == (2, 4, 4)
    again = Counter()
    before = made.table.read_bytes()
    assert prepare(videos, tmp_path, CUTS, colours, again).table.read_bytes() == before
    assert again.calls == 0
    # other cuts: stretches that stay keep what was paid for
    coarser = replace(CUTS, cuts=replace(CUTS.cuts, threshold=30.0))
    assert prepare(videos, tmp_path, coarser, colours, again).shots < 4


def test_captions_beside_a_video_come_first(videos: Path, tmp_path: Path) -> None:
    (videos / "film.txt").write_text("one\ntwo\n\nthree\nfour\n")
    try:
        rows = read_rows(prepare(videos, tmp_path / "a", CUTS).table)
        assert [row.caption for row in rows] == ["one", "two", "three", "four"]
        (videos / "film.txt").write_text("one\ntwo\n")
        with pytest.raises(TrainingError, match="each of 4 shots, or one; got 2"):
            prepare(videos, tmp_path / "b", CUTS)
    finally:
        (videos / "film.txt").unlink()


def test_without_an_encoder_a_video_is_one_run(videos: Path, tmp_path: Path) -> None:
    made = prepare(videos, tmp_path, CUTS)
    assert (made.runs, made.longest, made.captioned) == (1, 4, 0)
    with pytest.raises(TrainingError, match="4 clips have no caption"):
        FootageSets(read_rows(made.table), Framing(frames=9, width=32, height=32))


def test_a_folder_without_videos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="expected a folder with videos"):
        prepare(tmp_path, tmp_path / "out", CUTS)
    (tmp_path / "no.mp4").write_text("no video")
    with pytest.raises(MediaError, match=r"no\.mp4 is not a readable video"):
        prepare(tmp_path, tmp_path / "out", CUTS)


def test_a_window_holds_the_frames_it_was_asked_for(videos: Path, tmp_path: Path) -> None:
    lossless = tmp_path / "take.mkv"
    write_take(lossless, shot((90, 90, 90), 60), 8)
    assert probe(lossless).frames == 60
    window = read_window(lossless, 17, 5, 3)
    assert (window[:, 0, 0, 0] // 4).tolist() == [17, 20, 23, 26, 29]
    film = read_window(videos / "film.mp4", 25, 4, 2)  # in the second shot, far from a key frame
    assert np.abs(film[:, 2:6, 2:6, 0].mean(axis=(1, 2)) / 8 - [5, 7, 9, 11]).max() < 0.9
    with pytest.raises(MediaError, match="expected frames 90"):
        read_window(lossless, 90, 2)


def test_frames_fill_their_canvas_and_keep_their_shape() -> None:
    frames = np.zeros((2, 64, 96, 3), np.uint8)
    frames[:, :, 48:] = 200
    made = fitted(frames, 32, 32)
    assert made.shape == (2, 32, 32, 3)
    assert made[0, :, :14].max() < 20  # the edge is still in the middle
    assert made[0, :, 18:].min() > 180
    assert fitted(frames, 96, 64) is frames
    assert fitted(frames, 200, 40).shape == (2, 40, 200, 3)


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "folder"])
def test_clips_are_read_from_every_kind_of_source(kind: str, tmp_path: Path) -> None:
    entries = []
    for name in ("a/1", "a/2", "b/1"):
        file = tmp_path / f"{name}.mkv"
        file.parent.mkdir(exist_ok=True)
        write_take(file, shot((9, 9, 9), 12), 8)
        file.with_suffix(".txt").write_text(f"clip {name}")
        entries.append({"path": f"{name}.mkv", "caption": f"clip {name}", "group": name[0]})
    table = tmp_path / f"clips.{kind}"
    if kind == "csv":
        with table.open("w", newline="") as out:
            writer = csv.DictWriter(out, list(entries[0]))
            writer.writeheader()
            writer.writerows(entries)
    elif kind == "json":
        table.write_text(json.dumps(entries))
    elif kind == "jsonl":
        table.write_text("\n".join(map(json.dumps, entries)) + "\n")
    rows = read_rows(tmp_path if kind == "folder" else table)
    assert [(row.caption, row.group, row.first, row.last) for row in rows] == [
        ("clip a/1", "a", 0, 12),
        ("clip a/2", "a", 0, 12),
        ("clip b/1", "b", 0, 12),
    ]


def test_what_is_wrong_with_a_table_is_named(tmp_path: Path) -> None:
    cases = {
        "a.jsonl": ('{"caption": "x"}', "clip 1: expected a path"),
        "b.json": ("[1]", "list of objects"),
        "c.json": ("nothing", "cannot be read"),
        "d.csv": ("path,caption\n", "names no clip"),
        "e.txt": ("x", "expected a folder of videos"),
    }
    for name, (text, said) in cases.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(TrainingError, match=said):
            read_rows(tmp_path / name)


@pytest.fixture(scope="module")
def forty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 40 frames."""
    file = tmp_path_factory.mktemp("forty") / "forty.mkv"
    write_take(file, shot((9, 9, 9), 40), 8)
    return file


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"first": 0, "last": 60, "fps": 8}, "expected 0 <= first < last <= 40, its frames, got 0 and 60"),
        ({"first": -50, "last": 20, "fps": 8}, "got -50 and 20"),
        ({"first": 9, "last": 9}, "got 9 and 9"),
        ({"first": 0, "last": 0}, "got 0 and 0"),
        ({"first": 0.5}, "got 0.5 and 40"),
        ({"first": [1], "last": 3, "fps": 8}, r"first: expected a number, got \[1\]"),
        ({"last": True}, "last: expected a number, got True"),
        ({"fps": float("nan")}, "fps: expected a number, got nan"),
        ({"fps": "inf"}, "fps: expected a number, got 'inf'"),
        ({"fps": 0}, "fps: expected more than 0, got 0"),
        ({"fps": 10**400}, "fps: expected a number, got 1000"),
        ({"path": "nothere.mkv", "first": 0, "last": 40, "fps": 8}, r"nothere\.mkv is not a readable video"),
    ],
)
def test_a_row_that_its_file_does_not_hold_is_named(row: dict[str, object], said: str, forty: Path) -> None:
    table = forty.parent / "clips.jsonl"
    good = {"path": forty.name, "caption": "grey", "first": "8", "last": 40.0, "fps": 8}
    table.write_text("\n".join(json.dumps(one) for one in (good, good | {"first": 0, "last": 40} | row)))
    with pytest.raises(TrainingError, match=rf"clips\.jsonl, clip 2 \({row.get('path', forty.name)}\): .*{said}"):
        read_rows(table)


def test_a_last_frame_that_only_the_decoder_counted_is_the_files_last(forty: Path) -> None:
    table = forty.parent / "one-more.csv"
    table.write_text(f"path,caption,first,last,fps\n{forty.name},grey,30,41,8\n")
    assert [(row.first, row.last) for row in read_rows(table)] == [(30, 40)]
    assert read_window(forty, 30, 10).shape[0] == 10


def test_every_file_of_a_table_is_looked_at_once(forty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Path] = []
    monkeypatch.setattr(footage, "probe", lambda path: looked.append(path) or probe(path))
    table = forty.parent / "often.csv"
    table.write_text("path,caption,first,last,fps\n" + f"{forty.name},grey,0,20,8\n" * 3)
    assert [row.count for row in read_rows(table)] == [20] * 3
    assert looked == [forty]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_captions_may_hold_what_ends_lines_elsewhere(kind: str, forty: Path) -> None:
    caption = "one\u2028two\x85three\x0bfour"
    row = json.dumps({"path": forty.name, "caption": caption}, ensure_ascii=False)
    table = forty.parent / f"lines.{kind}"
    table.write_text(f'path,caption\n{forty.name},"{caption}"\n' if kind == "csv" else f"{row}\n{row}\n")
    assert {one.caption for one in read_rows(table)} == {caption}


def test_a_line_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,caption\na.mkv,x\nb.mkv," + "x" * 200_000)
    with pytest.raises(TrainingError, match=r"a\.csv, line 3, cannot be read: field larger"):
        read_rows(tmp_path / "a.csv")
    (tmp_path / "b.jsonl").write_text('{"path": "a.mkv"}\n{"path"\n')
    with pytest.raises(TrainingError, match=r"b\.jsonl, line 2, cannot be read"):
        read_rows(tmp_path / "b.jsonl")
    (tmp_path / "c.json").write_text("5")
    with pytest.raises(TrainingError, match=r"c\.json: expected a list of objects"):
        read_rows(tmp_path / "c.json")


def test_a_window_beyond_the_end_is_refused_and_a_missing_frame_has_its_neighbour(forty: Path) -> None:
    assert (read_window(forty, 36, 2, 4)[:, 0, 0, 0] // 4).tolist() == [36, 39]
    with pytest.raises(MediaError, match="expected frames 30 to 54, found none at 42"):
        read_window(forty, 30, 9, 3)


@pytest.mark.slow
def test_related_sets_are_consecutive_and_shots_that_are_too_short_end_a_run(tmp_path: Path) -> None:
    file = tmp_path / "long.mkv"
    write_take(file, shot((9, 9, 9), 60), 8)

    def row(first: int, last: int, group: str) -> ClipRow:
        return ClipRow(path=file, first=first, last=last, fps=8, group=group, caption=f"{group} {first}")

    rows = [row(0, 20, "a"), row(20, 24, "a"), row(24, 40, "a"), row(40, 55, "a"), row(0, 30, "b")]
    sets = FootageSets(rows, Framing(frames=9, width=96, height=64, stride=2))
    assert sets.left_out == 1
    rng = np.random.default_rng(0)
    for _ in range(4):
        drawn = sets.draw(rng, shots=2, related=True)
        assert drawn.captions == ("a 24", "a 40")
        first = drawn.shots[0][:, 0, 0, 0] // 4
        assert set(np.diff(first)) <= {1, 2}
        assert first[0] >= 24
        assert first[-1] < 40
    assert len({sets.draw(rng, shots=2, related=False).captions for _ in range(20)}) > 4
    with pytest.raises(TrainingError, match="No group of clips has 3"):
        sets.draw(rng, shots=3, related=True)
    with pytest.raises(TrainingError, match="No clip of 5 has 99 frames"):
        FootageSets(rows, Framing(frames=99, width=96, height=64))


def test_similarity_is_the_cosine_of_mean_directions(tmp_path: Path) -> None:
    file = tmp_path / "long.mkv"
    write_take(file, np.concatenate([shot(COLOURS[0], 10), shot(COLOURS[2], 10)]), 8)
    rows = [ClipRow(path=file, first=a, last=a + 10, fps=8, group="g") for a in (0, 10)]
    one, two = compared(rows, Colours())
    means = []
    for number in (0, 10):
        vectors = Colours().embed(read_window(file, number + 2, 4, 2))
        mean = np.mean([v / np.linalg.norm(v) for v in vectors], axis=0)
        means.append(mean / np.linalg.norm(mean))
    assert one.similarity is None
    assert two.similarity == pytest.approx(float(means[0] @ means[1]))
    assert [row.group for row in grouped([one, two], 0.5, "v")] == ["v/0", "v/1"]
    assert [row.group for row in grouped([one, two], None, "v")] == ["v/0", "v/0"]
