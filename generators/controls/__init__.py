"""Controls steer the denoiser: settings in `config`, phases in `base`, one file a method.

Importing this package is light: a method's file, and torch with it, is read when a model films with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from generators.controls.config import VSTAR, ControlConfig, Looking, MotionQueries, TempoControl, TSAttn
from generators.controls.storyboarding_config import Storyboarding
from generators.errors import ControlRejected

if TYPE_CHECKING:
    from generators.controls.base import Control, Shot


def _ts_attn(config: Any, shot: Shot) -> Control:
    from generators.controls.ts_attn import TSAttnControl

    return TSAttnControl(config, shot)


def _vstar(config: Any, shot: Shot) -> Control:
    from generators.controls.vstar import VSTARControl

    return VSTARControl(config, shot)


def _tempo_control(config: Any, shot: Shot) -> Control:
    from generators.controls.tempocontrol import TempoSteering

    return TempoSteering(config, shot)


def _motion_queries(config: Any, shot: Shot) -> Control:
    from generators.controls.motion_queries import MotionSteering

    return MotionSteering(config, shot)


def _looking(config: Any, shot: Shot) -> Control:
    from generators.controls.looking import LookingControl

    return LookingControl(config, shot)


def _storyboarding(config: Any, shot: Shot) -> Control:
    from generators.controls.storyboarding import StoryboardSteering

    return StoryboardSteering(config, shot)


CONTROLS: dict[type[ControlConfig], Callable[[Any, Shot], Control]] = {
    TSAttn: _ts_attn,
    VSTAR: _vstar,
    TempoControl: _tempo_control,
    MotionQueries: _motion_queries,
    Storyboarding: _storyboarding,
    Looking: _looking,
}


def build_control(config: ControlConfig, shot: Shot) -> Control:
    """The control that realises these settings on this shot. Raises ControlRejected when it cannot act there."""
    try:
        make = CONTROLS[type(config)]
    except KeyError:
        known = ", ".join(kind.__name__ for kind in CONTROLS)
        raise ControlRejected(f"controls: expected one of {known}, got {type(config).__name__}") from None
    return make(config, shot)
