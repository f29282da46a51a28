"""The place to film in, fresh for every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.archive import DATABASE, Archive
from tests.agents.graph.stage import Studio


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blank")
    Archive(folder).close()
    return folder / DATABASE


@pytest.fixture
def studio(tmp_path: Path, blank: Path) -> Iterator[Studio]:
    made = Studio(folder=tmp_path, blank=blank)
    yield made
    made.archive.close()
