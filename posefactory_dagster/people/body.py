"""The parametric human body: vertices, joints and skin weights of a person, by the package `anny`.

The body mesh is MakeHuman's `hm08` with its helper geometry (19,158 vertices, CC0). World frame: metres, z up, the person faces
-y and stands on z = 0; the rest pose is an A-pose. `anny` needs torch and takes a minute at its first use, and a few seconds
later; it is imported here alone.
"""

from __future__ import annotations

import functools
import io
import logging
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

#: Mean density of a human body, kg/m³ (W. E. Siri, 1961: fat 900, the rest 1,100; a body of 20 to 25 % fat).
DENSITY = 1050.0
#: Influences of a vertex in glTF's first set of joints.
INFLUENCES = 4
#: Groups of helper geometry, by the names that `base.obj` gives them.
TIGHTS, SKIRT, HAIR = "helper-tights", "helper-skirt", "helper-hair"
BODY_VERTICES = 13380
#: Local changes that make a body heavier than the phenotype of weight does, each at most.
FAT_CHANGES = {
    "l-upperarm-fat-incr": 1.0, "r-upperarm-fat-incr": 1.0, "l-lowerarm-fat-incr": 0.6, "r-lowerarm-fat-incr": 0.6,
    "l-upperleg-fat-incr": 1.0, "r-upperleg-fat-incr": 1.0, "l-lowerleg-fat-incr": 0.7, "r-lowerleg-fat-incr": 0.7,
    "buttocks-volume-incr": 0.7, "measure-waist-circ-incr": 0.9, "measure-hips-circ-incr": 0.8, "measure-bust-circ-incr": 0.6,
    "measure-underbust-circ-incr": 0.6, "head-fat-incr": 0.8, "neck-double-incr": 0.6, "measure-neck-circ-incr": 0.5,
    "stomach-tone-incr": -0.8,
}  # fmt: skip
#: Of a bisection for height or weight.
SOLVE_STEPS = 14


@dataclass(frozen=True)
class Topology:
    """The mesh that all bodies share.

    Attributes:
        faces: (F, 4) vertex indices by group of `base.obj`; triangles repeat their last corner.
        face_uvs: (F, 4) texture coordinate indices, for the same faces.
        uvs: (T, 2) texture coordinates, v upwards.
    """

    faces: Mapping[str, np.ndarray]
    face_uvs: Mapping[str, np.ndarray]
    uvs: np.ndarray


@dataclass(frozen=True)
class Body:
    """A person without clothes, in the rest pose.

    Attributes:
        vertices: (19158, 3) with helpers.
        bones: names with Mixamo's prefix, parents before children; ``parents`` (B,), -1 for the root.
        heads, tails: (B, 3) where bones begin and end.
        joints, weights: (19158, 4) bone indices and weights of each vertex, which sum to 1.
    """

    vertices: np.ndarray
    bones: tuple[str, ...]
    parents: np.ndarray
    heads: np.ndarray
    tails: np.ndarray
    joints: np.ndarray
    weights: np.ndarray

    def head(self, bone: str) -> np.ndarray:
        """(3,) where a bone begins; its name without prefix."""
        return self.heads[self.bones.index(f"mixamorig:{bone}")]

    @property
    def height(self) -> float:
        """Metres, barefoot."""
        return float(np.ptp(self.vertices[:BODY_VERTICES, 2]))

    @property
    def dense_weights(self) -> np.ndarray:
        """(19158, B) weights by bone."""
        dense = np.zeros((len(self.vertices), len(self.bones)))
        np.put_along_axis(dense, self.joints, self.weights, axis=1)
        return dense


