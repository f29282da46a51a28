"""The arms of the cast bench: ways to film one and the same set of shots, each shot from its own noise.

An arm joins by one entry in `ARMS`. What a set's steering is made of: docs/methods/storyboarding.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evals.benchmarks.protocol import chosen


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
