"""Anchors of a set of shots, kept so that a shot filmed later has the same cast.

What other shots read of an anchor is made anew from the latents that the network read at each step, so these are what
is kept: a few megabytes a step for a large model, where its keys and values would be gigabytes. With them go the masks
of the subject, and what refinement found. A file is one safetensors file with a digest of its contents.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from generators.clip import Event, ShotRequest
from generators.controls.storyboarding_maths import Refinement, on_grid
from generators.errors import RequestRejected
from generators.training.checkpoint import write_whole

FORMAT = "fabula anchors 2"
MADE = ("weights", "steps", "levels", "guidance", "grid", "refined_grid", "steering")
"""What `made` tells."""
WINDOWS = ("preserve", "flow", "share", "refine")
PATHS = ("plain", "sweep0", "sweep1")
PARTS = ("plain", "steered in the first sweep", "steered in the second")
LEVEL = 1e-6
"""How far a level may be from the one it was filmed at: `made` rounds them."""
Grid = tuple[int, int, int]
"""Tokens along time, height and width."""
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
    """(N,) bool on the grid of the clip's tokens, by the first step of the first sweep that they hold for."""
    features: Tensor | None = field(default=None, repr=False)
    """(N, C) float32 on the grid of the refined layers, 0 outside the subject; None without refinement."""
    refinement: Refinement | None = field(default=None, repr=False)
    """What it takes from the other anchors; None for a lone one."""


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """Anchors of one set, in the order in which shots read them, and `made`: how they were filmed, as plain values."""

    shots: tuple[KeptAnchor, ...]
    made: Mapping[str, Any]

    def check(self, made: Mapping[str, Any]) -> None:
        """Raise RequestRejected, naming what differs, where a set is to be filmed otherwise than they were."""
        keys = dict.fromkeys([*self.made, *made])
        pairs = [(key, self.made.get(key), made.get(key)) for key in keys]
        differ = [f"{key}: {was!r} then, {now!r} now" for key, was, now in pairs if was != now]
        if differ:
            raise RequestRejected(f"anchors: expected the settings they were filmed with; {'; '.join(differ)}")

    def save(self, path: Path) -> str:
        """Write them to a file, whole or not at all; gives the digest of what is in it.

        Raises RequestRejected where it is not known which weights filmed them: only those may read them again.
        """
        if not self.made.get("weights"):
            raise RequestRejected(
                "anchors: expected the digest of the weights that filmed them, to keep it in the file; name it in "
                "CastSettings.weights (`generators.digests.weights_digest` gives that of a folder)"
            )
        grids = _grids(self.made)
        each = [_tensors(i, shot, grids) for i, shot in enumerate(self.shots)]
        tensors = {name: tensor for of_shot in each for name, tensor in of_shot.items()}
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

        Raises RequestRejected for a file that is missing, damaged or another's, for one that lacks what later shots
        would read, and for other requests.
        """
        tensors, told = _read(path)
        shots, made = _parsed(path, told)
        if requests is not None and len(requests) != len(shots):
            raise RequestRejected(f"requests: expected those of {len(shots)} anchors, got {len(requests)}")
        asked = [_request(path, shot) for shot in shots] if requests is None else requests
        for request, shot in zip(asked, shots, strict=True):
            if request.digest() != shot["digest"]:
                raise RequestRejected(f"requests: {request.prompt!r} is not the request that {path} was filmed from")
        subjects = [shot["subject"] for shot in shots]
        require_readable(path, tensors, made, len(shots))
        grids = _grids(made)
        kept = [_kept(*one, i, tensors, grids) for i, one in enumerate(zip(asked, subjects, strict=True))]
        return cls(shots=tuple(kept), made=made)


def _grids(made: Mapping[str, Any]) -> tuple[Grid, Grid]:
    """Of masks, and of what refinement reads."""
    (f, h, w), (_, refined_h, refined_w) = made["grid"], made["refined_grid"]
    return (f, h, w), (f, refined_h, refined_w)


def _tensors(number: int, shot: KeptAnchor, grids: tuple[Grid, Grid]) -> dict[str, Tensor]:
    """Everything of one anchor by name; of the features only those of the subject."""
    paths = {"plain": shot.plain, **{f"sweep{i}": path for i, path in enumerate(shot.sweeps)}, "mask": shot.masks}
    found = {f"{name}.{step}": tensor for name, path in paths.items() for step, tensor in path.items()}
    if shot.features is not None:
        found["features"] = shot.features[_last(shot.masks, grids)]
    if shot.refinement is not None:
        near, anchor, place = shot.refinement
        found |= {"near": near, "anchor": anchor.to(torch.uint8), "place": place.to(torch.int32)}
    return {f"{number}.{name}": tensor.cpu().contiguous().clone() for name, tensor in found.items()}


def _kept(
    request: ShotRequest, subject: str, number: int, tensors: Mapping[str, Tensor], grids: tuple[Grid, Grid]
) -> KeptAnchor:
    own = {name.partition(".")[2]: x for name, x in tensors.items() if name.startswith(f"{number}.")}

    def path(name: str) -> dict[int, Tensor]:
        return {int(key.partition(".")[2]): x for key, x in own.items() if key.startswith(f"{name}.")}

    masks = path("mask")
    sweeps = tuple(path(f"sweep{i}") for i in range(len({key.partition(".")[0] for key in own if "sweep" in key})))
    features = None
    if "features" in own:
        shown = _last(masks, grids)
        features = own["features"].new_zeros(len(shown), own["features"].shape[1])
        features[shown] = own["features"]
    found = Refinement(own["near"], own["anchor"].long(), own["place"].long()) if "near" in own else None
    return KeptAnchor(
        request=request, subject=subject, plain=path("plain"), sweeps=sweeps, masks=masks, features=features,
        refinement=found,
    )  # fmt: skip


def _last(masks: Mapping[int, Tensor], grids: tuple[Grid, Grid]) -> Tensor:
    """The newest mask, where refinement reads it."""
    return on_grid(masks[max(masks)], *grids)


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
    try:
        return ShotRequest(**told["request"], events=tuple(Event(**event) for event in told["events"]))
    except (TypeError, ValueError) as error:
        raise RequestRejected(f"anchors: {path} holds a request that is none: {error}") from error


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(str(path), framework="pt") as file:
            told: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise RequestRejected(f"anchors: {path} could not be read: {error}") from error
    written = told.pop("format", "")
    if written != FORMAT:
        raise RequestRejected(
            f"anchors: {path} is no file of anchors that can be read here (expected {FORMAT!r}, got {written!r}); film "
            "the anchors again"
        )
    if told.pop("sha256", "") != _digest(tensors, told):
        raise RequestRejected(f"anchors: {path} is damaged: its contents do not have the digest it names")
    return tensors, told


def _parsed(path: Path, told: Mapping[str, str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The shots and `made`, as they are told. Raises RequestRejected for what could not be compared with a plan."""
    try:
        shots, made = json.loads(told["shots"]), json.loads(told["made"])
    except (KeyError, ValueError, RecursionError) as error:
        raise RequestRejected(f"anchors: {path} does not tell its shots and how they were made: {error}") from error
    keys = {"subject", "digest", "beside", "events", "request"}
    if not (isinstance(shots, list) and shots and all(isinstance(one, dict) and keys <= one.keys() for one in shots)):
        raise RequestRejected(f"anchors: {path}: expected shots with {', '.join(sorted(keys))}")
    lacking = [name for name in MADE if not isinstance(made, dict) or name not in made]
    if lacking:
        raise RequestRejected(f"anchors: {path} does not tell how they were filmed: expected {', '.join(lacking)}")
    _require_told(path, made)
    return shots, made


