"""Settings of the controls: frozen, validated, no torch, so that agents can choose them and requests can carry them.

Each class here is realised by one file beside it (`TSAttn` by `ts_attn.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class ControlConfig:
    """Base of all control settings; a request carries a tuple of them."""


def _share(owner: str, name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"{owner}.{name}: expected a share in (0, 1], got {value}")


def _one_of(owner: str, name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{owner}.{name}: expected one of {', '.join(map(repr, allowed))}, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class TSAttn(ControlConfig):
    """Temporal-wise separable attention (arXiv 2604.19473): every row hears its own event, not the others.

    The defaults are the released code with its row offset fixed, every subject acting, and intervals that begin and
    end with latent frames. Events with an empty subject steer every row.
    """

    steps: float = 0.2
    """Share of the denoising steps, from the first; at least one step acts."""
    strength: float = 1.0
    """Factor on the bias; 1 is the paper, whose bias is measured from each row's own logits."""
    preset: Literal["default"] = "default"
    probe: Literal["raw", "normed"] = "raw"
    """Queries and keys that regions and statistics are read from: before or after the attention's own norm."""
    layers: Literal["odd", "all"] = "odd"
    """Cross-attentions that are steered: of every other block, or of all."""
    subject_tokens: bool = True
    """Whether a region is drawn to its subject's own words too."""
    region: bool = True
    """Whether only the subject's region is steered, instead of every row."""

    def __post_init__(self) -> None:
        _share("TSAttn", "steps", self.steps)
        if not self.strength > 0:
            raise ValueError(f"TSAttn.strength: expected more than 0, got {self.strength}")
        _one_of("TSAttn", "preset", self.preset, ("default",))
        _one_of("TSAttn", "probe", self.probe, ("raw", "normed"))
        _one_of("TSAttn", "layers", self.layers, ("odd", "all"))
