"""Which things stand in a picture: detectors of COCO's 80 kinds in transformers' format (DETR, RT-DETR, YOLOS, …).

Knows no benchmark. TempoControl's own numbers come from YOLOv10n, which has no such form and another licence; numbers
of another detector carry its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from evals.metrics.embedders import Weights, digest, pretrained
from evals.metrics.score import NotMeasured
from generators.clip import Frames

LEAST = 0.25
"""Certainty of a box from which its kind is seen (TempoControl)."""
DETECTOR = "coco_detector"
"""Its id among the weights."""


class CocoDetector:
    """Any model of object detection of its own list of kinds; boxes of at least .25, names in lower case."""

    def __init__(self, place: str, batch: int = 8) -> None:
        from transformers import AutoImageProcessor, AutoModelForObjectDetection

        model: Any = pretrained(AutoModelForObjectDetection, DETECTOR, place, use_safetensors=True)
        self.model = model.eval().requires_grad_(False)
        self.processor: Any = pretrained(AutoImageProcessor, DETECTOR, place)
        self.batch = batch
        self.name = f"{self.model.config.model_type} {digest(place)}"

    def seen(self, frames: Frames) -> Sequence[frozenset[str]]:
        """The kinds in each frame (T, H, W, 3) uint8 RGB."""
        return [one for at in range(0, len(frames), self.batch) for one in self._seen(frames[at : at + self.batch])]

    def _seen(self, frames: Frames) -> list[frozenset[str]]:
        import torch

        inputs = self.processor(images=[Image.fromarray(frame) for frame in frames], return_tensors="pt")
        with torch.no_grad():
            found = self.model(**inputs)
        names = self.model.config.id2label
        boxes = self.processor.post_process_object_detection(found, threshold=LEAST)
        return [frozenset(names[int(label)].lower() for label in one["labels"]) for one in boxes]


def open_detector(weights: Weights) -> CocoDetector | NotMeasured:
    """The detector of the id `coco_detector`, or why there is none."""
    place = weights.place(DETECTOR)
    return place if isinstance(place, NotMeasured) else CocoDetector(place)
