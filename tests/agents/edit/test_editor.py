"""The editor cuts what was accepted into one film, in order and in time, and can do it again bit for bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from agents.captions import Caption, in_order, shot_captions
from agents.editor import Cut, EditOptions, FilmPlan, edit, recut
from agents.errors import EditError
from agents.outcome import Tally
from agents.reel import Look, Piece, Reel
from generators.clip import Frames
from generators.errors import BackendUnavailable, MediaError
from generators.video import read_take, write_take
from storage.errors import DiskError
from storage.media import file_sha256, keep_file
from storage.records import EventPlan, ShotRecord
from storage.tables import Event, Shot

Puppet = Callable[[int, int], Frames]


def pieces(folder: Path, *clips: tuple[Frames, dict[str, Any]]) -> list[Piece]:
    made = []
    for number, (frames, more) in enumerate(clips, 1):
        path = folder / f"{number}.mkv"
        write_take(path, frames, 8)
        made.append(Piece(shot=str(number), file=path.name, sha256=file_sha256(path), **more))
    return made


def unjudged(plan: FilmPlan) -> FilmPlan:
    """The same film, which no critic has watched."""
    takes = tuple(replace(take, verdict=None) for take in plan.record.takes)
    return replace(plan, record=replace(plan.record, takes=takes))


def run_through(reel: Reel) -> Frames:
    return np.concatenate(list(reel.frames()))


def test_hard_cuts_show_every_frame_of_every_take_and_nothing_else(tmp_path: Path, make_puppet: Puppet) -> None:
    a, b = make_puppet(5, 0), make_puppet(7, 1)
    reel = Reel(pieces(tmp_path, (a, {}), (b, {})), tmp_path, Look(scale=1))
    assert np.array_equal(run_through(reel), np.concatenate([a, b]))
    assert [(p.begins, p.seconds) for p in reel.places()] == [(0.0, 0.625), (0.625, 0.875)]


def test_a_shot_that_goes_on_shows_its_overlap_once(tmp_path: Path, make_puppet: Puppet) -> None:
    long = make_puppet(14, 0)
    parts = pieces(tmp_path, (long[:9], {}), (long[4:], {"drop": 5, "joined": True}))
    reel = Reel(parts, tmp_path, Look(scale=1, crossfade=0.5))
    assert np.array_equal(run_through(reel), long)
    assert reel.places()[1].begins == 9 / 8


def test_a_cross_fade_goes_evenly_from_one_shot_to_the_next(tmp_path: Path) -> None:
    dark, light = np.full((8, 4, 4, 3), 10, np.uint8), np.full((8, 4, 4, 3), 210, np.uint8)
    reel = Reel(pieces(tmp_path, (dark, {}), (light, {})), tmp_path, Look(scale=1, crossfade=0.375))
    assert run_through(reel)[:, 0, 0, 0].tolist() == [10] * 5 + [60, 110, 160] + [210] * 5
    assert (reel.places()[1].begins, reel.places()[1].seconds) == (5 / 8, 1.0)


@pytest.mark.parametrize("lengths", [(1, 1, 1), (2, 3, 2), (1, 9, 2), (9, 1, 9)])
@pytest.mark.parametrize("fade", [0.0, 0.25, 5.0])
def test_a_long_fade_over_short_shots_keeps_their_order_and_its_own_count(
    tmp_path: Path, make_puppet: Puppet, lengths: tuple[int, ...], fade: float
) -> None:
    parts = pieces(tmp_path, *((make_puppet(length, n), {}) for n, length in enumerate(lengths)))
    reel = Reel(parts, tmp_path, Look(scale=1, crossfade=fade))
    places = reel.places()
    begins = [place.begins for place in places]
    assert begins == sorted(begins)
    assert len(run_through(reel)) == (places[-1].begins + places[-1].seconds) * 8


def test_takes_of_two_sizes_make_no_film_and_the_shot_is_named(tmp_path: Path, make_puppet: Puppet) -> None:
    parts = pieces(tmp_path, (make_puppet(3, 0), {}), (make_puppet(3, 0)[:, ::2], {}))
    with pytest.raises(EditError, match=r"Shot 2 .*96x32 at 8.*the film is 96x64 at 8"):
        run_through(Reel(parts, tmp_path, Look(scale=1)))


def test_leaving_out_all_of_a_take_is_refused(tmp_path: Path, make_puppet: Puppet) -> None:
    parts = pieces(tmp_path, (make_puppet(3, 0), {}), (make_puppet(3, 0), {"drop": 3, "joined": True}))
    with pytest.raises(EditError, match="3 frames to leave out of 3"):
        run_through(Reel(parts, tmp_path, Look(scale=1)))


def test_a_reel_that_is_stopped_gives_no_more_frames(tmp_path: Path, make_puppet: Puppet) -> None:
    reel = Reel(pieces(tmp_path, *((make_puppet(3, n), {}) for n in range(3))), tmp_path, Look(scale=1))
    frames = reel.frames()
    next(frames)
    reel.stop()
    with pytest.raises(EditError, match="the film is given up"):
        list(frames)


def test_a_sheet_that_cannot_be_drawn_ends_the_cut_with_its_own_error(filmed: Any, tmp_path: Path) -> None:
    (tmp_path / "letters.ttf").write_text("no font")
    with pytest.raises(MediaError, match=r"letters\.ttf is not a font file"):
        edit(filmed.plan(options=EditOptions(font=str(tmp_path / "letters.ttf"))))
    assert not list(filmed.plan().folder.glob(".part-*"))


@pytest.mark.slow
def test_the_film_has_the_accepted_takes_and_says_what_is_missing(filmed: Any) -> None:
    result = edit(filmed.plan())
    assert result.film is not None
    frames, rate = read_take(result.film)
    assert len(frames) == 17 + (17 - 5) + 17
    assert frames.shape[1:3] == (128, 192)
    assert rate == 8
    assert result.seconds == len(frames) / 8
    assert result.missing == ("4",)
    assert result.tally == Tally(promised=5, seen=3, unfilmed=1)
    assert result.takes == (1, 2, 4)


def test_every_file_is_there_with_the_digest_it_is_kept_under(filmed: Any) -> None:
    result = edit(filmed.plan())
    there = {path.name: file_sha256(path) for path in result.folder.iterdir()}
    assert there == result.files
    assert set(there) == {
        "film.mp4",
        "film.srt",
        "film.vtt",
        "contact-sheet.png",
        "manifest.json",
        "report.html",
    }


def test_captions_stand_in_film_time_when_the_event_was_seen(filmed: Any) -> None:
    result = edit(filmed.plan())
    srt = (result.folder / "film.srt").read_text()
    times = [line for line in srt.splitlines() if "-->" in line]
    assert times == [
        "00:00:00,100 --> 00:00:00,900",  # seen at 0.1-0.9
        "00:00:01,100 --> 00:00:02,000",  # not seen: as it was to be
        "00:00:02,125 --> 00:00:03,400",  # seen at 0.6-1.9 of a take whose first 5 frames are left out
        "00:00:03,825 --> 00:00:05,425",
    ]
    vtt = (result.folder / "film.vtt").read_text()
    assert vtt.startswith(
        "WEBVTT\n\n00:00:00.100 --> 00:00:00.900\nOn a meadow by day the red fox walks to the right\n"
    )


def test_a_caption_says_who_acts_in_the_words_of_the_prompt() -> None:
    prompt = f"By day, {'very ' * 20}long scenery shows. The fox leaps up. Next the cat, tired, leaps up; sleeps"
    events = [Event(number=n, subject="s", phrase=p, start=n, end=n + 1) for n, p in enumerate(["leaps up"] * 2)]
    events += [Event(number=3, subject="s", phrase="sleeps", start=3, end=4)]
    row, times = Shot(prompt=prompt, number=1), [(1.0, 2.0), (2.0, 3.0), (3.0, 4.0)]
    shot = ShotRecord(shot=row, events=tuple(events), first=row, promised=tuple(events))
    assert [c.text for c in shot_captions(shot, None, times)] == ["The fox leaps up", "Leaps up", "Sleeps"]


def test_captions_stand_in_the_order_they_begin_in() -> None:
    told = [Caption(start=s, end=e, text=t) for s, e, t in ((2.0, 3.0, "b"), (1.0, 2.0, "a"), (2.0, 2.5, "c"))]
    assert [caption.text for caption in in_order(told)] == ["a", "c", "b"]


def test_a_shot_is_told_as_the_story_was_first_told_whatever_words_came_later(filmed: Any) -> None:
    before = edit(filmed.plan(out="before"))
    shot = filmed.archive.shots(filmed.run_id)[0]
    later = replace(
        shot.plan,
        prompt="The red fox strolls. Then it hops.",
        events=(
            EventPlan(subject="Rena", phrase="strolls", start=0.4, end=0.9),
            EventPlan(subject="Rena", phrase="it hops", start=1.0, end=1.3),
        ),
    )
    filmed.archive.revise_shot(shot.shot.id, later, "in other words")
    after = edit(filmed.plan(out="after"))
    for name in ("film.srt", "film.vtt", "contact-sheet.png"):
        assert (after.folder / name).read_bytes() == (before.folder / name).read_bytes()
    assert "strolls" not in after.report.read_text()
    filmed.cuts[0] = Cut(shot="1", take_id=filmed.film(0, 2, [(True, 0.1, 0.9), (False, None, None)], seed=8))
    reworded = edit(filmed.plan(out="reworded"))
    assert (reworded.folder / "film.srt").read_bytes() == (before.folder / "film.srt").read_bytes()
    assert "told as “The red fox strolls. Then it hops.”" in reworded.report.read_text()


def test_a_caption_of_what_the_critic_looked_for_and_did_not_see_says_so(filmed: Any) -> None:
    lines = (edit(filmed.plan()).folder / "film.srt").read_text().splitlines()
    told = [line for line in lines if "red fox" in line]
    assert told == [
        "On a meadow by day the red fox walks to the right",
        "(not seen) Then the red fox jumps high",
        "The red fox spins",
    ]


def test_where_nobody_judged_captions_tell_the_story_as_it_is_written(filmed: Any) -> None:
    srt = (edit(unjudged(filmed.plan())).folder / "film.srt").read_text()
    assert "\nThen the red fox jumps high\n" in srt
    assert "not seen" not in srt


def test_markup_in_a_caption_is_text(filmed: Any, hostile: str) -> None:
    result = edit(filmed.plan())
    for name in ("film.srt", "film.vtt"):
        text = (result.folder / name).read_text()
        assert "<script>" not in text
        assert text.count("-->") == 4


def test_when_the_shot_before_is_missing_the_overlap_is_shown(filmed: Any) -> None:
    del filmed.cuts[0]
    result = edit(filmed.plan())
    assert result.missing == ("1", "4")
    assert result.seconds == (17 + 17) / 8


@pytest.mark.slow
def test_burnt_in_captions_are_on_the_frames_while_the_event_lasts(filmed: Any) -> None:
    del filmed.cuts[1:]
    plain, _ = read_take(edit(filmed.plan(EditOptions(scale=4), out="a")).film)
    burnt, _ = read_take(edit(filmed.plan(EditOptions(scale=4, burn_captions=True), out="b")).film)
    lower = np.abs(plain.astype(int) - burnt)[:, 170:].mean(axis=(1, 2, 3))
    upper = np.abs(plain.astype(int) - burnt)[:, :120].mean(axis=(1, 2, 3))
    assert lower[1:7].min() > 5 * max(1.0, upper.max())
    assert lower[8] < 3


@pytest.mark.slow
def test_the_same_plan_makes_the_same_bytes(filmed: Any) -> None:
    options = EditOptions(crossfade=0.25, burn_captions=True, scale=2)
    first, second = edit(filmed.plan(options, "a")), edit(filmed.plan(options, "b"))
    assert first.files == second.files


@pytest.mark.slow
@pytest.mark.parametrize("options", [EditOptions(scale=1), EditOptions(crossfade=0.5, burn_captions=True, scale=3)])
def test_the_film_is_made_again_from_its_manifest_bit_for_bit(filmed: Any, options: EditOptions) -> None:
    result = edit(filmed.plan(options))
    manifest = filmed.folder / "elsewhere" / "manifest.json"
    keep_file(manifest, (result.folder / "manifest.json").read_bytes())
    again = recut(manifest, filmed.archive.media.folder, filmed.folder / "again")
    assert again.read_bytes() == (result.folder / "film.mp4").read_bytes()


def test_the_manifest_holds_what_filming_it_again_takes(filmed: Any, hostile: str) -> None:
    manifest = json.loads((edit(filmed.plan()).folder / "manifest.json").read_text())
    assert hostile in manifest["story"]
    assert {"python", "numpy", "av", "torch", "ffmpeg"} <= manifest["versions"].keys()
    assert [take["seed"] for take in manifest["takes"]] == [7, 7, 7, 99]
    assert manifest["takes"][0]["request"]["frames"] == 17
    assert str(filmed.folder) not in json.dumps(manifest)


@pytest.mark.slow
def test_a_film_that_comes_out_otherwise_is_an_error(filmed: Any) -> None:
    result = edit(filmed.plan())
    said = json.loads((result.folder / "manifest.json").read_text())
    said["film"], said["versions"]["ffmpeg"] = "0" * 64, "1.0"
    manifest = filmed.folder / "manifest.json"
    manifest.write_text(json.dumps(said))
    with pytest.raises(EditError, match=r"not the same bytes.*ffmpeg 1\.0 then"):
        recut(manifest, filmed.archive.media.folder, filmed.folder / "again")


@pytest.mark.parametrize("text", ["not json", "[]", '{"format": 99}'])
def test_what_is_no_manifest_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(EditError, match=r"m\.json"):
        recut(tmp_path / "m.json", tmp_path, tmp_path)


@pytest.mark.parametrize("damage", ["altered", "gone"])
def test_an_altered_take_stops_the_cut_and_leaves_no_half_film(filmed: Any, damage: str) -> None:
    path = filmed.archive.media.folder / "run-000001" / "shot-002-take-01.mkv"
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(EditError, match=r"shot-002-take-01\.mkv of shot 2"):
        edit(filmed.plan())
    assert list((filmed.folder / "film").iterdir()) == []


def test_a_plan_that_does_not_fit_the_rows_is_refused(filmed: Any) -> None:
    with pytest.raises(EditError, match=r"\['9'\]"):
        edit(replace(filmed.plan(), cuts=(Cut(shot="9", take_id=1),)))
    with pytest.raises(EditError, match="Take 2 is not a finished take of shot 1"):
        edit(replace(filmed.plan(), cuts=(Cut(shot="1", take_id=2),)))


def test_without_a_single_take_there_is_a_report_and_no_film(filmed: Any) -> None:
    result = edit(replace(filmed.plan(), cuts=()))
    assert result.film is None
    assert result.missing == ("1", "2", "3", "4")
    assert "film.mp4" not in result.files
    assert "There is no film" in result.report.read_text()


def test_a_folder_that_cannot_be_written_is_named(filmed: Any) -> None:
    (filmed.folder / "taken").write_text("a file")
    with pytest.raises(DiskError, match="taken"):
        edit(filmed.plan(out="taken"))


def test_a_wrong_ffmpeg_stops_the_cut_before_anything_is_written(filmed: Any) -> None:
    with pytest.raises(BackendUnavailable, match="no-such-ffmpeg"):
        edit(filmed.plan(EditOptions(ffmpeg="no-such-ffmpeg")))
    assert not (filmed.folder / "film").exists()


def test_the_contact_sheet_has_a_band_for_every_shot(filmed: Any) -> None:
    sheet = Image.open(edit(filmed.plan()).folder / "contact-sheet.png").convert("RGB")
    pixels = np.asarray(sheet).astype(int)
    assert sheet.width == 1200
    yellow = (np.abs(pixels - (250, 224, 40)).sum(-1) < 30).any(axis=1)
    blue = (np.abs(pixels - (44, 82, 222)).sum(-1) < 30).any(axis=1)
    bands = [int((np.diff(rows.astype(int)) == 1).sum()) for rows in (yellow, blue)]
    assert bands == [2, 1]  # shots 1 and 2 wear yellow, the accepted take of shot 3 blue, shot 4 is missing


def test_a_long_film_has_several_contact_sheets(filmed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def height(picture: Path) -> int:
        with Image.open(picture) as image:
            return image.height

    whole = height(edit(filmed.plan()).folder / "contact-sheet.png")
    monkeypatch.setattr("agents.editor.SHEET_SHOTS", 3)
    result = edit(filmed.plan(out="pages"))
    names = sorted(name for name in result.files if name.startswith("contact-sheet"))
    assert names == ["contact-sheet-02.png", "contact-sheet.png"]
    assert height(result.folder / names[0]) < height(result.folder / names[1]) < whole


def test_the_contact_sheet_calls_nothing_unseen_that_nobody_judged(filmed: Any) -> None:
    def has_red(plan: FilmPlan) -> bool:
        sheet = Image.open(edit(plan).folder / "contact-sheet.png").convert("RGB")
        return bool((np.asarray(sheet) == (194, 69, 45)).all(-1).any())

    plan = filmed.plan()
    filmed_shots = replace(plan, record=replace(plan.record, shots=plan.record.shots[:3]))
    assert has_red(filmed_shots)
    assert not has_red(unjudged(filmed_shots))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"crossfade": -1}, "crossfade"),
        ({"scale": 0}, "scale"),
        ({"sheet_frames": 0}, "frames"),
        ({"crf": 99}, "crf"),
    ],
)
def test_options_out_of_range_are_named(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"EditOptions.*{said}"):
        EditOptions(**wrong)


@pytest.mark.slow
def test_a_lost_folder_of_films_is_made_again_from_the_same_rows(filmed: Any) -> None:
    first = edit(filmed.plan())
    shutil.rmtree(first.folder)
    assert edit(filmed.plan()).files == first.files
