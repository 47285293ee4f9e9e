"""Audits: a controlled set that is really rendered, and models whose figures are known beforehand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from blender_scripts.contract import COCO_KEYPOINTS, LANDMARKS
from posefactory_dagster.audits import controlled, measuring
from posefactory_dagster.audits.controlled import BASE, Body
from posefactory_dagster.renders import looks
from posefactory_dagster.renders.documents import read_truth
from posefactory_dagster.settings import sample_characters
from posefactory_dagster.storage.sets import CommittedSet
from tests.conftest import Factory

SMALL = """
base: {environment: {ambient: 1.0}, variants: 1, cameras: {kind: ring, elevation_degrees: 5}}
attributes:
  elevation: {title: elevation of the camera, levels: {5°: null, 60°: {cameras: {elevation_degrees: 60}}}}
people: {title: people in the picture, levels: {"1": 1, "2": 2}}
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small controlled set of two sample people, and the factory that holds it."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("audit")
    (folder / "small.yaml").write_text(SMALL)
    patch.setattr(controlled, "DOCUMENT", folder / "small.yaml")
    patch.setattr(controlled, "VIEWS", 8)  # whose views have names of their own
    patch.setattr(controlled, "LEVEL_VIEWS", 2)
    patch.setattr(controlled, "FRAMES", 1)
    factory = Factory(folder / "factory")
    bodies = [Body(p.stem, {"skin": p}) for p in sample_characters()[:2]]
    told: list[float] = []
    made = controlled.render(factory.sets, bodies, 96, lambda share, key: told.append(share))
    assert told == sorted(told) and told[-1] == 1.0
    yield factory, bodies, made
    patch.undo()


class Oracle:
    """Knows the truth of the controlled set, and may be made to err: ``away`` pixels to the right."""

    needs_boxes = True

    def __init__(self, made: list[CommittedSet], away: float = 0.0) -> None:
        self._known: dict[bytes, list[tuple[np.ndarray, np.ndarray]]] = {}
        coco = [LANDMARKS.index(n) for n in COCO_KEYPOINTS]
        for committed in made:
            truth = read_truth(committed)
            for index, record in enumerate(truth.images):
                image = np.asarray(Image.open(committed.path(f"images/{record.file}")).convert("RGB"))  # fmt: skip
                rows = list(truth.rows_of(index))
                self._known[image.tobytes()] = list(zip(truth.arrays["bbox"][rows], truth.arrays["pixels"][rows][:, coco], strict=True))  # fmt: skip
        self._away = away

    def people(self, image: np.ndarray, boxes: np.ndarray) -> list[np.ndarray]:
        found = []
        for box in boxes:
            points = min(self._known[image.tobytes()], key=lambda k: float(np.abs(k[0] - box).sum()))[1]  # fmt: skip
            found.append(np.column_stack([points + (self._away, 0), np.ones(17)]))
        return found[::-1]  # in any order


class Blind:
    """Sees nobody."""

    needs_boxes = False

    def people(self, image: np.ndarray, boxes: np.ndarray) -> list[np.ndarray]:
        return []


