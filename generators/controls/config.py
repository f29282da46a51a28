"""Settings of the controls: frozen, validated, no torch, so that agents can choose them and requests can carry them.

Each class here is realised by one file beside it (`TSAttn` by `ts_attn.py`).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from generators.controls.checks import (
    check_count,
    check_more_than_0,
    check_one_of,
    check_share,
    is_number,
)
from generators.controls.noise_windows import Window, check_window
from generators.controls.ts_attn_flags import (
    ASKED,
    PRESETS,
    VALUES,
    Axis,
    Clash,
    Edges,
    Erosion,
    Flags,
    Layers,
    Lowered,
    Ownership,
    Preset,
    Probe,
    RegionMap,
    Search,
    Statistics,
    Subjects,
    Threshold,
    resolve,
)


@dataclass(frozen=True, kw_only=True)
class ControlConfig:
    """Base of all control settings; a request carries a tuple of them."""

    def plain(self) -> dict[str, Any]:
        """The settings as plain JSON values: equal ones mean equal steering."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class TSAttn(ControlConfig):
    """Temporal-wise separable attention (arXiv 2604.19473): every row hears its own event, not the others.

    `preset` gives a value for every flag, a flag that is not None stands in its place: `default` is the released code
    with its faults taken out, `official` the released code with them, `paper` the paper. `flags` is what they come to.
    Events with an empty subject steer every row.
    """

    steps: float = 0.2
    """Share of the denoising steps, from the first; at least one step acts."""
    picture_steps: float | None = None
    """The share for a clip that begins with given frames. None: the preset's (0.5; `paper` 0.4), but no less than
    `steps`."""
    strength: float = 1.0
    """Factor on the bias; 1 is the paper, whose bias is measured from each row's own logits."""
    intervals: Literal["events", "uniform"] | tuple[float, ...] = "events"
    """When events happen: as they say, each subject's spread evenly in their order, or shares of the clip in that
    order (adding up to 1, the same for every subject)."""
    preset: Preset = "default"
    probe: Probe | None = None
    """Queries and keys that regions and statistics are read from: before or after the attention's own norm. Joint
    attention of `default` reads them after it, with positions: its real logits."""
    region: bool | None = None
    """Whether only the subject's region is steered, instead of every row."""
    region_map: RegionMap | None = None
    """What a region is drawn from: probability of the subject's words, or their logits."""
    threshold: Threshold | None = None
    """A row is in the region above the mean of the upper half of the map, or from the map's mean on."""
    erosion: Erosion | None = None
    """What is taken off a region: rows alone among their 8 neighbours, all whose neighbours are not all in, nothing."""
    rearrangement: bool | None = None
    """Whether a row's time decides which events are lifted and lowered; without it all are lifted at all times."""
    reinforcement: bool | None = None
    """Whether the bias is scaled by how likely its column is, by 1 to 1.5; without it by 1."""
    lowered: Lowered | None = None
    """That scale on lowered columns: as on lifted ones, or the other way round (the paper's r-)."""
    subject_tokens: bool | None = None
    """Whether a region is drawn to its subject's own words too."""
    clash: Clash | None = None
    """A column of a row's own event that is another event's too: lifted only, or both biases added."""
    statistics: Statistics | None = None
    """Rows whose logits measure the bias: the row's own, or those the released code reads by its row offset."""
    axis: Axis | None = None
    """Columns that a row's statistics are over: the text's, or in joint attention all, the video's too."""
    padding: bool | None = None
    """Whether a row's statistics count padding columns, as paper and code do."""
    subjects: Subjects | None = None
    """Every subject acts with its own events; or only the last one named, with everyone's events."""
    layers: Layers | None = None
    """Text attentions that are steered: of every other block, or of all."""
    edges: Edges | None = None
    """Where an event may begin: at a latent frame, or at any token (shares of the clip only)."""
    ownership: Ownership | None = None
    """A latent frame has exactly one event; or every event that holds its centre, several or none."""
    search: Search | None = None
    """A phrase is the k-th place where its words stand; or every place where its own token ids stand."""

    def __post_init__(self) -> None:
        check_share("TSAttn", "steps", self.steps)
        if self.picture_steps is not None:
            check_share("TSAttn", "picture_steps", self.picture_steps)
        check_more_than_0("TSAttn", "strength", self.strength)
        check_one_of("TSAttn", "preset", self.preset, tuple(PRESETS))
        for name, allowed in VALUES.items():
            if getattr(self, name) is not None:
                check_one_of("TSAttn", name, getattr(self, name), allowed)
        self._check_intervals()
        resolve(self.preset, {name: getattr(self, name) for name in ASKED})

    def _check_intervals(self) -> None:
        if isinstance(self.intervals, str):
            check_one_of("TSAttn", "intervals", self.intervals, ("events", "uniform"))
        elif not (self.intervals and min(self.intervals) > 0 and abs(sum(self.intervals) - 1) <= 0.05):
            raise ValueError(
                f"TSAttn.intervals: expected 'events', 'uniform' or shares above 0 that add up to 1, "
                f"got {self.intervals}"
            )
        if self.rearrangement is False and self.intervals != "events":
            raise ValueError("TSAttn.intervals would change nothing: rearrangement=False knows no time")

    @property
    def flags(self) -> Flags:
        """The preset with this request's own flags in place."""
        return resolve(self.preset, {name: getattr(self, name) for name in ASKED})

    def plain(self) -> dict[str, Any]:
        """The settings; without an axis where none was asked for, as rows of earlier versions have none."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("axis", None)}

    def share(self, *, from_picture: bool) -> float:
        """Share of the steps that act on a clip that begins with given frames, or with none."""
        if not from_picture:
            return self.steps
        return self.picture_steps or max(self.steps, self.flags.picture_steps)


@dataclass(frozen=True, kw_only=True)
class VSTAR(ControlConfig):
    """Generative temporal nursing (arXiv 2403.13501): near frames see each other more, and text changes.

    Two halves, either of which may stand alone: *temporal attention regularisation* (a Gaussian band over frames on the
    logits) and *video synopsis prompting* (a text for every state of the shot; frames in between read a mixture).
    """

    synopsis: tuple[str, ...] = ()
    """The shot's states in order, one sentence each; empty leaves every frame the shot's own prompt."""
    seconds: tuple[float, ...] = ()
    """When each state is reached; empty spreads them evenly, the first on the first frame and the last on the last."""
    mixture: Literal["linear", "hold"] = "linear"
    """Between two states: from one to the other, or the earlier one until the later is reached."""
    blend: Literal["auto", "embeddings", "outputs"] = "auto"
    """What is mixed: text embeddings, as published, or what cross-attention makes of each text. `auto` mixes outputs
    where two states of a padded (T5) text differ much in length, since their words then do not stand side by side."""
    regularise: bool = True
    """Whether attention over time is regularised."""
    preset: Literal["default", "official"] = "default"
    """`official` is the released code, its band included: sigma 1 at full resolution whatever the length, negative
    maxima kept."""
    sigmas: tuple[float | None, ...] = ()
    """Width of the band in frames, for each level from full resolution down; None leaves a level alone. Empty is 1 at
    full resolution, and 8 one level down for clips of more than 32 frames. Smaller moves more. On models with attention
    over space and time together only the first counts, in sixteenths of the clip."""
    scale: float | None = None
    """Factor on the band; None is 1 on factorised attention, as published, and 0.25 where all tokens see each other."""
    magnitude: Literal["auto", "rowmax", "sampled"] | float = "auto"
    """What the band is multiplied with: each row's largest logit, the largest of a sample of its keys, or a number.
    `auto` is the row's largest on factorised attention and the sample elsewhere."""
    steps: float = 0.56
    """Share of the denoising steps that are regularised, from the first; the released code does 14 of 25."""
    heads: Literal["all", "temporal"] = "all"
    """On attention over space and time together: every head, or those that look at other frames more than their own."""
    replace: Literal["none", "identity", "uniform"] = "none"
    """To see what a level does: its frames cannot see each other, or see each other alike, instead of the band."""
    matrix: tuple[tuple[float, ...], ...] = ()
    """A band of one's own, frames x frames, such as the similarities of a real clip; empty is the Gaussian."""

    def __post_init__(self) -> None:
        if not (self.synopsis or self.regularise):
            raise ValueError("VSTAR.synopsis: expected at least one state, or regularise=True; both halves are off")
        for state in self.synopsis:
            if not state.strip():
                raise ValueError("VSTAR.synopsis: expected a sentence for every state, got an empty one")
        if self.seconds and len(self.seconds) != len(self.synopsis):
            raise ValueError(
                f"VSTAR.seconds: expected one for each of {len(self.synopsis)} states, got {len(self.seconds)}"
            )
        rising = list(self.seconds) == sorted(set(self.seconds))
        if not rising or any(not is_number(moment) or moment < 0 for moment in self.seconds):
            raise ValueError(f"VSTAR.seconds: expected rising moments from 0 on, got {self.seconds}")
        check_share("VSTAR", "steps", self.steps)
        for name, allowed in (
            ("mixture", ("linear", "hold")),
            ("blend", ("auto", "embeddings", "outputs")),
            ("preset", ("default", "official")),
            ("heads", ("all", "temporal")),
            ("replace", ("none", "identity", "uniform")),
        ):
            check_one_of("VSTAR", name, getattr(self, name), allowed)
        self._check_band()
        if self.preset == "official" and not self.regularise:
            raise ValueError("VSTAR.preset='official' is the released code with its band: expected regularise=True")
        usual = {one.name: one.default for one in fields(self)}
        for name, reason in self._idle():
            if getattr(self, name) != usual[name]:
                raise ValueError(f"VSTAR.{name} would change nothing: {reason}")

    def _idle(self) -> list[tuple[str, str]]:
        """What would be asked for in vain, and why."""
        of_band = ("scale", "magnitude", "heads", "matrix")
        idle: list[tuple[str, str]] = []
        if not self.synopsis:
            idle += [(name, "there is no synopsis to mix") for name in ("mixture", "blend")]
        if not self.regularise:
            idle += [(name, "regularise=False has no band") for name in ("sigmas", *of_band, "steps", "replace")]
        if self.replace != "none":
            idle += [(name, f"replace={self.replace!r} adds no band") for name in of_band]
        return idle

    def _check_band(self) -> None:
        for sigma in self.sigmas:
            if sigma is not None and not (is_number(sigma) and sigma > 0):
                raise ValueError(f"VSTAR.sigmas: expected more than 0 or None for every level, got {self.sigmas}")
        if self.sigmas and not any(self.sigmas):
            raise ValueError("VSTAR.sigmas: expected a width for at least one level; regularise=False turns it off")
        if self.scale is not None:
            check_more_than_0("VSTAR", "scale", self.scale)
        if isinstance(self.magnitude, str):
            check_one_of("VSTAR", "magnitude", self.magnitude, ("auto", "rowmax", "sampled"))
        else:
            check_more_than_0("VSTAR", "magnitude", self.magnitude)
        if any(len(row) != len(self.matrix) for row in self.matrix):
            raise ValueError("VSTAR.matrix: expected as many columns as rows, one for every frame")
        if not all(is_number(value) for row in self.matrix for value in row):
            raise ValueError("VSTAR.matrix: expected finite numbers, got some that are not")


Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Word:
    """Words of the prompt, and when what they name should show. With no time given: all the time.

    Give at most one of the four times. Presence is in 0..1.
    """

    text: str
    seconds: Points = ()
    """(start, end) intervals, half open."""
    curve: Points = ()
    """(second, presence) points in order of time: straight lines between them, level before and after."""
    sound: Points = ()
    """(second, loudness) points of an envelope, any scale; `tempo_targets.onsets` makes one from a wave."""
    latents: tuple[float, ...] = ()
    """Presence in each latent frame, as the released code writes its masks."""
    occurrence: int | None = None
    """Which mention in the prompt, counted from 0 among those in its own case, if any; None: all, in any case."""

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError("Word.text is empty; expected words of the prompt")
        if self.occurrence is not None:
            check_count("Word", "occurrence", self.occurrence, 0)
        given = [name for name in ("seconds", "curve", "sound", "latents") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"Word {self.text!r}: expected one way to say when, got {' and '.join(given)}")
        numbers = [value for point in (*self.seconds, *self.curve, *self.sound, self.latents) for value in point]
        for value in numbers:
            if not math.isfinite(value):
                raise ValueError(f"Word.{given[0]} of {self.text!r}: expected finite numbers, got {value}")
        for start, end in self.seconds:
            if not 0 <= start < end:
                raise ValueError(f"Word.seconds of {self.text!r}: expected 0 <= start < end, got {start} and {end}")
        for name in ("curve", "sound"):
            times = [moment for moment, _ in getattr(self, name)]
            if times != sorted(set(times)):
                raise ValueError(f"Word.{name} of {self.text!r}: expected rising seconds, got {times}")
        presence = (*(value for _, value in self.curve), *self.latents)
        if any(not 0 <= value <= 1 for value in presence):
            raise ValueError(f"Word {self.text!r}: expected presence in 0..1, got {presence}")


