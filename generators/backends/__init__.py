"""Backends turn requests into clips. `BACKENDS` is the whole list; torch is read only when one is opened.

instant   deterministic drawn frames, no model: tests and dry work
local     a pipeline of any family in `models.loading`, in diffusers' format, on this machine
bundled   the small model that comes with fabula, on the same code as `local`
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from generators.adapters import read_adapter, with_adapters
from generators.backends.checkpoint import check_checkpoint, is_hub_id, starts_from_picture
from generators.clip import Backend, Canvas, Limits
from generators.digests import weights_digest
from generators.errors import BackendUnavailable
from generators.segmenters import Segmenter
from generators.world.words import FPS, HEIGHT, LONG, SHORT, WIDTH

WEIGHTS = Path(__file__).parents[1] / "weights"
BUNDLED_LIMITS = Limits(
    width=WIDTH,
    height=HEIGHT,
    fps=FPS,
    frame_counts=(SHORT, LONG),
    extends=True,
    guides=True,
    moves=True,
    frame_texts=True,
    continues="tokens at zero",
    films_sets=True,
)
BUNDLED_STEPS, BUNDLED_GUIDANCE = 20, 3.0


@dataclass(frozen=True, kw_only=True)
class BackendConfig:
    """Which backend to open, and how. `model` and what follows matter to `local` and `bundled` only."""

    kind: str = "bundled"
    model: str | None = None
    """A folder in diffusers' format, or a hub id."""
    device: str | None = None
    """A torch device; None takes the accelerator where there is one."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`auto`: bfloat16 on an accelerator, float32 on a CPU."""
    offload: bool = False
    """Keep on the device only the network that is at work."""
    lora: tuple[str, ...] = ()
    """Adapters on top of the model, each `PATH` or `PATH@SCALE`."""
    steps: int | None = None
    guidance: float | None = None
    guidance_2: float | None = None
    """Guidance of the low-noise expert; None means the same."""
    limits: Limits | None = None
    """None: the kind's own."""
    canvas: Canvas = Canvas()
    """Sizes and lengths in the place of those of the limits."""
    gives_tokens_at_zero: bool | None = None
    """Whether the model was trained with finished tokens at timestep 0; None asks the pipeline, and means yes with
    `scenes` in families that leave the choice."""
    at_once: int | None = None
    """Shots of a set in one batch; None: all. Never what happens to fit: equal runs must give equal frames."""
    scenes: bool = False
    """Film sets as one sequence: the model was trained for it."""
    keeps: Literal["nothing", "flow maps"] = "nothing"
    """What a set's second sweep has of the first; correspondences as int16 save passes and take memory."""
    clipseg: str = ""
    """Folder or hub id of a CLIPSeg model that finds what the shots of a set share, before any `segmenter`."""
    segmenter: Segmenter | None = field(default=None, repr=False, compare=False)
    """Finds what the shots of a set share, in frames of the limits' size; None reads it off attention to its words."""


def _instant(config: BackendConfig) -> Backend:
    from generators.backends.instant import SMALL, InstantBackend

    return InstantBackend(limits=replace(config.canvas.on(config.limits or SMALL), scenes=config.scenes))


def _local(config: BackendConfig) -> Backend:
    if config.model is None:
        raise BackendUnavailable(
            "backend.model: expected a folder in diffusers' format or a hub id, got none; name one with --model"
        )
    return _open(config, config.model)


def _bundled(config: BackendConfig) -> Backend:
    trained = replace(
        config,
        steps=BUNDLED_STEPS if config.steps is None else config.steps,
        guidance=BUNDLED_GUIDANCE if config.guidance is None else config.guidance,
        limits=config.limits or BUNDLED_LIMITS,
        gives_tokens_at_zero=True,
    )
    return _open(trained, config.model or str(bundled_folder()), name="bundled")


def _open(config: BackendConfig, model: str, name: str | None = None) -> Backend:
    from generators.backends.local import LocalBackend

    return LocalBackend(
        model,
        name=name,
        limits=config.limits,
        canvas=config.canvas,
        device=config.device,
        dtype=config.dtype,
        offload=config.offload,
        lora=config.lora,
        steps=config.steps,
        guidance=config.guidance,
        guidance_2=config.guidance_2,
        gives_tokens_at_zero=config.gives_tokens_at_zero,
        at_once=config.at_once,
        scenes=config.scenes,
        keeps=config.keeps,
        clipseg=config.clipseg,
        segmenter=config.segmenter,
    )


BACKENDS: dict[str, Callable[[BackendConfig], Backend]] = {
    "instant": _instant,
    "local": _local,
    "bundled": _bundled,
}


def open_backend(config: BackendConfig) -> Backend:
    """Open the backend that the config names. Raises BackendUnavailable, naming what is missing."""
    try:
        make = BACKENDS[config.kind]
    except KeyError:
        raise BackendUnavailable(f"backend: expected one of {', '.join(BACKENDS)}, got {config.kind!r}") from None
    return make(config)


def limits_of(config: BackendConfig) -> Limits | None:
    """What the backend will say of itself, where that is known without opening it."""
    if config.kind == "bundled":
        return replace(config.canvas.on(config.limits or BUNDLED_LIMITS), scenes=config.scenes)
    if config.kind == "local":
        return config.limits and replace(config.canvas.on(config.limits), scenes=config.scenes)
    return open_backend(config).limits if config.kind == "instant" else None


def needs_picture(config: BackendConfig) -> bool:
    """Whether every shot needs a picture to start from, as far as can be known without opening the backend."""
    return config.kind == "local" and config.model is not None and starts_from_picture(Path(config.model))


def weights_of(config: BackendConfig) -> str | None:
    """Digest of the weights that the backend would film with; None where there are none, or none to be read yet.

    Of a hub id nothing is known before it is opened. Raises BackendUnavailable for a folder that cannot be filmed with.
    """
    adapters = [read_adapter(told) for told in config.lora]
    if config.kind == "bundled" and config.model is None:
        found = _bundled_folders()
        return with_adapters(weights_digest(found[0]), adapters) if found else None
    if config.kind not in ("bundled", "local") or config.model is None or is_hub_id(config.model):
        return None
    check_checkpoint(config.model)
    return with_adapters(weights_digest(Path(config.model)), adapters)


def _bundled_folders() -> list[Path]:
    found = sorted(WEIGHTS.glob("model_index.json")) + sorted(WEIGHTS.glob("*/model_index.json"))
    return [index.parent for index in found]


def bundled_folder() -> Path:
    """Where the bundled pipeline lies. Raises BackendUnavailable when it is not there."""
    found = _bundled_folders()
    if not found:
        raise BackendUnavailable(
            f"the bundled model is not under {WEIGHTS}; train it (`train world`), or film with "
            "`--profile wan --model PATH_OR_ID`"
        )
    return found[0]
