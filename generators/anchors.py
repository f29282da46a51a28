"""Anchors of a set of shots, kept so that a shot filmed later has the same cast.

What other shots read of an anchor is made anew from the latents that the network read at each step, so these are what
is kept: a few megabytes a step for a large model, where its keys and values would be gigabytes. With them go the masks
of the subject, and what refinement found. A file is one safetensors file with a digest of its contents.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from generators.clip import Event, ShotRequest
from generators.controls.storyboarding_maths import Refinement
from generators.errors import RequestRejected
from generators.training.checkpoint import write_whole

FORMAT = "fabula anchors 1"
Latents = Mapping[int, Tensor]
"""Latents (1, C, F, h, w) as the network read them, by step."""


@dataclass(frozen=True, kw_only=True)
class KeptAnchor:
    """One anchor, as it was filmed."""

    request: ShotRequest
    """The shot as it is, not steered."""
    subject: str
    plain: Latents = field(repr=False)
    sweeps: tuple[Latents, ...] = field(repr=False)
    """The steered copy, in one sweep or two."""
    masks: Mapping[int, Tensor] = field(repr=False)
    """(N,) bool, by the first step of the first sweep that they hold for."""
    features: Tensor | None = field(default=None, repr=False)
    """(N, C) float32, 0 outside the subject; None without refinement."""
    refinement: Refinement | None = field(default=None, repr=False)
    """What it takes from the other anchors; None for a lone one."""


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """Anchors of one set, in the order in which shots read them, and `made`: how they were filmed, as plain values."""

    shots: tuple[KeptAnchor, ...]
    made: Mapping[str, Any]

    def check(self, made: Mapping[str, Any]) -> None:
        """Raise RequestRejected, naming what differs, where a set is to be filmed otherwise than they were."""
        differ = [
            f"{key}: {was!r} then, {made.get(key)!r} now" for key, was in self.made.items() if was != made.get(key)
        ]
        if differ:
            raise RequestRejected(f"anchors: expected the settings they were filmed with; {'; '.join(differ)}")

    def save(self, path: Path) -> str:
        """Write them to a file, whole or not at all; gives the digest of what is in it."""
        tensors = {name: tensor for i, shot in enumerate(self.shots) for name, tensor in _tensors(i, shot).items()}
        told = {"made": json.dumps(self.made), "shots": json.dumps([_told(shot) for shot in self.shots])}
        digest = _digest(tensors, told)
        content = save(tensors, {"format": FORMAT, "sha256": digest, **told})

        def write(file: BinaryIO) -> None:
            file.write(content)

        write_whole(path, write)
        return digest

    @classmethod
    def load(cls, path: Path, requests: Sequence[ShotRequest] | None = None) -> Anchors:
        """Read a file. `requests` are needed where the anchors had controls or given frames, which no file holds.

        Raises RequestRejected for a file that is missing, damaged or another's, and for other requests.
        """
        tensors, told = _read(path)
        shots = json.loads(told["shots"])
        if requests is not None and len(requests) != len(shots):
            raise RequestRejected(f"requests: expected those of {len(shots)} anchors, got {len(requests)}")
        asked = [_request(path, shot) for shot in shots] if requests is None else requests
        for request, shot in zip(asked, shots, strict=True):
            if request.digest() != shot["digest"]:
                raise RequestRejected(f"requests: {request.prompt!r} is not the request that {path} was filmed from")
        subjects = [shot["subject"] for shot in shots]
        kept = [_kept(*one, i, tensors) for i, one in enumerate(zip(asked, subjects, strict=True))]
        return cls(shots=tuple(kept), made=json.loads(told["made"]))


def _tensors(number: int, shot: KeptAnchor) -> dict[str, Tensor]:
    """Everything of one anchor by name; of the features only those of the subject."""
    paths = {"plain": shot.plain, **{f"sweep{i}": path for i, path in enumerate(shot.sweeps)}, "mask": shot.masks}
    found = {f"{name}.{step}": tensor for name, path in paths.items() for step, tensor in path.items()}
    if shot.features is not None:
        found["features"] = shot.features[_last(shot.masks)]
    if shot.refinement is not None:
        near, anchor, place = shot.refinement
        found |= {"near": near, "anchor": anchor.to(torch.uint8), "place": place.to(torch.int32)}
    return {f"{number}.{name}": tensor.cpu().contiguous().clone() for name, tensor in found.items()}


def _kept(request: ShotRequest, subject: str, number: int, tensors: Mapping[str, Tensor]) -> KeptAnchor:
    own = {name.partition(".")[2]: x for name, x in tensors.items() if name.startswith(f"{number}.")}

    def path(name: str) -> dict[int, Tensor]:
        return {int(key.partition(".")[2]): x for key, x in own.items() if key.startswith(f"{name}.")}

    masks = path("mask")
    sweeps = tuple(path(f"sweep{i}") for i in range(len({key.partition(".")[0] for key in own if "sweep" in key})))
    features = None
    if "features" in own:
        shown = _last(masks)
        features = own["features"].new_zeros(len(shown), own["features"].shape[1])
        features[shown] = own["features"]
    found = Refinement(own["near"], own["anchor"].long(), own["place"].long()) if "near" in own else None
    return KeptAnchor(
        request=request, subject=subject, plain=path("plain"), sweeps=sweeps, masks=masks, features=features,
        refinement=found,
    )  # fmt: skip


def _last(masks: Mapping[int, Tensor]) -> Tensor:
    return masks[max(masks)]


def _told(shot: KeptAnchor) -> dict[str, Any]:
    """The request in words; controls and given frames by name only."""
    request = shot.request
    plain = {f.name: getattr(request, f.name) for f in fields(request) if f.name not in ("events", "controls", "given")}
    beside = [type(control).__name__ for control in request.controls] + ["given frames"] * bool(request.given)
    events = [asdict(event) for event in request.events]
    return {"subject": shot.subject, "digest": request.digest(), "beside": beside, "events": events, "request": plain}


def _request(path: Path, told: Mapping[str, Any]) -> ShotRequest:
    if told["beside"]:
        raise RequestRejected(
            f"{path} holds an anchor that was filmed with {', '.join(told['beside'])}, which no file keeps; hand in "
            "the anchors' requests"
        )
    return ShotRequest(**told["request"], events=tuple(Event(**event) for event in told["events"]))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(str(path), framework="pt") as file:
            told: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise RequestRejected(f"anchors: {path} could not be read: {error}") from error
    if told.pop("format", "") != FORMAT:
        raise RequestRejected(f"anchors: {path} is no file of anchors (expected {FORMAT!r})")
    if told.pop("sha256", "") != _digest(tensors, told):
        raise RequestRejected(f"anchors: {path} is damaged: its contents do not have the digest it names")
    return tensors, told


def _digest(tensors: Mapping[str, Tensor], told: Mapping[str, str]) -> str:
    found = hashlib.sha256(json.dumps(dict(sorted(told.items()))).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
