"""The arms of the cast bench: ways to film one and the same set of shots, each shot from its own noise.

An arm joins by one entry in `ARMS`. What a set's steering is made of: docs/methods/storyboarding.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from agents.staging import ANCHORS
from evals.benchmarks.protocol import Film, chosen
from evals.metrics.score import Case, NotMeasured
from evals.world.requests import request_of
from evals.world.splits import Case as WorldCase
from generators.clip import Backend, Clip, FilmsTogether, ShotRequest, ShotSet
from generators.errors import RequestRejected


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to film a set. `says` is what the tables' readers are told."""

    name: str
    says: str
    together: bool = True
    """Whether shots are filmed as one set, and not each alone."""
    one_noise: bool = False
    """Whether all shots start from the noise of the first."""
    steering: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the set in the place of the product's."""

    def digest(self) -> str:
        """Equal digests mean equal filming."""
        told = json.dumps([self.together, self.one_noise, dict(self.steering)], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:12]


ALONE = "independent"
"""The arm that all others are held against."""
ARMS: Mapping[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm(name=ALONE, says="every shot alone, from its own noise", together=False),
        Arm(name="same-seed", says="every shot alone, all from the noise of the first", together=False, one_noise=True),
        Arm(
            name="shared",
            says="shared attention only: queries are each shot's own, nothing is refined",
            steering={"preserve": None, "flow": None, "refine": None},
        ),
        Arm(
            name="full-preservation",
            says="queries of the plain shot in all steps, no flow; sharing and refinement as in ours",
            steering={"preserve": (0.0, 1.0), "flow": None},
        ),
        Arm(name="ours", says="Video Storyboarding as the product films a set"),
    )
}
"""By name, in the order of the table."""


def arms_named(names: Sequence[str]) -> tuple[Arm, ...]:
    """The arms of these names, all for none, and `independent` in any case. Raises ValueError for an unknown one."""
    return chosen("arms", ARMS, names, ALONE)


class ShotsDrawn(Protocol):
    """A benchmark whose units are shots of one story, each with noise of its own."""

    def shots(self, name: str) -> tuple[WorldCase, ...]:
        """The shots of a unit."""
        ...

    def noise(self, name: str) -> int:
        """The seed of a shot's noise."""
        ...


class SetFootage:
    """Clips of one arm, a whole set at a time, each shot from its own noise. A set that is rejected has no clips."""

    def __init__(self, benchmark: ShotsDrawn, backend: Backend, arm: Arm) -> None:
        self.name, self.source = arm.name, f"array, arm {arm.digest()}"
        self._benchmark, self._backend, self._arm = benchmark, backend, arm
        self._filmed: dict[str, Film | NotMeasured] = {}

    def digest(self, case: Case, seed: int) -> str:
        """Settings and source say it all."""
        return ""

    def film(self, case: Case, seed: int) -> Film | NotMeasured:
        """A shot; the first that is asked of a set films all of it. Noise is the benchmark's, not `seed`."""
        if case.name not in self._filmed:
            shots = self._benchmark.shots(case.group)
            names = [shot.name for shot in shots]
            try:
                clips = self._shoot(shots)
            except RequestRejected as error:
                self._filmed = dict.fromkeys(names, NotMeasured(reason=f"rejected: {error}"))
            else:
                films = [Film(frames=clip.frames, fps=clip.fps, seconds=clip.seconds_spent) for clip in clips]
                self._filmed = dict(zip(names, films, strict=True))
        return self._filmed[case.name]

    def _shoot(self, shots: Sequence[WorldCase]) -> list[Clip]:
        requests = tuple(self._request(shot, shots[0]) for shot in shots)
        if not self._arm.together:
            return self._backend.shoot(requests)
        if not isinstance(self._backend, FilmsTogether):
            raise RequestRejected(f"{self._backend.name} films shots one by one; it knows no sets")
        subjects = tuple(shot.caption.subjects[0] for shot in shots)
        everyone = tuple(range(len(shots)))
        told = ShotSet(
            requests=requests, subjects=subjects, anchors=ANCHORS, wanted=everyone, steering=self._arm.steering
        )
        return self._backend.shoot_set(told)

    def _request(self, shot: WorldCase, first: WorldCase) -> ShotRequest:
        return request_of(shot, self._benchmark.noise((first if self._arm.one_noise else shot).name))
