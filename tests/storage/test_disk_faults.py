"""A disk that is full or may not be written: an error with the next step, and nothing half-made."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import SAMPLES, Factory, needs_root


@needs_root
@pytest.mark.parametrize("megabytes", [1, 3])
def test_a_full_disk_says_so_and_a_larger_one_goes_on(
    factory: Factory, small_disk: Callable[[str], Path], megabytes: int
) -> None:
    """One megabyte takes the upload and not its copy; three take it, and not the renders."""
    (factory.root / "posefactory.toml").write_text(
        "[render]\nwidth = 1024\nheight = 1024\nsamples = 1\nengine = 'cycles'\nnum_angles = 2\nframes_per_clip = 2\n"
    )
    store = small_disk(f"size={megabytes}m")
    environment = {"POSEFACTORY_STORE": str(store)}
    factory.cli("characters", "add", str(SAMPLES / "ada_walk.fbx"), "--name", "hero", **environment)
    text = " ".join(factory.cli("run", "hero", expect=1, **environment).split())
    assert "disk is full" in text or "free disk space" in text
    assert "POSEFACTORY_STORE" in text
    assert json.loads(factory.cli("store", "verify", "--json", **environment))["damaged"] == []

    subprocess.run(["mount", "-o", "remount,size=200m", str(store)], check=True)
    done = json.loads(factory.cli("run", "hero", "--json", **environment))
    assert not done["failed"] and not done["trouble"]
    assert json.loads(factory.cli("store", "verify", "--json", **environment))["damaged"] == []


@needs_root
def test_a_read_only_store_says_so(factory: Factory, small_disk: Callable[[str], Path]) -> None:
    store = small_disk("size=50m")
    environment = {"POSEFACTORY_STORE": str(store)}
    factory.cli("characters", "add", str(SAMPLES / "ada_walk.fbx"), "--name", "hero", **environment)
    subprocess.run(["mount", "-o", "remount,ro", str(store)], check=True)
    text = factory.cli("characters", "add", str(SAMPLES / "chen_jack.fbx"), expect=2, **environment)
    assert "cannot be written" in text and "POSEFACTORY_STORE" in text
    text = " ".join(factory.cli("run", "hero", expect=1, **environment).split())
    assert "cannot be written" in text and "POSEFACTORY_STORE" in text
