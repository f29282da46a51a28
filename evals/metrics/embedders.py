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
FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
"""What is fetched of a hub repository: settings, vocabularies and weights that are safe to open."""
IDS = (
    *("dino_vitb16", "dinov2_vitb14", "clip_vitb32", "clip_vitl14", "videomae_ssv2", "grounding_dino", "clipseg"),
    "coco_detector",
    *("dreamsim/dino_vitb16", "dreamsim/clip_vitb16", "dreamsim/open_clip_vitb16"),
)
"""Encoders that benchmarks look with."""


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


@runtime_checkable
class PatchEmbedder(Embedder, Protocol):
    """Turns the patches of frames into vectors too."""

    def patches(self, frames: Frames) -> Vectors:
        """Frames (n, H, W, 3) uint8 RGB to (n, patches, d) floats, not normalised."""
        ...


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Where encoders are. `folder` holds one folder an id; `places` names a folder or a hub id for single ids."""

    folder: Path | None = None
    places: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.places) - set(IDS)):
            raise ValueError(f"Weights.places: expected ids of {', '.join(IDS)}; got {', '.join(unknown)}")

    def open(self, known: str) -> Embedder | NotMeasured:
        """The encoder of this id. Raises KeyError for an id that is not in LOADERS."""
        load = LOADERS[known]
        found = self.place(known)
        return found if isinstance(found, NotMeasured) else load(known, found)

    def place(self, known: str) -> str | NotMeasured:
        """The folder that this id is loaded from; what `places` names on the hub is fetched into its cache first."""
        named = self.places.get(known)
        if named is None and self.folder is None:
            return NotMeasured(reason=f"missing weights {known}: no folder of weights was named")
        path = self.folder / known if named is None and self.folder else _fetched(named or "")
        if path is None:  # reasons stand in tables that must not change with the machine: the place is not in them
            return NotMeasured(reason=f"missing weights {known}: its place is no folder and no hub id within reach")
        if not (path / "config.json").is_file() or not any(path.glob("*.safetensors")):
            return NotMeasured(reason=f"missing weights {known}: expected config.json and *.safetensors in its folder")
        return str(path)

    def open_text(self, known: str) -> TextEmbedder | NotMeasured:
        """The same for an encoder that reads text too."""
        found = self.open(known)
        if isinstance(found, NotMeasured | TextEmbedder):
            return found
        return NotMeasured(reason=f"{known} reads no text")

    def open_patches(self, known: str) -> PatchEmbedder | NotMeasured:
        """The same for an encoder that gives the patches of a frame too."""
        found = self.open(known)
        if isinstance(found, NotMeasured | PatchEmbedder):
            return found
        return NotMeasured(reason=f"{known} gives no patches")


class VisionTransformer:
    """The class token of a ViT or DINOv2 model: shorter side 224, bilinear without antialias, no crop (VBench).

    A ViT's patches leave out what is over at the right and at the bottom. DINOv2 takes whole patches alone, so that
    its longer side is cut to them in the resize.
    """

    def __init__(self, known: str, place: str, side: int = 224, batch: int = 16) -> None:
        self.model = load_model(known, place)
        self.name = f"{known} {digest(place)}"
        self.side, self.batch = side, batch

    def embed(self, frames: Frames) -> Vectors:
        """(n, d); the grid of positions is interpolated to the frame's shape."""
        return self._see(frames, lambda hidden: hidden[:, 0])

    def patches(self, frames: Frames) -> Vectors:
        """(n, patches, d), row by row; the class token is left out."""
        return self._see(frames, lambda hidden: hidden[:, 1:])

    def _see(self, frames: Frames, part: Callable[[Any], Any]) -> Vectors:
        from torch.nn.functional import interpolate

        whole = self.model.config.model_type == "dinov2"
        size = _shorter(frames.shape[1], frames.shape[2], self.side, int(self.model.config.patch_size) if whole else 1)
        options = {} if whole else {"interpolate_pos_encoding": True}

        def encode(pixels: Any) -> Any:
            small = interpolate(pixels, size=size, mode="bilinear", antialias=False)
            return part(self.model(normal(small, IMAGENET), **options).last_hidden_state)

        return batches(frames, self.batch, encode)


class Clip:
    """CLIP image and text features: shorter side to the model's size, bicubic without antialias, centre crop."""

    def __init__(self, known: str, place: str, batch: int = 16) -> None:
        from transformers import AutoTokenizer

        self.model = load_model(known, place)
        self.tokenizer: Any = pretrained(AutoTokenizer, known, place)
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
    """The first 16 digits of the sha256 over a folder's safetensors files."""
    found = hashlib.sha256()
    for file in sorted(Path(place).glob("*.safetensors")):
        with file.open("rb") as data:
            found.update(hashlib.file_digest(data, "sha256").digest())
    return found.hexdigest()[:16]


def _fetched(place: str) -> Path | None:
    """A folder as it is; of a hub id the folder of its newest snapshot, None where there is none within reach."""
    if Path(place).is_dir():
        return Path(place)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(place, allow_patterns=list(FILES)))
    except (OSError, ValueError):  # no such repository or no network; not the form of an id
        return None


class UnusableWeights(ValueError):
    """A folder that was named holds no weights that may be loaded."""


def pretrained(kind: Any, known: str, place: str, **options: Any) -> Any:
    """What transformers reads from a folder, never code that lies there. Raises UnusableWeights with id and folder."""
    from safetensors import SafetensorError

    try:
        return kind.from_pretrained(place, trust_remote_code=False, **options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        asks = "trust_remote_code" in str(error)
        why = "it wants code of its own to be run, which is never done here" if asks else f"{error}".split("\n")[0]
        raise UnusableWeights(
            f"weights {known} in {place}: expected safetensors of an architecture that transformers knows ({why}); "
            "get them again or name another folder"
        ) from error


def load_model(known: str, place: str) -> Any:
    """A model in transformers' format, frozen; safetensors only."""
    from transformers import AutoModel

    return pretrained(AutoModel, known, place, use_safetensors=True).eval().requires_grad_(False)


def _shorter(height: int, width: int, side: int, multiple: int) -> tuple[int, int]:
    """The size whose shorter side is `side`, the longer one cut to a whole number; both cut to whole multiples."""
    exact = (side, side * width // height) if height <= width else (side * height // width, side)
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
