"""Build people: from a description to a dressed, rigged model file.

Runs in a process of its own, as the body model brings torch: ``python -m posefactory_dagster.people.building JOB`` reads a list of
people and writes a folder for each; what it says goes to the file that the job names, a JSON line for each person.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from posefactory_dagster.people import anchors, garments, gltf, hair, painting
from posefactory_dagster.people.body import BODY_VERTICES, Body, BodyModel, topology
from posefactory_dagster.people.documents import DESCRIPTION, MODEL, Person, PersonFacts
from posefactory_dagster.people.mesh import Piece, split_at_seams, triangulate, vertex_normals
from posefactory_dagster.people.pieces import PieceFacts
from posefactory_dagster.people.sampling import complete
from posefactory_dagster.people.wardrobe import open_wardrobe
from posefactory_dagster.people.wardrobe import read as read_piece

#: Pieces by name, each with its folder.
Wardrobe = Mapping[str, tuple[PieceFacts, Path]]

#: anny's muscle by build, 0 to 1.
MUSCLE = {"slim": 0.42, "average": 0.5, "athletic": 0.78, "stocky": 0.62, "heavy": 0.45}
#: Local changes of faces and bodies that differ from person to person, with the deviation of each, of anny's 1.
FACE_CHANGES = {
    "head-scale-horiz-incr": 0.25, "head-scale-vert-incr": 0.15, "head-fat-incr": 0.25, "forehead-scale-vert-incr": 0.25,
    "chin-width-incr": 0.3, "chin-height-incr": 0.25, "chin-prominent-incr": 0.25, "chin-bones-incr": 0.3,
    "nose-scale-vert-incr": 0.25, "nose-scale-horiz-incr": 0.25, "nose-scale-depth-incr": 0.25, "nose-hump-incr": 0.3,
    "nose-point-up": 0.25, "nose-width2-incr": 0.3, "mouth-scale-horiz-incr": 0.25, "mouth-upperlip-volume-incr": 0.35,
    "mouth-lowerlip-volume-incr": 0.35, "eyebrows-trans-up": 0.25, "eyebrows-angle-up": 0.3, "torso-scale-horiz-incr": 0.15,
    "hip-scale-horiz-incr": 0.15, "measure-neck-circ-incr": 0.15,
}  # fmt: skip
PAIRED_CHANGES = {
    "cheek-bones-incr": 0.3, "cheek-volume-incr": 0.3, "eye-scale-incr": 0.2, "eye-height2-incr": 0.2, "ear-scale-incr": 0.3,
    "eye-trans-out": 0.15,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Built:
    """A person in pieces, before it is written.

    ``bare`` is the body without clothes, whose skin lies below them; ``person`` the description with everything drawn.
    """

    person: Person
    body: Body
    pieces: list[Piece]
    materials: dict[str, gltf.Material]
    anchors: Piece
    about: dict[str, Any]
    mass_kg: float


def shape(model: BodyModel, person: Person) -> tuple[Body, float]:
    """The body of a completed description, and its mass in kilograms."""
    assert person.age is not None and person.gender is not None and person.body_type is not None
    chance = np.random.default_rng([person.seed, 2])
    lean = float(chance.normal())
    phenotypes: dict[str, float] = {
        "gender": (1.0 if person.gender == "female" else 0.0) * 0.94 + 0.03,
        "age": float(np.clip(model.anny_age(person.age), 0.05, 1.0)),
        "muscle": float(np.clip(MUSCLE[person.body_type] + 0.08 * lean, 0.1, 0.95)),
        "weight": {"slim": 0.3, "average": 0.5, "athletic": 0.45, "stocky": 0.62, "heavy": 0.85}[person.body_type],
        "height": float(np.clip(0.5 + 0.08 * chance.normal(), 0.2, 0.8)),
        "proportions": float(np.clip(0.62 + 0.15 * chance.normal(), 0.2, 1.0)),
        "cupsize": float(np.clip(0.5 + 0.2 * chance.normal(), 0.1, 0.9)) if person.age >= 16 else 0.3,
        "firmness": float(np.clip(0.65 + 0.1 * chance.normal() - 0.006 * max(person.age - 40, 0), 0.2, 0.9)),
        **_ancestry(person, chance),
        **{str(n): v for n, v in person.phenotypes.items()},
    }  # fmt: skip
    changes = {n: float(np.clip(s * chance.normal(), -0.8, 0.8)) for n, s in FACE_CHANGES.items()}
    for name, spread in PAIRED_CHANGES.items():
        value = float(np.clip(spread * chance.normal(), -0.8, 0.8))
        for side in ("l", "r"):
            changes[f"{side}-{name}"] = value
    phenotypes, changes = model.solve(phenotypes, changes, person.height_m, person.weight_kg)
    body = model.body(phenotypes, changes)
    return anchors.with_joints_inside(body), model.mass(body)


def _ancestry(person: Person, chance: np.random.Generator) -> dict[str, float]:
    names = ("african", "asian", "caucasian")
    if person.ethnicity == "mixed":
        shares = chance.dirichlet((1.5, 1.5, 1.5))
    else:
        shares = 0.12 * chance.dirichlet((1, 1, 1))
        shares[names.index(person.ethnicity or "caucasian")] += 0.88
    return dict(zip(names, map(float, shares), strict=True))


def build(model: BodyModel, description: Person, wardrobe: Wardrobe | None = None) -> Built:
    """A person of a description.

    Args:
        wardrobe: the user's pieces by name, see ``wardrobe.open_wardrobe``.

    Raises:
        ValueError: a piece of the wardrobe cannot be worn.
    """
    person = complete(description)
    body, mass = shape(model, person)
    chance = np.random.default_rng([person.seed, 3])
    materials = _materials(person, chance)
    tailor = garments.Tailor(body, chance)
    scalp = hair.Scalp(body)
    own = [g for g in person.clothes or () if g.kind is not None]
    pieces = tailor.dress([(str(g.kind), f"cloth_{i}") for i, g in enumerate(own)])
    if person.shoes is not None and person.shoes.kind is not None:
        pieces += tailor.shoes(person.shoes.kind, "shoes", "soles")
    if person.hat is not None:
        pieces.append(tailor.hat(person.hat.kind, "hat"))
    pieces += _from_wardrobe(person, body, wardrobe or {}, materials)
    if person.hair.style is not None:
        pieces += hair.hair(scalp, person.hair.style, "hair", chance, hat=person.hat is not None)
    pieces += [hair.brows(scalp, "brows", chance), hair.lashes(scalp, "lashes"), *_eyes(body)]
    pieces.append(_skin(body, tailor.dense, pieces))
    sunk = -min(0.0, min(float(p.vertices[:, 2].min()) for p in pieces if p.role == "shoes")) if any(p.role == "shoes" for p in pieces) else 0.0  # fmt: skip
    body, pieces = _raised(body, pieces, sunk)
    points, where = anchors.piece(body, tailor.dense)
    about = {
        "person": person.model_dump(mode="json", exclude_none=True),
        "anchors": json.dumps(where, separators=(",", ":")),
    }
    return Built(person, body, pieces, materials, points, about, mass)


def _raised(body: Body, pieces: list[Piece], height: float) -> tuple[Body, list[Piece]]:
    """Everything higher by the thickness of the soles, so that these stand on z = 0."""
    up = np.array((0.0, 0.0, height))
    moved = dataclasses.replace(
        body, vertices=body.vertices + up, heads=body.heads + up, tails=body.tails + up
    )
    return moved, [dataclasses.replace(p, vertices=p.vertices + up) for p in pieces]


def _materials(person: Person, chance: np.random.Generator) -> dict[str, gltf.Material]:
    tone, hair_colour = person.skin.tone, painting.HAIR_COLOURS[person.hair.colour or "brown"]
    assert tone is not None and person.age is not None
    look = painting.SkinLook(
        tone, person.age, 1.0 if person.gender == "female" else 0.0, person.skin.freckles or 0.0, person.skin.ruddiness or 0.0,
        person.skin.lipstick or 0.0, person.skin.stubble or 0.0, hair_colour,
    )  # fmt: skip
    colour, normal = painting.skin(look, chance)
    made = {
        "skin": gltf.Material(colour, normal, 0.52, subsurface=0.12, normal_scale=0.5),
        "eyes": gltf.Material(painting.iris(painting.EYE_COLOURS[person.eyes or "brown"], chance), roughness=0.12),
        "hair": gltf.Material(painting.hair(hair_colour, chance, person.hair.grey or 0.0), roughness=0.45),
        "brows": gltf.Material(painting.hair(hair_colour, chance, 0.5 * (person.hair.grey or 0.0)), roughness=0.6),
        "lashes": gltf.Material((18, 14, 12), roughness=0.6),
    }  # fmt: skip
    for number, worn in enumerate(g for g in person.clothes or () if g.kind is not None):
        one = painting.CLOTH_COLOURS[worn.colour or "grey"]
        two = painting.CLOTH_COLOURS[worn.second_colour or "white"]
        made[f"cloth_{number}"] = gltf.Material(*painting.fabric(worn.pattern or "plain", one, two, chance))  # fmt: skip
    if person.shoes is not None and person.shoes.kind is not None:
        upper = painting.CLOTH_COLOURS[person.shoes.colour or "white"]
        colour, normal, rough = painting.fabric("leather" if person.shoes.kind in ("shoes", "boots", "flats") else "plain", upper, upper, chance)  # fmt: skip
        made["shoes"] = gltf.Material(colour, normal, rough)
        dark = person.shoes.kind in ("shoes", "boots", "flats")
        made["soles"] = gltf.Material((38, 34, 32) if dark else (206, 204, 198), roughness=0.8)
    if person.hat is not None:
        wool = painting.CLOTH_COLOURS[person.hat.colour or "charcoal"]
        made["hat"] = gltf.Material(*painting.fabric("knit" if person.hat.kind == "beanie" else "plain", wool, wool, chance))  # fmt: skip
    return made


def _from_wardrobe(person: Person, body: Body, wardrobe: Wardrobe, materials: dict[str, gltf.Material]) -> list[Piece]:  # fmt: skip
    names = [g.piece for g in person.clothes or () if g.piece]
    names += [n for n in (person.shoes and person.shoes.piece, person.hair.piece) if n]
    pieces = []
    for name in names:
        if name not in wardrobe:
            known = ", ".join(sorted(wardrobe)) or "none"
            raise ValueError(f"the wardrobe has no piece {name!r}; it has: {known}")
        piece, material = read_piece(*wardrobe[name]).fitted(body)
        pieces.append(piece)
        materials[piece.material] = material
    return pieces


def _eyes(body: Body) -> list[Piece]:
    """The eyeballs of the helper geometry, textured from the front."""
    index = [b.removeprefix("mixamorig:") for b in body.bones].index("Head")
    pieces = []
    for side in ("l", "r"):
        faces = triangulate(topology().faces[f"helper-{side}-eye"])
        used, inverse = np.unique(faces, return_inverse=True)
        points = body.vertices[used]
        centre = (points.min(axis=0) + points.max(axis=0)) / 2
        radius = np.ptp(points[:, 0]) / 2
        uvs = 0.5 + np.column_stack([points[:, 0] - centre[0], centre[2] - points[:, 2]]) / (2 * radius)  # fmt: skip
        weights = np.zeros((len(points), len(body.bones)))
        weights[:, index] = 1.0
        pieces.append(Piece(f"eye_{side}", "eyes", "eyes", points, inverse.reshape(-1, 3), uvs, weights))  # fmt: skip
    return pieces


def _skin(body: Body, dense: np.ndarray, worn: list[Piece]) -> Piece:
    """The skin, without what clothes hide."""
    hidden = np.zeros(len(body.vertices), bool)
    for piece in worn:
        if piece.covers is not None:
            hidden |= piece.covers
    faces = triangulate(topology().faces["body"])
    shown = ~hidden[faces].all(axis=1)
    uvs = topology().uvs[painting.triangulate_uvs()] * (1, -1) + (0, 1)
    triangles, old, split = split_at_seams(faces[shown], uvs[shown])
    normals = vertex_normals(body.vertices, faces)[old]
    return Piece("body", "body", "skin", body.vertices[old], triangles, split, dense[old], None, normals)  # fmt: skip


def write(built: Built, folder: Path, clip: gltf.Clip | None = None) -> None:
    """The model and its description, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    gltf.write(
        folder / MODEL, built.body, built.pieces, built.materials, built.anchors, built.about, clip
    )
    said = built.person.model_dump(mode="json", exclude_none=True)
    (folder / DESCRIPTION).write_text(yaml.safe_dump(said, sort_keys=False), "utf-8")


