"""The runner goes on where it stopped and gives one table; the report shows what the table says."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest

from evals.benchmarks.protocol import ALL, Film, Line, as_json, from_json
from evals.benchmarks.quality import Quality, QualitySettings
from evals.benchmarks.shot_sets import ShotSets, ShotSetsSettings, read_sets
from evals.benchmarks.storyeval import StoryEval, StoryEvalSettings
from evals.benchmarks.tempocontrol import TempoControl, TempoControlSettings, read_cases
from evals.benchmarks.verifiers import ReplayVerifier
from evals.footage import BackendFootage, FolderFootage, Footage, plain_request
from evals.metrics.consistency import Vectors
from evals.metrics.embedders import Weights
from evals.metrics.score import Case, NotMeasured, Score, Summary
from evals.metrics.vbench import RANGES
from evals.report import timing, write_report
from evals.results import read_method, read_results
from evals.rows import ROWS, read_rows
from evals.suite import Models, Progress, Settings, finish, open_benchmark, run, slug
from generators.backends.instant import InstantBackend
from generators.clip import Frames
from generators.video import write_take


@dataclass
class Strips:
    """Footage of noise that depends on the case; counts what it filmed."""

    name: str = "noise"
    source: str = "array"
    filmed: list[str] = field(default_factory=list)
    stop_after: int = 1000

    def digest(self, case: Case, seed: int) -> str:
        return ""

    def film(self, case: Case, seed: int) -> Film | NotMeasured:
        if len(self.filmed) == self.stop_after:
            raise KeyboardInterrupt
        self.filmed.append(case.name)
        frames = np.random.default_rng(seed).integers(0, 256, (9, 24, 32, 3), dtype=np.uint8)
        return Film(frames=frames, fps=8, seconds=0.5 + seed)


class MeanColour:
    """An encoder: the mean colour of a frame."""

    name = "mean colour"

    def embed(self, frames: Frames) -> Vectors:
        return frames.reshape(len(frames), -1, 3).mean(1) + 1.0


@dataclass(frozen=True)
class Told:
    """A metric that gives a number it was told."""

    name: str
    number: float
    higher_is_better: bool = True

    def measure(self, frames: Frames, fps: float, case: Case) -> Score:
        return Score(value=self.number)


TOPS = [(name, high) for name, (_, high) in RANGES.items()]


class Everything:
    """A detector that sees a person in bright frames."""

    name = "bright"

    def seen(self, frames: Frames) -> Sequence[frozenset[str]]:
        return [frozenset({"person"} if frame.mean() > 100 else ()) for frame in frames]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("a fox\n\na cat | sits\na $owl\n")
    return path


@pytest.fixture
def quality(prompts: Path) -> Quality:
    return Quality.with_weights(QualitySettings(prompts=prompts), Weights())


def set_list(folder: Path) -> Path:
    path = folder / "sets.yaml"
    path.write_text("- name: fox\n  subject: a red fox\n  shots: [a fox runs, a fox sits, a fox <sleeps>]\n")
    return path


def by_name(lines: Sequence[Line], group: str = ALL) -> dict[str, Summary]:
    return {line.summary.metric: line.summary for line in lines if line.group == group}


def test_a_run_tells_of_every_unit_and_says_what_was_not_measured(quality: Quality, tmp_path: Path) -> None:
    steps: list[Progress] = []
    result = finish(run(quality, Strips(), tmp_path / "out"), steps.append)
    assert [(s.done, s.of, s.unit, s.kept) for s in steps] == [(i + 1, 3, f"000{i}", False) for i in range(3)]
    lines = by_name(result.lines)
    assert lines["temporal flickering (any clip)"].count == 3
    missing = lines["subject consistency (dino_vitb16)"]
    assert missing.mean is None
    assert missing.unmeasured == {"missing weights dino_vitb16: no folder of weights was named": 3}
    assert result.seconds == pytest.approx(1.5)
    manifest = json.loads((result.folder / "manifest.json").read_text())
    assert manifest["settings"]["metrics"]["subject consistency (dino_vitb16)"].startswith("not measured")
    assert manifest["versions"]["numpy"] == np.__version__


def test_a_table_of_other_settings_does_not_stay_beside_a_run_that_was_stopped(prompts: Path, tmp_path: Path) -> None:
    def bench(flow: str) -> Quality:
        return Quality.with_weights(QualitySettings(prompts=prompts, flow=flow), Weights())

    finish(run(bench("dis"), Strips(), tmp_path / "out"))
    assert len(read_results(tmp_path / "out")["quality"]) == 1
    with pytest.raises(KeyboardInterrupt):
        finish(run(bench("farneback"), Strips(stop_after=1), tmp_path / "out"))
    assert read_results(tmp_path / "out") == {}
    finish(run(bench("dis"), Strips(stop_after=0), tmp_path / "out"))  # every row is there still
    assert len(read_results(tmp_path / "out")["quality"]) == 1


def test_methods_from_other_seeds_are_not_paired(quality: Quality, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 7)):
        finish(run(quality, Strips(name=name), tmp_path / "out", seed))
    write_report(tmp_path / "out", tmp_path / "report")
    told = (tmp_path / "report" / "report.md").read_text()
    assert "b − a = " in told
    assert "c − a = " not in told
    assert "began from different seeds" in told


def test_a_stopped_run_films_only_the_rest_and_ends_with_the_same_table(quality: Quality, tmp_path: Path) -> None:
    whole = finish(run(quality, Strips(), tmp_path / "whole"))
    stopped = Strips(stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        finish(run(quality, stopped, tmp_path / "parts"))
    folder = tmp_path / "parts" / "quality" / "noise"
    assert not (folder / "table.json").exists()
    with (folder / "rows.jsonl").open("a") as file:
        file.write('{"unit": "00')  # what a kill in the middle of a line leaves
    again = Strips()
    result = finish(run(quality, again, tmp_path / "parts"))
    assert (stopped.filmed, again.filmed) == (["0000", "0001"], ["0002"])
    for name in ("table.json", "table.md", "manifest.json"):
        assert (folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert len(read_rows(folder / ROWS)) == 3
    assert result.lines == whole.lines


def test_totals_of_vbench_are_made_of_its_own_dimensions_alone(prompts: Path, quality: Quality, tmp_path: Path) -> None:
    missing = by_name(finish(run(quality, Strips(), tmp_path / "ours")).lines)["VBench total"]
    (why,) = missing.unmeasured
    assert why.startswith("not all dimensions were measured as published: subject consistency, background consistency")
    assert "temporal flickering" in why  # ours is filtered by another flow, or by none
    best = Quality(
        QualitySettings(prompts=prompts), [Told(name, 0.5 if name == "dynamic degree" else high) for name, high in TOPS]
    )
    lines = by_name(finish(run(best, Strips(), tmp_path / "published")).lines)
    quality_of = 6.25 / 6.5  # dynamic degree has half a weight
    assert lines["VBench quality"].mean == pytest.approx(quality_of)
    assert lines["VBench semantic"].mean == pytest.approx(1)
    assert lines["VBench total"].mean == pytest.approx((4 * quality_of + 1) / 5)
    assert lines["VBench total"].count == 3


@pytest.mark.slow
def test_two_runs_of_one_call_give_one_table_and_one_report(quality: Quality, tmp_path: Path) -> None:
    for name in ("a", "b"):
        finish(run(quality, Strips(), tmp_path / name))
        write_report(tmp_path / name, tmp_path / f"report-{name}")
    first, second = ({p.relative_to(tmp_path / n): p for n in (name,) for p in (tmp_path / n).rglob("*.png")}
                     for name in ("report-a", "report-b"))  # fmt: skip
    assert list(first) == list(second)
    assert all(first[key].read_bytes() == second[key].read_bytes() for key in first)
    for name in ("report.html", "report.md"):
        assert (tmp_path / "report-a" / name).read_bytes() == (tmp_path / "report-b" / name).read_bytes()


def test_rows_of_other_settings_seeds_and_methods_are_not_taken(prompts: Path, tmp_path: Path) -> None:
    def films(flow: str, seed: int, method: str) -> int:
        strips = Strips(name=method)
        bench = Quality.with_weights(QualitySettings(prompts=prompts, flow=flow), Weights())
        finish(run(bench, strips, tmp_path / "out", seed))
        return len(strips.filmed)

    assert [films("dis", 0, "a"), films("dis", 0, "a")] == [3, 0]
    assert [films("farneback", 0, "a"), films("dis", 1, "a"), films("dis", 0, "b")] == [3, 3, 3]
    assert films("dis", 0, "a") == 0  # and the rows of the first call are still there


def test_a_longer_run_goes_on_from_a_shorter_one(prompts: Path, tmp_path: Path) -> None:
    counts = []
    for limit in (1, 3):
        strips = Strips()
        bench = Quality.with_weights(QualitySettings(prompts=prompts, limit=limit), Weights())
        finish(run(bench, strips, tmp_path / "out"))
        counts.append(strips.filmed)
    assert counts == [["0000"], ["0001", "0002"]]


def test_videos_of_a_folder_are_found_by_name_and_missing_ones_are_not_measured(
    quality: Quality, tmp_path: Path
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    clip = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    write_take(folder / "a fox-0.mkv", clip, 8)
    (folder / "0001.mp4").write_bytes(b"no video")
    footage = FolderFootage(folder=folder, name="mine")
    assert isinstance(footage, Footage)
    lines = by_name(finish(run(quality, footage, tmp_path / "out")).lines)["temporal flickering (any clip)"]
    assert lines.count == 1
    assert lines.unmeasured["no video"] == 1
    assert any(reason.startswith("unreadable video") for reason in lines.unmeasured)


def videos(folder: Path, *names: str, seed: int = 0) -> FolderFootage:
    """A folder of clips of noise under these names, each its own; read as finished videos."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        clip = np.random.default_rng([seed, number]).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
        write_take(folder / f"{name}.mkv", clip, 8)
    return FolderFootage(folder=folder, name="clips")


