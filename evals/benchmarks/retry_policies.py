"""The policies of the retry bench: what is filmed again when a take missed something, and how often.

Each is the product's own director with some of its remedies taken away. A policy joins by one entry in `POLICIES`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agents.director import LADDER, Kind, Repairs
from evals.benchmarks.protocol import chosen

OFF = "off"
SWEEP = "every-take"


@dataclass(frozen=True, kw_only=True)
class Policy:
    """One way to repair. `says` is what the tables' readers are told."""

    name: str
    says: str
    repairs: Repairs
    takes: int | None = None
    """Takes a shot, at most; None: the bench's own number."""
    only: Kind | None = None
    """The one remedy that this policy tells of."""
    content: bool = True
    """Whether the critic's content ends it; without, every take is filmed, and thresholds are tried afterwards."""


WHOLE_SHOT = Repairs(ladder=())
ONE_BY_ONE = "only-"
POLICIES: Mapping[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy(name=OFF, says="one take", repairs=WHOLE_SHOT, takes=1),
        Policy(name="whole-shot", says="the whole shot again, from new noise", repairs=WHOLE_SHOT),
        Policy(
            name="event-sized",
            says="only the window of the failed event; the whole shot where nothing beside it was seen",
            repairs=Repairs(ladder=("refilm",), again=True),
        ),
        Policy(name="ladder", says="the director's own order of remedies", repairs=Repairs()),
        *(
            Policy(
                name=f"{ONE_BY_ONE}{kind}",
                says=f"one retry, by {kind} alone",
                repairs=Repairs(ladder=(kind,)),
                takes=2,
                only=kind,
            )
            for kind in LADDER
        ),
        Policy(
            name=SWEEP,
            says="the whole shot again whatever the critic says: its threshold is swept over these takes",
            repairs=WHOLE_SHOT,
            content=False,
        ),
    )
}
"""By name, in the order of the table."""


def policies_named(names: Sequence[str]) -> tuple[Policy, ...]:
    """The policies of these names, all for none, and `off` first in any case. Raises ValueError for an unknown one."""
    return chosen("policies", POLICIES, names, OFF)
