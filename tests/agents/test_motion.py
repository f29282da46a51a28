"""Whose motion a shot has: how sources are named, settled and refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agents.batch import read_batch
from agents.boardfile import board_text
from agents.controls import MotionFrom, controls_json, read_controls
from agents.errors import PlanError, UsageError
from agents.motion import Settling, check_board, motion_of, settled, shown, with_motion
from agents.order import Order, motion_wishes
from agents.staging import stage_board
from agents.storyboard import PlannedShot, Storyboard, Subject
from generators.backends.instant import SMALL
from generators.camera import camera_frames
from generators.clip import Limits, ShotRequest
from generators.controls.config import MotionQueries, TSAttn
from generators.controls.noise_windows import ddpm_window
from generators.errors import MediaError
from generators.video import write_take
from storage.archive import Archive


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with Archive(tmp_path / "media") as opened:
        yield opened


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    frames = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    write_take(tmp_path / "horse.mkv", frames, 8)
    return tmp_path / "horse.mkv"


def board(*sources: str | None, continues: tuple[int, ...] = ()) -> Storyboard:
    return Storyboard(
        title="Pim",
        shots=tuple(
            PlannedShot(
                prompt=f"Shot {number}.",
                seconds=4.0,
                transition="continues" if number in continues else "cut",
                motion_from=source,
            )
            for number, source in enumerate(sources, 1)
        ),
    )


def test_a_source_is_for_all_shots_or_for_the_one_it_names() -> None:
    assert motion_wishes(["clip.mp4", "2=shot 1", "12=a=b.mp4"]) == {0: "clip.mp4", 2: "shot 1", 12: "a=b.mp4"}


@pytest.mark.parametrize("named", [["2=a.mp4", "2=b.mp4"], ["a.mp4", "b.mp4"], ["  "]])
def test_a_shot_has_one_source(named: list[str]) -> None:
    with pytest.raises(UsageError, match="motion from"):
        Order(story="a", motion_from=tuple(named))


def test_a_text_in_the_place_of_sources_is_refused() -> None:
    with pytest.raises(UsageError, match="expected a tuple"):
        Order(story="a", motion_from="clip.mp4")  # type: ignore[arg-type]


def test_what_a_shot_names_itself_goes_before_what_is_named_for_all() -> None:
    asked = with_motion(board(None, "sha256:" + "a" * 64, None), {0: "shot 1", 3: "shot 2"})
    assert [shot.motion_from for shot in asked.shots] == [None, "sha256:" + "a" * 64, "shot 2"]


def test_a_shot_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match="no shot 7; the storyboard has 2: run the story again"):
        with_motion(board(None, None), {7: "shot 1"})


@pytest.mark.parametrize(
    ("sources", "continues"),
    [(("shot 1",), ()), (("shot 2", "shot 1"), ()), (("shot 2", None), (2,)), (("shot 3", None, "shot 2"), (2,))],
)
def test_shots_that_would_wait_for_themselves_are_refused(
    sources: tuple[str | None, ...], continues: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="waits for itself"):
        board(*sources, continues=continues)


def test_a_later_shot_may_lend_its_motion_to_an_earlier_one() -> None:
    assert board("shot 3", None, None, continues=(2,)).shots[0].motion_from == "shot 3"
    with pytest.raises(ValueError, match="there are shots 1 to 2"):
        board("shot 3", None)


def test_a_storyboard_without_motion_reads_as_before() -> None:
    assert "motion_from" not in board_text(board(None))


def test_a_file_is_kept_and_named_by_its_content(archive: Archive, clip: Path) -> None:
    order = settled(Order(from_plan=board(str(clip), "shot 1"), motion_from=(f"2={clip}",)), archive)
    (number, source), *others = motion_wishes(order.motion_from).items()
    assert (number, others) == (2, [])
    assert source.startswith("sha256:")
    assert isinstance(order.from_plan, Storyboard)
    assert [shot.motion_from for shot in order.from_plan.shots] == [source, "shot 1"]
    clip.unlink()
    kept = archive.clip(source.removeprefix("sha256:"))
    assert kept is not None
    assert settled(order, archive) == order


def test_a_storyboards_files_lie_beside_it(archive: Archive, clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "board.yaml"
    path.write_text(board_text(board("horse.mkv")))
    assert isinstance(settled(Order(from_plan=path), archive).from_plan, Storyboard)


def test_looking_alone_keeps_nothing(archive: Archive, clip: Path) -> None:
    named = settled(Order(story="a", motion_from=(str(clip),)), archive, keeps=False).motion_from[0]
    assert archive.clip(named.removeprefix("sha256:")) is None


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gone.mp4", "No video file"),
        ("sha256:" + "0" * 64, "no such clip"),
        ("board.yaml", "not a readable video"),
        ("camera wobble", "motion from camera wobble: expected `camera` and one of pan left, pan right, tilt up"),
        ("camera pan left over board.yaml", "cannot be read as a picture"),
        ("camera pan left over gone.png", "gone.png"),
        ("camera pan left over sha256:" + "0" * 64, "picture .* altered or gone"),
    ],
)
def test_what_cannot_be_used_says_what_was_expected(
    archive: Archive, tmp_path: Path, source: str, message: str
) -> None:
    (tmp_path / "board.yaml").write_text("title: Pim")
    with pytest.raises(UsageError, match=message):
        Settling(archive=archive, folder=tmp_path).settled(source)


def test_a_share_of_no_motion_is_refused(archive: Archive) -> None:
    with pytest.raises(UsageError, match="no motion to share"):
        settled(Order(story="a", motion_share=0.4), archive)


def test_a_backend_without_a_way_to_move_shots_is_found_before_filming(archive: Archive, clip: Path) -> None:
    asked = Settling(archive=archive, folder=clip.parent).of_board(board("horse.mkv"))
    check_board(asked, archive, SMALL)
    with pytest.raises(PlanError, match="shot 1: this backend cannot"):
        check_board(asked, archive, Limits(width=16, height=16, fps=8, frame_counts=(33,)))


def test_a_clip_that_is_too_short_is_found_before_filming(archive: Archive, tmp_path: Path) -> None:
    write_take(tmp_path / "short.mkv", np.zeros((4, 16, 16, 3), np.uint8), 8)
    asked = Settling(archive=archive, folder=tmp_path).of_board(board(None, "short.mkv"))
    with pytest.raises(MediaError, match=r"shot 2: .* lasts 0\.50 s"):
        check_board(asked, archive, SMALL)


def test_the_control_of_a_take_is_plain_json_and_is_shown_its_clip_when_it_is_filmed(
    archive: Archive, clip: Path
) -> None:
    control = MotionFrom(clip=archive.keep_clip(clip), prompt="A horse runs.", steps=0.4)
    assert read_controls(controls_json((control, TSAttn()))) == (control, TSAttn())
    asked = ShotRequest(prompt="a", frames=9, fps=8, width=32, height=16, seed=1, controls=(control,))
    (moving,) = shown(asked, archive).controls
    assert isinstance(moving, MotionQueries)
    assert (moving.frames.shape, moving.prompt, moving.steps) == ((9, 16, 32, 3), "A horse runs.", 0.4)
    assert shown(asked, archive).digest() == shown(asked, archive).digest()


def test_a_cameras_move_is_a_source_over_nothing_or_over_a_picture(archive: Archive, tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), (200, 30, 30)).save(tmp_path / "hill.png")
    here = Settling(archive=archive, folder=tmp_path)
    bare, over = here.settled("camera pan left"), here.settled("camera zoom in over hill.png")
    (tmp_path / "hill.png").unlink()
    check_board(board(over), archive, SMALL)
    assert bare == "camera pan left"
    assert here.settled(over) == over
    controls = [motion_of(source, None, archive, None) for source in (bare, over)]
    assert read_controls(controls_json(controls)) == tuple(controls)
    asked = ShotRequest(prompt="a", frames=9, fps=8, width=32, height=16, seed=1, controls=tuple(controls))
    panning, zooming = shown(asked, archive).controls
    assert isinstance(panning, MotionQueries)
    assert isinstance(zooming, MotionQueries)
    assert np.array_equal(panning.frames, camera_frames("pan left", count=9, fps=8, width=32, height=16))
    assert (zooming.frames == (200, 30, 30)).all()
    assert panning.window == zooming.window == ddpm_window(800)
    (shared,) = shown(replace(asked, controls=(replace(controls[0], steps=0.4),)), archive).controls
    assert isinstance(shared, MotionQueries)
    assert (shared.steps, shared.window) == (0.4, None)


def test_a_cameras_picture_that_is_gone_is_found_before_filming(archive: Archive, tmp_path: Path) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "hill.png")
    over = Settling(archive=archive, folder=tmp_path).settled("camera zoom in over hill.png")
    kept = archive.picture(over.rpartition(":")[2])
    assert kept is not None
    kept.unlink()
    with pytest.raises(MediaError, match=r"shot 2: The picture .* run the story again"):
        check_board(board(None, over), archive, SMALL)


def test_the_rows_of_a_clips_motion_are_those_of_earlier_versions() -> None:
    (row,) = controls_json([MotionFrom(clip="a")])
    assert row == {"name": "MotionFrom", "clip": "a", "prompt": "", "steps": None, "first": 0.0, "last": 1.0}


def test_a_camera_moves_any_shot_and_storyboards_say_it(archive: Archive) -> None:
    check_board(board("camera tilt up"), archive, SMALL)
    (staged,) = stage_board(board("camera tilt up"), SMALL, sets=True)
    assert staged.why == "filmed alone: it has the motion of a camera (tilt up)"


def test_a_clip_that_is_gone_from_the_archive_says_how_to_put_it_back(archive: Archive, clip: Path) -> None:
    control = MotionFrom(clip=archive.keep_clip(clip))
    asked = ShotRequest(prompt="a", frames=9, fps=8, width=32, height=16, seed=1, controls=(control,))
    kept = archive.clip(control.clip)
    assert kept is not None
    kept.write_bytes(b"altered")
    with pytest.raises(MediaError, match="run the story again with the same --motion-from"):
        shown(asked, archive)


def test_a_shot_with_anothers_motion_is_filmed_alone_and_says_so() -> None:
    cast = (Subject(name="Pim", description="the red fox"),)
    shots = tuple(
        PlannedShot(prompt="The red fox rests.", subjects=("Pim",), seconds=4.0, motion_from=source)
        for source in (None, "shot 1", None)
    )
    limits = replace(SMALL, films_sets=True)
    staged = stage_board(Storyboard(title="Pim", cast=cast, shots=shots), limits, sets=True)
    assert [one.members for one in staged] == [(1, 3), (), (1, 3)]
    assert staged[1].why == "filmed alone: it has the motion of shot 1"


def test_a_batchs_files_lie_beside_it(tmp_path: Path) -> None:
    sources = '[horse.mp4, "2=shot 1", 3=camera zoom in over shot 1]'
    (tmp_path / "night.yaml").write_text(f"- {{text: A fox jumps., motion_from: {sources}, motion_share: 0.4}}")
    (story,) = read_batch(tmp_path / "night.yaml", lambda order: None)
    order = story.order()
    horse, hill = tmp_path / "horse.mp4", tmp_path / "shot 1"
    assert order.motion_from == (str(horse), "2=shot 1", f"3=camera zoom in over {hill}")
    assert order.motion_share == 0.4


def test_halves_of_a_take_have_halves_of_its_motion() -> None:
    first = MotionFrom(clip="a").part(0.0, 0.5)
    assert (first.first, first.last) == (0.0, 0.5)
    assert first.part(0.5, 1.0) == MotionFrom(clip="a", first=0.25, last=0.5)


@pytest.mark.parametrize("source", ["hill.mp4", "run 7 shot 2", "camera pan left over hill.jpg"])
def test_a_source_that_nobody_settled_is_named_and_films_nothing(archive: Archive, source: str) -> None:
    with pytest.raises(MediaError, match=f"motion from {source}: expected a source whose clip is kept"):
        motion_of(source, None, archive, None)
    with pytest.raises(MediaError, match=f"shot 1: motion from {source}"):
        check_board(board(source), archive, SMALL)
