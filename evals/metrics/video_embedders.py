"""Encoders of whole clips, for distances between crowds of films, and DreamSim's ensemble for frames.

Loaded from a folder of weights, safetensors only; what is absent is not measured, with the reason. Knows no metric.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evals.metrics.consistency import Vectors
from evals.metrics.embedders import (
    IMAGENET,
    OPENAI,
    Embedder,
    Weights,
    batches,
    digest,
    load_model,
    normal,
    pooled,
    pretrained,
)
from evals.metrics.frame_indices import linspace_end
from evals.metrics.score import NotMeasured
from generators.clip import Frames

FRAMES = 16
"""Frames of a clip that a video encoder is shown, evenly spaced; they repeat in a shorter clip."""


@runtime_checkable
class VideoEmbedder(Protocol):
    """Turns a clip into one vector."""

    @property
    def name(self) -> str:
        """Id and digest of the weights."""
        ...

    def embed_clip(self, frames: Frames) -> NDArray[np.float64]:
        """Frames (T, H, W, 3) uint8 RGB to (d,)."""
        ...


class VideoMae:
    """Mean of a VideoMAE's last tokens: 16 frames at 224 x 224 bilinear, in 0..1 (content-debiased FVD)."""

    def __init__(self, known: str, place: str) -> None:
        self.model = load_model(known, place)
        self.name = f"{known} {digest(place)}"

    def embed_clip(self, frames: Frames) -> NDArray[np.float64]:
        """(d,)"""
        import torch
        from torch.nn.functional import interpolate

        config = self.model.config
        shown = frames[linspace_end(len(frames), int(config.num_frames))]
        pixels = torch.from_numpy(np.ascontiguousarray(shown)).permute(0, 3, 1, 2) / 255
        side = int(config.image_size)
        with torch.no_grad():
            small = interpolate(pixels, size=(side, side), mode="bilinear", antialias=False)
            hidden = self.model(small.unsqueeze(0)).last_hidden_state
        return np.asarray(hidden.mean(1)[0].double().numpy())


class Unfit(ValueError):
    """A folder of weights holds another architecture than its encoder's."""


class DreamSim:
    """DreamSim's ensemble of three ViT-B/16 with its LoRA merged into them, as its package 0.2.1 joins them.

    Frames are resized to 224 x 224 by Pillow's bicubic filter, without a crop. DINO gives its class token as the last
    block leaves it, before the final norm; both CLIP give projected features. The vectors are joined as they are.
    """

    PARTS = ("dino_vitb16", "clip_vitb16", "open_clip_vitb16")

    def __init__(self, known: str, places: Mapping[str, str], batch: int = 16) -> None:
        """`places` has a folder for each of PARTS. Raises Unfit for one that is not of its architecture."""
        self.dino = _load_dino(self.PARTS[0], places[self.PARTS[0]])
        self.clips = [_load_clip(part, places[part]) for part in self.PARTS[1:]]
        self.name = f"{known} {'+'.join(digest(places[part])[:8] for part in self.PARTS)}"
        self.batch = batch

    def embed(self, frames: Frames) -> Vectors:
        """(n, sum of d); the distance of two frames is one minus the cosine of their centred vectors."""

        def dino(pixels: Any) -> Any:
            return self.dino(normal(pixels, IMAGENET), output_hidden_states=True).hidden_states[-1][:, 0]

        parts = [batches(_squared(frames, int(self.dino.config.image_size)), self.batch, dino)]
        for model in self.clips:
            parts.append(batches(_squared(frames, _clip_side(model)), self.batch, partial(_projected, model)))
        return np.concatenate(parts, 1)


def _load_dino(part: str, place: str) -> Any:
    model = load_model(f"dreamsim/{part}", place)
    if model.config.model_type != "vit":
        raise Unfit(f"dreamsim/{part}: expected a ViT, got a model of type {model.config.model_type}")
    return model


def _load_clip(part: str, place: str) -> Any:
    """A whole CLIP, or its picture half with the projection; without one its features are others."""
    from transformers import AutoConfig, CLIPVisionModelWithProjection

    known = f"dreamsim/{part}"
    config = pretrained(AutoConfig, known, place)
    if config.model_type == "clip":
        return load_model(known, place)
    if "CLIPVisionModelWithProjection" not in (config.architectures or ()):
        raise Unfit(f"{known}: expected a CLIP with its projection, got {config.architectures}")
    found = pretrained(CLIPVisionModelWithProjection, known, place, use_safetensors=True)
    return found.eval().requires_grad_(False)


def _clip_side(model: Any) -> int:
    return int(getattr(model.config, "vision_config", model.config).image_size)


def _projected(model: Any, pixels: Any) -> Any:
    shown = normal(pixels, OPENAI)
    if hasattr(model, "get_image_features"):
        return pooled(model.get_image_features(shown, return_dict=True))
    return model(shown).image_embeds


def _squared(frames: Frames, side: int) -> Frames:
    """Frames as Pillow resizes them: bicubic with antialias, rounded to bytes."""
    return np.stack([np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC)) for one in frames])


VIDEO_LOADERS: dict[str, Callable[[str, str], VideoEmbedder]] = {"videomae_ssv2": VideoMae}
UNREAD = {"i3d_k400": "its released file is TorchScript, and only safetensors are read"}
"""Published encoders that cannot be had in a form that is safe to open."""


def open_video(weights: Weights, known: str) -> VideoEmbedder | NotMeasured:
    """The clip encoder of this id. Raises KeyError for an id that is in neither table."""
    if known in UNREAD:
        return NotMeasured(reason=f"missing weights {known}: {UNREAD[known]}")
    load = VIDEO_LOADERS[known]
    found = weights.place(known)
    return found if isinstance(found, NotMeasured) else load(known, found)


def open_dreamsim(weights: Weights) -> Embedder | NotMeasured:
    """DreamSim, where all three of its parts are there and of their architecture."""
    places: dict[str, str] = {}
    for part in DreamSim.PARTS:
        found = weights.place(f"dreamsim/{part}")
        if isinstance(found, NotMeasured):
            return found
        places[part] = found
    try:
        return DreamSim("dreamsim", places)
    except Unfit as error:
        return NotMeasured(reason=f"unfit weights {error}")
