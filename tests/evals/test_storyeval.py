"""StoryEval: the released flags give the published figures, and an answer that cannot be read is no vote."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.errors import ModelUnavailable
from agents.llm import Endpoint, EndpointModel, Server
from evals.benchmarks.protocol import ALL, Film, Judged
from evals.benchmarks.storyeval import (
    StoryEval,
    StoryEvalSettings,
    Unreleased,
    file_name,
    prompt_score,
    read_prompts,
    read_verdicts,
    replayed,
)
from evals.benchmarks.verifiers import (
    GPT4O,
    LLAVA,
    RULES,
    TAG,
    ModelVerifier,
    ReplayVerifier,
    Rules,
    key_indices,
    key_pictures,
    plain_text,
    read_flags,
    vote,
)
from evals.metrics.score import Case, NotMeasured, Score
from tests.loopback import Answer, ChatServer, says

CASE = Case(name="a", prompt="A fox jumps, and then spins.", events=("A fox jumps", "And then the fox spins"))
FILM = Film(frames=np.zeros((20, 16, 24, 3), np.uint8), fps=8)


@pytest.fixture
def released() -> Path:
    folder = Path(os.environ.get("FABULA_EVAL_DATA", Path(__file__).parents[3] / "shared" / "data")) / "storyeval"
    if not (folder / "reference_verdicts.json").is_file():
        pytest.skip("the released verdicts are not here; FABULA_EVAL_DATA names their folder")
    return folder


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.json"
    entries = {
        "a.mp4": {"prompt": CASE.prompt, "event_list": list(CASE.events), "class": ["animal", "easy", "2_events"]},
        "b.mp4": {"prompt": "A ball rolls, and falls.", "event_list": ["A ball rolls", "It falls"], "class": ["hard"]},
    }
    path.write_text(json.dumps(entries))
    return path


@pytest.mark.slow
def test_released_flags_give_the_published_figures_for_every_model_and_class(
    released: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the benchmark itself, from stored flags to the lines of its table."""
    monkeypatch.setattr("evals.metrics.bootstrap.RESAMPLES", 500)  # intervals are not what is held here
    prompts, flags = released / "all_prompts.json", released / "reference_verdicts.json"
    with (released / "reference_scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 17
    for row in rows:
        name = f"{row['model']}/{row['verifier']}"
        rules = RULES[row["verifier"]]
        assert rules.runs == int(row["runs"])
        bench = StoryEval(StoryEvalSettings(prompts=prompts, rules=rules), replayed(flags, prompts, name))
        film = Unreleased(name=name).film(CASE, 0)
        judged = [Judged(unit=unit, judgement=bench.judge(unit, [film])) for unit in bench.units()]
        found = {(line.summary.metric, line.group): line.summary for line in bench.lines(judged)}
        for column, published in row.items():
            if column in ("model", "verifier", "runs"):
                continue
            metric = "StoryEval mean (official)" if column == "average_no_vote" else "StoryEval unanimous (official)"
            got = found[metric, ALL if column.startswith("average") else column]
            assert got.mean is not None
            assert abs(100 * got.mean - float(published)) <= 0.0501, (name, column, 100 * got.mean)


def test_the_prompt_file_has_its_published_shape(released: Path) -> None:
    cases = read_prompts(released / "all_prompts.json")
    assert (len(cases), sum(len(case.events) for case in cases)) == (423, 1164)
    assert all(file_name(case.prompt) == f"{case.name}.mp4" for case in cases)
    assert sum("easy" in case.classes for case in cases) == sum("hard" in case.classes for case in cases) == 100


def test_hailuos_empty_clips_are_four(released: Path) -> None:
    cases = read_prompts(released / "all_prompts.json")
    runs = read_verdicts(released / "reference_verdicts.json", cases)["hailuo/gpt4o"]
    assert sum(prompt_score(one) is None for one in runs.values()) == 4


@pytest.mark.parametrize(
    ("runs", "unanimous", "mean"),
    [
        ([[1, 0], [1, 1], [1, 0]], 0.5, 2 / 3),
        ([[1, 1], [], [1, 1]], 1.0, 1.0),
        ([[0, 0]], 0.0, 0.0),
        ([[1, 1], [1, 0]], 0.5, 0.75),
    ],
)
def test_an_event_counts_when_every_run_that_voted_saw_it(runs: list[list[int]], unanimous: float, mean: float) -> None:
    assert prompt_score(runs) == unanimous
    assert prompt_score(runs, unanimous=False) == pytest.approx(mean)


def test_no_vote_is_no_number_but_zero_in_the_published_denominator(prompts: Path) -> None:
    assert prompt_score([[], []]) is None
    assert prompt_score([]) is None
    bench = StoryEval(StoryEvalSettings(prompts=prompts), ReplayVerifier({"a": [[], []]}))
    found = bench.judge(bench.units()[0], [FILM]).outcomes
    assert found["StoryEval unanimous (official)"] == found["StoryEval mean (official)"] == Score(value=0.0)
    assert isinstance(found["StoryEval mean (voted)"], NotMeasured)


@pytest.mark.parametrize(
    ("answer", "flags"),
    [
        (f"It jumps.\n{TAG} 1, 0", (1, 0)),
        (f"{TAG} 1, 1\nNo, wait.\n{TAG}: [0,1]\nDone, 2 events.", (0, 1)),
        (f"{TAG}1 0", (1, 0)),
    ],
)
def test_the_last_tags_line_holds_the_flags(answer: str, flags: tuple[int, ...]) -> None:
    assert read_flags(answer, 2) == flags


@pytest.mark.parametrize("answer", ["1, 0", TAG, f"{TAG}\n1, 0", f"{TAG} 1", f"{TAG} 1, 0, 1", f"{TAG} 1, 2"])
def test_an_answer_without_a_flag_an_event_says_what_is_wrong(answer: str) -> None:
    assert isinstance(read_flags(answer, 2), str)


def test_verifiers_see_the_published_frames() -> None:
    assert [len(key_indices(n, GPT4O)) for n in (49, 81, 128, 300, 10, 3)] == [12, 20, 32, 32, 4, 3]
    assert key_indices(10, GPT4O) == [0, 3, 6, 9]
    assert len(key_indices(10, LLAVA)) == 32
    pictures = key_pictures(FILM.frames, GPT4O)
    assert len(pictures) == 5
    assert all(picture[:2] == b"\xff\xd8" for picture in pictures)


class Stubborn:
    """Gives its answers one after the other."""

    name = "stubborn"

    def __init__(self, answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[int] = []

    def describe(self, pictures: Sequence[bytes], case: Case, run: int) -> str:
        return "A fox."

    def score(self, pictures: Sequence[bytes], description: str, case: Case, run: int, attempt: int) -> str:
        self.asked.append(attempt)
        return self.answers.pop(0)


def test_a_wrong_answer_is_asked_again_as_often_as_the_rules_say() -> None:
    verifier = Stubborn(["nothing", f"{TAG} 1", f"{TAG} 1, 1", "unused"])
    assert vote(verifier, (), CASE, 0, GPT4O).flags == (1, 1)
    assert verifier.asked == [0, 1, 2]
    spent = vote(Stubborn(["no"] * 3), (), CASE, 0, GPT4O)
    assert (spent.flags, spent.answer) == ((), "no")
    assert TAG in spent.problem


def test_a_bad_answer_is_not_measured_and_a_zero_only_in_the_published_variant(prompts: Path) -> None:
    bench = StoryEval(StoryEvalSettings(prompts=prompts), Stubborn(["no"] * 9))
    found = bench.judge(bench.units()[0], [FILM]).outcomes
    assert isinstance(found["StoryEval unanimous (voted)"], NotMeasured)
    assert found["StoryEval unanimous (official)"] == Score(value=0.0)


def test_without_a_verifier_nothing_is_measured_in_any_variant(prompts: Path) -> None:
    why = NotMeasured(reason="no verifier was named")
    bench = StoryEval(StoryEvalSettings(prompts=prompts), why)
    assert set(bench.judge(bench.units()[0], [FILM]).outcomes.values()) == {why}


def test_the_table_has_every_class_and_a_missing_video_is_zero_as_published_only(prompts: Path) -> None:
    verifier = ReplayVerifier({"a": [[1, 0], [1, 1], [1, 1]]})
    bench = StoryEval(StoryEvalSettings(prompts=prompts), verifier)
    films: list[Film | NotMeasured] = [FILM, NotMeasured(reason="no video")]
    judged = [
        Judged(unit=unit, judgement=bench.judge(unit, [film])) for unit, film in zip(bench.units(), films, strict=True)
    ]
    lines = {(line.summary.metric, line.group): line.summary for line in bench.lines(judged)}
    assert lines["StoryEval unanimous (voted)", ALL].mean == 0.5
    assert lines["StoryEval unanimous (voted)", ALL].unmeasured == {"no video": 1}
    assert lines["StoryEval unanimous (official)", ALL].mean == 0.25
    assert lines["StoryEval mean (voted)", "easy"].mean == pytest.approx(5 / 6)
    assert lines["StoryEval unanimous (voted)", "hard"].mean is None


@pytest.fixture
def verdicts(tmp_path: Path) -> Path:
    """Flags of two judges over the two prompts; the second clip of one was never there."""
    path = tmp_path / "verdicts.json"
    flags = {"hailuo/gpt4o": [[[1, 0], [1, 1], [1, 0]], [[], [], []]], "hailuo/llava": [[[1, 1], [1, 1]], [[0, 1], []]]}
    path.write_text(json.dumps({"verdicts": flags}))
    return path


@pytest.mark.slow
def test_released_flags_make_the_table_from_the_command_line_without_a_clip(
    cli: Callable[..., Any], prompts: Path, verdicts: Path, tmp_path: Path
) -> None:
    words = ("eval", "storyeval", prompts, "--verdicts", verdicts, "--out", tmp_path / "out", "--json")
    expected = {"hailuo/gpt4o": ("gpt4o", 0.25, 0.5), "hailuo/llava": ("llava", 0.75, 0.75)}
    for judged, (rules, everywhere, voted) in expected.items():
        done = cli(*words, "--judged", judged)
        assert done.code == 0, done.err
        table = json.loads(done.out)
        assert table["manifest"]["method"] == judged
        assert table["manifest"]["settings"]["rules"]["name"] == rules
        assert table["manifest"]["settings"]["verifier"].startswith(f"released flags of {judged} (")
        mean = {(one["summary"]["metric"], one["group"]): one["summary"]["mean"] for one in table["lines"]}
        assert mean["StoryEval unanimous (official)", "all"] == everywhere
        assert mean["StoryEval unanimous (voted)", "all"] == voted
        assert done.out == cli(*words, "--judged", judged).out
    for wrong, said in ((("--judged", "sora/gpt4o"), "hailuo/llava"), ((), "belong together"),
                        (("--judged", "hailuo/llava", "--rules", "mine"), "gpt4o or llava")):  # fmt: skip
        refused = cli(*words, *wrong)
        assert refused.code == 2
        assert said in json.loads(refused.out)["error"]


@pytest.mark.slow
def test_the_rules_of_a_verifier_are_chosen_by_name_and_released_flags_keep_their_own(
    cli: Callable[..., Any], prompts: Path, verdicts: Path, tmp_path: Path
) -> None:
    words = ("eval", "storyeval", prompts, "--out", tmp_path, "--json")
    filmed = cli(*words, "--profile", "instant", "--rules", "llava")
    assert json.loads(filmed.out)["manifest"]["settings"]["rules"] == {
        "name": "llava", "runs": 2, "tries": 5, "frames": "always 32"
    }  # fmt: skip
    released = (*words, "--verdicts", verdicts, "--judged", "hailuo/gpt4o")
    assert json.loads(cli(*released, "--rules", "gpt4o").out)["manifest"]["settings"]["rules"]["name"] == "gpt4o"
    assert "does not go with flags of hailuo/gpt4o" in json.loads(cli(*released, "--rules", "llava").out)["error"]


def test_all_stored_runs_of_a_clip_count_whatever_the_rules(prompts: Path) -> None:
    bench = StoryEval(StoryEvalSettings(prompts=prompts, rules=LLAVA), ReplayVerifier({"a": [[1, 1], [1, 1], [1, 0]]}))
    found = bench.judge(bench.units()[0], [NotMeasured(reason="the clip was not released")])
    assert found.outcomes["StoryEval unanimous (official)"] == Score(value=0.5)
    assert found.facts["runs"] == [[1, 1], [1, 1], [1, 0]]


def test_the_replay_of_an_empty_run_is_a_run_without_vote() -> None:
    rules = Rules(name="x", runs=2, tries=1, frames="a quarter")
    replay = ReplayVerifier({"a": [[], [1, 0]]})
    assert [vote(replay, (), CASE, run, rules).flags for run in (0, 1)] == [(), (1, 0)]


@pytest.fixture
def endpoint() -> Iterator[tuple[ChatServer, ModelVerifier]]:
    def answer(asked: dict[str, Any]) -> Answer:
        text = asked["messages"][-1]["content"][0]["text"]
        return says(json.dumps({"answer": f"Reasons.\n{TAG} 1, 0" if TAG in text else "A fox jumps."}))

    server = ChatServer(answer)
    with server.running() as url:
        connection = Server(Endpoint(base_url=url, first_wait=0.01))
        verifier = ModelVerifier(EndpointModel(connection, "seer"), connection.close)
        yield server, verifier
        verifier.close()


def test_an_endpoint_describes_first_and_scores_with_the_description(
    prompts: Path, endpoint: tuple[ChatServer, ModelVerifier]
) -> None:
    server, verifier = endpoint
    bench = StoryEval(StoryEvalSettings(prompts=prompts), verifier)
    found = bench.judge(bench.units()[0], [FILM])
    assert found.outcomes["StoryEval unanimous (voted)"] == Score(value=0.5)
    assert found.facts["runs"] == [[1, 0]] * 3
    assert len(server.asked) == 6
    contents = [asked["messages"][1]["content"] for asked in server.asked]
    assert [sum(part["type"] == "image_url" for part in content) for content in contents] == [5] * 6
    assert "A fox jumps." in contents[1][0]["text"]
    assert CASE.prompt not in contents[0][0]["text"]
    assert all(event in contents[1][0]["text"] for event in CASE.events)
    assert verifier.name.startswith("seer (")


def test_a_server_that_is_away_stops_the_run_instead_of_scoring_it(prompts: Path) -> None:
    away = Server(Endpoint(base_url="http://127.0.0.1:9/v1", attempts=1))
    verifier = ModelVerifier(EndpointModel(away, "seer"), away.close)
    bench = StoryEval(StoryEvalSettings(prompts=prompts), verifier)
    with pytest.raises(ModelUnavailable):
        bench.judge(bench.units()[0], [FILM])
    verifier.close()


def test_answers_come_bare_or_in_json() -> None:
    assert plain_text('{"answer": "x"}') == "x"
    assert plain_text("bare [EVENT_FLAGS] 1") == "bare [EVENT_FLAGS] 1"
    assert plain_text('{"other": 1}') == '{"other": 1}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read"),
        ("[]", "object of prompts"),
        ('{"a.mp4": {"prompt": "x"}}', "expected prompt, and event_list and class as lists"),
        ('{"a.mp4": {"prompt": "x", "event_list": [], "class": []}}', "event_list is empty"),
    ],
)
def test_a_broken_prompt_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_prompts(path)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="limit"):
        StoryEvalSettings(prompts=Path("x"), limit=0)
    with pytest.raises(ValueError, match="at least 1 run"):
        Rules(name="x", runs=0, tries=1, frames="a quarter")
