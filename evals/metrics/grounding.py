"""Where things that a text names stand in a frame: a grounder's protocol, GroundingDINO by folder, and crops.

Knows no benchmark. Boxes are pixels of the frame, (left, top, right, bottom).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from PIL import Image

from evals.metrics.embedders import Weights, digest, pretrained
from evals.metrics.score import NotMeasured
from generators.clip import Frames

BOX = 0.25
"""Least certainty of a box. The published thresholds of words, .20 and .25, only name boxes; no name is read here."""
PAD = 0.1
"""Share of a box's size that a crop adds on every side."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """One thing that was found."""

    left: float
    top: float
    right: float
    bottom: float
    score: float

    @property
    def area(self) -> float:
        """Square pixels."""
        return max(self.right - self.left, 0.0) * max(self.bottom - self.top, 0.0)


@runtime_checkable
class Grounder(Protocol):
    """Finds what a text names."""

    @property
    def name(self) -> str:
        """Id and digest of the weights."""
        ...

    def boxes(self, frame: Frames, query: str) -> Sequence[Box]:
        """In one frame (H, W, 3) uint8 RGB; things in the query stand between ` . `."""
        ...


class GroundingDino:
    """GroundingDINO in transformers' format."""

    def __init__(self, known: str, place: str) -> None:
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

        self.model: Any = pretrained(AutoModelForZeroShotObjectDetection, known, place, use_safetensors=True).eval()
        self.processor: Any = pretrained(AutoProcessor, known, place)
        self.name = f"{known} {digest(place)}"

    def boxes(self, frame: Frames, query: str) -> Sequence[Box]:
        """Of at least the published certainty."""
        import torch

        inputs = self.processor(images=Image.fromarray(frame), text=query.lower() + ".", return_tensors="pt")
        with torch.no_grad():
            found = self.model(**inputs)
        (one,) = self.processor.post_process_grounded_object_detection(
            found, inputs.input_ids, threshold=BOX, target_sizes=[frame.shape[:2]]
        )
        return [
            Box(left=float(a), top=float(b), right=float(c), bottom=float(d), score=float(score))
            for (a, b, c, d), score in zip(one["boxes"].tolist(), one["scores"].tolist(), strict=True)
        ]


def open_grounder(weights: Weights, known: str = "grounding_dino") -> Grounder | NotMeasured:
    """The grounder of this id, or why there is none."""
    place = weights.place(known)
    return place if isinstance(place, NotMeasured) else GroundingDino(known, place)


def cropped(frame: Frames, box: Box, pad: float = PAD) -> Frames:
    """The box and a rim around it, inside the frame; at least one pixel."""
    height, width = frame.shape[:2]
    wide, tall = pad * (box.right - box.left), pad * (box.bottom - box.top)
    left, top = int(np.clip(box.left - wide, 0, width - 1)), int(np.clip(box.top - tall, 0, height - 1))
    right = int(np.clip(np.ceil(box.right + wide), left + 1, width))
    bottom = int(np.clip(np.ceil(box.bottom + tall), top + 1, height))
    return frame[top:bottom, left:right]


def sharpness_of(crop: Frames) -> float:
    """1 + log of the variance of its Laplacian: crisp crops are worth more, flat ones no less than 1."""
    grey = cv2.cvtColor(np.ascontiguousarray(crop), cv2.COLOR_RGB2GRAY)
    return 1.0 + float(np.log1p(cv2.Laplacian(grey, cv2.CV_64F).var()))
