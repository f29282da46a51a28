"""Profiles: which brains, backend and critic film a story, and the hard limits. TOML files, checked key by key.

Knows the files' shape; what a backend's name means is the caller's, and no key is ever read or kept here, only the
name of the variable that holds it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from agents.errors import ProfileError
from agents.storyboard import Shape

PROFILES = Path(__file__).parent.parent / "profiles"
MINDS = ("endpoint", "local")
"""Kinds of brains and critics that ask a model."""
Number = int | float


class Budget(Shape):
    """Hard limits of one run. None means no limit."""

    takes_per_shot: int = Field(default=4, ge=1, le=100)
    shots: int = Field(default=24, ge=1, le=10_000)
    """Shots a storyboard may have."""
    seconds: float | None = Field(default=None, gt=0)
    """Of work on the run in all, from planning to the cut; loading the model is not among them."""
    tokens: int | None = Field(default=None, ge=0)
    money: float | None = Field(default=None, ge=0)
    calls: int | None = Field(default=None, ge=0)


class Models(Shape):
    """A model's name for each role; `default` serves the roles that name none."""

    default: str = ""
    planner: str = ""
    segmenter: str = ""
    reworder: str = ""
    critic: str = ""

    def of(self, role: str) -> str:
        """The model of a role; empty when neither it nor a default is named."""
        return str(getattr(self, role)) or self.default


class BrainsChoice(Shape):
    """Who plans, times and words anew: rules, or models behind an OpenAI-compatible endpoint or in this process."""

    kind: Literal["offline", "endpoint", "local"] = "offline"
    """`local`: the models' names are folders or hub ids of chat checkpoints, in safetensors."""
    world: bool = True
    """Plan within the puppet world's words; off for backends that film anything."""
    base_url: str = ""
    key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key."""
    models: Models = Models()
    synopsis: bool = False
    """The segmenter gives shots a synopsis, which their frames read (VSTAR) in the place of separable attention."""
    timeout: float = Field(default=120.0, gt=0)
    attempts: int = Field(default=4, ge=1, le=20)
    max_tokens: int = Field(default=4096, ge=64)
    temperature: float | None = Field(default=None, ge=0, le=2)
    price_in: float = Field(default=0.0, ge=0)
    """Money per million tokens read."""
    price_out: float = Field(default=0.0, ge=0)
    """Money per million tokens written."""
    device: str = ""
    """Of `local` models: a torch device; empty for CUDA where there is any."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of `local` models; `auto` as for the backend."""


class CriticChoice(Shape):
    """Who watches the takes. Without a critic the film is cut unjudged, and says so."""

    kind: Literal["world", "endpoint", "local", "scripted", "none"] = "none"
    votes: int = Field(default=3, ge=1, le=9)
    most_frames: int = Field(default=32, ge=4, le=256)


class BackendChoice(Shape):
    """Who films, and with what. Sizes, frame rate and lengths are the checkpoint's own where nothing is said."""

    kind: str = Field(min_length=1)
    model: str = ""
    """A folder or hub name; empty for the backend's own."""
    device: str = ""
    """A torch device; empty for the accelerator where there is one."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`auto`: bfloat16 on an accelerator, float32 on a CPU."""
    offload: bool = False
    """Keep on the accelerator only the network that is at work."""
    lora: tuple[str, ...] = ()
    """Adapters on top of the model, each a .safetensors file or a folder with one, `PATH` or `PATH@SCALE`."""
    steps: int | None = Field(default=None, ge=1)
    guidance: float | None = Field(default=None, ge=0)
    guidance_2: float | None = Field(default=None, ge=0)
    """Guidance of the low-noise expert of models with two; None means the same."""
    width: int | None = Field(default=None, ge=16)
    height: int | None = Field(default=None, ge=16)
    fps: int | None = Field(default=None, ge=1, le=240)
    frame_counts: tuple[int, ...] | None = Field(default=None, min_length=1, max_length=16)
    """Lengths of shots in frames, 4k + 1 for Wan; shots are planned in these."""
    first_frame: str = ""
    """A picture from which every shot that begins with a cut starts; picture-to-video checkpoints need one."""
    sets: bool = False
    """Film shots that share a cast as one set, where the backend can (docs/methods/storyboarding.md)."""
    scenes: bool = False
    """Film sets as one sequence: the model, or an adapter on it, was trained for that (`train scenes`)."""
    at_once: int | None = Field(default=None, ge=3)
    """Shots of a set in one batch, its two anchors among them; None: all, or as many as fit. Fewer take more time."""
    clipseg: str = ""
    """Folder or hub id of a CLIPSeg model that finds what the shots of a set share; empty for the puppet world's
    detectors with the bundled model, and for attention to its words elsewhere."""
    keeps: Literal["nothing", "flow maps"] = "nothing"
    """`flow maps` keeps a set's correspondences as int16: fewer passes, more memory."""