def kept(benchmark: Quality, footage: Footage, out: Path) -> list[bool]:
    """Which rows of an earlier run were of use."""
    return [step.kept for step in run(benchmark, footage, out)]


def test_two_folders_of_one_name_share_no_row_unless_a_video_is_the_same(quality: Quality, tmp_path: Path) -> None:
    out, names = tmp_path / "out", ("0000", "0001", "0002")
    first, second = videos(tmp_path / "a" / "clips", *names), videos(tmp_path / "b" / "clips", *names, seed=1)
    assert kept(quality, first, out) == [False] * 3
    assert kept(quality, second, out) == [False] * 3
    assert kept(quality, first, out) == [True] * 3
    (second.folder / "0001.mkv").write_bytes((first.folder / "0001.mkv").read_bytes())
    assert kept(quality, second, out) == [True] * 3  # known from the other folder
    table = {row["unit"]: row["films"] for row in read_method(out / "quality" / "clips").rows}
    assert table == {name: [second.digest(Case(name=name, prompt=""), 0)] for name in names}


def test_a_video_that_is_added_or_mended_is_read(quality: Quality, tmp_path: Path) -> None:
    out, footage = tmp_path / "out", videos(tmp_path / "clips", "0000")
    (footage.folder / "0001.mkv").write_bytes(b"no video")
    assert kept(quality, footage, out) == [False] * 3
    assert kept(quality, footage, out) == [True, False, False]  # not even where nothing changed
    videos(footage.folder, "0000", "0001", "0002")
    assert kept(quality, footage, out) == [True, False, False]
    assert kept(quality, footage, out) == [True] * 3
    rows = read_method(out / "quality" / "clips").rows
    assert sorted(row["unit"] for row in rows) == ["0000", "0001", "0002"]
    assert not [row["unit"] for row in rows if None in row["films"]]


