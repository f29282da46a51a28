"""The vocabulary of the puppet world: what there is, what it can do, and its colours. Plain data.

Every other file of the world, the bundled model's captions, the offline planner and the detectors read these tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

WIDTH, HEIGHT = 96, 64
FPS = 8
SHORT, LONG = 33, 65
"""Frames of the two clip lengths: about 4 and 8 seconds, 9 and 17 latent frames."""

KINDS = ("fox", "cat", "rabbit", "bird", "robot", "child")
PLACES = ("meadow", "beach", "forest", "city", "desert", "snow")
TIMES = ("day", "night")
PROPS = ("ball", "box")

HUES: dict[str, tuple[int, int, int]] = {
    "red": (222, 38, 38),
    "orange": (247, 140, 24),
    "yellow": (250, 224, 40),
    "green": (34, 160, 60),
    "cyan": (40, 206, 214),
    "blue": (44, 82, 222),
    "purple": (136, 52, 190),
    "pink": (250, 130, 200),
}
"""Body colours: every member of a cast has one of its own, and nothing else in the world wears them."""

PROP_COLOURS: dict[str, tuple[int, int, int]] = {"ball": (250, 250, 250), "box": (122, 72, 34)}

Slot = Literal["none", "side", "prop", "other"]


@dataclass(frozen=True, kw_only=True)
class Verb:
    """One thing a puppet can do.

    `slot` is what the verb needs beside its actor; `seconds` the shortest and longest natural length;
    `starts` and `ends` say whether the actor must be on stage then.
    """

    name: str
    slot: Slot
    seconds: tuple[float, float]
    starts: Literal["on", "off"] = "on"
    ends: Literal["on", "off"] = "on"


VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb(name="walk", slot="side", seconds=(1.5, 4.0)),
        Verb(name="jump", slot="none", seconds=(1.5, 2.5)),
        Verb(name="spin", slot="none", seconds=(1.5, 3.0)),
        Verb(name="grow", slot="none", seconds=(1.5, 3.5)),
        Verb(name="shrink", slot="none", seconds=(1.5, 3.5)),
        Verb(name="dance", slot="none", seconds=(1.5, 4.0)),
        Verb(name="lie_down", slot="none", seconds=(1.5, 3.0)),
        Verb(name="float", slot="none", seconds=(1.5, 3.5)),
        Verb(name="vanish", slot="none", seconds=(1.5, 3.0), ends="off"),
        Verb(name="enter", slot="side", seconds=(1.5, 4.0), starts="off"),
        Verb(name="leave", slot="side", seconds=(1.5, 4.0), ends="off"),
        Verb(name="push", slot="prop", seconds=(1.5, 4.0)),
        Verb(name="lift", slot="prop", seconds=(1.5, 3.5)),
        Verb(name="approach", slot="other", seconds=(1.5, 4.0)),
        Verb(name="chase", slot="other", seconds=(1.5, 4.0)),
        Verb(name="hop_over", slot="other", seconds=(1.5, 3.0)),
    )
}
SIDES = ("left", "right")
