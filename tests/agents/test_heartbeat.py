"""Who holds something says so while it works, and no longer."""

from __future__ import annotations

import asyncio

import pytest

from agents.heartbeat import heartbeat
from storage.errors import DiskError, RunBusy


async def test_it_beats_while_the_block_runs_through_passing_trouble_until_it_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agents.heartbeat.HEARTBEAT", 0.001)
    troubles: list[Exception | None] = [None, DiskError("busy"), None]
    beats = 0
    lost = asyncio.Event()

    def beat() -> None:
        nonlocal beats
        beats += 1
        if beats > len(troubles):
            lost.set()
            raise RunBusy("another has it")
        if (trouble := troubles[beats - 1]) is not None:
            raise trouble

    async with heartbeat(beat):
        await asyncio.wait_for(lost.wait(), 30)
        await asyncio.sleep(0.05)
    assert beats == 4

    counted: list[int] = []
    async with heartbeat(lambda: counted.append(1)):
        await asyncio.sleep(0.05)
    then = len(counted)
    assert then > 0
    await asyncio.sleep(0.05)
    assert len(counted) == then
