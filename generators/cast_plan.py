"""How a set of shots that share a cast is filmed: settings, and which copies ride in which steps of which sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from generators.controls.storyboarding import feature_step
from generators.controls.storyboarding_config import REFINED, Storyboarding
from generators.errors import ControlRejected, RequestRejected

Keeps = Literal["nothing", "flow maps"]


@dataclass(frozen=True, kw_only=True)
class CastSettings:
    """How a set is filmed."""

    anchors: int = 2
    """Shots, from the first, that all shots read."""
    at_once: int | Literal["fit"] | None = None
    """Shots in a batch, anchors that ride along included; `fit` goes by free memory, None films all together."""
    keeps: Keeps = "nothing"
    """What the second sweep has of the first: nothing, or its correspondences, so that plain copies ride less."""
    keep_anchors: bool = False
    """Whether the sample holds the anchors, for shots that are filmed later."""
    weights: str | None = None
    """Digest of the model's weights (`generators.digests.weights_digest` of its folder), kept with the anchors: these
    weights alone read them again, and no file is written or read without it."""
    steering: Mapping[str, Any] = field(default_factory=dict)
    """Settings of `Storyboarding`; refinement is on unless `refine` is None here."""

    def __post_init__(self) -> None:
        if self.anchors < 1:
            raise RequestRejected(f"anchors: expected at least 1, got {self.anchors}")
        if isinstance(self.at_once, int) and self.at_once < 1:
            raise RequestRejected(f"at_once: expected at least 1, 'fit' or None, got {self.at_once}")
        if self.keeps not in get_args(Keeps):
            raise RequestRejected(f"keeps: expected one of {', '.join(get_args(Keeps))}, got {self.keeps!r}")

    @property
    def of_control(self) -> dict[str, Any]:
        """Settings of the control, with refinement."""
        return {"refine": REFINED} | dict(self.steering)


class Plan:
    """Which steps each sweep has, and which copies ride in them."""

    def __init__(self, config: Storyboarding, levels: Sequence[float], keeps: Keeps) -> None:
        def within(name: str) -> frozenset[int]:
            window = getattr(config, name)
            return frozenset(i for i, level in enumerate(levels) if window and window[0] <= level <= window[1])

        self.preserved, self.led, self.shared, self.refined = map(within, ("preserve", "flow", "share", "refine"))
        self.queried = self.preserved | self.led
        self.keeps, self.steps = keeps, len(levels)
        self.feature = feature_step(config, levels)
        if config.refine is not None and not self.refined:
            raise ControlRejected("Storyboarding.refine: no step lies in the window; film more steps, or None is off")
        self.first = range(self.feature + 1) if self.refined else range(self.steps)
        self.second = range(min(self.refined), self.steps) if self.refined else range(0)
        self.read = self.shared | self.refined
        """Steps in which anchors are read, in one sweep or the other."""
        if self.refined and max(self.read) > self.feature:
            raise ControlRejected(
                f"Storyboarding.features: expected a noise level below both windows, share and refine, got "
                f"{config.features:.3f}, which is step {self.feature} of {self.steps}"
            )
        if keeps == "flow maps" and not (self.led & set(self.second) & set(self.first)):
            raise ControlRejected(
                "keeps: 'flow maps' are those that the second sweep has in common with the first, and there are none; "
                "refine and lead queries, or keep nothing"
            )

    def rides_plain(self, step: int, sweep: int) -> bool:
        """Whether plain copies are needed in this step, or in a later one of the sweep."""
        asked = self.preserved if sweep and self.keeps == "flow maps" else self.queried
        until = self.first.stop if self.second and not sweep else self.steps
        return any(step <= later < until for later in asked)

    @property
    def over_plain(self) -> float:
        """Passes that a shot of the set takes over those of a plain clip: forward-equivalents, its plain copy's too."""
        passes = sum(1 + self.rides_plain(i, k) for k, steps in enumerate((self.first, self.second)) for i in steps)
        return passes / self.steps
