"""Encoders of whole clips, for distances between crowds of films, and DreamSim's ensemble for frames.

Loaded from a folder of weights, safetensors only; what is absent is not measured, with the reason. Knows no metric.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from evals.metrics.consistency import Vectors, unit
from evals.metrics.embedders import IMAGENET, OPENAI, Embedder, Weights, batches, digest, load_model, normal, pooled
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
        self.model = load_model(place)
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


class DreamSim:
    """DreamSim's ensemble of three ViT-B/16 with its LoRA merged into them: 224 x 224 bicubic, no crop, vectors joined.

    Its folder holds `dino_vitb16`, `clip_vitb16` and `open_clip_vitb16` in transformers' format.
    """

    PARTS = ("dino_vitb16", "clip_vitb16", "open_clip_vitb16")

    def __init__(self, known: str, place: str, batch: int = 16) -> None:
        folders = [str(Path(place) / part) for part in self.PARTS]
        self.models = [load_model(folder) for folder in folders]
        self.name = f"{known} {'+'.join(digest(folder)[:8] for folder in folders)}"
        self.batch = batch

    def embed(self, frames: Frames) -> Vectors:
        """(n, sum of d); the distance of two frames is one minus the cosine of their centred vectors."""
        return np.concatenate([unit(batches(frames, self.batch, self._encoder(model))) for model in self.models], 1)

    def _encoder(self, model: Any) -> Callable[[Any], Any]:
        from torch.nn.functional import interpolate

        clip = hasattr(model, "get_image_features")
        side = int(model.config.vision_config.image_size if clip else model.config.image_size)

        def encode(pixels: Any) -> Any:
            small = interpolate(pixels, size=(side, side), mode="bicubic", antialias=False).clamp(0, 1)
            if clip:
                return pooled(model.get_image_features(normal(small, OPENAI), return_dict=True))
            return model(normal(small, IMAGENET)).last_hidden_state[:, 0]

        return encode


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
    """DreamSim, where all three of its parts are there."""
    for part in DreamSim.PARTS:
        found = weights.place(f"dreamsim/{part}")
        if isinstance(found, NotMeasured):
            return found
    assert weights.folder is not None
    return DreamSim("dreamsim", str(weights.folder / "dreamsim"))
