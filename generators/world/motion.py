"""Where everybody is in every frame: a script played out on the stage.

Pure arithmetic on numpy arrays, one row a frame; the renderer draws these states and the truth is read from them.
Lengths are pixels, y grows downwards, angles are radians.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from generators.world.script import Script, ScriptEvent
from generators.world.words import FPS, WIDTH

Track = NDArray[np.float64]

GROUND = 56.0
"""Where feet stand."""
TALL = 24.0
"""A puppet's nominal height at scale 1."""
STRIDE = (24.0, 36.0)
"""How far a walk goes, by how much room there is."""
JUMP, FLOAT, HOP = 17.0, 20.0, 26.0
GROWN, SHRUNK = 1.5, 0.58
SWAY = 5.0
TOUCH = 17.0
"""Distance between two puppets, centre to centre, that stand side by side."""
REACH = 13.0
"""Distance from a puppet's centre to a prop it pushes."""
OFF_LEFT, OFF_RIGHT = -14.0, WIDTH + 14.0
LEFT_MOST, RIGHT_MOST = 12.0, WIDTH - 12.0


@dataclass(kw_only=True)
class Puppet:
    """One actor's states, a value a frame."""

    x: Track
    y: Track
    """Height above the ground."""
    scale: Track
    turn: Track
    """Width factor of a spin, 1 at rest; negative shows the mirrored side."""
    tilt: Track
    faces: Track
    alpha: Track
    step: Track
    """Phase of the legs, 0 or 1."""


@dataclass(kw_only=True)
class Stage:
    """All states of one clip."""

    puppets: list[Puppet]
    prop_x: list[Track] = field(default_factory=list)
    prop_y: list[Track] = field(default_factory=list)
    """Height of a prop's foot above the ground."""


def play(script: Script) -> Stage:
    """Act the script out, event by event, in the order of their starts."""
    stage = _before(script)
    for event in sorted(script.events, key=lambda e: e.start):
        _ACTS[event.verb](script, stage, event)
    return stage


def _before(script: Script) -> Stage:
    frames = script.frames
    still = np.ones(frames)
    puppets = []
    for index, actor in enumerate(script.actors):
        first = next((e for e in sorted(script.events, key=lambda e: e.start) if e.actor == index), None)
        waits = first is not None and first.verb == "enter"
        x = (OFF_LEFT if first is not None and first.side == "left" else OFF_RIGHT) if waits else actor.x
        puppets.append(
            Puppet(
                x=still * x, y=still * 0, scale=still.copy(), turn=still.copy(), tilt=still * 0,
                faces=still * actor.faces, alpha=still.copy(), step=still * 0,
            )
        )  # fmt: skip
    return Stage(
        puppets=puppets,
        prop_x=[still * prop.x for prop in script.props],
        prop_y=[still * 0 for _ in script.props],
    )


def _progress(script: Script, event: ScriptEvent) -> Track:
    """0 before the event, 1 after it, linear between, sampled at the frames' times."""
    times = np.arange(script.frames) / FPS
    return np.clip((times - event.start) / (event.end - event.start), 0.0, 1.0)


def _ease(u: Track) -> Track:
    return u * u * (3 - 2 * u)


def _during(u: Track) -> NDArray[np.bool_]:
    return (u > 0) & (u < 1)


def _from_now(u: Track) -> NDArray[np.bool_]:
    return u > 0


def _go(puppet: Puppet, u: Track, to: float) -> None:
    """Move on foot: the legs step, the body bobs a pixel, the face looks where it goes."""
    start = puppet.x[int(np.argmax(_from_now(u)))]
    puppet.x[:] = np.where(_from_now(u), start + (to - start) * _ease(u), puppet.x)
    puppet.faces[_from_now(u)] = 1 if to > start else -1
    walking = _during(u)
    phase = np.arange(len(u)) // 2 % 2
    puppet.step[walking] = phase[walking]
    puppet.y[walking] += phase[walking] * 1.0


def _sign(side: str | None) -> int:
    return 1 if side == "right" else -1


def stride(x: float, side: str) -> float:
    """How far a walk from `x` goes to that side; less than the shortest stride means there is no room."""
    room = RIGHT_MOST - x if side == "right" else x - LEFT_MOST
    return min(room, STRIDE[1])


def _walk(script: Script, stage: Stage, event: ScriptEvent) -> None:
    puppet, u = stage.puppets[event.actor], _progress(script, event)
    x = puppet.x[int(np.argmax(_from_now(u)))]
    _go(puppet, u, x + _sign(event.side) * stride(x, event.side or "left"))
    _carry(stage, event, u)


def _enter(script: Script, stage: Stage, event: ScriptEvent) -> None:
    _go(stage.puppets[event.actor], _progress(script, event), script.actors[event.actor].x)


def _leave(script: Script, stage: Stage, event: ScriptEvent) -> None:
    u = _progress(script, event)
    _go(stage.puppets[event.actor], u, OFF_RIGHT if event.side == "right" else OFF_LEFT)
    _carry(stage, event, u)


def _jump(script: Script, stage: Stage, event: ScriptEvent) -> None:
    puppet, u = stage.puppets[event.actor], _progress(script, event)
    puppet.y += JUMP * 4 * u * (1 - u)
    _carry(stage, event, u)