def _require_told(path: Path, made: Mapping[str, Any]) -> None:
    levels, grid, refined, steering = (made[name] for name in ("levels", "grid", "refined_grid", "steering"))
    windows = [steering.get(part, ()) for part in WINDOWS] if isinstance(steering, dict) else [()]
    fits = {
        "weights": isinstance(made["weights"], str) and bool(made["weights"]),
        "levels": _are_numbers(levels) and len(levels) == made["steps"],
        "grid": _is_grid(grid),
        "refined_grid": _is_grid(refined)
        and _is_grid(grid)
        and refined[0] == grid[0]
        and all(a <= b for a, b in zip(refined, grid, strict=True)),
        "steering": all(window is None or _are_numbers(window) and len(window) == 2 for window in windows),
    }
    for name, fit in fits.items():
        if not fit:
            raise RequestRejected(
                f"anchors: {path}: {name} is {made[name]!r:.80}, with which no shot can be compared; film the anchors "
                "again, with CastSettings.weights"
            )


def _is_grid(values: Any) -> bool:
    return _are_numbers(values) and len(values) == 3 and all(isinstance(n, int) and n > 0 for n in values)


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(x, int | float) and math.isfinite(x) for x in values)


def require_readable(path: Path, tensors: Mapping[str, Tensor], made: Mapping[str, Any], count: int) -> None:
    """Raise RequestRejected for a file that lacks what other shots read, or holds what they cannot."""
    shape: tuple[int, ...] | None = None
    for number in range(count):
        own = {name.partition(".")[2]: x for name, x in tensors.items() if name.startswith(f"{number}.")}
        try:
            shape = _require_latents(own, made, shape)
            _require_masks(own, made, count)
        except ValueError as error:
            raise RequestRejected(f"anchors: {path}, anchor {number + 1}: {error}") from error


