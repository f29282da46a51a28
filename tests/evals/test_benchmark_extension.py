"""The extension bench: chains without a seam in their truth, arms that hand over what they say, and its pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evals.benchmarks.extension import Extension, ExtensionSettings, joined, jump_between, seam_column
from evals.benchmarks.extension_arms import (
    ARMS,
    CUT,
    NO_SCENES,
    PRODUCT,
    SCENES,
    ChainFootage,
    MissingFootage,
    ScenesFootage,
    TruthFootage,
    arm_footages,
    arms_named,
    holds_noised,
    noised,
)
from evals.benchmarks.protocol import Film
from evals.benchmarks.shot_measures import BACKDROP, COLOUR_ALL, DYNAMICS, HOLD, JUMP, LOOK, PACE, apart, of_shot
from evals.benchmarks.steering import run_arms
from evals.comparison import EXTENSION, compare
from evals.footage import Footage
from evals.metrics.score import NotMeasured, Score
from evals.report import write_report
from evals.results import read_results
from evals.rows import ROWS, read_rows
from evals.slices import SLICE
from evals.world.controls import film
from generators.backends.instant import InstantBackend
from generators.clip import Frames, Limits, ShotRequest
from generators.errors import RequestRejected
from generators.seams import HOLDS
from generators.world.words import FPS, HEIGHT, LONG, SHORT, WIDTH

CANVAS = Limits(width=WIDTH, height=HEIGHT, fps=8, frame_counts=(SHORT, LONG), extends=True, films_sets=True)


def bench(chains: int = 1, sizes: tuple[int, ...] = (3,), **changes: Any) -> Extension:
    return Extension(ExtensionSettings(chains=chains, sizes=sizes, film={"weights": "none"}, **changes))


def unchanged(frames: Frames) -> Frames:
    return frames


def filmed(benchmark: Extension, footage: Footage) -> list[Film]:
    (unit,) = benchmark.units()
    found = [footage.film(case, 0) for case in unit.cases]
    return [film for film in found if isinstance(film, Film)]


def read(benchmark: Extension, films: Sequence[Film]) -> dict[str, float]:
    (unit,) = benchmark.units()
    outcomes = benchmark.judge(unit, films).outcomes
    return {name: one.value for name, one in outcomes.items() if isinstance(one, Score)}


def test_a_longer_list_begins_with_a_shorter_one_and_tune_has_other_chains() -> None:
    few, many, tune = bench(2), bench(3, (2, 3)), bench(2, split="tune")
    names = [unit.name for unit in few.units()]
    assert names == [unit.name for unit in many.units() if unit.name.startswith("chain-3")][:2]
    assert [few.chain(name) for name in names] == [many.chain(name) for name in names]
    assert few.noise(f"{names[0]}-1") == many.noise(f"{names[0]}-1") != tune.noise(f"{names[0]}-1")
    assert few.chain(names[0]) != tune.chain(names[0])
    assert tune.name == "extension-tune"


def test_every_arm_hands_over_the_frames_it_says_from_the_same_noise() -> None:
    benchmark = bench()
    asked: dict[str, list[ShotRequest]] = {}
    for name in (CUT, "last-frame", f"given-{PRODUCT}"):
        backend = InstantBackend(limits=CANVAS, on_shoot=asked.setdefault(name, []).append)
        films = filmed(benchmark, ChainFootage(benchmark, backend, ARMS[name]))
        lead = ARMS[name].lead
        assert [film.lead for film in films] == [0, lead, lead]
        assert len(joined(films)) == 3 * SHORT - 2 * lead
        for before, after in zip(films[:-1], films[1:], strict=True):
            assert np.array_equal(after.frames[:lead], before.frames[len(before.frames) - lead :])
    assert [len(given.frames) for request in asked[f"given-{PRODUCT}"] for given in request.given] == [5, 5]
    assert not any(request.given for request in asked[CUT])
    seeds = {name: [(request.seed, request.prompt) for request in found] for name, found in asked.items()}
    assert seeds[CUT] == seeds["last-frame"] == seeds[f"given-{PRODUCT}"]


def test_first_shots_are_filmed_once_for_all_arms() -> None:
    benchmark = bench(sizes=(2,))
    asked: list[ShotRequest] = []
    backend = InstantBackend(limits=CANVAS, on_shoot=asked.append)
    arms = [arm for arm in ARMS.values() if arm.name in (CUT, "last-frame", f"given-{PRODUCT}")]
    films = [filmed(benchmark, footage) for footage in arm_footages(benchmark, backend, arms, None)]
    assert len(asked) == 4
    assert all(np.array_equal(films[0][0].frames, other[0].frames) for other in films[1:])


def test_a_shot_that_cannot_be_filmed_ends_its_chain_and_says_why() -> None:
    def refuse(request: ShotRequest) -> None:
        if request.given:
            raise RequestRejected("no frames, please")

    benchmark = bench()
    (unit,) = benchmark.units()
    footage = ChainFootage(benchmark, InstantBackend(limits=CANVAS, on_shoot=refuse), ARMS["last-frame"])
    films = [footage.film(case, 0) for case in unit.cases]
    why = NotMeasured(reason="rejected: no frames, please")
    assert films[1:] == [why, why]
    outcomes = benchmark.judge(unit, films).outcomes
    assert set(outcomes.values()) == {why}
    assert {HOLD, BACKDROP, LOOK, PACE, of_shot("completion", 3)} <= set(outcomes)


def test_a_model_with_a_way_of_its_own_holds_no_noised_latents() -> None:
    benchmark = bench(sizes=(2,))
    footage = ChainFootage(benchmark, InstantBackend(limits=CANVAS), ARMS["held"])
    found = footage.film(benchmark.units()[0].cases[0], 0)
    assert isinstance(found, NotMeasured)
    assert "holds no noised latents" in found.reason


def test_without_a_trained_model_scenes_are_not_measured() -> None:
    backend = InstantBackend(limits=CANVAS)
    (cut, missing) = arm_footages(bench(), backend, arms_named([SCENES]), None)
    assert (cut.name, missing) == (CUT, MissingFootage(name=SCENES, reason=NO_SCENES))
    (_, named) = arm_footages(bench(), backend, arms_named([SCENES]), backend)
    assert isinstance(named, ScenesFootage)
    assert [film.lead for film in filmed(bench(), named)] == [0, 0, 0]
    with pytest.raises(ValueError, match="expected some of cut, last-frame"):
        arms_named(["magic"])


@pytest.mark.slow
def test_any_model_that_gives_tokens_no_times_of_their_own_holds_noised_latents(tmp_path: Path) -> None:
    from generators.backends.local import LocalBackend
    from generators.models.tiny import tiny_wan
    from generators.models.tiny_cogvideox import tiny_cogvideox

    wan, expands = tiny_wan("t2v-2.1", tmp_path / "wan"), tiny_wan("ti2v-2.2", tmp_path / "ti2v")
    other = tiny_cogvideox("t2v-2b", tmp_path / "cog")
    assert [holds_noised(LocalBackend(str(folder))) for folder in (wan, expands, other)] == [True, False, True]
    assert holds_noised(LocalBackend(str(wan), gives_tokens_at_zero=True))


@pytest.mark.parametrize("lead", [1, 5])
def test_frames_that_were_handed_over_change_neither_motion_nor_colour_nor_stage(lead: int) -> None:
    benchmark = bench(sizes=(2,))
    whole = benchmark.chain("chain-2-0000").truth()
    first, own = Film(frames=whole[:SHORT], fps=FPS), whole[SHORT:]
    cut = read(benchmark, [first, Film(frames=own, fps=FPS)])
    given = read(benchmark, [first, Film(frames=whole[SHORT - lead :], fps=FPS, lead=lead)])
    for name in (PACE, of_shot(PACE, 2), DYNAMICS.name, COLOUR_ALL, BACKDROP, apart(BACKDROP, 1)):
        assert given[name] == cut[name], name
    assert cut[PACE] > 0


def test_a_slice_steps_where_its_seam_is_and_is_of_one_column_under_every_arm() -> None:
    benchmark = bench(sizes=(2,))
    (unit,) = benchmark.units()
    one = benchmark.chain(unit.name)
    whole, column = one.truth(), seam_column(one)
    assert 0 <= column < WIDTH
    first = Film(frames=whole[:SHORT], fps=FPS)
    for lead in (0, 5):
        shown = np.concatenate([whole[SHORT - lead : SHORT], 255 - whole[SHORT:]])
        judgement = benchmark.judge(unit, [first, Film(frames=shown, fps=FPS, lead=lead)])
        with Image.open(io.BytesIO(judgement.pictures[SLICE])) as picture:
            strip = np.asarray(picture, np.int16)
        assert np.array_equal(strip[:, :SHORT], whole[:SHORT, :, column].transpose(1, 0, 2))
        assert judgement.facts["seams"] == [1 + int(np.abs(np.diff(strip, axis=1)).mean((0, 2)).argmax())]


def test_a_seam_is_judged_as_the_report_judges_it() -> None:
    benchmark = bench(sizes=(2,))
    whole = filmed(benchmark, TruthFootage(benchmark, unchanged))
    assert [film.lead for film in whole] == [0, 1]
    assert jump_between(*whole) <= HOLDS
    later = replace(whole[1], frames=whole[1].frames.copy())
    later.frames[1:] = 255 - later.frames[1:]
    assert jump_between(whole[0], later) > HOLDS
    as_cut = replace(later, frames=later.frames[1:], lead=0)
    assert jump_between(whole[0], as_cut) == jump_between(whole[0], later)


@pytest.mark.slow
def test_the_truth_keeps_everything_and_a_film_that_changes_place_drifts() -> None:
    benchmark = bench()
    whole = read(benchmark, filmed(benchmark, TruthFootage(benchmark, unchanged)))
    for name in (HOLD, "completion", "kind", "place", LOOK, of_shot("completion", 3)):
        assert whole[name] == 1.0, name
    assert whole[BACKDROP] < 1
    assert whole[PACE] > 0
    (unit,) = benchmark.units()
    shots = benchmark.shots(unit.name)
    places = ("beach", "snow", "city")
    moved = [Film(frames=film(replace(s.script, place=p)), fps=FPS) for s, p in zip(shots, places, strict=True)]
    apart = read(benchmark, moved)
    assert apart[BACKDROP] > 10
    assert apart[HOLD] == 0.0
    assert apart[JUMP] > whole[JUMP]
    assert apart["place"] <= 1 / 3


@pytest.mark.slow
def test_a_stop_leaves_whole_chains_and_the_report_has_curves_sheets_and_slices(tmp_path: Path) -> None:
    benchmark = bench(chains=2, sizes=(2,))
    asked: list[ShotRequest] = []

    def footages(most: int) -> list[Footage]:
        def stop(request: ShotRequest) -> None:
            if len(asked) == most:
                raise KeyboardInterrupt
            asked.append(request)

        backend = InstantBackend(limits=CANVAS, on_shoot=stop)
        arms = arms_named(["last-frame", SCENES])
        return [*arm_footages(benchmark, backend, arms, None), TruthFootage(benchmark, unchanged)]

    with pytest.raises(KeyboardInterrupt):
        run_arms(benchmark, footages(most=4), tmp_path)
    assert len(read_rows(tmp_path / "extension" / CUT / ROWS)) == 1
    run_arms(benchmark, footages(most=100), tmp_path)
    assert len(asked) == 4 + 3  # a chain that was left unfinished is filmed from its first shot on
    methods = {method.name: method for method in read_results(tmp_path)["extension"]}
    line = methods["last-frame"].line("completion", "shot 2")
    assert line is not None
    assert line.count == 2
    assert methods[CUT].line(BACKDROP, "distance 1") is not None
    missing = methods[SCENES].line("completion")
    assert missing is not None
    assert missing.unmeasured == {NO_SCENES: 2}
    table = dict(compare(list(methods.values()), EXTENSION)[0].rows)
    assert table["last-frame"][0].value == "0.000"
    written = write_report(tmp_path, tmp_path / "report")
    pictures = {path.name for path in (tmp_path / "report" / "pictures").iterdir()}
    assert {"extension-slice-chain-2-0000.png", "extension-sheet-cut.png", "extension-shot-completion.png"} <= pictures
    assert "over time, chain-2-0000" in written.html.read_text()


@pytest.mark.slow
def test_every_arm_films_on_the_bundled_architecture(tmp_path: Path) -> None:
    from generators.backends.local import LocalBackend
    from generators.models.tiny import tiny_wan

    folder = tiny_wan("world", tmp_path / "model", scheduler="euler")
    limits = replace(CANVAS, continues="tokens at zero")
    backend = LocalBackend(str(folder), limits=limits, steps=2, guidance=2.0, gives_tokens_at_zero=True)
    with noised(backend):
        assert backend.model is not None
        assert not backend.model.gives_tokens_at_zero
    assert backend.model.gives_tokens_at_zero
    benchmark = bench(sizes=(2,))
    in_sequence = LocalBackend(str(folder), limits=limits, steps=2, gives_tokens_at_zero=True, scenes=True)
    films = {f.name: filmed(benchmark, f) for f in arm_footages(benchmark, backend, arms_named([]), in_sequence)}
    assert [len(found) for found in films.values()] == [2] * len(ARMS)
    given, held = films[f"given-{PRODUCT}"][1].frames, films["held"][1].frames
    assert np.array_equal(given[:PRODUCT], held[:PRODUCT])
    assert not np.array_equal(given[PRODUCT:], held[PRODUCT:])
