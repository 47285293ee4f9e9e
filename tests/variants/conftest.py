"""A store with one rendered person, and a batch to make variants with, without Dagster."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blender_scripts.contract import RenderSettings, character_task
from posefactory_dagster.budget.ledger import Budget
from posefactory_dagster.compute.job import new_job
from posefactory_dagster.compute.process import run_job
from posefactory_dagster.quality import model
from posefactory_dagster.quality.gate import Gate, open_landmarkers
from posefactory_dagster.quality.landmarker import Landmarkers
from posefactory_dagster.settings import GateSettings, VariantSettings
from posefactory_dagster.storage.opening import open_store
from posefactory_dagster.storage.sets import CommittedSets, SetRef
from posefactory_dagster.variants.batch import Batch, plan
from posefactory_dagster.variants.documents import Style, Variant
from posefactory_dagster.variants.enhancers.opening import open_enhancer
from posefactory_dagster.variants.render_views import RenderViews
from tests.conftest import SAMPLES
from tests.rented import rented  # noqa: F401  (a fixture)
from tests.stability_simulator import StabilitySimulator, stability

#: Large enough for MediaPipe to be right about the front views.
LOOK = RenderSettings(num_angles=4, frames_per_clip=1, width=384, height=384, samples=4, engine="cycles")  # fmt: skip


@pytest.fixture(scope="session")
def rendered_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the committed renders of one person, rendered once for all tests."""
    place = tmp_path_factory.mktemp("people")
    task = character_task("ada", str(SAMPLES / "ada_walk.fbx"), str(place / "out"))
    outcome = run_job(new_job("render", [task], LOOK), place)["ada"]
    assert outcome.error is None
    document = json.loads((place / "out" / "truth.json").read_text())
    sets = CommittedSets(open_store(str(place / "store")))
    ref = SetRef("multi_angle_renders", "ada", "made-for-tests")
    facts = {"images": len(document["images"]), "frames": document["frames"], "views": 4}
    sets.commit(ref, place / "out", inputs={"sets": [], "skin_sha256": "0"}, settings=dataclasses.asdict(LOOK), facts=facts)  # fmt: skip
    sets.publish(ref)
    return place / "store"


@pytest.fixture
def sets(rendered_once: Path, tmp_path: Path) -> CommittedSets:
    """A store of a test's own with these renders."""
    shutil.copytree(rendered_once, tmp_path / "store")
    return CommittedSets(open_store(str(tmp_path / "store")))


@pytest.fixture
def render_views(sets: CommittedSets) -> RenderViews:
    """The person's render_views: az_000 is the front."""
    renders = sets.current("multi_angle_renders", "ada")
    assert renders is not None
    return RenderViews.of(renders)


@pytest.fixture(scope="session")
def landmarkers() -> Iterator[Landmarkers]:
    """The gate's, opened once."""
    with open_landmarkers(model.model_path(), 0.5) as opened:
        yield opened


@pytest.fixture
def gate(landmarkers: Landmarkers) -> Gate:
    """A gate with the shipped thresholds."""
    return Gate(landmarkers, GateSettings())


@pytest.fixture
def simulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[StabilitySimulator]:
    """Stability AI, here."""
    with stability() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


Make = Callable[..., list[Variant]]


@pytest.fixture
def make(sets: CommittedSets, render_views: RenderViews, gate: Gate) -> Make:
    """Make the variants of a style: ``make(style, views=…, **settings)``."""

    def work(
        style: Style,
        views: tuple[str, ...] = ("az_000",),
        goes_on: Callable[[str], bool] = lambda run_id: False,
        **settings: object,
    ) -> list[Variant]:
        values = VariantSettings(**settings)  # type: ignore[arg-type]
        budget = Budget(sets.store, values.max_cost_per_job, values.max_cost_per_day, "run-1")
        with contextlib.closing(open_enhancer(style)) as enhancer:
            enhancers = {style.name: enhancer}
            batch = Batch(sets.store, gate, enhancers, values, budget, "run-1", goes_on)
            names = [i.view for i in render_views.truth.images]
            items = [
                i for i in plan("ada", render_views, [style], enhancers) if names[i.index] in views
            ]
            return batch.make("ada", render_views, items, lambda done, total: None)

    return work


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny image models of both families, a folder each; needs the extra `diffusers`."""
    from tests.variants.tiny_models import build_all

    root = tmp_path_factory.mktemp("models")
    build_all(root)
    return root
