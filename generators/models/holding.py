"""What every family does alike while it is filmed with: one holder at a time, and processors that come off again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from diffusers.hooks.first_block_cache import FirstBlockCacheConfig

from generators.errors import ControlRejected

if TYPE_CHECKING:
    from generators.controls.base import Run


class OneHolder:
    """Lets one run at a time hold a model."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the one holder; raises RuntimeError when there is another."""
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(f"{self.name} is already being filmed with; one model has one holder at a time")
        try:
            yield
        finally:
            self._lock.release()


def check_steerable(network: Any, what: str, run: Run | None = None) -> None:
    """Raise ControlRejected for a network whose blocks may be skipped, split or out of reach; `what` says for whom.

    A FirstBlockCache is let through for the controls of a `run` that make no passes of their own: what it keeps is
    thrown away in every step in which one acts, and then it skips nothing. Other caches count steps, and would be lost.
    """
    if getattr(network, "is_cache_enabled", False):
        lost = [what] if run is None else [c.name for c in run.everyone if c.probes or c.makes_passes]
        if run is None or lost or not isinstance(network._cache_config, FirstBlockCacheConfig):
            raise ControlRejected(
                f"{(lost or [what])[0]} needs every block of every pass, and a diffusers cache skips some; call "
                "disable_cache() first, or use a FirstBlockCache, which TS-Attn, VSTAR and Storyboarding film with"
            )
        run.on_steered_step.append(network._reset_stateful_cache)
    if getattr(network, "_parallel_config", None) is not None:
        raise ControlRejected(f"{what} needs whole clips, which context parallelism splits; load the model without it")
    if hasattr(network, "_orig_mod"):
        raise ControlRejected(
            f"{what} takes hold of blocks while they run, and torch.compile(network) wraps them all in one; compile "
            "in place instead: network.compile_repeated_blocks() or network.compile()"
        )


def replace_processors(
    replacements: Iterable[tuple[Any, Callable[[Any], Any]]], networks: Iterable[Any] = ()
) -> Callable[[], None]:
    """Put new processors into attention modules, each made from the one it replaces.

    The call returned puts the former ones back; so does a failure half way. What is compiled of the `networks` that
    the modules belong to runs compiled where the new processors are at rest, and as it is written where one acts. What
    their caches kept of other clips is thrown away, then and now, as the stock pipelines do after each of theirs.
    """
    networks = list(networks)
    _empty_caches(networks)
    replaced: list[_Replaced] = []
    undo: list[Callable[[], None]] = [partial(_empty_caches, networks)]

    def detach() -> None:
        while undo:
            undo.pop()()

    try:
        for module, make in replacements:
            former = module.processor
            undo.append(partial(module.set_processor, former))
            new = make(former)
            module.set_processor(new)
            replaced.append(_Replaced(module, former, new))
        for part in _compiled(networks):
            inside = set(part.modules())
            own = [one for one in replaced if one.module in inside]
            if own:
                undo.append(partial(setattr, part, "_compiled_call_impl", part._compiled_call_impl))
                part._compiled_call_impl = _CompiledAtRest(part, own)
    except BaseException:
        detach()
        raise
    return detach


class _Replaced(NamedTuple):
    """An attention module with the processor it had and the one it has."""

    module: Any
    former: Any
    new: Any

    @property
    def rests(self) -> bool:
        """Whether the new processor would do nothing but call the former one; one without a run always acts."""
        run = getattr(self.new, "run", None)
        return run is not None and not run.acting(self.new.site)


class _CompiledAtRest:
    """Stands for the compiled call of a module while processors in it are replaced.

    Compiled code reads which control acts as a constant, and would be compiled anew in every step.
    """

    def __init__(self, part: Any, replaced: Sequence[_Replaced]) -> None:
        self.part = part
        self.compiled: Callable[..., Any] = part._compiled_call_impl
        self.replaced = replaced

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not all(one.rests for one in self.replaced):
            return self.part._call_impl(*args, **kwargs)
        try:
            for one in self.replaced:
                one.module.set_processor(one.former)
            return self.compiled(*args, **kwargs)
        finally:
            for one in self.replaced:
                one.module.set_processor(one.new)


def _empty_caches(networks: Iterable[Any]) -> None:
    for network in networks:
        if getattr(network, "is_cache_enabled", False):
            network._reset_stateful_cache()


def _compiled(networks: Iterable[Any]) -> list[Any]:
    """Modules that were compiled in place, whole networks or blocks of them."""
    return [part for network in networks for part in network.modules() if part._compiled_call_impl is not None]
