"""CLIPSeg (Lüddecke and Ecker, arXiv 2112.10003): a subject by its words, frame by frame.

Every frame, squeezed to the model's square, gives a map of how likely each place shows the words; where that is on is
decided by Otsu's threshold of each frame, which always parts a frame in two: `least` says how likely the likeliest
place must be for the frame to show the subject at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from generators.controls.storyboarding_maths import otsu
from generators.digests import weights_digest
from generators.errors import BackendUnavailable, RequestRejected
from generators.quiet import quietly

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, as the published weights were trained with."""


class CLIPSegSegmenter:
    """Finds whatever its words name. `place` is a folder or a hub id; safetensors only, never remote code.

    `side` is that of the model's square, a multiple of its patches. `least` is the smallest probability, 0..1, that the
    likeliest place of a frame must have; 0 is as published. Raises BackendUnavailable when the model cannot be loaded.
    """

    def __init__(
        self,
        place: str,
        *,
        device: str | torch.device = "cpu",
        side: int = 352,
        batch: int = 16,
        least: float = 0.0,
    ) -> None:
        if batch < 1 or not 0 <= least < 1:
            raise RequestRejected(f"CLIPSeg: expected batch of at least 1 and least in [0, 1), got {batch} and {least}")
        self.model, self.tokenizer = _opened(place, device)
        self.name = f"clipseg {_version(place)} at {side}" + (f" from {least}" if least else "")
        self.side, self.batch, self.least = side, batch, least

    def __call__(self, frames: NDArray[np.uint8], subject: str) -> NDArray[np.bool_]:
        """Where the words are on, (frames, height, width). Raises RequestRejected for no words."""
        return torch.stack([self._on(one) for one in self._maps(frames, subject)]).numpy()

    def heat(self, frames: NDArray[np.uint8], subject: str) -> NDArray[np.float32]:
        """How likely each place shows the words, 0..1, (frames, height, width). Raises as a call does."""
        return np.asarray(self._maps(frames, subject).numpy(), np.float32)

    def _maps(self, frames: NDArray[np.uint8], subject: str) -> Tensor:
        if not subject.strip():
            raise RequestRejected("CLIPSeg: expected words that name the subject, got none")
        return torch.cat([self._likely(part, subject) for part in torch.from_numpy(frames).split(self.batch)])

    def _likely(self, frames: Tensor, subject: str) -> Tensor:
        """Probabilities (n, H, W)."""
        side, device = self.side, self.model.device
        pixels = F.interpolate(
            frames.to(device).permute(0, 3, 1, 2) / 255, size=(side, side), mode="bilinear", antialias=True
        )
        mean, deviation = (torch.tensor(one, device=device).view(1, 3, 1, 1) for one in (MEAN, DEVIATION))
        words = self.tokenizer([subject] * len(frames), padding=True, truncation=True, return_tensors="pt").to(device)
        with torch.no_grad():
            logits = self.model(
                pixel_values=((pixels - mean) / deviation).to(self.model.dtype),
                input_ids=words["input_ids"],
                attention_mask=words["attention_mask"],
                return_dict=True,
            ).logits
        square = logits.float().reshape(len(frames), 1, *logits.shape[-2:]).sigmoid()
        return F.interpolate(square, size=tuple(frames.shape[1:3]), mode="bilinear")[:, 0].cpu()

    def _on(self, map_HW: Tensor) -> Tensor:
        return (map_HW > otsu(map_HW)) & (map_HW.max() >= self.least)


def _opened(place: str, device: str | torch.device) -> tuple[Any, Any]:
    from safetensors import SafetensorError
    from transformers import AutoTokenizer, CLIPSegForImageSegmentation

    try:
        with quietly(Path(place).is_dir()):
            loaded: Any = CLIPSegForImageSegmentation.from_pretrained(place, use_safetensors=True, dtype=torch.float32)
        tokenizer: Any = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except (OSError, ValueError, ImportError, KeyError, SafetensorError) as error:
        raise BackendUnavailable(
            f"{place}: expected a folder or hub id of CLIPSeg in safetensors with its tokenizer, such as "
            f"CIDAS/clipseg-rd64-refined: {str(error)[:300]}"
        ) from error
    if loaded.config.model_type != "clipseg":
        raise BackendUnavailable(f"{place}: expected a CLIPSeg model, got {loaded.config.model_type}")
    return loaded.to(device).eval().requires_grad_(False), tokenizer


def _version(place: str) -> str:
    """Of a folder the digest of its files; a hub id is its own name."""
    return weights_digest(Path(place))[:16] if Path(place).is_dir() else place