def facts(built: Built, seconds: float) -> PersonFacts:
    """The numbers of a built person."""
    person = built.person
    foreign = {p.name: p.licence for p in built.pieces if p.source != "own work"}
    attribution = sorted({p.source for p in built.pieces if p.source != "own work"})
    return PersonFacts(
        height_m=round(float(np.ptp(built.body.vertices[:BODY_VERTICES, 2])), 4), mass_kg=round(built.mass_kg, 1), age=person.age or 0,
        gender=person.gender or "", skin_tone=person.skin.tone or 0, triangles=sum(len(p.triangles) for p in built.pieces),
        seconds=round(seconds, 2), licences=foreign, attribution=attribution,
    )  # fmt: skip


def main(job: Path) -> int:
    """Build each person of a job document: ``{"people": [{"key", "person", "folder"}], "wardrobe": folder or null, "events": file}``."""
    document = json.loads(job.read_text("utf-8"))
    wardrobe = open_wardrobe(Path(document["wardrobe"])) if document.get("wardrobe") else {}
    failed = 0
    with Path(document["events"]).open("a", encoding="utf-8", buffering=1) as events:
        model = BodyModel()
        for entry in document["people"]:
            started = time.perf_counter()
            event: dict[str, Any] = {"key": entry["key"]}
            try:
                built = build(model, Person.model_validate(entry["person"]), wardrobe)
                write(built, Path(entry["folder"]))
                event["facts"] = facts(built, time.perf_counter() - started).model_dump()
            except (ValueError, OSError) as error:
                failed += 1
                event["error"] = f"{entry['key']}: {error}"
            events.write(json.dumps(event) + "\n")
            gc.collect()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