Mentions = Literal["words", "substrings"]
TempoTask = Literal["one object", "two objects", "action", "sound"]
_TEMPO_TASKS: dict[TempoTask, dict[str, float]] = {
    "one object": {"rate": 5e-4},
    "two objects": {"rate": 1e-3},
    "action": {"rate": 1e-3, "enough": 0.85},
    "sound": {"rate": 1e-3, "magnitude": 1.0, "steps": 0.08},
}


@dataclass(frozen=True, kw_only=True)
class TempoControl(ControlConfig):
    """TempoControl (arXiv 2510.02226): latents are moved until words are attended to when they should show.

    The defaults are the paper's order (read and move at a step's own noise level, before the step), moves that survive
    the scheduler, and only the blocks that tell the time. `TempoControl.official` is the released code.
    """

    words: tuple[Word, ...] = ()
    """What to time. Empty takes the request's events: every phrase in its time, every subject all the time."""
    steps: float = 0.2
    """Share of the denoising steps, from the first; at least one step acts."""
    iterations: int = 4
    """Moves at a step, at most."""
    rate: float = 2e-4
    """Size of one move of one latent value (AdamW's learning rate)."""
    decay: float = 0.0
    """AdamW's weight decay."""
    correlation: float = 1.0
    """Weight of following the target in time."""
    magnitude: float = 0.3
    """Weight of being strong where present and weak where absent. More of it costs picture quality."""
    focus: float = 10.0
    """Weight of being concentrated in space where present; holds against drift."""
    enough: float = 0.9
    """Correlation with the target above which a step's moves stop."""
    layers: Literal["measured", "all"] | int = "measured"
    """Blocks that are read: all, the first so many, or the fewest first ones whose time course is that of all."""
    recompute: bool = True
    """Whether blocks are computed again on the way back; False keeps what they made: a quarter faster, more memory."""
    order: Literal["before", "after"] = "before"
    """Move before a step at its own noise level, or after it while still reading at the old one (released code)."""
    mentions: Mentions = "words"
    """Whether a word is looked for as a whole word, or also inside others (released code)."""
    scale: Literal["mean", "published"] = "mean"
    """Mean over blocks, magnitude as on 30 x 52 tokens; or sum over blocks by one less, magnitude as it comes."""
    stop: Literal["every", "first"] = "every"
    """Whose correlation ends a step's moves: that of every timed word, or of the first word (released code)."""
    survive: bool = True
    """Whether moves are told to a scheduler with a corrector, which would take them back (released code: not told)."""

    def __post_init__(self) -> None:
        check_share("TempoControl", "steps", self.steps)
        check_count("TempoControl", "iterations", self.iterations, 1)
        check_more_than_0("TempoControl", "rate", self.rate)
        for name in ("decay", "correlation", "magnitude", "focus"):
            if not (is_number(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"TempoControl.{name}: expected at least 0, got {getattr(self, name)}")
        if not (is_number(self.enough) and -1 <= self.enough <= 1):
            raise ValueError(f"TempoControl.enough: expected a correlation in -1..1, got {self.enough}")
        if isinstance(self.layers, str):
            check_one_of("TempoControl", "layers", self.layers, ("measured", "all"))
        else:
            check_count("TempoControl", "layers", self.layers, 1)
        check_one_of("TempoControl", "order", self.order, ("before", "after"))
        check_one_of("TempoControl", "mentions", self.mentions, ("words", "substrings"))
        check_one_of("TempoControl", "scale", self.scale, ("mean", "published"))
        check_one_of("TempoControl", "stop", self.stop, ("every", "first"))
        for word in self.words:
            if self.mentions == "substrings" and word.occurrence is not None:
                raise ValueError(
                    f"TempoControl.mentions='substrings' reads every place of a word: expected no occurrence for word "
                    f"{word.text!r}, got {word.occurrence}; use mentions='words'"
                )

    @classmethod
    def official(cls, words: tuple[Word, ...], task: TempoTask = "one object") -> TempoControl:
        """The released code with the hyper-parameters it ships for a task, its faults included; for 50 steps."""
        check_one_of("TempoControl.official", "task", task, tuple(_TEMPO_TASKS))
        shared: dict[str, Any] = {"steps": 0.22, "iterations": 10, "decay": 0.01} | _TEMPO_TASKS[task]
        return cls(
            words=words,
            layers="all",
            order="after",
            mentions="substrings",
            scale="published",
            stop="first",
            survive=False,
            **shared,
        )


@dataclass(frozen=True, kw_only=True)
class MotionQueries(ControlConfig):
    """Motion by Queries (arXiv 2412.07750): the motion of a clip is given to another prompt.

    The model looks at the noised clip, and its self-attention queries stand in the place of the new clip's own in the
    first part of the steps, in the conditional branch. What is None is the family's published setting (CogVideoX has
    none: Wan's layers, the level of t = 601): docs/methods/motion-queries.md.
    """

    frames: NDArray[np.uint8] = field(repr=False, compare=False)
    """The clip whose motion is wanted, RGB (frames, height, width, 3): of any size and length, made to fit."""
    sha256: str = field(init=False)
    """Of its shape and pixels: settings with equal digests are equal."""
    prompt: str = ""
    """What that clip shows; may be empty."""
    steps: float | None = None
    """Share of the denoising steps that are steered, from the first. Or give `window`."""
    window: Window | None = None
    """Noise levels that are steered, low and high, as rectified flow counts them; see `ddpm_window`."""
    layers: Literal["all", "last third"] | tuple[int, ...] | None = None
    """Blocks whose self-attention is steered."""
    record: Literal["one", "each"] | None = None
    """Whether the clip is looked at once, at one noise level, or at the level of each steered step."""
    level: float | None = None
    """That one level: the step of the schedule nearest to it. None is the steered step of least noise."""
    values: Literal["own", "channels", "layer"] | None = None
    """Attention values are left, or moved to mean and spread of the clip's: of each channel, or of a whole layer."""
    seed: Literal["request", "other"] | int | None = None
    """Noise on the clip, the same at all levels: that of the new clip's seed, another, or of a seed of one's own."""
    renoise: int | None = None
    """Last steps of the schedule through which the clip's latents go first, to lie where the model's own clips lie."""
    timing: Literal["fit", "double", "exact"] = "fit"
    """How its frames fill the new clip: stretched over all of it; each shown twice and the last once more (n frames
    make 2n + 1, as published for Wan); or one for one."""
    strength: float = 1.0
    """Share of the clip's queries; the rest is the new clip's own."""

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[3] != 3 or self.frames.dtype != np.uint8 or len(self.frames) < 2:
            raise ValueError(
                "MotionQueries.frames: expected at least 2 uint8 frames (frames, height, width, 3), "
                f"got {self.frames.dtype} {self.frames.shape}"
            )
        pixels = np.ascontiguousarray(self.frames).tobytes()
        object.__setattr__(self, "sha256", hashlib.sha256(repr(self.frames.shape).encode() + pixels).hexdigest())
        if self.steps is not None and self.window is not None:
            raise ValueError("MotionQueries: expected steps or window, got both")
        if self.steps is not None:
            check_share("MotionQueries", "steps", self.steps)
        if self.window is not None:
            check_window("MotionQueries.window", self.window)
        if self.level is not None and (self.record == "each" or not 0 < self.level <= 1):
            raise ValueError(
                f"MotionQueries.level: expected a noise level in (0, 1], with record='one', got {self.level}"
            )
        for name, value in (("renoise", self.renoise), ("seed", self.seed)):
            if isinstance(value, int) and value < 0:
                raise ValueError(f"MotionQueries.{name}: expected at least 0, got {value}")
        check_share("MotionQueries", "strength", self.strength)
        self._check_choices()

    def _check_choices(self) -> None:
        for name, allowed in (("record", ("one", "each")), ("values", ("own", "channels", "layer"))):
            if getattr(self, name) is not None:
                check_one_of("MotionQueries", name, getattr(self, name), allowed)
        check_one_of("MotionQueries", "timing", self.timing, ("fit", "double", "exact"))
        if isinstance(self.seed, str):
            check_one_of("MotionQueries", "seed", self.seed, ("request", "other"))
        if isinstance(self.layers, str):
            check_one_of("MotionQueries", "layers", self.layers, ("all", "last third"))
        elif self.layers is not None and (not self.layers or min(self.layers) < 0):
            raise ValueError(f"MotionQueries.layers: expected numbers of blocks from 0 on, got {self.layers}")

    def plain(self) -> dict[str, Any]:
        """The settings, with the clip's digest for its pixels."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "frames"}


@dataclass(frozen=True, kw_only=True)
class Looking(ControlConfig):
    """Looks where the words of the request's events are attended to, and changes no bit of the clip."""

    steps: tuple[int, ...] = ()
    """Denoising steps that are looked at, counted from 0; empty is all."""
    layers: tuple[int, ...] = ()
    """Blocks whose attention to text is looked at; empty is all."""

    def __post_init__(self) -> None:
        for name in ("steps", "layers"):
            if any(number < 0 for number in getattr(self, name)):
                raise ValueError(f"Looking.{name}: expected numbers from 0 on, got {getattr(self, name)}")
