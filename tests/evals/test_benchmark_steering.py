"""The steering bench: arms meet the same captions and noise, a better arm wins by a paired interval, and it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fabula
from evals.benchmarks.protocol import Film
from evals.benchmarks.steering import FLOOR, Steering, SteeringSettings, arm_footage, run_arms
from evals.benchmarks.steering_arms import ARMS, NONE, arms_named, states
from evals.benchmarks.world_controls import ControlFootage
from evals.comparison import STEERING, compare, forests
from evals.metrics.score import Case, NotMeasured
from evals.report import write_report
from evals.results import read_results
from evals.rows import ROWS, read_rows
from evals.suite import Progress
from generators.backends.instant import InstantBackend
from generators.clip import Limits
from generators.controls.config import VSTAR
from generators.errors import RequestRejected
from generators.world.words import HEIGHT, LONG, SHORT, WIDTH

Cli = Callable[..., Any]
CANVAS = Limits(width=WIDTH, height=HEIGHT, fps=8, frame_counts=(SHORT, LONG), extends=True)
INSTANT = """\
[critic]
kind = "world"
[backend]
kind = "instant"
width = 96
height = 64
frame_counts = [33, 65]
"""


def bench(cases: int = 2, events: tuple[int, ...] = (2,), **changes: Any) -> Steering:
    return Steering(SteeringSettings(cases=cases, events=events, film={"weights": "none"}, **changes))


@dataclass
class Puppets:
    """Footage of the truth, or of a film that stands still; counts what it filmed."""

    benchmark: Steering
    name: str
    moves: bool
    stop_after: int = 1000
    source: str = "array"
    filmed: list[str] = field(default_factory=list)

    def digest(self, case: Case, seed: int) -> str:
        return ""

    def film(self, case: Case, seed: int) -> Film | NotMeasured:
        if len(self.filmed) == self.stop_after:
            raise KeyboardInterrupt
        self.filmed.append(case.name)
        truth = ControlFootage("truth" if self.moves else "frozen", self.benchmark.pairs, NotMeasured(reason=""))
        found = truth.film(case, seed)
        assert isinstance(found, Film)
        return Film(frames=found.frames, fps=found.fps, seconds=2.0 if self.moves else 1.0)


@pytest.mark.slow
def test_a_better_arm_wins_by_a_paired_interval_in_every_form_of_the_report(tmp_path: Path) -> None:
    benchmark = bench(cases=3)
    arms = [Puppets(benchmark, NONE, moves=False), Puppets(benchmark, "ts-attn", moves=True)]
    run_arms(benchmark, arms, tmp_path)
    methods = read_results(tmp_path)["steering"]
    table = compare(methods, STEERING)[0]
    rows = dict(table.rows)
    assert table.head[0] == "completion ↑"
    assert table.title.startswith("all, 3 items")
    assert rows[NONE][0].value == "0.000"
    assert (rows["ts-attn"][0].value, rows["ts-attn"][0].beside) == ("1.000", "+1.000 [+1.000, +1.000]")
    assert (rows["ts-attn"][-1].value, rows["ts-attn"][-1].beside) == ("2.00", "× 2.00")
    drawn = {one.title.split(":")[0]: one.differences["ts-attn"] for one in forests(methods, STEERING)}
    assert set(drawn) == {"completion", "order", "in time"}
    assert drawn["order"]["all"].mean == 1.0
    written = write_report(tmp_path, tmp_path / "report")
    assert "+1.000" in written.html.read_text()
    assert "completion ↑" in written.markdown.read_text()
    assert (tmp_path / "report" / "pictures" / "steering-forest-0.png").is_file()


@pytest.mark.slow
def test_the_truth_is_on_time_and_another_caption_is_not_complete(tmp_path: Path) -> None:
    benchmark = bench(cases=2, events=(2, 3))
    run_arms(benchmark, [Puppets(benchmark, NONE, moves=True)], tmp_path)
    (method,) = read_results(tmp_path)["steering"]
    means: dict[str, Any] = {
        name: line.mean for name in ("completion", "in time", "leakage", FLOOR) if (line := method.line(name))
    }
    assert (means["completion"], means["in time"]) == (1.0, 1.0)
    for name in ("leakage", FLOOR):
        assert means[name] is not None
        assert means[name] < 0.2
    assert method.line("event 3") is not None
    timing = np.array(method.rows[0]["facts"]["timing"][:2])
    assert timing[0].argmax() < timing[1].argmax()


@pytest.mark.slow
def test_a_stop_leaves_the_arms_level_and_the_rest_is_filmed_later(tmp_path: Path) -> None:
    benchmark = bench(cases=3)
    stopped = [Puppets(benchmark, NONE, moves=False, stop_after=2), Puppets(benchmark, "ts-attn", moves=True)]
    with pytest.raises(KeyboardInterrupt):
        run_arms(benchmark, stopped, tmp_path / "parts")
    assert [len(arm.filmed) for arm in stopped] == [2, 2]
    told: list[tuple[str, Progress]] = []
    again = [Puppets(benchmark, NONE, moves=False), Puppets(benchmark, "ts-attn", moves=True)]
    run_arms(benchmark, again, tmp_path / "parts", on_progress=lambda name, step: told.append((name, step)))
    assert [arm.filmed for arm in again] == [["both-2-0002"], ["both-2-0002"]]
    assert [name for name, _ in told] == [NONE, "ts-attn"] * 3
    whole = [Puppets(benchmark, NONE, moves=False), Puppets(benchmark, "ts-attn", moves=True)]
    results = run_arms(benchmark, whole, tmp_path / "whole")
    for result in results:
        mine = tmp_path / "parts" / "steering" / result.folder.name
        assert (mine / "table.md").read_bytes() == (result.folder / "table.md").read_bytes()


def test_noise_hangs_on_the_caption_alone_and_captions_on_the_split() -> None:
    few, many, tune = bench(), bench(cases=3, events=(2, 3)), bench(split="tune")
    names = [unit.name for unit in few.units()]
    assert names == [unit.name for unit in many.units() if unit.name.startswith("both-2")][:2]
    assert [few.noise(name) for name in names] == [many.noise(name) for name in names]
    assert few.noise(names[0]) != tune.noise(names[0])
    assert tune.name == "steering-tune"
    texts = [{one.world_case(name).caption.text for name in names} for one in (few, tune)]
    assert not texts[0] & texts[1]


def test_arms_ask_for_one_shot_in_different_ways() -> None:
    benchmark = bench(cases=1)
    seen: list[Any] = []
    backend = InstantBackend(limits=CANVAS, on_shoot=seen.append)
    for arm in ARMS.values():
        footage = arm_footage(benchmark, backend, arm)
        assert isinstance(footage.film(Case(name="both-2-0000", prompt=""), 5), Film)
    assert len({request.digest() for request in seen}) == len(ARMS) == len({arm.digest() for arm in ARMS.values()})
    assert len({(request.seed, request.prompt, request.frames) for request in seen}) == 1
    vstar = next(c for c in seen[list(ARMS).index("vstar-synopsis")].controls if isinstance(c, VSTAR))
    assert len(vstar.synopsis) == len(vstar.seconds) == 2


def test_a_synopsis_tells_each_event_in_its_scene() -> None:
    told = states("On the beach by day, the red fox jumps up. Then the blue cat spins.", ("jumps up", "spins"))
    assert told == ("On the beach by day, the red fox jumps up.", "On the beach by day, the blue cat spins.")
    with pytest.raises(RequestRejected, match="do not come apart"):
        states("The red fox jumps up and spins.", ("jumps up", "spins"))


def test_an_arm_that_a_model_cannot_film_is_counted_as_not_measured(tmp_path: Path) -> None:
    def refuse(request: Any) -> None:
        if request.controls:
            raise RequestRejected("no site to steer")

    benchmark = bench(cases=1)
    backend = InstantBackend(limits=CANVAS, on_shoot=refuse)
    run_arms(benchmark, [arm_footage(benchmark, backend, arm) for arm in arms_named(["ts-attn"])], tmp_path)
    found = {method.name: method.line("completion") for method in read_results(tmp_path)["steering"]}
    steered, plain = found["ts-attn"], found[NONE]
    assert steered is not None
    assert plain is not None
    assert steered.unmeasured == {"rejected: no site to steer": 1}
    assert plain.count == 1


@pytest.mark.slow
def test_every_arm_films_on_the_bundled_architecture(tmp_path: Path) -> None:
    from generators.backends.local import LocalBackend
    from generators.models.tiny import tiny_wan

    folder = tiny_wan("world", tmp_path / "model", scheduler="euler")
    backend = LocalBackend(str(folder), limits=CANVAS, steps=1, guidance=2.0)
    benchmark = bench(cases=1)
    run_arms(benchmark, [arm_footage(benchmark, backend, arm) for arm in ARMS.values()], tmp_path / "results")
    for arm in ARMS:
        (row,) = [r for folder in (tmp_path / "results" / "steering").iterdir() for r in read_rows(folder / ROWS)
                  if r["method"] == arm]  # fmt: skip
        assert row["outcomes"]["completion"]["value"] is not None, row


@pytest.mark.slow
def test_the_command_prints_its_table_and_says_where_the_report_lies(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "world.toml").write_text(INSTANT)
    words = ("eval", "steering", "--profile", tmp_path / "world.toml", "--cases", "1", "--events", "2",
             "--arms", "ts-attn", "--out", tmp_path / "results")  # fmt: skip
    first, again = cli(*words), cli(*words)
    assert (first.code, again.code) == (0, 0), first.err
    assert "1/1  ts-attn  both-2-0000" in first.out
    assert "kept from before" in again.out
    assert "completion" in first.out
    assert (tmp_path / "results" / "steering" / "report" / "report.html").is_file()


@pytest.mark.slow
def test_what_cannot_be_steered_is_a_usage_error(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "world.toml").write_text(INSTANT)
    world = ("--profile", tmp_path / "world.toml")
    for words, why in (
        ((*world, "--arms", "magic"), "expected some of none"),
        ((*world, "--events", "9"), "expected some of 2, 3 and 4"),
        ((*world, "--split", "train"), "expected test or tune"),
        (("--profile", "instant"), "expected a model of the puppet world"),
    ):
        done = cli("eval", "steering", *words, "--out", tmp_path / "results")
        assert (done.code, why in " ".join(done.err.split())) == (2, True), done.err


@pytest.mark.slow
def test_the_sdk_has_the_bench(tmp_path: Path) -> None:
    (tmp_path / "world.toml").write_text(INSTANT)
    found = fabula.evaluate_steering(
        ["tempo"], cases=1, events=(2,), profile=str(tmp_path / "world.toml"), out=tmp_path / "results"
    )
    assert [result.manifest.method for result in found.results] == [NONE, "tempo"]
    assert found.tables[0].rows[0][0] == NONE
