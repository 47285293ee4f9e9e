"""What `engine = "auto"` means: told by a timed render, where there is something to choose."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from blender_scripts.contract import RenderSettings
from posefactory_dagster.compute import engines
from posefactory_dagster.compute.process import gpu_at_hand
from tests.conftest import SAMPLES


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty cache folder, and nothing remembered."""
    monkeypatch.setenv("POSEFACTORY_CACHE", str(tmp_path))
    engines.choose.cache_clear()
    yield tmp_path
    engines.choose.cache_clear()


def test_each_engine_is_timed_or_says_why_not(fresh: Path) -> None:
    """In real Blender: Cycles on the CPU runs everywhere; on a GPU only where there is one."""
    found = engines.time_all(("cycles", "cycles_gpu"))
    assert 0 < found.seconds["cycles"] < 60 and found.engine in found.seconds
    assert set(found.seconds) | set(found.errors) == {"cycles", "cycles_gpu"}
    if not gpu_at_hand():
        assert "finds no GPU" in found.errors["cycles_gpu"]
        assert found.engine == "cycles" and "not usable here: cycles_gpu" in found.why


def test_the_choice_is_kept_per_machine(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a GPU that is only pretended, as there is none here: what was timed once is read the next time."""
    timed = []

    def timing(names: tuple[str, ...]) -> engines.EngineChoice:
        timed.append(names)
        return engines.EngineChoice(engine="cycles_gpu", why="fastest", seconds={"cycles_gpu": 0.1})

    monkeypatch.setattr(engines, "gpu_at_hand", lambda: True)
    monkeypatch.setattr(engines, "time_all", timing)
    assert engines.choose().engine == "cycles_gpu"
    engines.choose.cache_clear()
    assert engines.choose().engine == "cycles_gpu" and len(timed) == 1
    (kept,) = fresh.glob("engine-*.json")
    assert json.loads(kept.read_text())["seconds"] == {"cycles_gpu": 0.1}
    kept.write_text("{")
    engines.choose.cache_clear()
    assert engines.choose().engine == "cycles_gpu" and len(timed) == 2


def test_without_a_gpu_nothing_is_timed(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "gpu_at_hand", lambda: False)
    choice = engines.choose()
    assert choice.engine == "cycles" and "no GPU" in choice.why and not list(fresh.iterdir())


@pytest.mark.skipif(gpu_at_hand(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_told(render: Callable[..., Any]) -> None:
    outcome, _ = render(SAMPLES / "ada_walk.fbx", engine="cycles_gpu")
    assert outcome.error is not None and 'set engine = "auto"' in outcome.error


def test_samples_follow_the_engine() -> None:
    settings = RenderSettings()
    assert settings.resolved().samples == settings.resolved("cycles_gpu").samples == 8
    assert settings.resolved("eevee").samples == 64
