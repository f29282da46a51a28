"""Encoders of frames and texts, loaded from a local folder or a hub id, safetensors only; absent means not measured.

A number belongs to the encoder that made it, so there is no stand-in: `Weights.open` gives the encoder or the reason
why nothing can be measured with it. Knows no metric.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from evals.metrics.consistency import Vectors
from evals.metrics.score import NotMeasured
from generators.clip import Frames

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@runtime_checkable
class Embedder(Protocol):
    """Turns frames into vectors."""

    @property
    def name(self) -> str:
        """Id and digest of the weights."""
        ...

    def embed(self, frames: Frames) -> Vectors:
        """Frames (n, H, W, 3) uint8 RGB to (n, d) floats, not normalised."""
        ...


@runtime_checkable
class TextEmbedder(Embedder, Protocol):
    """Turns texts into vectors of the same space."""

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """(n, d) floats."""
        ...


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Where encoders are. `folder` holds one folder an id; `places` names a path or a hub id for single ids."""

    folder: Path | None = None
    places: Mapping[str, str] = field(default_factory=dict)

    def open(self, known: str) -> Embedder | NotMeasured:
        """The encoder of this id. Raises KeyError for an id that is not in LOADERS."""
        load = LOADERS[known]
        found = self.place(known)
        return found if isinstance(found, NotMeasured) else load(known, found)

    def place(self, known: str) -> str | NotMeasured:
        """The path or hub id that this id is loaded from."""
        if known in self.places:
            return self.places[known]
        if self.folder is None:
            return NotMeasured(reason=f"missing weights {known}: no folder of weights was named")
        path = self.folder / known
        if not (path / "config.json").is_file() or not any(path.glob("*.safetensors")):
            return NotMeasured(reason=f"missing weights {known}: expected config.json and *.safetensors in its folder")
        return str(path)

    def open_text(self, known: str) -> TextEmbedder | NotMeasured:
        """The same for an encoder that reads text too."""
        found = self.open(known)
        if isinstance(found, NotMeasured | TextEmbedder):
            return found
        return NotMeasured(reason=f"{known} reads no text")


class VisionTransformer:
    """The class token of a ViT or DINOv2 model: shorter side 224, bilinear without antialias, no crop (VBench)."""

    def __init__(self, known: str, place: str, side: int = 224, batch: int = 16) -> None:
        self.model = load_model(place)
        self.name = f"{known} {digest(place)}"
        self.side, self.batch = side, batch

    def embed(self, frames: Frames) -> Vectors:
        """(n, d); the grid of positions is interpolated to the frame's shape."""
        import torch
        from torch.nn.functional import interpolate

        patch = int(self.model.config.patch_size)

        def encode(pixels: torch.Tensor) -> torch.Tensor:
            size = _shorter(frames.shape[1], frames.shape[2], self.side, patch)
            small = interpolate(pixels, size=size, mode="bilinear", antialias=False)
            options = {} if self.model.config.model_type == "dinov2" else {"interpolate_pos_encoding": True}
            hidden: torch.Tensor = self.model(normal(small, IMAGENET), **options).last_hidden_state[:, 0]
            return hidden

        return batches(frames, self.batch, encode)


class Clip:
    """CLIP image and text features: shorter side to the model's size, bicubic without antialias, centre crop."""

    def __init__(self, known: str, place: str, batch: int = 16) -> None:
        from transformers import AutoTokenizer

        self.model = load_model(place)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(place)
        self.name = f"{known} {digest(place)}"
        self.batch = batch

    def embed(self, frames: Frames) -> Vectors:
        """(n, d)."""
        import torch
        from torch.nn.functional import interpolate

        side = int(self.model.config.vision_config.image_size)

        def encode(pixels: torch.Tensor) -> torch.Tensor:
            size = _shorter(frames.shape[1], frames.shape[2], side, 1)
            small = interpolate(pixels, size=size, mode="bicubic", antialias=False).clamp(0, 1)
            top, left = (size[0] - side) // 2, (size[1] - side) // 2
            found = self.model.get_image_features(
                normal(small[:, :, top : top + side, left : left + side], OPENAI), return_dict=True
            )
            features: torch.Tensor = pooled(found)
            return features

        return batches(frames, self.batch, encode)

    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """(n, d); longer texts are cut at the model's length."""
        import torch

        tokens = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        with torch.no_grad():
            return np.asarray(pooled(self.model.get_text_features(**tokens, return_dict=True)).float().numpy())


LOADERS: dict[str, Callable[[str, str], Embedder]] = {
    "dino_vitb16": VisionTransformer,
    "dinov2_vitb14": VisionTransformer,
    "clip_vitb32": Clip,
    "clip_vitl14": Clip,
}


def digest(place: str) -> str:
    """The first 16 digits of the sha256 over a folder's safetensors files; a hub id is its own name."""
    if not Path(place).is_dir():
        return place
    found = hashlib.sha256()
    for file in sorted(Path(place).glob("*.safetensors")):
        with file.open("rb") as data:
            found.update(hashlib.file_digest(data, "sha256").digest())
    return found.hexdigest()[:16]


def load_model(place: str) -> Any:
    """A model in transformers' format, frozen; safetensors only."""
    from transformers import AutoModel

    return AutoModel.from_pretrained(place, use_safetensors=True).eval().requires_grad_(False)


def _shorter(height: int, width: int, side: int, multiple: int) -> tuple[int, int]:
    """The size whose shorter side is `side`, the longer one cut to a whole number and to whole patches."""
    scale = side / min(height, width)
    longer = (int(height * scale), int(width * scale))
    exact = (side, longer[1]) if height <= width else (longer[0], side)
    return max(exact[0] // multiple, 1) * multiple, max(exact[1] // multiple, 1) * multiple


def normal(pixels: Any, statistics: tuple[tuple[float, ...], tuple[float, ...]]) -> Any:
    """Pixels (n, 3, h, w) in 0..1 by mean and deviation a channel."""
    import torch

    mean, deviation = (torch.tensor(one).view(1, 3, 1, 1) for one in statistics)
    return (pixels - mean) / deviation


def pooled(found: Any) -> Any:
    """Features of a CLIP, which newer versions of its library wrap."""
    return getattr(found, "pooler_output", found)


def batches(frames: Frames, batch: int, encode: Callable[[Any], Any]) -> NDArray[np.float32]:
    """`encode` over frames as (n, 3, H, W) in 0..1, so many at once."""
    import torch

    parts = []
    with torch.no_grad():
        for start in range(0, len(frames), batch):
            pixels = torch.from_numpy(np.ascontiguousarray(frames[start : start + batch])).permute(0, 3, 1, 2) / 255
            parts.append(encode(pixels).float().numpy())
    return np.concatenate(parts)
