"""Loading weights without the libraries' progress bars: they would be drawn over ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quietly(quiet: bool) -> Iterator[None]:
    """Draw no bars meanwhile, where `quiet`: a folder loads in seconds, while a download shows how far it is.

    The libraries' switches are left as they were.
    """
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    both = (diffusers_logging, transformers_logging)
    switches = [switch for switch in both if quiet and switch.is_progress_bar_enabled()]
    for switch in switches:
        switch.disable_progress_bar()
    try:
        yield
    finally:
        for switch in switches:
            switch.enable_progress_bar()
