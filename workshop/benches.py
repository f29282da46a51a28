"""Measuring fabula, from Python: what stands around the model, the sampler, and the bundled model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from agents.errors import UsageError
from agents.order import check_sampling

if TYPE_CHECKING:
    from evals.benchmarks.cost_rows import ControlRow
    from evals.benchmarks.graph import GraphRow
    from evals.benchmarks.sampler import SamplerRow
    from evals.benchmarks.scene_rows import SceneRow
    from evals.benchmarks.world import WorldRow
    from evals.rows import Row


def bench_graph(shots: Sequence[int], repeats: int, on_row: Callable[[GraphRow], None] | None = None) -> list[GraphRow]:
    """Seconds and bytes of everything around the model, for stories of so many shots."""
    from evals.benchmarks.graph import measure

    with TemporaryDirectory() as folder:
        return measure(Path(folder), shots, repeats, on_row)


def bench_sampler() -> list[SamplerRow]:
    """FLOPs and peak bytes of a denoising step over those of the stock pipelines."""
    from evals.benchmarks.sampler import measure

    return measure()


def bench_controls(pairs: int = 7, on_row: Callable[[ControlRow], None] | None = None) -> list[ControlRow]:
    """What each control costs over the same work without it, in time, FLOPs and bytes."""
    from evals.benchmarks.control_costs import measure_all

    return measure_all(pairs=pairs, on_row=on_row)


def bench_scenes(on_row: Callable[[SceneRow], None] | None = None) -> list[SceneRow]:
    """What steering across shots costs over plain clips."""
    from evals.benchmarks.scene_costs import measure

    return measure(on_row=on_row)


def bench_world(
    model: Path | None = None,
    *,
    cases: int = 96,
    out: Path | None = None,
    stock: bool = False,
    splits: Sequence[str] = ("both",),
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    lora: Sequence[str] = (),
    on_row: Callable[[Row], None] | None = None,
) -> list[WorldRow]:
    """Scores of a puppet-world model on cases kept from training; goes on where `out` (bench/world) stopped.

    Another `seed` draws other cases. `stock` films with diffusers alone and its own steps and guidance instead of our
    sampler and profile. Steps and guidance may be named for either, and adapters (`PATH` or `PATH@SCALE`) put on top.
    """
    if cases < 1:
        raise UsageError(f"bench world: expected at least 1 case, got {cases}")
    check_sampling(steps, guidance)
    from evals.benchmarks.cameras import open_camera
    from evals.benchmarks.world import bench_world as bench
    from evals.world.splits import SPLITS, SplitName

    named: list[SplitName] = [split for split in SPLITS if split in splits]
    if unknown := sorted(set(splits) - set(named)):
        raise UsageError(f"bench world: expected splits of {', '.join(SPLITS)}; got {', '.join(unknown)}")
    camera = open_camera(model, stock=stock, steps=steps, guidance=guidance, lora=lora)
    folder = out or Path("bench", "world")
    return bench(
        camera.generate,
        camera.roundtrip,
        folder,
        model=camera.name,
        cases=cases,
        splits=named,
        seed=seed,
        on_row=on_row,
    )
