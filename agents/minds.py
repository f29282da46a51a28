"""The models that a profile's roles ask: behind its endpoint, or in this process. Opened when first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from agents.errors import ProfileError
from agents.profile import Profile

if TYPE_CHECKING:
    from agents.brains import LanguageModel
    from agents.llm import Server
    from agents.local_llm import LocalModel
    from generators.chat import ChatCheckpoint


class Minds:
    """One connection for all roles behind the endpoint, one copy of the weights for all that name the same checkpoint.

    The endpoint's key is read from `environment` and goes to its client, nowhere else. Close it.
    """

    def __init__(self, profile: Profile, environment: Mapping[str, str]) -> None:
        self._profile = profile
        self._environment = environment
        self._server: Server | None = None
        self._here: dict[str, LocalModel] = {}

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

    async def close(self) -> None:
        """Close the connections and let go of the weights."""
        if self._server is not None:
            await self._server.close()
        for model in self._here.values():
            await model.close()

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

        if place not in self._here:
            model = LocalModel(place, load, max_tokens=brains.max_tokens, temperature=brains.temperature)
            self._here[place] = model
        return self._here[place]
