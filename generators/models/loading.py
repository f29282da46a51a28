"""Opens a checkpoint of any family: looks at what it says it is, loads it, and takes it apart.

Knows which pipeline classes of diffusers there are VideoModels for, and what each was made to film. Importing it is
light: a family's file, and torch with it, is read when one of its checkpoints is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from generators.adapters import Adapter, put_on
from generators.clip import Extension, Limits
from generators.errors import BackendUnavailable
from generators.quiet import quietly

if TYPE_CHECKING:
    import torch

    from generators.models.base import VideoModel


@dataclass(frozen=True, kw_only=True)
class MadeFor:
    """What a checkpoint was made to film, and how: its pipeline's own defaults."""

    limits: Limits
    steps: int
    guidance: float


@dataclass(frozen=True, kw_only=True)
class Family:
    """Pipelines that one VideoModel takes apart."""

    take: Callable[..., VideoModel]
    """(pipe, name=, **options) -> the model."""
    made_for: Callable[[Any], MadeFor]
    """Of a model, before its own multiples and strides are put in."""
    options: tuple[str, ...] = ()
    """Options of `open_model` that `take` knows."""
    float32: tuple[str, ...] = ()
    """Parts that are loaded in float32 whatever the dtype."""


def open_model(
    model: str,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    offload: bool = False,
    lora: Sequence[Adapter] = (),
    **options: Any,
) -> VideoModel:
    """Load a folder or hub id of any family: safetensors only, never remote code; float32 by default.

    `offload` moves one network at a time to the device; `lora` are adapters put on top. `options` are the family's
    own: `gives_tokens_at_zero` (Wan), `given_time` (SkyReels-V2), `dynamic_guidance` (CogVideoX), `decode_timestep`,
    `decode_noise` and `given_noise` (LTX), `eta` (UNets). Raises BackendUnavailable for what cannot be loaded, a class
    there is no VideoModel for, and another family's option.
    """
    family = _family(class_of(model), model)
    unknown = sorted(set(options) - set(family.options))
    if unknown:
        raise BackendUnavailable(
            f"{model}: expected options among {family.options or 'none'} for this family, got {', '.join(unknown)}"
        )
    pipe = load_pipeline(model, dtype=dtype, device=device, offload=offload, float32=family.float32)
    put_on(pipe, lora)
    return family.take(pipe, name=model, **options)


def take_apart(pipe: Any, *, name: str | None = None, **options: Any) -> VideoModel:
    """A loaded pipeline of any family as a VideoModel; it stays usable. Raises BackendUnavailable for other classes."""
    kind = type(pipe).__name__
    return _family(kind, name or kind).take(pipe, name=name or kind, **options)


def made_for(model: VideoModel) -> MadeFor:
    """What an opened model was made to film, with its own multiples and strides."""
    opened: Any = model
    found = _family(type(opened.pipe).__name__, model.name).made_for(opened)
    limits = replace(
        found.limits,
        size_multiple=max(found.limits.size_multiple, model.size_multiple),
        frame_step=getattr(opened, "frame_step", model.stride),
        extends=True,
        needs_picture=getattr(opened, "joins_channels", False),
        guides=callable(getattr(opened, "read", None)),  # `base.Readable`, without torch
        moves=callable(getattr(opened, "encode_clip", None)),  # `base.SeesClips`
        frame_texts=any(site.kind == "cross" for site in model.sites),
        continues=_extension(opened),
        films_sets=any(site.kind in ("self", "joint") for site in model.sites),
    )
    return replace(found, limits=limits)


def _extension(model: Any) -> Extension:
    """The best way this model has of going on from finished frames: what it was trained with, where it was."""
    if getattr(model, "joins_channels", False):
        return "last frame"
    if getattr(model, "family", None) == "ltx":
        return "conditions"
    if getattr(model, "diffusion_forcing", False):
        return "diffusion forcing"
    return "tokens at zero" if model.gives_tokens_at_zero else "noised latents"


