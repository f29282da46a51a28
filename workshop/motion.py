"""Motion transfer measured from Python: how motion and identity trade against one another over the injected share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.errors import UsageError

if TYPE_CHECKING:
    from evals.suite import Progress, Result


@dataclass(frozen=True, kw_only=True)
class MotionOutcome:
    """Tables of all arms, the rendered ceiling last, and the curve over the share as a picture and a table."""

    results: tuple[Result, ...]
    picture: Path
    table: Path


def evaluate_motion(
    shares: Sequence[float] = (),
    *,
    cases: int = 48,
    profile: str = "bundled",
    model: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    weights: Path | None = None,
    encoders: Mapping[str, str] | None = None,
    out: Path | None = None,
    on_progress: Callable[[str, Progress], None] | None = None,
) -> MotionOutcome:
    """Film clips of the puppet world with the motion of others in each share of the steps, or go on with it.

    No `shares` are 0 to 1 in eight steps; 0, the plain clip, is always among them. `weights` is a folder of encoders,
    before which `encoders` names folders or hub ids of single ones. Raises UsageError for a backend that does not film
    the world or cannot give motion, and for an encoder that nobody knows.
    """
    from agents.casting import backend_config, profile_for
    from agents.order import Order
    from evals.benchmarks.cameras import through
    from evals.benchmarks.motion import SHARES, AskedFootage, Motion, MotionSettings, share_footage
    from evals.benchmarks.motion_curve import write_trade_off
    from evals.benchmarks.steering import run_arms
    from generators.backends import open_backend
    from generators.backends.local import LocalBackend
    from workshop.evaluations import RESULTS, weights_in

    looking = weights_in(weights, encoders or {})
    wanted = sorted({0.0, *(shares or SHARES)})
    with closing(open_backend(backend_config(profile_for(Order(story="", steps=steps), profile, model)))) as backend:
        if not isinstance(backend, LocalBackend) or not backend.limits.moves:
            raise UsageError(f"eval motion: {backend.name} cannot give a shot the motion of a clip")
        film = {"weights": backend.weights, "steps": backend.steps, "guidance": backend.guidance}
        try:
            benchmark = Motion(MotionSettings(cases=cases, seed=seed, film=film), looking.open("dino_vitb16"))
            footages = [share_footage(benchmark, backend, share) for share in wanted]
        except ValueError as error:
            raise UsageError(f"eval motion: {error}") from error
        opened: Any = backend.model
        ceiling = AskedFootage(benchmark=benchmark, roundtrip=through(opened.pipe.vae))
        results = run_arms(benchmark, [*footages, ceiling], out or RESULTS, seed, on_progress)
    by_name = {result.manifest.method: result for result in results}
    picture, table = write_trade_off(
        {share: by_name[footage.name] for share, footage in zip(wanted, footages, strict=True)},
        (out or RESULTS) / benchmark.name,
    )
    return MotionOutcome(results=tuple(results), picture=picture, table=table)
