"""Where a model lies: folders, hub ids that are kept already, and what is refused before weights are read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from generators.backends import BackendConfig, needs_picture, weights_of
from generators.backends.checkpoint import check_checkpoint, is_hub_id, starts_from_picture
from generators.digests import weights_digest
from generators.errors import BackendUnavailable
from generators.models.tiny import tiny_wan

ROOT = Path(__file__).resolve().parents[2]
REVISION = "0123456789" * 4


@pytest.mark.parametrize(
    ("name", "hub"),
    [("Wan-AI/Wan2.1-T2V", True), ("gpt2", True), ("./here", False), ("/a/b", False), ("a/b/c", False), ("~/m", False)],
)
def test_a_hub_id_is_told_from_a_path(name: str, hub: bool) -> None:
    assert is_hub_id(name) == hub


def test_a_folder_that_stands_here_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "me" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not is_hub_id("me/tiny")
    with pytest.raises(BackendUnavailable, match=r"me/tiny is no diffusers pipeline.*model_index\.json"):
        check_checkpoint("me/tiny")


@pytest.mark.parametrize(("kind", "reads"), [("t2v-2.1", False), ("i2v-2.2", True), ("ti2v-2.2", False)])
def test_a_picture_checkpoint_is_known_by_its_channels(tmp_path: Path, kind: str, reads: bool) -> None:
    folder = tiny_wan(kind, tmp_path)  # type: ignore[arg-type]
    assert starts_from_picture(folder) == reads
    assert needs_picture(BackendConfig(kind="local", model=str(folder))) == reads


def test_weights_are_known_of_folders_and_not_of_hub_ids_or_drawings(tmp_path: Path) -> None:
    folder = tiny_wan("world", tmp_path)
    assert weights_of(BackendConfig(kind="local", model=str(folder))) == weights_digest(folder)
    assert weights_of(BackendConfig(kind="local", model="nobody/nothing")) is None
    assert weights_of(BackendConfig(kind="instant")) is None


@pytest.mark.slow
def test_a_hub_id_is_filmed_from_where_the_hubs_client_keeps_it(tmp_path: Path) -> None:
    kept = tmp_path / "hub" / "models--me--tiny"
    folder = tiny_wan("world", kept / "snapshots" / REVISION)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(REVISION)
    shutil.copytree(folder, tmp_path / "plain")
    code = (
        "from generators.backends import BackendConfig, open_backend\n"
        "backend = open_backend(BackendConfig(kind='local', model='me/tiny', device='cpu'))\n"
        "print(backend.name, backend.weights)"
    )
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["me/tiny", weights_digest(tmp_path / "plain")], done.stderr
