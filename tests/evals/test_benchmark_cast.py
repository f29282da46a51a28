"""The cast bench: sets of one puppet, what identity and motion answer to, arms from one noise, a run that goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import fabula
from evals.benchmarks.cast import Cast, CastBenchSettings
from evals.benchmarks.cast_arms import ALONE, ARMS, SetFootage, arms_named
from evals.benchmarks.protocol import Film
from evals.benchmarks.shot_measures import COLOUR_ALL, COMPARED, FLOOR, LOOK, LOOK_ALL, PACE, apart
from evals.benchmarks.steering import run_arms
from evals.benchmarks.world_controls import ControlFootage
from evals.comparison import CAST, compare
from evals.metrics.score import Case, NotMeasured, Score
from evals.report import write_report
from evals.results import read_results
from evals.rows import ROWS, read_rows
from evals.world import controls
from evals.world.splits import Case as WorldCase
from generators.backends.instant import InstantBackend
from generators.clip import Frames, Limits, ShotRequest
from generators.errors import RequestRejected
from generators.world.words import FPS, HEIGHT, KINDS, SHORT, WIDTH

Cli = Callable[..., Any]
CANVAS = Limits(width=WIDTH, height=HEIGHT, fps=8, frame_counts=(SHORT,), extends=True, films_sets=True)
INSTANT = """\
[critic]
kind = "world"
[backend]
kind = "instant"
width = 96
height = 64
frame_counts = [33, 65]
"""


def bench(sets: int = 1, sizes: tuple[int, ...] = (3,), **changes: Any) -> Cast:
    return Cast(CastBenchSettings(sets=sets, sizes=sizes, film={"weights": "none"}, **changes))


def read(benchmark: Cast, clips: Sequence[Frames]) -> dict[str, float | None]:
    judged = benchmark.judge(benchmark.units()[0], [Film(frames=frames, fps=FPS) for frames in clips])
    return {name: one.value if isinstance(one, Score) else None for name, one in judged.outcomes.items()}


def as_another(case: WorldCase) -> Frames:
    """The shot with a puppet of another kind in it."""
    actor = case.script.actors[0]
    kind = next(kind for kind in KINDS if kind != actor.kind)
    return controls.film(replace(case.script, actors=(replace(actor, kind=kind),)))


@dataclass
class Rendered:
    """Footage of the truth, or of films that stand still; counts what it filmed."""

    benchmark: Cast
    name: str
    moves: bool = True
    stop_after: int = 1000
    source: str = "array"
    filmed: list[str] = field(default_factory=list)

    def digest(self, case: Case, seed: int) -> str:
        return ""

    def film(self, case: Case, seed: int) -> Film | NotMeasured:
        if len(self.filmed) == self.stop_after:
            raise KeyboardInterrupt
        self.filmed.append(case.name)
        control = "truth" if self.moves else "frozen"
        return ControlFootage(control, self.benchmark.pairs, NotMeasured(reason="")).film(case, seed)


def test_noise_hangs_on_the_shot_alone_and_sets_on_the_split() -> None:
    few, many, tune = bench(sizes=(3,)), bench(sets=2, sizes=(2, 3)), bench(split="tune")
    (first,) = few.units()
    assert first in many.units()
    names = [case.name for case in first.cases]
    assert [few.noise(name) for name in names] == [many.noise(name) for name in names]
    assert len({few.noise(name) for name in names}) == 3
    assert few.noise(names[0]) != tune.noise(names[0])
    assert tune.name == "cast-tune"
    assert tune.shots(first.name) != few.shots(first.name)


def test_the_truth_keeps_its_look_at_every_distance_and_does_what_it_promised() -> None:
    benchmark = bench()
    shots = benchmark.shots("cast-3-0000")
    found = read(benchmark, [controls.film(shot.script) for shot in shots])
    for name in (LOOK, LOOK_ALL, apart(LOOK, 1), apart(LOOK, 2), COMPARED, "completion", "kind", "colour", "place"):
        assert found[name] == 1.0, name
    assert found[FLOOR] == 0.0
    assert (found[PACE] or 0.0) > 0
    assert apart(LOOK, 3) not in found


def test_another_puppet_in_the_last_shot_is_seen_at_every_distance() -> None:
    benchmark = bench()
    *before, last = benchmark.shots("cast-3-0000")
    found = read(benchmark, [*(controls.film(shot.script) for shot in before), as_another(last)])
    assert found[LOOK] == found[LOOK_ALL] == pytest.approx(1 / 3)
    assert (found[apart(LOOK, 1)], found[apart(LOOK, 2)]) == (0.5, 0.0)
    assert found["kind"] == pytest.approx(2 / 3)
    assert found["completion"] == 1.0


def test_a_still_film_keeps_its_look_and_wins_nothing_behind_the_gate() -> None:
    benchmark = bench(sizes=(2,))
    script = benchmark.shots("cast-2-0000")[0].script
    still = controls.frozen(controls.film(script))
    found = read(benchmark, [still, still])
    assert found[LOOK_ALL] == 1.0
    assert found[COLOUR_ALL] == 0.0
    assert (found[LOOK], found[COMPARED], found["completion"], found[PACE]) == (None, 0.0, 0.0, 0.0)


def test_a_set_of_which_a_shot_is_missing_is_not_measured() -> None:
    benchmark = bench(sizes=(2,))
    unit = benchmark.units()[0]
    film = Film(frames=controls.film(benchmark.shots(unit.name)[0].script), fps=FPS)
    outcomes = benchmark.judge(unit, [film, NotMeasured(reason="no video")]).outcomes
    assert set(outcomes.values()) == {NotMeasured(reason="no video")}
    whole = benchmark.judge(unit, [film, film]).outcomes
    assert set(outcomes) == set(whole)


def test_arms_film_one_set_in_different_ways_from_one_noise() -> None:
    benchmark = bench(sizes=(2,))
    unit = benchmark.units()[0]
    asked: list[ShotRequest] = []
    backend = InstantBackend(limits=CANVAS, on_shoot=asked.append, steps=1)
    shown: dict[str, bytes] = {}
    for name, arm in ARMS.items():
        footage = SetFootage(benchmark, backend, arm)
        films = [footage.film(case, 5) for case in unit.cases]
        assert all(isinstance(film, Film) and film.seconds is not None for film in films)
        shown[name] = b"".join(film.frames.tobytes() for film in films if isinstance(film, Film))
    seeds = [request.seed for request in asked]
    own = [benchmark.noise(case.name) for case in unit.cases]
    assert seeds == [*own, own[0], own[0], *own, *own, *own]  # each shot is asked for once an arm
    assert len(set(shown.values())) == len(ARMS) == len({arm.digest() for arm in ARMS.values()})
    assert {request.prompt for request in asked} == {case.prompt for case in unit.cases}


def test_a_set_that_a_model_cannot_film_is_counted_as_not_measured() -> None:
    def refuse(request: ShotRequest) -> None:
        raise RequestRejected("no site to share")

    benchmark = bench(sizes=(2,))
    footage = SetFootage(benchmark, InstantBackend(limits=CANVAS, on_shoot=refuse), ARMS["ours"])
    found = [footage.film(case, 0) for case in benchmark.units()[0].cases]
    assert found == [NotMeasured(reason="rejected: no site to share")] * 2


def test_settings_and_arms_that_there_are_not_name_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="expected some of independent, same-seed"):
        arms_named(["magic"])
    with pytest.raises(ValueError, match="expected some of 2, 3, 4, 5, 6 shots, got 7"):
        bench(sizes=(7,))
    with pytest.raises(ValueError, match="expected test or tune"):
        bench(split="train")
    assert [arm.name for arm in arms_named(["ours"])] == [ALONE, "ours"]


@pytest.mark.slow
def test_a_stop_leaves_the_arms_level_and_the_report_has_a_band_a_shot(tmp_path: Path) -> None:
    benchmark = bench(sets=2, sizes=(2,))
    stopped = [Rendered(benchmark, ALONE, moves=False, stop_after=2), Rendered(benchmark, "ours")]
    with pytest.raises(KeyboardInterrupt):
        run_arms(benchmark, stopped, tmp_path)
    again = [Rendered(benchmark, ALONE, moves=False), Rendered(benchmark, "ours")]
    run_arms(benchmark, again, tmp_path)
    assert [arm.filmed for arm in again] == [["cast-2-0001-1", "cast-2-0001-2"]] * 2
    methods = read_results(tmp_path)["cast"]
    rows = dict(compare(methods, CAST)[0].rows)
    completion = CAST.columns.index("completion")
    assert rows["ours"][completion].beside == "+1.000 [+1.000, +1.000]"
    assert rows[ALONE][0].value == "–"
    written = write_report(tmp_path, tmp_path / "report")
    pictures = {path.name for path in (tmp_path / "report" / "pictures").iterdir()}
    assert {"cast-trade-off-0.png", "cast-sheet-ours.png", "cast-forest-0.png"} <= pictures
    assert "look kept across shots, ungated" in written.markdown.read_text()
    shots = methods[1].rows[0]["facts"]["shots"]
    assert [len(shot["events"]) for shot in shots] == [1, 1]


@pytest.mark.slow
def test_every_arm_films_on_the_bundled_architecture(tmp_path: Path) -> None:
    from generators.backends.local import LocalBackend
    from generators.models.tiny import tiny_wan

    folder = tiny_wan("world", tmp_path / "model", scheduler="euler")
    backend = LocalBackend(str(folder), limits=CANVAS, device="cpu", steps=6, guidance=1.0)
    benchmark = bench(sizes=(2,))
    run_arms(benchmark, [SetFootage(benchmark, backend, arm) for arm in ARMS.values()], tmp_path / "results")
    strips = set()
    for arm in ARMS:
        (row,) = read_rows(tmp_path / "results" / "cast" / arm / ROWS)
        assert row["outcomes"]["completion"]["value"] is not None, row
        strips.add((tmp_path / "results" / "cast" / arm / row["strip"]).read_bytes())
    assert len(strips) == len(ARMS)


@pytest.mark.slow
def test_the_command_prints_its_table_and_the_sdk_has_the_bench(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "world.toml").write_text(INSTANT)
    out = tmp_path / "results"
    words = ("eval", "cast", "--profile", tmp_path / "world.toml", "--sets", "1", "--sizes", "2,3", "--arms", "ours",
             "--out", out)  # fmt: skip
    done = cli(*words)
    assert done.code == 0, done.err
    assert "1/2  ours  cast-2-0000" in done.out
    assert LOOK in " ".join(done.out.split())
    assert (out / "cast" / "report" / "report.html").is_file()
    told: list[bool] = []
    found = fabula.evaluate_cast(
        ["ours"], sets=1, sizes=(2, 3), profile=str(tmp_path / "world.toml"), out=out,
        on_progress=lambda _name, step: told.append(step.kept),
    )  # fmt: skip
    assert told == [True] * 4
    assert [result.manifest.method for result in found.results] == [ALONE, "ours"]
    assert found.tables[0].rows[0][0] == ALONE


def test_what_cannot_be_measured_is_a_usage_error(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "world.toml").write_text(INSTANT)
    world = ("--profile", tmp_path / "world.toml")
    for words, why in (
        ((*world, "--arms", "magic"), "expected some of independent"),
        ((*world, "--sizes", "9"), "expected some of 2, 3, 4, 5, 6 shots"),
        ((*world, "--split", "train"), "expected test or tune"),
        (("--profile", "instant"), "expected a model of the puppet world"),
    ):
        done = cli("eval", "cast", *words, "--out", tmp_path / "results")
        assert (done.code, why in " ".join(done.err.split())) == (2, True), done.err
