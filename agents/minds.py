"""The models that a profile's roles ask: behind its endpoint, or in this process. Opened when first asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from agents.errors import ProfileError
from agents.profile import Profile

if TYPE_CHECKING:
    from agents.brains import LanguageModel
    from agents.llm import Server
    from agents.local_llm import LocalModel
    from generators.chat import ChatCheckpoint


Kept = dict[tuple[object, ...], "LocalModel"]
"""Checkpoints that are open, by what they were opened with."""


class Minds:
    """One connection for all roles behind the endpoint, one copy of the weights for all that name the same checkpoint.

    The endpoint's key is read from `environment` and goes to its client, nowhere else. Close it; checkpoints that are
    handed in as `kept` stay open, and those it opens join them.
    """

    def __init__(self, profile: Profile, environment: Mapping[str, str], kept: Kept | None = None) -> None:
        self._profile = profile
        self._environment = environment
        self._server: Server | None = None
        self._here: Kept = {} if kept is None else kept
        self._owned = kept is None

    def of(self, role: str) -> LanguageModel:
        """The model of a role: planner, segmenter, reworder, critic. Raises ProfileError when it asks none."""
        name = self._profile.brains.models.of(role)
        match self._profile.mind(role):
            case "endpoint":
                from agents.llm import EndpointModel  # openai takes a while to import, and rules need none

                return EndpointModel(self._connection(), name)
            case "local":
                return self._checkpoint(name)
            case kind:
                raise ProfileError(f"Profile {self._profile.name}: the {role} asks no model, it is {kind!r}")

    async def open(self, roles: Iterable[str]) -> None:
        """Load the checkpoints of these roles now, where they have any.

        Before anything is filmed: what cannot be loaded costs nothing then, and loading changes torch's default dtype
        for a moment, for every thread. Raises what `LocalModel.open_for` raises.
        """
        for role in roles:
            if self._profile.mind(role) == "local":
                await self._checkpoint(self._profile.brains.models.of(role)).open_for(role)

    async def close(self) -> None:
        """Close the connections, and let go of the weights that are its own."""
        try:
            if self._server is not None:
                await self._server.close()
        finally:
            if self._owned:
                close_all(self._here)

    def _connection(self) -> Server:
        from agents.llm import Endpoint, Server

        brains = self._profile.brains
        self._server = self._server or Server(
            Endpoint(
                base_url=brains.base_url,
                key=self._environment.get(brains.key_env) or None,
                key_name=brains.key_env,
                timeout=brains.timeout,
                attempts=brains.attempts,
                max_tokens=brains.max_tokens,
                temperature=brains.temperature,
                price_in=brains.price_in,
                price_out=brains.price_out,
            )
        )
        return self._server

    def _checkpoint(self, place: str) -> LocalModel:
        from agents.local_llm import LocalModel

        brains = self._profile.brains

        def load() -> ChatCheckpoint:
            from generators.chat import ChatCheckpoint

            return ChatCheckpoint(place, device=brains.device, dtype=brains.dtype)

        key = place, brains.device, brains.dtype, brains.max_tokens, brains.temperature
        if key not in self._here:
            model = LocalModel(place, load, max_tokens=brains.max_tokens, temperature=brains.temperature)
            self._here[key] = model
        return self._here[key]


def close_all(kept: Kept) -> None:
    """Let go of every checkpoint."""
    while kept:
        kept.popitem()[1].close()