class BodyModel:
    """`anny`'s model, read once: from phenotypes to bodies."""

    def __init__(self) -> None:
        # Warp greets on standard output, and anny logs where its cache is.
        logging.getLogger("anny").setLevel(logging.ERROR)
        with redirect_stdout(io.StringIO()):
            import anny
            import torch

            torch.set_num_threads(2)
            self._model = anny.Anny(
                rig="mixamo", topology="makehuman", phenotypes="all", phenotype_blendshapes="original", local_changes="all"
            )  # fmt: skip
            self._torch = torch
        model = self._model
        self.local_changes: tuple[str, ...] = tuple(model.local_change_labels)
        count = len(model.template_vertices)
        shapes = model.blendshapes.numpy().reshape(len(model.blendshapes), -1)
        self._shapes = shapes.astype(np.float32)
        # The model's own copy is twice as large, and is not asked again.
        model.blendshapes = model.blendshapes[:0]
        self._template = model.template_vertices.numpy()
        self._heads = (model.template_bone_heads.numpy(), model.bone_heads_blendshapes.numpy())
        self._tails = (model.template_bone_tails.numpy(), model.bone_tails_blendshapes.numpy())
        self.bones = tuple(model.bone_labels)
        self.parents = np.array([-1 if p is None else int(p) for p in model.bone_parents])
        indices, weights = model.vertex_bone_indices.numpy(), model.vertex_bone_weights.numpy()
        best = np.argsort(-weights, axis=1, kind="stable")[:, :INFLUENCES]
        self._joints = np.take_along_axis(indices, best, axis=1)
        kept = np.take_along_axis(weights, best, axis=1)
        self._joints[kept <= 0] = 0
        self._weights = kept / kept.sum(axis=1, keepdims=True)
        assert count == 19158, "anny's mesh is not hm08 any more"

    def body(
        self, phenotypes: Mapping[str, float], local_changes: Mapping[str, float] | None = None
    ) -> Body:
        """The body of phenotypes.

        Args:
            phenotypes: anny's, each 0 to 1: gender (0 male), age, muscle, weight, height, proportions, cupsize, firmness,
                african, asian, caucasian.
            local_changes: -1 to 1 by name in ``local_changes``.
        """
        coefficients = self._coefficients(phenotypes, local_changes or {})
        vertices = self._vertices(coefficients)
        heads, tails = (t + np.einsum("k,kbi->bi", coefficients, b) for t, b in (self._heads, self._tails))  # fmt: skip
        floor = np.array((0.0, 0.0, vertices[:BODY_VERTICES, 2].min()))
        return Body(
            vertices - floor, self.bones, self.parents, heads - floor, tails - floor, self._joints, self._weights
        )  # fmt: skip

    def solve(
        self,
        phenotypes: Mapping[str, float],
        local_changes: Mapping[str, float],
        height_m: float | None,
        weight_kg: float | None,
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Phenotypes and local changes whose height and weight are those asked for, as near as the model reaches.

        Bisections, in turn. `anny`'s own weight ends at a body mass index of about 24; beyond it ``FAT_CHANGES`` add to it, up to
        about 33.
        """
        found, changes = dict(phenotypes), dict(local_changes)
        for _ in range(2 if height_m is not None and weight_kg is not None else 1):
            if weight_kg is not None:
                low, high = 0.0, 2.0
                for _ in range(SOLVE_STEPS):
                    middle = (low + high) / 2
                    found["weight"] = min(middle, 1.0)
                    changes = _fatter(local_changes, max(middle - 1.0, 0.0))
                    if self._mass(self._vertices(self._coefficients(found, changes))) < weight_kg:
                        low = middle
                    else:
                        high = middle
            if height_m is not None:
                low, high = 0.0, 1.0
                for _ in range(SOLVE_STEPS):
                    found["height"] = (low + high) / 2
                    if self._height(self._vertices(self._coefficients(found, changes))) < height_m:
                        low = found["height"]
                    else:
                        high = found["height"]
        return found, changes

    def anny_age(self, years: float) -> float:
        """anny's age (-1/3 newborn, 0 baby, 1/3 child, 2/3 young, 1 old) of a number of years, by its own calibration with WHO data."""
        with redirect_stdout(io.StringIO()):
            mapping = self._age_mapping()
            age = mapping.morphological_to_anny_age(
                self._torch.tensor([years], dtype=self._torch.float64)
            )
        return float(age[0])

    @functools.cache  # noqa: B019  (one model lives as long as the process)
    def _age_mapping(self) -> Any:
        from anny.shape_distribution import SimpleShapeDistribution

        return SimpleShapeDistribution(self._model).morphological_age_mapping

    def _coefficients(
        self, phenotypes: Mapping[str, float], changes: Mapping[str, float]
    ) -> np.ndarray:
        found = self._model.get_phenotype_blendshape_coefficients(
            **phenotypes, local_changes=dict(changes)
        )
        return found[0].numpy()

    def _vertices(self, coefficients: np.ndarray) -> np.ndarray:
        used = np.flatnonzero(np.abs(coefficients) > 1e-9)
        moved = coefficients[used].astype(np.float32) @ self._shapes[used]
        return self._template + moved.reshape(-1, 3)

    @staticmethod
    def _height(vertices: np.ndarray) -> float:
        return float(np.ptp(vertices[:BODY_VERTICES, 2]))

    @staticmethod
    def _mass(vertices: np.ndarray) -> float:
        return DENSITY * volume(vertices)

    def mass(self, body: Body) -> float:
        """Kilograms, by the volume of the skin."""
        return self._mass(body.vertices)

    def moved_by(self, change: str) -> np.ndarray:
        """(19158,) how far each vertex moves by a full local change, metres: where on the mesh it works."""
        index = self.local_changes.index(change)
        count = len(self._shapes) - 2 * len(self.local_changes)
        return np.linalg.norm(self._shapes[count + 2 * index].reshape(-1, 3), axis=1)


def _fatter(changes: Mapping[str, float], share: float) -> dict[str, float]:
    """Local changes with a share of ``FAT_CHANGES`` added, each within -1 and 1."""
    total = dict(changes)
    for name, most in FAT_CHANGES.items():
        total[name] = float(np.clip(total.get(name, 0.0) + share * most, -1.0, 1.0))
    return total


def volume(vertices: np.ndarray) -> float:
    """Volume inside the skin, m³: the sum of signed tetrahedra (19158 vertices of a body)."""
    faces = topology().faces["body"]
    a, b, c, d = (vertices[faces[:, i]] for i in range(4))
    signed = np.einsum("ij,ij->", a, np.cross(b, c)) + np.einsum("ij,ij->", a, np.cross(c, d))
    return abs(float(signed)) / 6


@functools.cache
def data_folder() -> Path:
    """The folder of MakeHuman's data (CC0) inside the package `anny`."""
    import importlib.util

    spec = importlib.util.find_spec("anny")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("people are built by the package anny: pip install 'posefactory-dagster[people]'")  # fmt: skip
    return Path(spec.origin).parent / "data" / "mpfb2"


@functools.cache
def topology() -> Topology:
    """The shared mesh, from `base.obj`; groups of joints are left out."""
    faces: dict[str, list[list[int]]] = {}
    uvs_of: dict[str, list[list[int]]] = {}
    uvs, group = [], ""
    with (data_folder() / "3dobjs" / "base.obj").open(encoding="utf-8") as file:
        for line in file:
            words = line.split()
            if not words:
                continue
            if words[0] == "g":
                group = words[1]
            elif words[0] == "vt":
                uvs.append((float(words[1]), float(words[2])))
            elif words[0] == "f" and not group.startswith("joint"):
                corners = [tuple(int(x) - 1 for x in w.split("/")[:2]) for w in words[1:]]
                corners += corners[-1:] * (4 - len(corners))
                faces.setdefault(group, []).append([c[0] for c in corners])
                uvs_of.setdefault(group, []).append([c[1] for c in corners])
    return Topology(
        {g: np.array(f) for g, f in faces.items()},
        {g: np.array(f) for g, f in uvs_of.items()},
        np.array(uvs),
    )