def _spin(script: Script, stage: Stage, event: ScriptEvent) -> None:
    turns = max(1, round((event.end - event.start) / 1.4))
    u = _ease(_progress(script, event))
    stage.puppets[event.actor].turn *= np.cos(2 * np.pi * turns * u)


def _resize(script: Script, stage: Stage, event: ScriptEvent) -> None:
    target = GROWN if event.verb == "grow" else SHRUNK
    stage.puppets[event.actor].scale *= 1 + (target - 1) * _ease(_progress(script, event))


def _dance(script: Script, stage: Stage, event: ScriptEvent) -> None:
    puppet, u = stage.puppets[event.actor], _progress(script, event)
    beats = max(2, round((event.end - event.start) / 0.9))
    wave = np.sin(2 * np.pi * beats * u) * _during(u)
    puppet.x += SWAY * wave
    puppet.tilt += 0.22 * wave


def _lie_down(script: Script, stage: Stage, event: ScriptEvent) -> None:
    puppet, u = stage.puppets[event.actor], _ease(_progress(script, event))
    puppet.tilt += np.pi / 2 * u * puppet.faces


def _float(script: Script, stage: Stage, event: ScriptEvent) -> None:
    puppet, u = stage.puppets[event.actor], _progress(script, event)
    puppet.y += FLOAT * _ease(u)
    _carry(stage, event, u)


def _vanish(script: Script, stage: Stage, event: ScriptEvent) -> None:
    stage.puppets[event.actor].alpha *= 1 - _ease(_progress(script, event))


def _push(script: Script, stage: Stage, event: ScriptEvent) -> None:
    assert event.prop is not None
    puppet, u, things = stage.puppets[event.actor], _progress(script, event), stage.prop_x[event.prop]
    begin = int(np.argmax(_from_now(u)))
    x, thing = puppet.x[begin], things[begin]
    side = "right" if thing > x else "left"
    far = stride(thing, side)
    _go(puppet, u, x + _sign(side) * far)
    things[:] = np.where(_from_now(u), thing + _sign(side) * far * _ease(u), things)


def _lift(script: Script, stage: Stage, event: ScriptEvent) -> None:
    assert event.prop is not None
    puppet, u = stage.puppets[event.actor], _progress(script, event)
    begin = int(np.argmax(_from_now(u)))
    start, rise = stage.prop_x[event.prop][begin], _ease(u)
    arc = np.clip(2 * u - 1, 0, 1)  # straight up first, then over the head
    over = start + (puppet.x - start) * _ease(arc)
    stage.prop_x[event.prop][:] = np.where(_from_now(u), over, stage.prop_x[event.prop])
    held = puppet.y + puppet.scale * TALL
    stage.prop_y[event.prop][:] = np.where(_from_now(u), held * rise, stage.prop_y[event.prop])


def _carry(stage: Stage, event: ScriptEvent, u: Track) -> None:
    """A prop held over the head follows its holder from now on."""
    puppet = stage.puppets[event.actor]
    begin = max(int(np.argmax(_from_now(u))) - 1, 0)
    for x, y in zip(stage.prop_x, stage.prop_y, strict=True):
        if y[begin] > TALL * 0.5 and abs(x[begin] - puppet.x[begin]) < 3:
            now = _from_now(u)
            x[now] = puppet.x[now]
            y[now] = (puppet.y + puppet.scale * TALL)[now]


def _approach(script: Script, stage: Stage, event: ScriptEvent) -> None:
    assert event.other is not None
    puppet, u = stage.puppets[event.actor], _progress(script, event)
    begin = int(np.argmax(_from_now(u)))
    other = stage.puppets[event.other].x[begin]
    _go(puppet, u, other + np.copysign(TOUCH, puppet.x[begin] - other))


def _chase(script: Script, stage: Stage, event: ScriptEvent) -> None:
    assert event.other is not None
    hunter, prey, u = stage.puppets[event.actor], stage.puppets[event.other], _progress(script, event)
    begin = int(np.argmax(_from_now(u)))
    side = "right" if prey.x[begin] > hunter.x[begin] else "left"
    far = stride(prey.x[begin], side)
    _go(prey, u, prey.x[begin] + _sign(side) * far)
    _go(hunter, u, hunter.x[begin] + _sign(side) * far)


def _hop_over(script: Script, stage: Stage, event: ScriptEvent) -> None:
    assert event.other is not None
    puppet, u = stage.puppets[event.actor], _progress(script, event)
    begin = int(np.argmax(_from_now(u)))
    x, other = puppet.x[begin], stage.puppets[event.other].x[begin]
    puppet.x[:] = np.where(_from_now(u), x + 2 * (other - x) * u, puppet.x)
    puppet.y += HOP * 4 * u * (1 - u)
    puppet.faces[_from_now(u)] = 1 if other > x else -1


_ACTS = {
    "walk": _walk, "enter": _enter, "leave": _leave, "jump": _jump, "spin": _spin, "grow": _resize, "shrink": _resize,
    "dance": _dance, "lie_down": _lie_down, "float": _float, "vanish": _vanish, "push": _push, "lift": _lift,
    "approach": _approach, "chase": _chase, "hop_over": _hop_over,
}  # fmt: skip
