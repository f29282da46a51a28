"""The SDK's second room: what is done to fabula itself rather than to a story, a file for each trade.

`fabula.py` hands these functions on and loads them when they are first used; nobody else imports them. Like
`fabula.py`, this package composes, and may import all of ours but `fabula.py` itself (docs/decisions/0012).
"""

from __future__ import annotations

_ROOM = {
    "ablations": ("evaluate_cast", "evaluate_extension", "evaluate_retry", "evaluate_steering"),
    "benches": ("bench_controls", "bench_graph", "bench_sampler", "bench_scenes", "bench_world"),
    "calibrating": ("calibrate",),
    "evaluations": ("evaluate", "evaluation_report"),
    "inspecting": ("inspect_attention",),
    "motion": ("evaluate_motion",),
    "training": (
        "distil_world",
        "export_world",
        "import_world",
        "mean_world",
        "train_reader",
        "train_world",
        "train_world_text",
    ),
    "training_scenes": ("SceneWishes", "prepare_scenes", "train_scenes"),
    "worlds": ("evaluate_world",),
}
ROOM = {name: f"workshop.{file}" for file, names in _ROOM.items() for name in names}
"""What `fabula.py` hands on, and where it stands; a new one is named here and under TYPE_CHECKING there."""
