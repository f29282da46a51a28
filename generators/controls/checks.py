"""Checks that control settings have in common: each raises ValueError with the setting, what was expected, what came.

`owner` is the settings' class, `name` the setting.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any


def is_number(value: Any) -> bool:
    """Whether it is a finite number; a bool is none."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def check_share(owner: str, name: str, value: float) -> None:
    """A share of the steps or of the strength: in (0, 1]."""
    if not (is_number(value) and 0 < value <= 1):
        raise ValueError(f"{owner}.{name}: expected a share in (0, 1], got {value}")


def check_more_than_0(owner: str, name: str, value: float) -> None:
    """A finite number above 0."""
    if not (is_number(value) and value > 0):
        raise ValueError(f"{owner}.{name}: expected more than 0, got {value}")


def check_count(owner: str, name: str, value: int, least: int) -> None:
    """A whole number of at least `least`; a bool is none."""
    if not (isinstance(value, Integral) and is_number(value) and value >= least):
        raise ValueError(f"{owner}.{name}: expected a whole number of at least {least}, got {value!r}")


def check_one_of(owner: str, name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """One of the allowed values."""
    if value not in allowed:
        raise ValueError(f"{owner}.{name}: expected one of {', '.join(map(repr, allowed))}, got {value!r}")
