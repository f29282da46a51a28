"""Every point in which the paper of TS-Attn and its released code differ, as a flag; a preset is a value for each.

No torch: settings are chosen and carried by packages that have none. Why each default is what it is:
docs/decisions/0010-separable-attention-as-it-is-steered-here.md; what each does: docs/methods/ts-attn.md.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_type_hints

Preset = Literal["default", "official", "paper"]
Probe = Literal["raw", "normed"]
RegionMap = Literal["probability", "logits"]
Threshold = Literal["upper_half", "mean"]
Erosion = Literal["lonely", "full", "none"]
Lowered = Literal["same", "mirrored"]
Statistics = Literal["own", "offset"]
Axis = Literal["text", "all"]
Subjects = Literal["own", "last"]
Layers = Literal["odd", "all"]
Edges = Literal["frame", "token"]
Ownership = Literal["one", "shared"]
Clash = Literal["lift", "add"]
Search = Literal["phrase", "ids"]


@dataclass(frozen=True, kw_only=True)
class Flags:
    """A value for every point; the defaults are the preset `default`."""

    probe: Probe = "raw"
    region: bool = True
    region_map: RegionMap = "probability"
    threshold: Threshold = "upper_half"
    erosion: Erosion = "lonely"
    rearrangement: bool = True
    reinforcement: bool = True
    lowered: Lowered = "same"
    subject_tokens: bool = True
    clash: Clash = "lift"
    statistics: Statistics = "own"
    axis: Axis = "text"
    padding: bool = True
    subjects: Subjects = "own"
    layers: Layers = "odd"
    edges: Edges = "frame"
    ownership: Ownership = "one"
    search: Search = "phrase"
    picture_steps: float = 0.5
    epsilon: float = 0.0
    """Added to the span of a row's probabilities; what the released code has, felt in the tenth digit."""


PRESETS: dict[str, Flags] = {
    "default": Flags(),
    "official": Flags(
        clash="add", statistics="offset", subjects="last", edges="token", search="ids", epsilon=1e-12
    ),
    "paper": Flags(
        probe="normed",
        region_map="logits",
        threshold="mean",
        erosion="full",
        lowered="mirrored",
        subject_tokens=False,
        layers="all",
        picture_steps=0.4,
    ),
}  # fmt: skip

NUMBERS = ("picture_steps", "epsilon")
"""Flags that are numbers; the others have a few values each."""
VALUES: dict[str, tuple[Any, ...]] = {
    name: (True, False) if hint is bool else get_args(hint)
    for name, hint in get_type_hints(Flags).items()
    if name not in NUMBERS
}
"""Allowed values of a flag."""
ASKED = tuple(field.name for field in fields(Flags) if field.name != "epsilon")
"""Flags that can be set beside a preset."""


def resolve(preset: str, asked: dict[str, Any]) -> Flags:
    """The preset with what was asked for (not None) in place. Raises ValueError for what cannot go together."""
    chosen = {name: value for name, value in asked.items() if value is not None}
    flags = replace(PRESETS[preset], **chosen)
    for name, reason in _idle(flags, chosen):
        raise ValueError(f"TSAttn.{name}={chosen[name]!r} would change nothing: {reason}")
    if flags.ownership == "shared" and flags.edges == "token":
        raise ValueError(
            "TSAttn.ownership='shared': edges='token' divides the clip by shares, which never overlap nor leave gaps; "
            "use edges='frame'"
        )
    if flags.ownership == "shared" and flags.statistics == "offset":
        raise ValueError(
            "TSAttn.ownership='shared': statistics='offset' counts a row's place within its one event; use "
            "statistics='own'"
        )
    return flags


def _idle(flags: Flags, chosen: dict[str, Any]) -> list[tuple[str, str]]:
    """What was asked for in vain, and why."""
    without_region = ("region_map", "threshold", "erosion")
    idle = [(name, "region=False steers every row") for name in without_region if not flags.region]
    if not flags.reinforcement:
        idle.append(("lowered", "reinforcement=False scales nothing"))
    if not flags.rearrangement:
        idle += [(name, "rearrangement=False lowers nothing") for name in ("lowered", "clash")]
        idle += [(name, "rearrangement=False knows no time") for name in ("edges", "ownership")]
    return [(name, reason) for name, reason in idle if name in chosen]