def test_films_of_another_length_or_by_another_model_are_filmed_anew_and_kept_beside(
    quality: Quality, tmp_path: Path
) -> None:
    def films(seconds: float = 1.0, told: Mapping[str, object] = MappingProxyType({})) -> list[bool]:
        backend = InstantBackend()
        for name, value in told.items():
            setattr(backend, name, value)
        footage = BackendFootage(backend=backend, ask=plain_request(backend, seconds), name="instant")
        return kept(quality, footage, tmp_path / "out")

    known, anew = [True] * 3, [False] * 3
    assert [films(), films()] == [anew, known]
    assert [films(4.0), films(4.0), films()] == [anew, known, known]
    changed: list[Mapping[str, object]] = [{"weights": "other"}, {"steps": 9}, {"guidance": 2.0}]
    for told in changed:
        assert [films(told=told), films(told=told), films()] == [anew, known, known], told


def test_the_manifest_says_which_films_were_judged_and_methods_still_compare(quality: Quality, tmp_path: Path) -> None:
    named = {
        name: finish(run(quality, videos(tmp_path / name, "0000", seed=seed), tmp_path / f"out-{name}")).manifest
        for name, seed in (("a", 0), ("b", 1), ("c", 0))
    }
    assert len({one.digest for one in named.values()}) == 1
    assert named["a"].films == named["c"].films != named["b"].films


