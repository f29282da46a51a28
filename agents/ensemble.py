"""Which brains a profile means: one table a reader can see, no registry."""

from __future__ import annotations

from collections.abc import Callable

from agents.brains import Brains, Critic, LanguageModel, Planner, Reworder, Segmenter
from agents.critic import CriticOptions, ModelCritic
from agents.errors import ProfileError
from agents.offline import OfflinePlanner
from agents.planner import ModelPlanner, ModelWorldPlanner
from agents.profile import MINDS, Profile
from agents.reworder import ModelReworder, RuleReworder
from agents.scripted import ScriptedCritic
from agents.segmenter import ModelSegmenter, RuleSegmenter

ModelOf = Callable[[str], LanguageModel]
"""The model of a role, already remembered and counted (see `ledger.py`)."""


def brains_for(profile: Profile, model_of: ModelOf | None = None, world_critic: Critic | None = None) -> Brains:
    """The agents a profile names. `model_of` is needed where they ask models, `world_critic` for the critic `world`.

    Raises ProfileError when one of them is needed and was not given.
    """
    planner: Planner
    segmenter: Segmenter
    reworder: Reworder
    synopsis = profile.brains.synopsis
    if profile.brains.kind == "offline":
        planner, segmenter, reworder = OfflinePlanner(), RuleSegmenter(synopsis=synopsis), RuleReworder()
    elif profile.brains.world:
        planner = ModelWorldPlanner(_model(profile, model_of, "planner"))
        segmenter, reworder = RuleSegmenter(synopsis=synopsis), RuleReworder()
    else:
        planner = ModelPlanner(_model(profile, model_of, "planner"))
        segmenter = ModelSegmenter(_model(profile, model_of, "segmenter"), synopsis=synopsis)
        reworder = ModelReworder(_model(profile, model_of, "reworder"))
    critic = _critic(profile, model_of, world_critic)
    return Brains(planner=planner, segmenter=segmenter, reworder=reworder, critic=critic)


def _critic(profile: Profile, model_of: ModelOf | None, world_critic: Critic | None) -> Critic | None:
    if profile.critic.kind in MINDS:
        options = CriticOptions(votes=profile.critic.votes, most_frames=profile.critic.most_frames)
        return ModelCritic(_model(profile, model_of, "critic"), options)
    if profile.critic.kind == "scripted":
        return ScriptedCritic()
    if profile.critic.kind == "world":
        if world_critic is None:
            raise ProfileError(f"Profile {profile.name}: critic.kind is 'world', and no world critic was given")
        return world_critic
    return None


def _model(profile: Profile, model_of: ModelOf | None, role: str) -> LanguageModel:
    if model_of is None:
        raise ProfileError(f"Profile {profile.name}: the {role} needs a model, and none was given")
    return model_of(role)
