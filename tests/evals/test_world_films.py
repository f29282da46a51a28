"""The world benchmark: truth scores everything, each control loses what names its fault, sets have their shapes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.benchmarks.protocol import ALL, AUTOENCODER, Film, Judged, Judgement, Line, Unit
from evals.benchmarks.world import Autoencoder
from evals.benchmarks.world_controls import CONTROLS, ControlFootage
from evals.benchmarks.world_distances import near_counts, states
from evals.benchmarks.world_films import BESIDE, MOVEMENT, World, counts_of, growth, quick_counts, story_score
from evals.metrics.flow import movement_second
from evals.metrics.score import Case as Shown
from evals.metrics.score import NotMeasured, Outcome, Score, Summary
from evals.suite import Result, finish, run
from evals.world import controls
from evals.world.events import promised
from evals.world.scores import frame_accuracy, judge_clip
from evals.world.settings import SCORE
from evals.world.splits import SPLITS, STORY_SHAPE, SplitName, cases, mixed, partner
from evals.world.tracks import watch
from generators.models.tiny import tiny_wan
from generators.world.grammar import held_out_act, held_out_look, is_held_out
from generators.world.words import FPS, SHORT
from workshop.worlds import evaluate_world

Cli = Callable[..., Any]
NO_MODEL = NotMeasured(reason="no model")
FEW: dict[SplitName, int] = {"both": 2}


def filmed(control: str, out: Path, counts: Mapping[SplitName, int] = FEW) -> Result:
    world = World(counts, NO_MODEL)
    return finish(run(world, ControlFootage(control, world.cases, NO_MODEL), out))


def named(result: Result, group: str = ALL) -> dict[str, Summary]:
    return {line.summary.metric: line.summary for line in result.lines if line.group == group}


def means(result: Result, *metrics: str) -> list[float | None]:
    return [named(result)[metric].mean for metric in metrics]


@pytest.mark.slow
def test_rendered_truth_scores_everything_and_its_floor_nothing(tmp_path: Path) -> None:
    result = filmed("truth", tmp_path)
    assert means(result, "ECR", "ECR-id", "Order", "Colour", "ID", "Kind", "Place", "Time", "Timing") == [1.0] * 9
    assert means(result, "Omissions", "Clones", "Intruders", "cuts inside a shot") == [0.0] * 4
    assert means(result, "ECR (floor)", "Order (floor)", "Prefix (floor)") == [0.0] * 3
    assert named(result)["ECR (ceiling)"].unmeasured == {"no model": 2}
    assert named(result)["Timing (floor)"].unmeasured == {"no event was done": 2}
    assert means(result, "Movement second", "Allen relations") == [1.0, 1.0]
    assert named(result)["Movement second (ceiling)"].unmeasured == {"no model": 2}
    beside = {f"{name} ({kind})" for name in (*BESIDE, MOVEMENT) for kind in ("ceiling", "floor")}
    assert beside - set(named(result)) == {"Sharpness (floor)"}
    assert (named(result)["Frame accuracy"].mean or 0) > 0.95
    assert means(result, "overlap with truth at interval 1 (24x16 pixels)") == [1.0]
    assert named(result)["FVD-SW (detector states, 1 axes)"].mean == pytest.approx(0.0, abs=1e-9)
    assert "no network was given" in str(named(result)["FVD-SW (3-D network)"])


def test_a_film_that_moves_in_another_second_than_its_truth_loses_that_measure() -> None:
    world = World({"both": 8}, NO_MODEL)
    for unit in world.units():
        case, other = world.cases[unit.name]
        truth, wrong = controls.film(case.script), controls.film(other.script)
        asked, second = (movement_second(frames, FPS, int(case.script.seconds)) for frames in (truth, wrong))
        late = np.concatenate([np.repeat(truth[:1], FPS, axis=0), truth[:-FPS]])
        found = movement_second(late, FPS, int(case.script.seconds))
        outcomes = world.judge(unit, [Film(frames=late, fps=FPS)]).outcomes
        assert outcomes[MOVEMENT] == Score(value=float(found == asked))
        assert outcomes[f"{MOVEMENT} (floor)"] == Score(value=float(found == second))
        if found != asked:
            return
    pytest.fail("no film of eight moves most in another second when it begins a second later")


@pytest.mark.slow
def test_a_frozen_film_keeps_identity_and_loses_every_event(tmp_path: Path) -> None:
    result = filmed("frozen", tmp_path)
    assert means(result, "ECR", "Order", "ID", "Colour", "Place") == [0.0, 0.0, 1.0, 1.0, 1.0]
    assert means(result, "StoryScore") == [0.0]


@pytest.mark.slow
def test_another_clip_scores_at_the_floor(tmp_path: Path) -> None:
    assert means(filmed("another clip", tmp_path), "ECR", "ECR-id", "Order") == [0.0] * 3


@pytest.mark.slow
def test_another_place_loses_only_the_place(tmp_path: Path) -> None:
    assert means(filmed("another place", tmp_path), "ECR", "ID", "Colour", "Place") == [1.0, 1.0, 1.0, 0.0]


def test_swapping_needs_two_events_and_loses_their_order(tmp_path: Path) -> None:
    result = filmed("swapped", tmp_path)
    assert named(result)["ECR"].unmeasured == {"only two events can be swapped": 1}
    assert named(result)["Order"].mean == 0.0


@pytest.mark.slow
def test_an_actor_recoloured_halfway_loses_identity(tmp_path: Path) -> None:
    result = filmed("recoloured", tmp_path)
    assert named(result)["ID"].mean in (0.0, 0.25, 0.5)
    assert (named(result)["ECR-id"].mean or 0) < 1.0


@pytest.mark.slow
def test_the_last_event_missing_is_seen_to_be_missing(tmp_path: Path) -> None:
    assert means(filmed("last event missing", tmp_path), "ECR", "ID") == [0.25, 1.0]


@pytest.mark.slow
def test_the_ceiling_is_a_method_of_its_own_and_needs_a_model(tmp_path: Path) -> None:
    assert named(filmed(AUTOENCODER, tmp_path))["ECR"].unmeasured == {"no model": 2}
    backwards = Autoencoder(roundtrip=controls.reversed_in_time, digest="backwards")
    world = World(FEW, backwards)
    result = finish(run(world, ControlFootage("truth", world.cases, backwards), tmp_path / "b"))
    assert means(result, "ECR", "Order") == [1.0, 1.0]
    assert means(result, "Order (ceiling)") == [0.0]
    assert means(result, "Sharpness (ceiling)") == pytest.approx(means(result, "Sharpness"))


@pytest.mark.slow
def test_after_another_autoencoder_its_ceilings_are_drawn_anew_and_the_first_ones_kept(tmp_path: Path) -> None:
    whole = Autoencoder(roundtrip=lambda frames: frames, digest="whole")
    still = Autoencoder(roundtrip=controls.frozen, digest="still")

    def ceilings(control: str, autoencoder: Autoencoder | NotMeasured) -> tuple[list[bool], list[float | None]]:
        world = World({"both": 1}, autoencoder)
        footage = ControlFootage(control, world.cases, autoencoder)
        kept = [step.kept for step in run(world, footage, tmp_path)]
        return kept, means(finish(run(world, footage, tmp_path)), "ECR", "ECR (ceiling)")

    assert ceilings(AUTOENCODER, whole) == ([False], [1.0, 1.0])
    assert ceilings(AUTOENCODER, still) == ([False], [0.0, 0.0])
    assert ceilings(AUTOENCODER, whole) == ([True], [1.0, 1.0])
    assert ceilings("truth", whole) == ([False], [1.0, 1.0])
    assert ceilings("truth", still) == ([False], [1.0, 0.0])
    assert ceilings("truth", NO_MODEL) == ([False], [1.0, None])
    assert World({"both": 1}, whole).settings() == World({"both": 1}, still).settings()  # methods still compare


@pytest.mark.slow
def test_the_command_reads_nothing_of_a_model_that_was_trained_anew(tmp_path: Path) -> None:
    def kept(seed: int, **told: Any) -> list[bool]:
        model = tmp_path / f"model-{seed}"
        if not model.is_dir():
            tiny_wan("world", model, seed=seed)
        seen: list[bool] = []
        evaluate_world(["both"], cases=1, model=str(model), out=tmp_path / "out",
                       on_progress=lambda step: seen.append(step.kept), **told)  # fmt: skip
        return seen

    assert [kept(seed, controls=[AUTOENCODER]) for seed in (0, 0, 1, 0)] == [[False], [True], [False], [True]]
    assert [kept(seed, name="mine") for seed in (0, 0, 1)] == [[False], [True], [False]]


def test_an_unknown_control_is_refused_with_the_list() -> None:
    with pytest.raises(ValueError, match="truth, another clip"):
        ControlFootage("upside down", {}, NO_MODEL)


def test_a_film_of_another_size_is_not_measured() -> None:
    world = World({"both": 1}, NO_MODEL)
    judged = world.judge(world.units()[0], [Film(frames=np.zeros((SHORT, 32, 32, 3), np.uint8), fps=8)])
    assert judged.outcomes["ECR"] == NotMeasured(reason="a film of 32x32 pixels; the detectors read 96x64")


@pytest.mark.slow
def test_two_runs_give_one_table_and_a_longer_one_keeps_the_rows(tmp_path: Path) -> None:
    first, again = filmed("truth", tmp_path / "a"), filmed("truth", tmp_path / "b")
    assert [path.read_bytes() for path in (first.folder / "table.json", first.folder / "table.md")] == [
        path.read_bytes() for path in (again.folder / "table.json", again.folder / "table.md")
    ]
    world = World({"both": 3}, NO_MODEL)
    steps = list(run(world, ControlFootage("truth", world.cases, NO_MODEL), tmp_path / "a"))
    assert [step.kept for step in steps] == [True, True, False]


def judged(values: Sequence[tuple[float, float | None, float]]) -> list[Judged]:
    """Films of one set with ECR-id, Order and ID as given; ECR is ECR-id."""
    found = []
    for number, (done, order, identity) in enumerate(values):
        ordered: Outcome = NotMeasured(reason="one event") if order is None else Score(value=order)
        outcomes: dict[str, Outcome] = {
            "ECR": Score(value=done), "ECR-id": Score(value=done), "Order": ordered, "ID": Score(value=identity)
        }  # fmt: skip
        shown = Unit(name=str(number), cases=(Shown(name="x", prompt="x"),), classes=("both", "both, 2 events"))
        found.append(Judged(unit=shown, judgement=Judgement(outcomes=outcomes, facts={"verbs": [], "done": []})))
    return found


def test_the_story_score_is_the_geometric_mean_over_films_of_several_events() -> None:
    found = story_score(judged([(1.0, 1.0, 1.0), (0.5, 0.0, 1.0), (1.0, None, 1.0)]))
    assert found.mean == pytest.approx((0.75 * 0.5 * 1.0) ** (1 / 3))
    assert (found.count, found.total) == (2, 3)
    assert (found.low or 0) <= (found.mean or 0) <= (found.high or 0)
    assert story_score(judged([(1.0, None, 1.0)])).mean is None


def test_growth_is_printed_at_twelve_and_its_doubles() -> None:
    lines: list[Line] = growth(judged([(1.0, 1.0, 1.0)] * 12 + [(0.0, 0.0, 1.0)] * 13))
    assert [(line.group, line.summary.mean) for line in lines if line.summary.metric == "ECR"] == [
        ("both, first 12", 1.0), ("both, first 24", 0.5),
    ]  # fmt: skip


@pytest.mark.slow
def test_the_headline_set_has_storyevals_shape_and_so_have_its_first_stories() -> None:
    listed = mixed("stories", sum(STORY_SHAPE.values()))
    assert Counter(len(case.script.events) for case in listed) == Counter(STORY_SHAPE)
    assert len({case.caption.text for case in listed}) == len(listed) == 423
    first = Counter(len(case.script.events) for case in listed[:42])
    assert all(abs(first[events] - 42 * share / 423) <= 1 for events, share in STORY_SHAPE.items())
    assert listed[:5] == mixed("stories", 5)
    assert all(is_held_out(case.script) for case in listed)


def test_splits_hold_out_what_they_say() -> None:
    for case in mixed("acts", 8):
        assert not any(held_out_look(actor.hue, actor.kind) for actor in case.script.actors)
        assert any(held_out_act(case.script.actors[e.actor].kind, e.verb) for e in case.script.events)
    for case in mixed("looks", 8):
        assert any(held_out_look(actor.hue, actor.kind) for actor in case.script.actors)
        assert not any(held_out_act(case.script.actors[e.actor].kind, e.verb) for e in case.script.events)
    assert {len(case.script.events) for case in mixed("longer", 2)} == {4, 5}


def test_a_partner_has_as_many_events_and_another_script() -> None:
    for case in cases("both", 2, 3):
        other = partner(case)
        assert len(other.script.events) == 2
        assert [promised(other.script, e) for e in other.script.events] != [
            promised(case.script, e) for e in case.script.events
        ]


def test_counts_are_423_stories_and_200_of_others_unless_asked_otherwise() -> None:
    assert counts_of(["stories", "seen"]) == {"seen": 200, "stories": 423}
    assert counts_of(["seen"], 5) == {"seen": 5}
    assert quick_counts(3) == {"both": 3, "stories": 3}
    assert sum(quick_counts().values()) == 90
    with pytest.raises(ValueError, match="got everything"):
        counts_of(["everything"])
    with pytest.raises(ValueError, match="1 to 423"):
        counts_of(["stories"], 424)
    assert set(counts_of(list(SPLITS))) == set(SPLITS)


def test_frame_accuracy_is_one_for_the_truth_and_the_share_of_rest_for_nothing() -> None:
    case = cases("both", 1, 1)[0]
    truth = controls.film(case.script)
    assert frame_accuracy(judge_clip(truth, case.script)) > 0.9
    (event,) = case.script.events
    rest = 1 - (event.end - event.start) / (event.end + 1)
    assert frame_accuracy(judge_clip(controls.frozen(truth), case.script)) == pytest.approx(rest, abs=0.05)


def test_states_have_one_length_whatever_the_cast_and_nothing_where_nobody_is_seen() -> None:
    listed = [*cases("both", 1, 1), *cases("both", 2, 1)]
    found = [states(watch(controls.film(case.script), SCORE), case.script) for case in listed]
    assert {len(one) for one in found} == {96}
    empty = watch(np.full((SHORT, 64, 96, 3), 120, np.uint8), SCORE)
    assert set(states(empty, listed[0].script)) == {0.0}


def test_similarities_of_a_still_clip_all_stand_in_the_last_bin() -> None:
    counts = near_counts(np.full((9, 64, 96, 3), 50, np.uint8) + np.arange(96, dtype=np.uint8)[:, None])
    assert {interval: (sum(bins), bins[-1]) for interval, bins in counts.items()} == {
        "1": (8, 8), "2": (7, 7), "4": (5, 5), "8": (1, 1),
    }  # fmt: skip


@pytest.mark.slow
def test_controls_are_run_from_the_command_line(cli: Cli, tmp_path: Path) -> None:
    done = cli("eval", "world", "--set", "both", "--cases", "1", "--control", "truth", "--control", "frozen",
               "--profile", "instant", "--out", tmp_path, "--json")  # fmt: skip
    assert done.code == 0, done.err
    results = json.loads(done.out)["results"]
    assert [one["manifest"]["method"] for one in results] == ["control: truth", "control: frozen"]
    wrong = cli("eval", "world", "--set", "nowhere", "--profile", "instant")
    assert wrong.code == 2
    assert "expected sets of" in wrong.err


def test_a_backend_that_cannot_film_the_world_is_not_measured(cli: Cli, tmp_path: Path) -> None:
    done = cli("eval", "world", "--set", "both", "--cases", "1", "--profile", "instant", "--out", tmp_path, "--json")
    assert done.code == 0, done.err
    lines = {one["summary"]["metric"]: one["summary"] for one in json.loads(done.out)["results"][0]["lines"]}
    assert lines["ECR"]["mean"] in (None, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("control", ["reversed", "leaping", "twin", "noise 12", "noise 60"])
def test_controls_cost_what_they_must(control: str, tmp_path: Path) -> None:
    result = filmed(control, tmp_path, {"both": 8})
    order, done = means(result, "Order", "ECR")
    assert order is not None
    assert done is not None
    if control == "reversed":
        assert order <= 0.25
    else:
        assert (done >= 0.85) if control == "noise 12" else (done <= 0.6)
    if control == "twin":
        assert done <= 0.1  # others do what they do


def test_every_control_is_named_once() -> None:
    assert len(CONTROLS) == 14
    assert AUTOENCODER not in CONTROLS


def test_a_film_of_a_higher_frame_rate_is_read_at_the_worlds(tmp_path: Path) -> None:
    bench = World({"both": 1}, NO_MODEL)
    (unit,) = bench.units()
    truth = controls.film(bench.cases[unit.name][0].script)
    plain = bench.judge(unit, [Film(frames=truth, fps=FPS)])
    fast = bench.judge(unit, [Film(frames=np.repeat(truth, 3, axis=0), fps=3 * FPS)])
    assert fast.outcomes["ECR"] == plain.outcomes["ECR"] == Score(value=1.0)
    assert fast.outcomes["Onset error (s)"] == plain.outcomes["Onset error (s)"]
    for film, said in (
        (Film(frames=truth, fps=4), "a film of 4 frames a second; the detectors read 8"),
        (Film(frames=truth[:6], fps=FPS), "a film of 6 frames; the detectors need 8"),
    ):
        assert bench.judge(unit, [film]).outcomes["ECR"] == NotMeasured(reason=said)


def test_a_film_that_is_missing_is_missing_from_every_line(tmp_path: Path) -> None:
    bench = World({"both": 4}, NO_MODEL)
    units = bench.units()
    films = [controls.film(bench.cases[unit.name][0].script) for unit in units[:3]]
    judged = [
        Judged(unit=unit, judgement=bench.judge(unit, [film]))
        for unit, film in zip(
            units, [*(Film(frames=one, fps=FPS) for one in films), NotMeasured(reason="no video")], strict=True
        )
    ]
    whole = {line.summary.metric: line.summary for line in bench.lines(judged) if line.group == ALL}
    for name in ("ECR", "ECR (ceiling)", "ECR (floor)", "dynamic degree (dis)", "StoryScore"):
        assert whole[name].total == 4, name
    assert next(one for name, one in whole.items() if name.startswith("KVD-SW")).unmeasured == {"no video": 1}
    verbs = [line.summary for line in bench.lines(judged) if line.summary.metric == "completion of a verb"]
    assert sum(one.total for one in verbs) == sum(len(bench.cases[unit.name][0].verbs) for unit in units)