def test_a_prompt_never_names_a_file_outside_its_folder(tmp_path: Path) -> None:
    inside = tmp_path / "videos"
    inside.mkdir()
    write_take(tmp_path / "secret.mkv", np.zeros((2, 16, 16, 3), np.uint8), 8)
    footage = FolderFootage(folder=inside, name="mine")
    assert footage.film(Case(name="../secret", prompt="../secret"), 0) == NotMeasured(reason="no video")


def test_a_backend_films_every_prompt_at_its_own_size(quality: Quality, tmp_path: Path) -> None:
    backend = InstantBackend()
    footage = BackendFootage(backend=backend, ask=plain_request(backend, 1.0), name="instant")
    film = footage.film(Case(name="a", prompt="a fox"), 3)
    assert isinstance(film, Film)
    nearest = min(backend.limits.frame_counts, key=lambda count: abs(count - backend.limits.fps))
    assert len(film.frames) == nearest
    assert by_name(finish(run(quality, footage, tmp_path)).lines)["temporal flickering (any clip)"].count == 3


def movement_list(tmp_path: Path) -> Path:
    path = tmp_path / "action.csv"
    first, second = (" ".join("1" if at <= entry < at + 4 else "0" for entry in range(21)) for at in (1, 5))
    path.write_text(f"prompt,mov_sec,control_signal1\nx,0,{first}\ny,1,{second}\n")
    return path


class Jolts:
    """A dark clip of five seconds at 4 frames a second that jumps about in second 1."""

    name, source = "jolts", "array"

    def digest(self, case: Case, seed: int) -> str:
        return ""

    def film(self, case: Case, seed: int) -> Film:
        frames = np.zeros((20, 32, 32, 3), np.uint8)
        rng = np.random.default_rng(seed)
        base = np.kron(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8), np.ones((4, 4, 1), np.uint8))
        for i in range(20):
            frames[i] = np.roll(base, 3 * min(max(i - 4, 0), 4), axis=1)
        return Film(frames=frames, fps=4)


def test_tempocontrols_movement_needs_no_weights(tmp_path: Path) -> None:
    settings = TempoControlSettings(task="movement", prompts=movement_list(tmp_path))
    result = finish(run(TempoControl(settings, NotMeasured(reason="no detector")), Jolts(), tmp_path / "out"))
    means = {(line.summary.metric, line.group): line.summary.mean for line in result.lines}
    accuracy = "temporal accuracy, movement"
    assert [means[accuracy, group] for group in (ALL, "from 0", "from 1")] == [0.5, 0.0, 1.0]
    follows = "motion follows its mask (Pearson)"
    late, asked = means[follows, "from 0"], means[follows, "from 1"]
    assert late is not None
    assert asked is not None
    assert late < 0 < 0.6 < asked  # it moves in entries 6 to 9 of 21; asked for are 1 to 4, and 5 to 8
    met = "peaks of the mask met by motion, within an entry"
    assert means[met, "from 1"] == 1.0
    seen = timing(read_rows(result.folder / ROWS))
    assert seen is not None
    np.testing.assert_array_equal(seen.cells[:2], [[0, 1, 0, 0, 0]] * 2)
    assert np.isnan(seen.cells[2:]).all()


