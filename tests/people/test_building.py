"""People as they are built; these tests need the packages of the extra `people`, and run by `make test-people`."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("anny", reason="the extra `people` is not installed; make test-people does it")

from posefactory_dagster.people import anchors, building, garments, pieces
from posefactory_dagster.people.body import BodyModel, topology
from posefactory_dagster.people.documents import MODEL, Person
from posefactory_dagster.people.mesh import triangulate
from posefactory_dagster.people.painting import _template
from posefactory_dagster.people.sampling import complete, population
from posefactory_dagster.people.wardrobe import open_wardrobe
from posefactory_dagster.settings import PROJECT_ROOT, sample_characters

pytestmark = pytest.mark.integration


@pytest.fixture(scope="session")
def model() -> BodyModel:
    return BodyModel()


@pytest.fixture(scope="session")
def built(model: BodyModel) -> list[building.Built]:
    return [building.build(model, p) for p in population(6, 11)]


def test_bodies_have_the_height_and_weight_asked_for(model: BodyModel) -> None:
    for height, weight, gender in ((1.55, 50, "female"), (1.70, 88, "female"), (1.92, 80, "male")):
        person = complete(Person(gender=gender, age=30, height_m=height, weight_kg=weight))
        body, mass = building.shape(model, person)
        assert body.height == pytest.approx(height, abs=0.005)
        assert mass == pytest.approx(weight, rel=0.06)


def test_joints_lie_inside_their_limbs_on_every_body(model: BodyModel) -> None:
    """Independent of how the points were chosen: the skin's cross-section at the joint's height must surround the knee and the hip."""
    for height in (1.5, 1.7, 2.0):
        person = complete(Person(gender="male", age=30, height_m=height))
        body, _ = building.shape(model, person)
        for bone in ("LeftLeg", "RightLeg"):
            knee = body.head(bone)
            near = body.vertices[:13380]
            ring = near[(np.abs(near[:, 2] - knee[2]) < 0.02) & (np.sign(near[:, 0]) == np.sign(knee[0])) & (np.abs(near[:, 0] - knee[0]) < 0.15)]  # fmt: skip
            low, high = ring.min(axis=0), ring.max(axis=0)
            share = (knee - low)[:2] / (high - low)[:2]
            assert (share > 0.25).all() and (share < 0.75).all()


def test_the_shipped_landmarks_are_those_that_would_be_chosen_now(model: BodyModel) -> None:
    landmarks, markers = anchors.points()
    chosen = anchors.build(model)
    mean = model.body({"gender": 0.5, "age": 2 / 3})
    for shipped, new in ((landmarks, chosen["landmarks"]), (markers, chosen["markers"])):
        assert set(shipped) == set(new)
        for name, point in shipped.items():
            assert np.linalg.norm(point.on(mean.vertices) - new[name].on(mean.vertices)) < 1e-3


def test_weights_sum_to_one_and_every_mesh_is_whole(built: list[building.Built]) -> None:
    for one in built:
        for piece in one.pieces:
            assert np.isfinite(piece.vertices).all() and np.isfinite(piece.uvs).all()
            assert np.allclose(piece.weights.sum(axis=1), 1, atol=1e-3), piece.name
            assert piece.triangles.min() >= 0 and piece.triangles.max() < len(piece.vertices)


def test_the_same_description_builds_the_same_file(model: BodyModel, tmp_path: Path) -> None:
    files = []
    for name in "ab":
        building.write(building.build(model, Person(seed=21)), tmp_path / name)
        files.append((tmp_path / name / MODEL).read_bytes())
    assert files[0] == files[1]


def test_every_garment_shoe_and_hair_is_built(model: BodyModel) -> None:
    from posefactory_dagster.people import hair as hairdressing
    from posefactory_dagster.people import painting
    from posefactory_dagster.people.documents import (
        COLOURS,
        EYE_COLOURS,
        GARMENTS,
        HAIR_COLOURS,
        HAIR_STYLES,
        HATS,
        SHOES,
    )

    assert {*garments.CUTS, *garments.SKIRTS} == set(GARMENTS) and set(garments.SHOES) == set(SHOES)
    assert {"bald", *hairdressing.STYLES} == set(HAIR_STYLES)
    for painted, named in ((painting.CLOTH_COLOURS, COLOURS), (painting.EYE_COLOURS, EYE_COLOURS), (painting.HAIR_COLOURS, HAIR_COLOURS)):  # fmt: skip
        assert set(painted) == set(named)
    body, _ = building.shape(model, complete(Person(seed=3)))
    tailor = garments.Tailor(body, np.random.default_rng(0))
    for kind in GARMENTS:
        made = tailor.dress([(kind, "cloth")])
        assert made and all(len(p.triangles) > 100 for p in made), kind
    for kind in SHOES:
        assert min(p.vertices[:, 2].min() for p in tailor.shoes(kind, "a", "b")) < 0, kind
    for kind in HATS:
        assert len(tailor.hat(kind, "wool").triangles) > 100
    for style in HAIR_STYLES:
        from posefactory_dagster.people import hair

        made = hair.hair(hair.Scalp(body), style, "hair", np.random.default_rng(0))
        assert bool(made) == (style != "bald")


def test_pieces_of_makehuman_fit_bodies_of_any_shape(model: BodyModel, tmp_path: Path) -> None:
    pack = PROJECT_ROOT.parent / "shared" / "makehuman" / "base"
    if not pack.is_dir():
        # 74 MB are too much to ship for a test; small made-up packs are tested everywhere.
        pytest.skip("MakeHuman's base pack is not here (../shared/makehuman)")
    found, _ = pieces.find_pieces(pack / "clothes" / "male_casualsuit02", None)
    folder = tmp_path / found[0].facts.name
    folder.mkdir()
    for name, path in found[0].files.items():
        (folder / name).write_bytes(path.read_bytes())
    (folder / pieces.ABOUT_FILE).write_bytes(pieces.about(found[0].facts))
    for height in (1.5, 1.9):
        described = {"gender": "male", "age": 40, "height_m": height, "clothes": [{"piece": found[0].facts.name}], "seed": 2}  # fmt: skip
        one = building.build(model, Person.model_validate(described), open_wardrobe(tmp_path))
        worn = next(p for p in one.pieces if p.name.startswith("piece_"))
        assert worn.covers is not None and worn.covers.sum() > 1000
        # Sleeves end at the wrists and trousers at the ankles of this very body.
        assert abs(worn.vertices[:, 0]).max() == pytest.approx(abs(one.body.head("LeftHand")[0]), abs=0.08)  # fmt: skip
        assert building.facts(one, 0).licences == {worn.name: "CC0-1.0"}


def test_a_piece_that_is_not_in_the_wardrobe_is_told(model: BodyModel) -> None:
    with pytest.raises(ValueError, match="no piece 'cape'"):
        building.build(model, Person.model_validate({"clothes": [{"piece": "cape"}]}))


def test_a_bad_person_fails_alone(tmp_path: Path) -> None:
    people: list[dict[str, Any]] = [
        {"key": "bad", "person": {"clothes": [{"piece": "cape"}]}, "folder": str(tmp_path / "bad")},
        {"key": "good", "person": {"seed": 4}, "folder": str(tmp_path / "good")},
    ]
    job = {"people": people, "wardrobe": None, "events": str(tmp_path / "events")}
    (tmp_path / "job.json").write_text(json.dumps(job))
    assert building.main(tmp_path / "job.json") == 1
    events = [json.loads(x) for x in (tmp_path / "events").read_text().splitlines()]
    assert "cape" in events[0]["error"] and events[1]["facts"]["triangles"] > 10_000


def test_samples_are_built_from_the_descriptions_that_ship() -> None:
    for path in sample_characters():
        name = path.stem.partition("_")[0]
        text = (PROJECT_ROOT / "assets_data" / "people" / f"{name}.yaml").read_text()
        wanted = complete(Person.model_validate(yaml.safe_load(text)))
        data = path.read_bytes()
        document = json.loads(data[20 : 20 + struct.unpack_from("<I", data, 12)[0]])
        said = document["asset"]["extras"]["posefactory"]["person"]
        assert Person.model_validate(said) == wanted


def test_faces_of_the_mesh_look_outwards() -> None:
    """Landmarks count as facing by this."""
    model_vertices = _template()
    faces = triangulate(topology().faces["body"])
    a, b, c = (model_vertices[faces[:, i]] for i in range(3))
    assert float(np.einsum("ij,ij->", a, np.cross(b, c))) > 0