def class_of(model: str) -> str:
    """The pipeline class that a folder or hub id names. Raises BackendUnavailable when it names none."""
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    try:
        index: Any = DiffusionPipeline.load_config(model)
        return str(index["_class_name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackendUnavailable(
            f"{model}: expected a folder or hub id with a model_index.json that names a pipeline class: {error}"
        ) from error


def load_pipeline(
    model: str,
    *,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    offload: bool = False,
    float32: tuple[str, ...] = (),
) -> Any:
    """A diffusers pipeline from safetensors, on its device. Raises BackendUnavailable when it cannot be loaded."""
    import torch
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline

    dtypes = {"default": dtype or torch.float32, **dict.fromkeys(float32, torch.float32)}
    try:
        with quietly(Path(model).is_dir()):
            pipe: Any = DiffusionPipeline.from_pretrained(model, dtype=dtypes, use_safetensors=True)
    except (OSError, ValueError, ImportError) as error:
        raise BackendUnavailable(
            f"{model}: no diffusers pipeline could be loaded from this folder or hub id: {error}"
        ) from error
    pipe.set_progress_bar_config(disable=True)
    if offload:
        pipe.enable_model_cpu_offload(device=device)
    else:
        pipe.to(device)
    return pipe


def _family(kind: str, model: str) -> Family:
    try:
        return FAMILIES[kind]
    except KeyError:
        raise BackendUnavailable(f"{model} is a {kind}; expected one of {', '.join(FAMILIES)}") from None


def _take_wan(pipe: Any, **options: Any) -> VideoModel:
    from generators.models.wan import WanVideoModel

    return WanVideoModel.from_pipeline(pipe, **options)


def _take_skyreels(pipe: Any, **options: Any) -> VideoModel:
    from generators.models.skyreels import SkyReelsVideoModel

    return SkyReelsVideoModel.from_pipeline(pipe, **options)


def _take_cogvideox(pipe: Any, **options: Any) -> VideoModel:
    from generators.models.cogvideox import CogVideoXVideoModel

    return CogVideoXVideoModel.from_pipeline(pipe, **options)


def _take_ltx(pipe: Any, **options: Any) -> VideoModel:
    from generators.models.ltx import LTXVideoModel

    return LTXVideoModel.from_pipeline(pipe, **options)


def _take_unet(pipe: Any, **options: Any) -> VideoModel:
    from generators.models.unet import UnetVideoModel

    return UnetVideoModel.from_pipeline(pipe, **options)


def _made_for_wan(model: Any) -> MadeFor:
    small = Limits(width=832, height=480, fps=16, frame_counts=(49, 81))
    large = Limits(width=1280, height=704, fps=24, frame_counts=(73, 121), size_multiple=32)
    return MadeFor(limits=large if model.expands_timesteps else small, steps=50, guidance=5.0)


def _made_for_skyreels(model: Any) -> MadeFor:
    if model.frames_a_block > 1:
        raise BackendUnavailable(
            f"{model.name} reads frames in causal blocks of {model.frames_a_block} (num_frame_per_block), which no "
            "control can steer: set it to 1 in the transformer's config.json, or film it from Python without controls"
        )
    limits = Limits(width=960, height=544, fps=24, frame_counts=(49, 97))
    pictures = "ImageToVideo" in type(model.pipe).__name__
    return MadeFor(limits=limits, steps=50, guidance=5.0 if pictures else 6.0)


def _made_for_cogvideox(model: Any) -> MadeFor:
    first = Limits(width=720, height=480, fps=8, frame_counts=(49,))
    later = Limits(width=1360, height=768, fps=16, frame_counts=(81, 161))  # 1.5 has patches in time
    return MadeFor(limits=first if model.patch[0] == 1 else later, steps=50, guidance=6.0)


def _made_for_ltx(model: Any) -> MadeFor:
    return MadeFor(limits=Limits(width=704, height=512, fps=25, frame_counts=(121, 161)), steps=50, guidance=3.0)


def _made_for_unet(model: Any) -> MadeFor:
    side, guidance = (512, 7.5) if model.is_animatediff else (256, 9.0)
    return MadeFor(limits=Limits(width=side, height=side, fps=8, frame_counts=(16,)), steps=50, guidance=guidance)


_WAN = Family(
    take=_take_wan, made_for=_made_for_wan, options=("gives_tokens_at_zero",), float32=("vae", "image_encoder")
)
_SKYREELS = Family(
    take=_take_skyreels, made_for=_made_for_skyreels, options=("given_time",), float32=("vae", "image_encoder")
)
_COGVIDEOX = Family(take=_take_cogvideox, made_for=_made_for_cogvideox, options=("dynamic_guidance",))
_LTX = Family(take=_take_ltx, made_for=_made_for_ltx, options=("decode_timestep", "decode_noise", "given_noise"))
_UNET = Family(take=_take_unet, made_for=_made_for_unet, options=("eta",))

FAMILIES: dict[str, Family] = {
    "WanPipeline": _WAN,
    "WanImageToVideoPipeline": _WAN,
    "SkyReelsV2DiffusionForcingPipeline": _SKYREELS,
    "SkyReelsV2DiffusionForcingImageToVideoPipeline": _SKYREELS,
    "SkyReelsV2DiffusionForcingVideoToVideoPipeline": _SKYREELS,
    "SkyReelsV2Pipeline": _SKYREELS,
    "SkyReelsV2ImageToVideoPipeline": _SKYREELS,
    "CogVideoXPipeline": _COGVIDEOX,
    "CogVideoXImageToVideoPipeline": _COGVIDEOX,
    "LTXPipeline": _LTX,
    "LTXImageToVideoPipeline": _LTX,
    "LTXConditionPipeline": _LTX,
    "TextToVideoSDPipeline": _UNET,
    "AnimateDiffPipeline": _UNET,
}
"""By diffusers' class name."""
