"""Profiles: those that ship load, wrong ones are refused key by key."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from agents.brains import Critic, LanguageModel
from agents.casting import backend_config, options_of, profile_for
from agents.ensemble import brains_for
from agents.errors import ProfileError, UsageError
from agents.offline import OfflinePlanner
from agents.order import Order
from agents.planner import ModelPlanner, ModelWorldPlanner
from agents.profile import load_profile, override, parse_profile, profile_names
from agents.scripted import ScriptedCritic, ScriptedModel
from generators.backends import BACKENDS
from generators.clip import Canvas

CAMERA = """
[backend]
kind = "local"
model = "some/model"
device = "cpu"
dtype = "bfloat16"
offload = true
steps = 30
guidance = 4.0
guidance_2 = 3.0
width = 640
height = 352
fps = 12
frame_counts = [49, 81]
"""
GOOD = {"name": "mine", "backend": {"kind": "instant"}}


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_that_ships_is_whole_and_gives_brains(name: str) -> None:
    profile = load_profile(name, backends=BACKENDS)
    assert profile.name == name
    assert profile.description

    def model_of(role: str) -> LanguageModel:
        return ScriptedModel([], name=profile.brains.models.of(role))

    critic: Critic = ScriptedCritic()
    brains = brains_for(profile, model_of, critic)
    assert (brains.critic is None) == (profile.critic.kind == "none")


def test_the_bundled_profile_needs_no_endpoint_and_ten_minutes_at_most() -> None:
    profile = load_profile("bundled")
    assert not profile.needs_endpoint
    assert profile.budget.seconds == 600
    assert isinstance(brains_for(profile, None, ScriptedCritic()).planner, OfflinePlanner)


def test_endpoints_plan_in_the_worlds_words_or_freely() -> None:
    model = ScriptedModel([])
    assert isinstance(brains_for(load_profile("openai"), lambda _: model, ScriptedCritic()).planner, ModelWorldPlanner)
    assert isinstance(brains_for(load_profile("wan"), lambda _: model).planner, ModelPlanner)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"budget": {"second": 3}}, "budget.second: there is no such key"),
        ({"budget": {"takes_per_shot": 0}}, "budget.takes_per_shot"),
        ({"budget": {"seconds": "long"}}, r"budget.seconds.*'long'"),
        ({"brains": {"kind": "magic"}}, "brains.kind.*'offline', 'endpoint' or 'local'.*'magic'"),
        ({"critic": {"kind": "mother"}}, "critic.kind"),
        ({"backend": {}}, "backend.kind: Field required"),
        ({"backend": {"kind": "sora"}}, "backend.kind: expected one of bundled, instant, local, got 'sora'"),
        ({"backend": {"kind": "local", "dtype": "int8"}}, "backend.dtype.*'int8'"),
        ({"backend": {"kind": "local", "frame_counts": []}}, "backend.frame_counts"),
        ({"backend": {"kind": "local", "fps": 0}}, "backend.fps"),
        ({"brains": {"kind": "endpoint"}}, "brains.base_url"),
        ({"brains": {"kind": "endpoint", "base_url": "http://x/v1"}}, "brains.models.planner: name a model"),
        ({"critic": {"kind": "endpoint"}, "brains": {"base_url": "http://x"}}, "brains.models.critic"),
    ],
)
def test_a_wrong_profile_names_the_key_and_the_value(data: dict[str, object], said: str) -> None:
    with pytest.raises(ProfileError, match=said):
        parse_profile(GOOD | data, "mine.toml", backends=BACKENDS)


def test_files_that_are_missing_or_no_toml_are_named(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"No profile 'nothing'; there are bundled, instant"):
        load_profile("nothing")
    broken = tmp_path / "broken.toml"
    broken.write_text("[budget\n")
    with pytest.raises(ProfileError, match="broken.toml cannot be read"):
        load_profile(str(broken))


def test_a_persons_own_file_is_read_and_named_after_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[backend]\nkind = "instant"\n[budget]\nmoney = 2.5\n')
    profile = load_profile(str(file))
    assert (profile.name, profile.budget.money) == ("mine", 2.5)


def test_keys_can_be_changed_one_by_one_and_are_checked_alike() -> None:
    profile = override(load_profile("bundled"), {"budget.seconds": 60, "backend.model": "x"})
    assert (profile.budget.seconds, profile.backend.model) == (60, "x")
    with pytest.raises(ProfileError, match=r"no key 'budget\.minutes'"):
        override(profile, {"budget.minutes": 1})
    with pytest.raises(ProfileError, match=r"budget\.shots"):
        override(profile, {"budget.shots": 0})


def test_a_profile_decides_how_the_backend_is_opened(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(CAMERA)
    config = backend_config(load_profile(str(file), backends=BACKENDS))
    assert (config.model, config.device, config.dtype, config.offload) == ("some/model", "cpu", "bfloat16", True)
    assert (config.steps, config.guidance, config.guidance_2) == (30, 4.0, 3.0)
    assert config.canvas == Canvas(width=640, height=352, fps=12, frame_counts=(49, 81))


def test_steps_guidance_and_a_models_folder_reach_the_profile_from_the_order(tmp_path: Path) -> None:
    order = Order(story="A fox.", steps=7, guidance=1.0)
    assert profile_for(order, "wan", "some/model").backend.model == "some/model"
    assert profile_for(order, "wan", None).backend.model == "", "its brains and critic are of use without a model"
    profile = profile_for(order, "wan", str(tmp_path / "."))
    assert (profile.backend.steps, profile.backend.guidance) == (7, 1.0)
    assert profile.backend.model == str(tmp_path.resolve())
    assert profile_for(Order(story="A fox."), "bundled", None).backend == load_profile("bundled").backend
    with pytest.raises(UsageError, match="steps: expected 1 to 1000, got 0"):
        Order(story="A fox.", steps=0)
    with pytest.raises(UsageError, match="guidance: expected 0 to 100, got -1"):
        Order(story="A fox.", guidance=-1.0)


def test_what_decides_pixels_makes_another_run_and_where_a_picture_lies_does_not(tmp_path: Path) -> None:
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    Image.new("RGB", (32, 24), "teal").save(one)
    two.write_bytes(one.read_bytes())

    def options(**wishes: Any) -> dict[str, object]:
        order = Order(story="A fox.", **wishes)
        return options_of(order, profile_for(order, "instant", None))

    assert options(first_frame=one) == options(first_frame=two) != options()
    assert options(steps=3) != options() != options(guidance=1.5)
    with pytest.raises(UsageError, match=r"first frame .*three\.png cannot be read"):
        options(first_frame=tmp_path / "three.png")
    (tmp_path / "three.png").write_text("no picture")
    with pytest.raises(UsageError, match=r"three\.png cannot be read as a picture"):
        options(first_frame=tmp_path / "three.png")


def test_a_role_without_a_model_of_its_own_takes_the_default() -> None:
    profile = parse_profile(
        GOOD | {"brains": {"kind": "endpoint", "base_url": "http://x", "models": {"default": "a", "critic": "b"}}},
        "x",
    )
    assert [profile.brains.models.of(role) for role in ("planner", "critic")] == ["a", "b"]


def test_brains_that_lack_what_they_need_are_refused() -> None:
    with pytest.raises(ProfileError, match="world critic"):
        brains_for(load_profile("bundled"))
    with pytest.raises(ProfileError, match="planner needs a model"):
        brains_for(load_profile("wan"))


def test_a_profile_without_a_model_keeps_none_wherever_it_is_called_from() -> None:
    assert profile_for(Order(story=""), "bundled", None).backend.model == load_profile("bundled").backend.model == ""


def test_a_model_in_a_folder_here_is_named_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert profile_for(Order(story=""), "wan", "mine").backend.model == str(tmp_path / "mine")
    assert profile_for(Order(story=""), "wan", "some/model").backend.model == "some/model"


@pytest.mark.parametrize(
    ("brains", "says"),
    [
        ({"api_key": "sk-hidden"}, "brains.api_key: there is no such key .*key_env"),
        ({"base_url": "https://me:sk-hidden@host/v1"}, "no user, password or query in the address"),
        ({"base_url": "https://host/v1?key=sk-hidden"}, "no user, password or query"),
        ({"base_url": "me:sk-hidden@host"}, "no user, password or query"),
        ({"key_env": "sk-hidden"}, "name of an environment variable"),
    ],
)
def test_a_key_in_a_profile_is_refused_and_not_repeated(brains: dict[str, str], says: str) -> None:
    with pytest.raises(ProfileError, match=says) as caught:
        parse_profile(GOOD | {"brains": brains}, "mine.toml")
    assert "sk-hidden" not in "".join(traceback.format_exception(caught.value))


def test_settings_of_sets_reach_the_backend_and_count_in_a_run_only_where_they_are_asked_for() -> None:
    plain = load_profile("bundled")
    asked = override(plain, {"backend.sets": True, "backend.clipseg": "models/clipseg", "backend.keeps": "flow maps"})
    config = backend_config(asked)
    assert (config.clipseg, config.keeps) == ("models/clipseg", "flow maps")
    told: Any = options_of(Order(story="A red fox jumps."), asked)["profile"]
    assert told["backend"]["clipseg"] == "models/clipseg"
    told = options_of(Order(story="A red fox jumps."), plain)["profile"]
    assert not {"clipseg", "keeps", "sets"} & told["backend"].keys()
    assert "synopsis" not in told["brains"]
    told = options_of(Order(story="A red fox jumps."), override(plain, {"brains.synopsis": True}))["profile"]
    assert told["brains"]["synopsis"] is True