def test_levels_differ_from_the_base_in_one_attribute_and_are_looks(monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    found = controlled.levels()
    assert len({v.attribute for v in found}) >= 9
    document = yaml.safe_load(controlled.DOCUMENT.read_text())
    for level in found:
        looks.Look.model_validate({"about": "x", **level.document})
        if level.look == BASE:
            assert level.document == document["base"]
    names = [v.look for v in found if v.look != BASE]
    assert len(names) == len(set(names)) and all(n.replace("_", "").isalnum() for n in names)
    # Each attribute has the base to compare with, but for the distance, whose camera stands elsewhere.
    assert {v.attribute for v in found} - {v.attribute for v in found if v.look == BASE} == {"distance"}  # fmt: skip


def test_a_model_that_knows_the_truth_has_no_fault(small: Any) -> None:
    _, _, made = small
    rows = measuring.measure(Oracle(made), made, lambda done, total: None)
    # Two people in eight views and two at the other level; both together in two views.
    assert len(rows) == 2 * 8 + 2 * 2 + 2 * 2 and rows["detected"].all()
    assert rows["oks"].to_numpy() == pytest.approx(1.0) and rows["pck"].dropna().to_numpy() == pytest.approx(1.0)  # fmt: skip
    figures = measuring.by_attribute(rows, {b: {"body": b} for b in ("ada_walk", "bruno_squat")})
    assert set(figures["attribute"]) == {"elevation of the camera", "people in the picture", "view", "body"}  # fmt: skip
    people = dict(zip(figures["value"], figures["people"], strict=True))
    assert people["60°"] == people["5°"] == 4 and people["2"] == 4 and people["ada_walk"] == 8


def test_intervals_hold_the_mean_and_a_blind_model_scores_nothing(small: Any) -> None:
    _, _, made = small
    figures = measuring.by_attribute(measuring.measure(Oracle(made, away=4.0), made, lambda *_: None), {})  # fmt: skip
    assert (figures["oks_low"] <= figures["oks"]).all() and (figures["oks"] <= figures["oks_high"]).all()  # fmt: skip
    assert (figures["oks"] < 0.95).all() and (figures["oks_high"] > figures["oks_low"]).any()
    blind = measuring.by_attribute(measuring.measure(Blind(), made, lambda *_: None), {})
    assert (blind[["detected", "oks", "pck"]] == 0).all(axis=None)


def test_what_is_rendered_is_not_rendered_again(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    factory, bodies, made = small
    monkeypatch.setattr(controlled, "run_job", None)
    assert [c.ref for c in controlled.render(factory.sets, bodies, 96, lambda *_: None)] == [c.ref for c in made]  # fmt: skip
    assert factory.sets.collect_garbage(0.0, dry_run=True)[0] == []


def test_the_command_compares_models_on_a_page(small: Any, tmp_path: Path) -> None:
    """In this process, as the small set is patched into it."""
    factory, _, _ = small
    from typer.testing import CliRunner

    from posefactory_dagster.cli.app import app

    blind = tmp_path / "blind.py"
    blind.write_text("class Blind:\n    needs_boxes = False\n    def people(self, image, boxes):\n        return []\n")  # fmt: skip
    patch = pytest.MonkeyPatch()
    for name, value in factory.environment.items():
        patch.setenv(name, value)
    patch.setattr("posefactory_dagster.audits.cli.sample_characters", lambda: sample_characters()[:2])  # fmt: skip
    try:
        done = CliRunner().invoke(app, ["audit", "blazepose", f"{blind}:Blind", "--size", "96", "--to", str(tmp_path / "out")])  # fmt: skip
    finally:
        patch.undo()
    assert done.exit_code == 0, done.output
    figures = pd.read_csv(tmp_path / "out" / "figures.csv")
    assert set(figures["model"]) == {"blazepose", "blind.py_Blind"}
    assert (figures.loc[figures["model"] == "blind.py_Blind", "pck"] == 0).all()
    assert figures.loc[figures["model"] == "blazepose", "pck"].max() > 0.5
    page = (tmp_path / "out" / "audit.html").read_text()
    assert "not found" in page and "http" not in page.replace("http-equiv", "")
    assert len(pd.read_parquet(tmp_path / "out" / "people_blazepose.parquet")) == 24


def test_what_cannot_be_audited_is_told_so(factory: Factory, tmp_path: Path) -> None:
    assert "no such file" in factory.cli("audit", str(tmp_path / "gone.onnx"), expect=2)
    assert "no character is made of it yet" in factory.cli("audit", "blazepose", "--characters", "nobody", expect=2)  # fmt: skip
    said = json.loads(factory.cli("audit", "blazepose", "blazepose", "--json", expect=2))
    assert "the same name" in said["error"]


def test_worst_images_are_of_many_looks_and_those_first_where_a_model_does_well() -> None:
    rows = pd.DataFrame(
        [
            {"set": "s", "file": f"{look}{n}.png", "person": 0, "persons": 1, "look": look, "visible": 1.0, "oks": oks}
            for look, found in {"hard": (0.0, 0.0, 0.0), "easy": (0.9, 0.9, 0.0), "fair": (0.6, 0.5, 0.4)}.items()
            for n, oks in enumerate(found)
        ]
    )  # fmt: skip
    shown = measuring.worst(rows, 2)
    assert shown["file"].tolist() == ["easy2.png", "fair2.png"]
    rows.loc[rows["file"] == "easy2.png", "visible"] = 0.3  # too little is seen of who it is
    assert measuring.worst(rows, 3)["file"].tolist()[0] == "fair2.png"