def _require_latents(
    own: Mapping[str, Tensor], made: Mapping[str, Any], shape: tuple[int, ...] | None
) -> tuple[int, ...] | None:
    """The shape of the latents, which must be `shape`. Raises ValueError for others, and for missing steps."""
    for path, part in zip(PATHS, PARTS, strict=True):
        there = _steps(own, path)
        least, most = (_read_in(made, path, slack) for slack in (-LEVEL, LEVEL))
        if not least <= there <= most:
            raise ValueError(f"{part}: expected latents of the steps {sorted(least)}, got {sorted(there)}")
        for step in sorted(there):
            latents = own[f"{path}.{step}"]
            shape = tuple(latents.shape) if shape is None else shape
            whole = (
                len(shape) == 5 and shape[0] == 1 and all(a >= b for a, b in zip(shape[2:], made["grid"], strict=True))
            )
            if tuple(latents.shape) != shape or not whole:
                raise ValueError(
                    f"{part}, step {step}: expected (1, C, F, h, w) as all others, got {tuple(latents.shape)}"
                )
            if not latents.is_floating_point() or not latents.isfinite().all():
                raise ValueError(f"{part}, step {step}: expected finite numbers")
    return shape


def _require_masks(own: Mapping[str, Tensor], made: Mapping[str, Any], count: int) -> None:
    """Raise ValueError where masks, features or what refinement found are missing or are not of the clip's tokens."""
    tokens, refined = math.prod(made["grid"]), made["steering"]["refine"] is not None
    masks = {step: own[f"mask.{step}"] for step in _steps(own, "mask")}
    if not masks and _read_in(made, "plain", LEVEL, queried=False):
        raise ValueError("expected masks of the subject, got none")
    for step, mask in masks.items():
        if step > made["steps"] or mask.dtype != torch.bool or tuple(mask.shape) != (tokens,):
            raise ValueError(f"mask of step {step}: expected ({tokens},) bool, got {tuple(mask.shape)} {mask.dtype}")
    found = {name for name in ("near", "anchor", "place", "features") if name in own}
    wanted = ({"features"} if refined else set()) | ({"near", "anchor", "place"} if refined and count > 1 else set())
    if found != wanted:
        raise ValueError(
            f"expected {', '.join(sorted(wanted)) or 'nothing'} of refinement, got {', '.join(sorted(found))}"
        )
    if "features" in own:
        shown, features = int(_last(masks, _grids(made)).sum()), own["features"]
        if features.ndim != 2 or len(features) != shown or not features.isfinite().all():
            raise ValueError(f"features: expected ({shown}, C) finite numbers, got {tuple(features.shape)}")
    tokens = math.prod(made["refined_grid"])
    for name, most in (("near", 2), ("anchor", count - 1), ("place", tokens)):
        if name in own:
            x = own[name]
            if x.is_floating_point() or tuple(x.shape) != (tokens,) or not ((x >= 0) & (x.long() < most)).all():
                raise ValueError(f"{name}: expected {tokens} numbers of 0..{most - 1}, got {tuple(x.shape)} {x.dtype}")


def _steps(own: Mapping[str, Tensor], path: str) -> set[int]:
    """Steps of a path. Raises ValueError for what is no step."""
    return {int(name.partition(".")[2]) for name in own if name.startswith(f"{path}.")}


def _read_in(made: Mapping[str, Any], path: str, slack: float, *, queried: bool = True) -> set[int]:
    """Steps in which others read a path; `slack` widens the windows of noise levels, or narrows them."""

    def within(*parts: str) -> set[int]:
        windows = [window for part in parts if (window := made["steering"][part]) is not None]
        levels = enumerate(made["levels"])
        return {i for i, x in levels if any(low - slack <= x <= high + slack for low, high in windows)}

    read, refined = within("share", "refine"), within("refine")
    if path == "sweep1":
        return {step for step in read if refined and step >= min(refined)}
    narrow = path == "plain" and queried and slack < 0  # plain copies ride where queries are asked for, and before
    return read & within("preserve", "flow") if narrow else read


def _digest(tensors: Mapping[str, Tensor], told: Mapping[str, str]) -> str:
    found = hashlib.sha256(json.dumps(dict(sorted(told.items()))).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
