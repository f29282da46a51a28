"""A small 3-D convolutional network that names what a clip of the world shows; its features compare crowds of films.

What I3D, taught on Kinetics, is to FVD: the mean activations before the last layer (Unterthiner et al., arXiv
1812.01717), of a network taught to name the puppets, hues, place, time and events of rendered clips
(`reader_training`). No score of a single film is read with it. B clips, T frames, D features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from evals.metrics.frame_indices import linspace_end
from evals.metrics.score import NotMeasured
from generators.clip import Frames
from generators.world.script import Script
from generators.world.words import HUES, KINDS, PLACES, PROPS, TIMES, VERBS

WEIGHTS = Path(__file__).parent / "weights" / "reader.safetensors"
FRAMES = 16
"""Frames of a clip that it is shown, evenly spaced."""
WIDTHS = (16, 40, 96, 128)
SETS: Mapping[str, tuple[str, ...]] = {"kinds": KINDS, "hues": tuple(HUES), "props": PROPS, "verbs": tuple(VERBS)}
"""Of each any number may be in a clip."""
CHOICES: Mapping[str, tuple[str, ...]] = {
    "place": PLACES,
    "time": TIMES,
    "first verb": tuple(VERBS),
    "last verb": tuple(VERBS),
}
"""Of each there is one."""


class Reader(nn.Module):
    """Convolutions 3 x 3 x 3 that halve space four times and time thrice, a mean over the rest, one linear layer."""

    def __init__(self, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for stage, width in enumerate(widths):
            layers += _convolution(before, width, (1 if stage == 0 else 2, 2, 2))
            if stage >= 2:  # small by now: a second one costs little
                layers += _convolution(width, width, (1, 1, 1))
            before = width
        self.body = nn.Sequential(*layers)
        self.names = nn.ModuleDict(
            {name: nn.Linear(before, len(words)) for name, words in {**SETS, **CHOICES}.items()},
        )

    def features(self, frames_BTCHW: Tensor) -> Tensor:
        """(B, D) of uint8 frames (B, T, 3, H, W)."""
        maps_BDTHW: Tensor = self.body(frames_BTCHW.transpose(1, 2) / 127.5 - 1)
        return maps_BDTHW.mean((2, 3, 4))

    def forward(self, frames_BTCHW: Tensor) -> dict[str, Tensor]:
        """Logits (B, words) of every question."""
        features = self.features(frames_BTCHW)
        return {name: layer(features) for name, layer in self.names.items()}


def _convolution(before: int, width: int, stride: tuple[int, int, int]) -> list[nn.Module]:
    return [nn.Conv3d(before, width, 3, stride, 1), nn.BatchNorm3d(width), nn.SiLU()]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What is right: for sets 0 or 1 a word (B, words), for choices an index (B,)."""

    sets: Mapping[str, Tensor]
    choices: Mapping[str, Tensor]


def answers(scripts: Sequence[Script]) -> Answers:
    """What a reader should say of these scripts' clips."""
    in_order = [sorted(script.events, key=lambda event: event.start) for script in scripts]
    there = {
        "kinds": [{actor.kind for actor in script.actors} for script in scripts],
        "hues": [{actor.hue for actor in script.actors} for script in scripts],
        "props": [{prop.kind for prop in script.props} for script in scripts],
        "verbs": [{event.verb for event in events} for events in in_order],
    }
    one = {
        "place": [script.place for script in scripts],
        "time": [script.time for script in scripts],
        "first verb": [events[0].verb for events in in_order],
        "last verb": [events[-1].verb for events in in_order],
    }
    return Answers(
        sets={
            name: torch.tensor([[float(word in found) for word in SETS[name]] for found in rows])
            for name, rows in there.items()
        },
        choices={name: torch.tensor([CHOICES[name].index(word) for word in rows]) for name, rows in one.items()},
    )


def shown(frames: Frames) -> Tensor:
    """The frames of a clip (T, H, W, 3) that a reader sees: uint8 (FRAMES, 3, H, W)."""
    picked = np.ascontiguousarray(frames[linspace_end(len(frames), FRAMES)].transpose(0, 3, 1, 2))
    return torch.from_numpy(picked)


class WorldReader:
    """The trained network as an encoder of clips; `name` holds the digest of its weights."""

    def __init__(self, network: Reader, digest: str) -> None:
        self.network = network.eval()
        self.name = f"world reader {digest[:8]}"

    def embed_clip(self, frames: Frames) -> NDArray[np.float64]:
        """Frames (T, 64, 96, 3) uint8 RGB to features (D,)."""
        with torch.no_grad():
            features: NDArray[np.float64] = self.network.features(shown(frames)[None])[0].double().numpy()
        return features


def open_reader(path: Path = WEIGHTS) -> WorldReader | NotMeasured:
    """The reader that comes with the program; where its file is missing or is another network's, what to do."""
    try:
        with safe_open(path, framework="pt") as opened:
            about = json.loads((opened.metadata() or {})["reader"])
            state = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        network = Reader(about["widths"])
        network.load_state_dict(state)
    except FileNotFoundError:
        return NotMeasured(reason=f"missing weights: {path}; `python main.py train reader` makes them")
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        return NotMeasured(reason=f"{path} is not this reader's weights ({str(error).splitlines()[0]}): train it anew")
    return WorldReader(network, hashlib.sha256(path.read_bytes()).hexdigest())


def packed(network: Reader, about: Mapping[str, Any]) -> bytes:
    """The network's file: half precision, what it was taught and how well it does beside it."""
    widths = [layer.out_channels for layer in network.body if isinstance(layer, nn.Conv3d) and max(layer.stride) > 1]
    state = {name: _halved(tensor) for name, tensor in network.state_dict().items()}
    written: bytes = save(state, metadata={"reader": json.dumps({"widths": widths} | dict(about), sort_keys=True)})
    return written


def _halved(tensor: Tensor) -> Tensor:
    """In half precision; counts stay whole."""
    return (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