def test_tempocontrols_objects_need_a_detector(tmp_path: Path) -> None:
    path = tmp_path / "one_object.csv"
    path.write_text(f"prompt,temp_object,control_signal1\nx,person,{' '.join('0' * 5 + '1' * 16)}\n")
    settings = TempoControlSettings(task="one object", prompts=path)
    frames = np.zeros((81, 8, 8, 3), np.uint8)
    frames[20:] = 200
    film = Film(frames=frames, fps=16)
    seen = TempoControl(settings, Everything())
    found = seen.judge(seen.units()[0], [film])
    assert found.outcomes[seen.metric] == Score(value=1.0, details={"present": 1.0, "absent": 1.0})
    blind = TempoControl(settings, NotMeasured(reason="missing weights yolov10n"))
    assert isinstance(blind.judge(blind.units()[0], [film]).outcomes[blind.metric], NotMeasured)
    with pytest.raises(ValueError, match="is it the list of two objects"):
        read_cases(path, "two objects")


def test_finished_videos_carry_the_number_of_the_run_whatever_their_place_in_the_list(tmp_path: Path) -> None:
    path = tmp_path / "action.csv"
    on = " ".join(["0"] + ["1"] * 20)
    path.write_text("prompt,mov_sec,control_signal1\n" + "".join(f"{prompt},1,{on}\n" for prompt in "xyz"))
    footage = videos(tmp_path / "clips", "x-0", "y-0", "z-0", "x-3")
    bench = TempoControl(TempoControlSettings(task="movement", prompts=path), NotMeasured(reason="no detector"))
    assert by_name(finish(run(bench, footage, tmp_path / "out")).lines)[bench.metric].count == 3
    third = replace(footage, seed=3)
    assert by_name(finish(run(bench, third, tmp_path / "out", 3)).lines)[bench.metric].count == 1


def test_two_objects_answer_to_the_prompt_that_was_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "two_objects.csv"
    mask = " ".join("0" * 10 + "1" * 11)
    path.write_text(
        "prompt,original_prompt,temp_object,static_object,control_signal1\n"
        f"The video begins with a cat,a cat and a dog,dog,cat,{mask}\n"
    )
    (case,) = read_cases(path, "two objects")
    assert isinstance(videos(tmp_path / "released", "a cat and a dog-0").film(case, 5), Film)
    assert isinstance(videos(tmp_path / "own", "The video begins with a cat-0").film(case, 5), Film)
    assert videos(tmp_path / "neither", "a cat").film(case, 5) == NotMeasured(reason="no video")


def test_broken_lists_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("- name: fox\n  shots: [one]\n")
    with pytest.raises(ValueError, match="at least two shots"):
        read_sets(path)
    path.write_text("")
    with pytest.raises(ValueError, match="a prompt a line"):
        Quality.with_weights(QualitySettings(prompts=path), Weights())
    with pytest.raises(ValueError, match="dis or farneback"):
        QualitySettings(prompts=path, flow="raft")


