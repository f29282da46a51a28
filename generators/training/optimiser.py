"""Muon: momentum whose matrix updates are made orthogonal, with AdamW for everything that is no matrix.

Jordan et al. 2024; the update is scaled to AdamW's size (Liu et al. 2025, eq. 4), so one learning rate serves both.
On these small nets it needs about half of AdamW's steps, which on a CPU is worth its few matrix products a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_SMALLEST = 8
"""Matrices with a side below this are left to AdamW."""


def orthogonalised(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest matrix with singular values near 1 (about 0.7 to 1.2), by Newton-Schulz. Any (rows, columns)."""
    a, b, c = _NEWTON_SCHULZ
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = wide / (wide.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(a * x, torch.addmm(b * gram, gram, gram, beta=1.0, alpha=c), x)
    turned: Tensor = x.T if matrix.shape[0] > matrix.shape[1] else x
    return turned


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for weight matrices and convolutions (flattened), AdamW for the rest.

    `products` is the type of the matrix products, which need little precision: the update only has to turn the right
    way. `by_adam` and `also_by_adam` name modules and weights that are lookups, inputs or heads.
    """

    def __init__(
        self,
        nets: Iterable[nn.Module],
        *,
        lr: float,
        weight_decay: float,
        products: torch.dtype = torch.float32,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
        by_adam: tuple[type[nn.Module], ...] = (nn.Embedding,),
        also_by_adam: tuple[Tensor, ...] = (),
    ) -> None:
        nets = list(nets)
        others = {id(p) for net in nets for m in net.modules() if isinstance(m, by_adam) for p in m.parameters()}
        others |= {id(p) for p in also_by_adam}
        parameters = [p for net in nets for p in net.parameters()]
        matrices = [p for p in parameters if id(p) not in others and _is_matrix(p)]
        chosen = {id(p) for p in matrices}
        groups: list[dict[str, Any]] = [
            {"params": matrices, "muon": True},
            {"params": [p for p in parameters if id(p) not in chosen], "muon": False},
        ]
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "betas": betas}
        super().__init__(groups, defaults)
        self._products = products

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient. `closure` is not used."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    if group["muon"]:
                        _muon(parameter, parameter.grad, self.state[parameter], group, self._products)
                    else:
                        _adam(parameter, parameter.grad, self.state[parameter], group)


def _is_matrix(parameter: Tensor) -> bool:
    return parameter.dim() >= 2 and min(parameter.shape[0], parameter[0].numel()) >= _SMALLEST


def _muon(
    parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any], products: torch.dtype
) -> None:
    if "momentum" not in state:
        state["momentum"] = torch.zeros_like(parameter)
    state["momentum"].lerp_(gradient, 1 - group["momentum"])
    ahead = gradient.lerp(state["momentum"], group["momentum"]).reshape(len(parameter), -1)
    size = 0.2 * max(ahead.shape) ** 0.5
    update = orthogonalised(ahead.to(products)).to(parameter.dtype)
    parameter.add_(update.reshape(parameter.shape), alpha=-group["lr"] * size)


def _adam(parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if "count" not in state:
        state.update(count=0, first=torch.zeros_like(parameter), second=torch.zeros_like(parameter))
    one, two = group["betas"]
    state["count"] += 1
    state["first"].lerp_(gradient, 1 - one)
    state["second"].lerp_(gradient.square(), 1 - two)
    root = (state["second"] / (1 - two ** state["count"])).sqrt_().add_(1e-8)
    parameter.addcdiv_(state["first"], root, value=-group["lr"] / (1 - one ** state["count"]))
