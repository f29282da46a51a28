"""The arms of the extension bench: ways for a shot to go on from the one before, every shot from its own noise.

An arm joins by one entry in `ARMS`. What the product does of itself: `agents.staging`; how frames are held: the method
page of Mask2DiT and docs/decisions/0011.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agents.takespec import overlap_frames
from evals.benchmarks.cast_arms import Arm as SetArm
from evals.benchmarks.cast_arms import SetFootage
from evals.benchmarks.protocol import AUTOENCODER, Film, chosen
from evals.footage import BackendFootage, Footage
from evals.metrics.score import Case, NotMeasured
from evals.world.requests import asked_after, request_of
from generators.backends import BUNDLED_LIMITS
from generators.clip import Backend, Frames, Given, ShotRequest
from generators.world.words import FPS

if TYPE_CHECKING:  # tables name arms without loading what measures them
    from evals.benchmarks.extension import Extension
    from evals.benchmarks.world import Roundtrip


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to go on. `says` is what the tables' readers are told."""

    name: str
    says: str
    lead: int = 0
    """Frames that are handed over."""
    noised: bool = False
    """Whether they are held as noised latents, though the model may know finished tokens."""

    @property
    def source(self) -> str:
        """Equal sources mean equal filming."""
        return f"array, {self.lead} frames{' noised' if self.noised else ''}"


CUT, SCENES = "cut", "scenes"
"""What all others are held against; and the arm that needs a model of its own."""
NO_SCENES = "needs a model trained for it: --scenes"
PRODUCT = overlap_frames(BUNDLED_LIMITS)
"""Frames that the product hands over on the puppet world."""
ARMS: Mapping[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm(name=CUT, says="every shot begins with a cut: nothing is handed over"),
        Arm(name="last-frame", says="the last frame alone, as picture-to-video models go on", lead=1),
        Arm(name=f"given-{PRODUCT}", says="the last frames as given latents, as the product goes on", lead=PRODUCT),
        Arm(name="held", says="the same frames as noised latents, as on any model", lead=PRODUCT, noised=True),
        Arm(name=SCENES, says="shots in one sequence, by a model that was trained for it; no frame is handed over"),
    )
}
"""By name, in the order of the table."""


def arms_named(names: Sequence[str]) -> tuple[Arm, ...]:
    """The arms of these names, all for none, and `cut` in any case. Raises ValueError for an unknown one."""
    return chosen("arms", ARMS, names, CUT)


def arm_footages(benchmark: Extension, backend: Backend, arms: Sequence[Arm], scenes: Backend | None) -> list[Footage]:
    """Footage of every arm; `scenes` is the backend that films in sequence, None where there is no such model."""
    firsts: dict[str, Film] = {}
    found: list[Footage] = []
    for arm in arms:
        if arm.name != SCENES:
            found.append(ChainFootage(benchmark, backend, arm, firsts))
        elif scenes is None:
            found.append(MissingFootage(name=SCENES, reason=NO_SCENES))
        else:
            found.append(ScenesFootage(benchmark, scenes))
    return found


class ChainFootage:
    """Clips of one arm, each going on from the arm's own clip before it. Chains are filmed from their first shot on.

    `firsts` holds first shots by name: from one noise they are the same under every arm, and are filmed once.
    """

    def __init__(
        self, benchmark: Extension, backend: Backend, arm: Arm, firsts: MutableMapping[str, Film] | None = None
    ) -> None:
        self.name, self.source = arm.name, arm.source
        self._benchmark, self._backend, self._arm = benchmark, backend, arm
        self._firsts = {} if firsts is None else firsts
        self._before: Film | NotMeasured | None = None

    def digest(self, case: Case, seed: int) -> str:
        """Settings and source say it all."""
        return ""

    def film(self, case: Case, seed: int) -> Film | NotMeasured:
        """A shot, after the one before it. Noise is the benchmark's, `seed` decides nothing."""
        if case.shot == 1:
            self._before = None
        self._before = self._filmed(case, seed)
        return self._before

    def _filmed(self, case: Case, seed: int) -> Film | NotMeasured:
        if isinstance(self._before, NotMeasured):
            return self._before
        if self._arm.noised and not holds_noised(self._backend):
            return NotMeasured(reason=f"{self._backend.name} has a way of its own and holds no noised latents")
        if self._before is None and case.name in self._firsts:
            return self._firsts[case.name]
        camera = BackendFootage(backend=self._backend, ask=self._ask, name=self.name)
        with noised(self._backend) if self._arm.noised else nullcontext():
            film = camera.film(case, seed)
        if isinstance(film, NotMeasured):
            return film
        if self._before is None:
            self._firsts[case.name] = film
            return film
        return replace(film, lead=self._arm.lead)

    def _ask(self, case: Case, seed: int) -> ShotRequest:
        shot, lead = self._benchmark.shots(case.group)[case.shot - 1], self._arm.lead
        noise = self._benchmark.noise(shot.name)
        if not lead or not isinstance(self._before, Film):
            return request_of(shot, noise)
        given = Given(first=0, frames=self._before.frames[-lead:])
        return replace(request_of(asked_after(shot, lead), noise), given=(given,))


def holds_noised(backend: Any) -> bool:
    """Whether given frames may be held as noised latents: not by models that read them as a picture or condition,
    and not by those that give every token its own time whether they are asked or not.
    """
    way = backend.limits.continues
    return way == "noised latents" or (way == "tokens at zero" and not backend.model.expands_timesteps)


@contextmanager
def noised(backend: Any) -> Iterator[None]:
    """The backend's model as if it had never learnt finished tokens: given frames are noised anew in every step."""
    model = backend.model
    knew = model.gives_tokens_at_zero
    model.gives_tokens_at_zero = False
    try:
        yield
    finally:
        model.gives_tokens_at_zero = knew


class ScenesFootage(SetFootage):
    """Chains as one sequence, as `run --scenes` films a set: two anchors, and every other shot behind them."""

    def __init__(self, benchmark: Extension, backend: Backend) -> None:
        super().__init__(benchmark, backend, SetArm(name=SCENES, says=ARMS[SCENES].says))
        self.source = f"array, in sequence, weights {(backend.weights or backend.name)[:16]}"


@dataclass(frozen=True, kw_only=True)
class MissingFootage:
    """An arm that cannot be filmed here, and why."""

    name: str
    reason: str
    source: str = "missing"

    def digest(self, case: Case, seed: int) -> str:
        """Settings and source say it all."""
        return ""

    def film(self, case: Case, seed: int) -> Film | NotMeasured:
        """Nothing."""
        return NotMeasured(reason=self.reason)


class TruthFootage:
    """The ceiling: the rendered chain through the autoencoder in one piece, so that no seam is anybody's doing."""

    name, source = f"control: {AUTOENCODER}", "rendered"

    def __init__(self, benchmark: Extension, roundtrip: Roundtrip) -> None:
        self._benchmark, self._roundtrip = benchmark, roundtrip
        self._shots: dict[str, tuple[Frames, ...]] = {}

    def digest(self, case: Case, seed: int) -> str:
        """Settings and source say it all."""
        return ""

    def film(self, case: Case, seed: int) -> Film | NotMeasured:
        """A shot; its seed decides nothing."""
        if case.group not in self._shots:
            chain = self._benchmark.chain(case.group)
            self._shots = {case.group: chain.cut(self._roundtrip(chain.truth()))}
        return Film(frames=self._shots[case.group][case.shot - 1], fps=FPS, lead=int(case.shot > 1))
