"""Which model a role gets: behind the endpoint or in this process, one copy for all that name the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agents.errors import ModelMisconfigured, ProfileError
from agents.llm import EndpointModel
from agents.local_llm import LocalModel
from agents.minds import Kept, Minds, close_all
from agents.profile import Profile, parse_profile
from tests.tiny_chat import tiny_language_model, tiny_vision_language_model


def profile(brains: dict[str, Any], critic: str) -> Profile:
    data = {"name": "x", "brains": brains, "critic": {"kind": critic}, "backend": {"kind": "instant"}}
    return parse_profile(data, "x")


def test_a_planner_behind_an_endpoint_and_a_critic_in_this_process() -> None:
    brains = {"kind": "endpoint", "base_url": "http://x/v1", "models": {"planner": "a", "critic": "folder"}}
    chosen = profile(brains, "local")
    minds = Minds(chosen, {"OPENAI_API_KEY": "sk-secret"})
    planner, critic = minds.of("planner"), minds.of("critic")
    assert isinstance(planner, EndpointModel)
    assert planner.server.endpoint.key == "sk-secret"
    assert isinstance(critic, LocalModel)
    assert critic.place == "folder"
    assert chosen.asked == ("planner", "critic")
    assert "sk-secret" not in repr(planner.server.endpoint)


def test_roles_that_name_one_checkpoint_share_it_and_settings_reach_it() -> None:
    brains = {"kind": "local", "world": False, "models": {"default": "one", "critic": "two"}, "max_tokens": 99}
    minds = Minds(profile(brains | {"temperature": 0.3}, "local"), {})
    assert minds.of("planner") is minds.of("segmenter") is minds.of("reworder")
    assert minds.of("critic") is not minds.of("planner")
    model = minds.of("critic")
    assert isinstance(model, LocalModel)
    assert (model.max_tokens, model.temperature) == (99, 0.3)


def test_a_role_that_asks_no_model_is_named() -> None:
    with pytest.raises(ProfileError, match="the critic asks no model, it is 'world'"):
        Minds(profile({"kind": "local", "models": {"default": "one"}}, "world"), {}).of("critic")


async def test_checkpoints_are_opened_before_filming_and_kept_by_who_lends_the_shelf(tmp_path: Path) -> None:
    planner = tiny_language_model(tmp_path / "planner", "yes")
    critic = tiny_vision_language_model(tmp_path / "critic", "yes")
    shelf: Kept = {}
    brains = {"kind": "local", "models": {"planner": str(planner), "critic": str(critic)}, "device": "cpu"}
    chosen = profile(brains, "local")
    minds = Minds(chosen, {}, shelf)
    await minds.open(chosen.asked)
    first = minds.of("critic")
    assert first.name.startswith("critic ")
    await minds.close()
    assert Minds(chosen, {}, shelf).of("critic") is first
    await first.open()  # type: ignore[attr-defined]
    close_all(shelf)
    assert shelf == {}


async def test_a_blind_critic_is_found_when_it_is_opened(tmp_path: Path) -> None:
    model = tiny_language_model(tmp_path / "blind", "yes")
    chosen = profile({"models": {"critic": str(model)}}, "local")
    minds = Minds(chosen, {})
    with pytest.raises(ModelMisconfigured, match="blind is a language model and sees no pictures"):
        await minds.open(chosen.asked)
    await minds.close()