@pytest.mark.slow
def test_the_report_puts_methods_side_by_side_with_intervals_plots_and_sheets(quality: Quality, tmp_path: Path) -> None:
    out, sets = tmp_path / "out", set_list(tmp_path)
    for method in ("plain", "<b>steered & $"):
        finish(run(quality, Strips(name=method), out))
    finish(
        run(
            ShotSets(ShotSetsSettings(sets=sets, encoder="mean colour"), MeanColour(), NotMeasured(reason="x")),
            Strips(),
            out,
        )
    )
    settings = TempoControlSettings(task="movement", prompts=movement_list(tmp_path))
    finish(run(TempoControl(settings, NotMeasured(reason="x")), Jolts(), out))
    files = write_report(out, tmp_path / "report")
    html, text = files.html.read_text(), files.markdown.read_text()
    assert "&lt;b&gt;steered &amp; $" in html
    assert "<b>steered" not in html
    pictures = re.findall(r"!\[(.*)\]\((.*)\)", text)
    assert all((tmp_path / "report" / file).read_bytes()[:4] == b"\x89PNG" for _, file in pictures)
    kinds = " ".join(file for _, file in pictures)
    assert all(kind in kinds for kind in ("classes", "cost", "distance-", "timing-jolts", "sheet-noise"))
    assert html.count("data:image/png;base64,") == len(pictures)
    mean = json.loads((out / "quality" / "plain" / "table.json").read_text())
    flicker = next(one["summary"] for one in mean if one["summary"]["metric"].startswith("temporal flickering"))
    assert f"{flicker['mean']:.3f} ± {flicker['error']:.3f}" in html
    assert "3 not measured: missing weights dino_vitb16" in html
    assert "− &lt;b&gt;steered" in html  # the paired difference over the same items


@pytest.mark.slow
def test_methods_under_other_settings_are_not_compared(prompts: Path, tmp_path: Path) -> None:
    for flow, method in (("dis", "a"), ("farneback", "b")):
        bench = Quality.with_weights(QualitySettings(prompts=prompts, flow=flow), Weights())
        finish(run(bench, Strips(name=method), tmp_path / "out"))
    html = write_report(tmp_path / "out", tmp_path / "report").html.read_text()
    assert "their numbers do not compare" in html
    assert "Differences over the same items" not in html


def test_a_report_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run a benchmark first"):
        write_report(tmp_path, tmp_path / "report")


def test_storyeval_runs_from_a_folder_of_stored_answers(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"a.mp4": {"prompt": "x", "event_list": ["p", "q"], "class": ["human", "easy"]}}))
    bench = StoryEval(StoryEvalSettings(prompts=path), ReplayVerifier({"a": [[1, 0]] * 3}))
    result = finish(run(bench, Strips(), tmp_path / "out"))
    assert by_name(result.lines, "human")["StoryEval unanimous (official)"].mean == 0.5
    assert read_rows(result.folder / ROWS)[0]["facts"]["runs"] == [[1, 0]] * 3


def test_settings_open_their_benchmark_and_absent_models_are_named(prompts: Path, tmp_path: Path) -> None:
    sets = set_list(tmp_path)
    stories = tmp_path / "prompts.json"
    stories.write_text(json.dumps({"a.mp4": {"prompt": "x", "event_list": ["p"], "class": []}}))
    asked: list[Settings] = [
        QualitySettings(prompts=prompts),
        ShotSetsSettings(sets=sets),
        StoryEvalSettings(prompts=stories),
        TempoControlSettings(task="movement", prompts=movement_list(tmp_path)),
    ]
    opened = [open_benchmark(settings, Models()) for settings in asked]
    assert [bench.name for bench in opened] == ["quality", "shot-sets", "storyeval", "tempocontrol-movement"]
    film = Film(frames=np.zeros((9, 24, 32, 3), np.uint8), fps=8)
    reasons = {
        outcome.reason
        for bench in opened[:3]
        for outcome in bench.judge(bench.units()[0], [film] * len(bench.units()[0].cases)).outcomes.values()
        if isinstance(outcome, NotMeasured)
    }
    missing = "missing weights {}: no folder of weights was named"
    viclip = "missing weights viclip: its released file is a pickle, and only safetensors are read"
    assert reasons == {*map(missing.format, ("dino_vitb16", "clip_vitb32")), viclip, "no verifier was named"}


def test_outcomes_survive_a_row() -> None:
    for outcome in (Score(value=0.5, details={"a": 1.0}), NotMeasured(reason="no video")):
        assert from_json(json.loads(json.dumps(as_json(outcome)))) == outcome


def test_names_become_files_without_meeting() -> None:
    assert slug("plain-1.0") == "plain-1.0"
    assert len({slug("a/b"), slug("a b"), slug("a-b"), slug("../a")}) == 4
    assert not set(slug("../../x")) & set("/")