class FilmChoice(Shape):
    """How the film is cut."""

    crossfade: float = Field(default=0.0, ge=0, le=10)
    burn_captions: bool = False
    scale: int | None = Field(default=None, ge=1, le=32)
    font: str | None = None
    """A font file for captions and sheets in other than Latin script."""


class Profile(Shape):
    """Everything that decides how a story is filmed, but the story, its seed and its style."""

    name: str = Field(min_length=1)
    description: str = ""
    brains: BrainsChoice = BrainsChoice()
    critic: CriticChoice = CriticChoice()
    backend: BackendChoice
    budget: Budget = Budget()
    film: FilmChoice = FilmChoice()

    @property
    def needs_endpoint(self) -> bool:
        """Whether any role asks a model behind the endpoint."""
        return "endpoint" in (self.brains.kind, self.critic.kind)

    def mind(self, role: str) -> str:
        """Where the model of a role is; it asks none unless that is one of `MINDS`."""
        return self.critic.kind if role == "critic" else self.brains.kind

    @property
    def asked(self) -> tuple[str, ...]:
        """Roles that ask a model."""
        roles = ["planner"] if self.brains.kind in MINDS else []
        roles += ["segmenter", "reworder"] if roles and not self.brains.world else []
        roles += ["critic"] if self.critic.kind in MINDS else []
        return tuple(roles)


def load_profile(name: str, *, backends: Collection[str] | None = None) -> Profile:
    """A profile by name (from `profiles/`) or by path to a TOML file.

    Raises ProfileError when it cannot be read, or names a key or thing that does not exist.
    """
    path = Path(name) if name.endswith(".toml") else PROFILES / f"{name}.toml"
    if not path.is_file():
        raise ProfileError(
            f"No profile {name!r}; there are {', '.join(profile_names())}, or give a path to a .toml file"
        )
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ProfileError(f"Profile {path} cannot be read: {error}") from error
    return parse_profile({"name": path.stem} | data, str(path), backends=backends)


def parse_profile(data: Mapping[str, Any], source: str, *, backends: Collection[str] | None = None) -> Profile:
    """Check a profile's keys and values; ProfileError names `source` and every wrong key."""
    try:
        profile = Profile.model_validate(dict(data))
    except ValidationError as error:
        wrong = "; ".join(_wrong(".".join(map(str, e["loc"])), e["type"], e["msg"], e["input"]) for e in error.errors())
        raise ProfileError(f"Profile {source}: {wrong}") from None  # the error's own text holds the values
    problems = _problems(profile, backends)
    if problems:
        raise ProfileError(f"Profile {source}: {'; '.join(problems)}")
    return profile


def override(profile: Profile, changes: Mapping[str, object]) -> Profile:
    """The profile with some keys changed, such as {"budget.seconds": 300}; checked like a file."""
    data = profile.model_dump()
    for dotted, value in changes.items():
        *path, last = dotted.split(".")
        table: Any = data
        for key in path:
            table = table.get(key) if isinstance(table, dict) else None
        if not isinstance(table, dict) or last not in table:
            raise ProfileError(f"Profile {profile.name}: there is no key {dotted!r}")
        table[last] = value
    return parse_profile(data, profile.name)


def profile_names() -> tuple[str, ...]:
    """Names of the profiles that come with the program."""
    return tuple(sorted(path.stem for path in PROFILES.glob("*.toml")))


def _wrong(key: str, kind: str, message: str, value: object) -> str:
    """What is wrong with a key. The value of a key that is not known may be a secret: it is not repeated."""
    if kind == "extra_forbidden":
        return f"{key}: there is no such key (keys of servers stay in the environment; brains.key_env names theirs)"
    return f"{key}: {message}, got {value!r}"


def _problems(profile: Profile, backends: Collection[str] | None) -> list[str]:
    found: list[str] = []
    if backends is not None and profile.backend.kind not in backends:
        found.append(f"backend.kind: expected one of {', '.join(sorted(backends))}, got {profile.backend.kind!r}")
    if profile.backend.lora and profile.backend.kind == "instant":
        found.append("backend.lora: expected none, for the instant backend has no model to put adapters on")
    if profile.backend.scenes and not profile.backend.sets:
        found.append("backend.scenes: expected backend.sets too, for it says how sets are filmed")
    if profile.brains.base_url or profile.needs_endpoint:
        found += _unfit_address(profile.brains.base_url)
    if not profile.brains.key_env.isidentifier():
        found.append("brains.key_env: expected the name of an environment variable, such as OPENAI_API_KEY")
    named = profile.brains.models
    return found + [
        f"brains.models.{role}: name a model (or brains.models.default)" for role in profile.asked if not named.of(role)
    ]


def _unfit_address(url: str) -> list[str]:
    """What is wrong with a server's address. It is kept with runs and shown in reports, so it must hold no secret."""
    if "@" in url or "?" in url:
        return [
            "brains.base_url: expected no user, password or query in the address; put the key into the environment "
            "variable that brains.key_env names"
        ]
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return [f"brains.base_url: expected http:// or https:// and a host, got {url!r}"]
    return []
