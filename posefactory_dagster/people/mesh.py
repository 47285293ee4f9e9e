"""Pieces of a person as triangle meshes in numpy, and what is done to them: cut, refine, smooth, thicken, unwrap.

World frame of the body's rest pose: metres, z up, the person faces -y. V vertices, T triangles, B bones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import trimesh
from scipy.spatial import cKDTree

#: Values that are carried along: one row for each vertex.
Fields = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Shell:
    """A surface while it is worked on.

    Attributes:
        vertices: (V, 3). triangles: (T, 3).
        fields: arrays (V, …) that are interpolated wherever vertices are added: weights, distances along limbs.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    fields: Fields

    def with_vertices(self, vertices: np.ndarray) -> Shell:
        """The same surface elsewhere."""
        return dataclasses.replace(self, vertices=vertices)

    def normals(self) -> np.ndarray:
        """(V, 3) unit normals, weighted by area."""
        return vertex_normals(self.vertices, self.triangles)


@dataclass(frozen=True)
class Piece:
    """A finished piece of a person.

    Attributes:
        name: of its mesh. role: body, eyes, lashes, brows, hair, garment or shoes.
        material: the name of its material.
        vertices: (V, 3). triangles: (T, 3), counter-clockwise from outside. uvs: (V, 2), v downwards as glTF has it.
        weights: (V, B).
        covers: (19158,) bool, vertices of the body that it hides.
        licence, source: of a piece that comes from elsewhere.
    """

    name: str
    role: str
    material: str
    vertices: np.ndarray
    triangles: np.ndarray
    uvs: np.ndarray
    weights: np.ndarray
    covers: np.ndarray | None = None
    normals: np.ndarray | None = None
    licence: str = "CC0-1.0"
    source: str = field(default="own work")


def triangulate(faces: np.ndarray) -> np.ndarray:
    """(T, 3) triangles of (F, 4) faces whose last corner may be repeated."""
    first, second = faces[:, :3], faces[:, [0, 2, 3]]
    return np.concatenate([first, second[faces[:, 2] != faces[:, 3]]])


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(V, 3) unit normals, each the sum of its triangles' normals weighted by area."""
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    total = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(total, triangles[:, corner], normals)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)


def compact(shell: Shell) -> Shell:
    """Without vertices that no triangle uses."""
    used, inverse = np.unique(shell.triangles, return_inverse=True)
    return Shell(
        shell.vertices[used], inverse.reshape(-1, 3), {n: v[used] for n, v in shell.fields.items()}
    )


def refine(shell: Shell, times: int = 1) -> Shell:
    """Each triangle divided into four, ``times`` times."""
    for _ in range(times):
        columns = {n: v.reshape(len(v), -1) for n, v in shell.fields.items()}
        vertices, triangles, found = trimesh.remesh.subdivide(
            shell.vertices, shell.triangles, vertex_attributes=columns
        )
        fields = {n: found[n].reshape(-1, *v.shape[1:]) for n, v in shell.fields.items()}
        shell = Shell(vertices, triangles, fields)
    return shell


def cut(shell: Shell, keep: Callable[[Shell], np.ndarray]) -> Shell:
    """The part where a value is below zero, cut through triangles along the zero line.

    Args:
        keep: from a shell to (V,) values, metres from the line.
    """
    values = keep(shell)
    values = np.where(np.abs(values) < 1e-6, -1e-6, values)
    vertices, fields = shell.vertices, shell.fields
    below = values < 0
    kinds = below[shell.triangles].sum(axis=1)
    whole = shell.triangles[kinds == 3]
    mixed = shell.triangles[(kinds == 1) | (kinds == 2)]
    lone_wanted = below[mixed].sum(axis=1) == 1
    # The lone corner of its kind comes first, and the winding stays.
    lone = np.argmax(below[mixed] == lone_wanted[:, None], axis=1)
    mixed = np.take_along_axis(mixed, (lone[:, None] + np.arange(3)) % 3, axis=1)
    edges = np.sort(np.concatenate([mixed[:, [0, 1]], mixed[:, [0, 2]]]), axis=1)
    unique, inverse = np.unique(edges, axis=0, return_inverse=True)
    if not len(unique):
        return compact(Shell(vertices, whole, fields))
    a, b = unique.T
    share = values[a] / (values[a] - values[b])

    def between(rows: np.ndarray) -> np.ndarray:
        weight = share.reshape(-1, *[1] * (rows.ndim - 1))
        return rows[a] * (1 - weight) + rows[b] * weight

    new = len(vertices) + inverse.reshape(2, -1)
    first, second = new[0], new[1]
    corner = np.stack([mixed[:, 0], first, second], axis=1)[lone_wanted]
    rest = mixed[~lone_wanted]
    f, s = first[~lone_wanted], second[~lone_wanted]
    strip = np.concatenate(
        [np.stack([f, rest[:, 1], rest[:, 2]], 1), np.stack([f, rest[:, 2], s], 1)]
    )
    return compact(
        Shell(
            np.concatenate([vertices, between(vertices)]),
            np.concatenate([whole, corner, strip]),
            {n: np.concatenate([v, between(v)]) for n, v in fields.items()},
        )
    )


def divide(shell: Shell, value: Callable[[Shell], np.ndarray]) -> Shell:
    """The whole shell, with no triangle on both sides of the line where a value is zero.

    Args:
        value: from a shell to (V,) values.
    """
    sides = [cut(shell, value), cut(shell, lambda s: -value(s))]
    vertices = np.concatenate([s.vertices for s in sides])
    # Both sides cut an edge at the same point, to the last bit.
    _, first, inverse = np.unique(vertices, axis=0, return_index=True, return_inverse=True)
    triangles = np.concatenate([sides[0].triangles, sides[1].triangles + len(sides[0].vertices)])
    fields = {n: np.concatenate([s.fields[n] for s in sides])[first] for n in shell.fields}
    return Shell(vertices[first], inverse.ravel()[triangles], fields)


def boundary_edges(triangles: np.ndarray) -> np.ndarray:
    """(E, 2) directed edges that only one triangle has."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    _, inverse, counts = np.unique(np.sort(edges, axis=1), axis=0, return_inverse=True, return_counts=True)  # fmt: skip
    return edges[counts[inverse.ravel()] == 1]


def smooth(shell: Shell, times: int, share: float | np.ndarray = 0.5) -> np.ndarray:
    """(V, 3) positions after ``times`` steps towards the mean of the neighbours; rims move along the rim only."""
    edges = np.unique(np.sort(np.concatenate([shell.triangles[:, [0, 1]], shell.triangles[:, [1, 2]], shell.triangles[:, [2, 0]]]), axis=1), axis=0)  # fmt: skip
    rim = boundary_edges(shell.triangles)
    on_rim = np.zeros(len(shell.vertices), bool)
    on_rim[rim] = True
    inner = edges[~(on_rim[edges[:, 0]] & on_rim[edges[:, 1]])]
    sources = np.concatenate([inner, inner[:, ::-1], rim, rim[:, ::-1]])
    # A vertex on the rim listens to the rim alone.
    sources = sources[~(on_rim[sources[:, 0]] & ~on_rim[sources[:, 1]])]
    from scipy.sparse import csr_matrix

    count = len(shell.vertices)
    matrix = csr_matrix((np.ones(len(sources)), (sources[:, 0], sources[:, 1])), (count, count))
    degree = np.maximum(np.asarray(matrix.sum(axis=1)), 1.0)
    points = shell.vertices
    weight = np.broadcast_to(np.asarray(share, float), (count,))[:, None]
    for _ in range(times):
        points = points * (1 - weight) + weight * (matrix @ points) / degree
    return points


class Skin:
    """The surface of a body as what nothing may sink into."""

    def __init__(self, vertices: np.ndarray, triangles: np.ndarray) -> None:
        used = np.unique(triangles)
        self.points = vertices[used]
        self.normals = vertex_normals(vertices, triangles)[used]
        self.indices = used
        self._tree = cKDTree(self.points)

    def nearest(self, points: np.ndarray) -> np.ndarray:
        """(P,) which of ``self.points`` is nearest to each of ``points`` (P, 3)."""
        return self._tree.query(points)[1]

    def keep_out(
        self, points: np.ndarray, distance: float | np.ndarray, reach: float = 0.12
    ) -> np.ndarray:
        """``points`` (P, 3), moved outwards to where they are ``distance`` metres over the tangent at the nearest vertices.

        Args:
            reach: vertices further away than this say nothing of what is here, metres.
        """
        found, near = self._tree.query(points, k=3)
        moved = points
        for k in range(3):
            above = np.einsum("ij,ij->i", moved - self.points[near[:, k]], self.normals[near[:, k]])
            lack = np.clip(distance - above, 0.0, 0.05)
            lack = np.where(found[:, k] < reach, lack, 0.0)
            moved = moved + lack[:, None] * self.normals[near[:, k]]
        return moved


def thicken(shell: Shell, thickness: float, turn_in: float = 0.012) -> Shell:
    """The shell with a turned-in hem along its rims: a lip inwards, then a strip back along the inside."""
    normals = shell.normals()
    rim = boundary_edges(shell.triangles)
    if not len(rim):
        return shell
    users, slots = np.unique(rim, return_inverse=True)
    slots = slots.reshape(-1, 2)
    # Back into the piece: from the rim to the other corners of its triangles.
    inwards = np.zeros_like(shell.vertices)
    for i in range(3):
        for j in (1, 2):
            a, b = shell.triangles[:, i], shell.triangles[:, (i + j) % 3]
            np.add.at(inwards, a, shell.vertices[b] - shell.vertices[a])
    inwards = inwards[users]
    inwards /= np.maximum(np.linalg.norm(inwards, axis=1, keepdims=True), 1e-9)
    lip = shell.vertices[users] - thickness * normals[users]
    back = lip + turn_in * inwards - 0.3 * thickness * normals[users]
    return with_strips(shell, rim, users, slots, lip, back)


def with_strips(
    shell: Shell,
    rim: np.ndarray,
    users: np.ndarray,
    slots: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
) -> Shell:
    """The shell with two strips along its rim.

    Args:
        rim: (E, 2) directed edges; ``slots`` (E, 2) the same edges as places in ``users`` (U,), the vertices of the rim.
        first, second: (U, 3) where the rims of the strips are.
    """
    count, extra = len(shell.vertices), len(users)
    a, b = rim.T
    fa, fb = count + slots[:, 0], count + slots[:, 1]
    sa, sb = fa + extra, fb + extra
    strips = [np.stack(t, 1) for t in ((a, fa, b), (b, fa, fb), (fa, sa, fb), (fb, sa, sb))]
    return Shell(
        np.concatenate([shell.vertices, first, second]),
        np.concatenate([shell.triangles, *strips]),
        {n: np.concatenate([v, v[users], v[users]]) for n, v in shell.fields.items()},
    )


def split_at_seams(triangles: np.ndarray, corner_uvs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Vertices with one texture coordinate each.

    Args:
        corner_uvs: (T, 3, 2).

    Returns:
        (triangles (T, 3), which old vertex each new one is (N,), uvs (N, 2)).
    """
    rows = np.column_stack([triangles.reshape(-1, 1), np.round(corner_uvs.reshape(-1, 2), 5)])
    unique, inverse = np.unique(rows, axis=0, return_inverse=True)
    return inverse.reshape(-1, 3), unique[:, 0].astype(int), unique[:, 1:]


def unwrap_around(
    vertices: np.ndarray, triangles: np.ndarray, axes: list[tuple[np.ndarray, np.ndarray]], part: np.ndarray, size: float
) -> np.ndarray:  # fmt: skip
    """Texture coordinates as on tubes: around an axis and along it, in tiles of ``size`` metres; (T, 3, 2).

    Args:
        axes: a start and an end (3,) for each part; the seam lies behind (+y) or, for level axes, above.
        part: (T,) which axis a triangle goes around.
    """
    corners = vertices[triangles]
    uvs = np.zeros((*triangles.shape, 2))
    for number, (start, end) in enumerate(axes):
        mine = part == number
        if not mine.any():
            continue
        axis = (end - start) / np.linalg.norm(end - start)
        front = np.array((0.0, -1.0, 0.0)) - axis * -axis[1]
        front /= np.linalg.norm(front)
        side = np.cross(axis, front)
        offset = corners[mine] - start
        angle = np.arctan2(offset @ side, offset @ front)
        radius = float(np.median(np.linalg.norm(offset - (offset @ axis)[..., None] * axis, axis=-1)))  # fmt: skip
        # A triangle over the seam goes on beyond it.
        angle = np.where((np.ptp(angle, axis=1) > np.pi)[:, None] & (angle < 0), angle + 2 * np.pi, angle)  # fmt: skip
        uvs[mine] = np.stack([angle * radius / size, (offset @ axis) / size], axis=-1)
    return uvs


def waves(
    points: np.ndarray, chance: np.random.Generator, length: float, count: int = 20
) -> np.ndarray:
    """Smooth noise, (P,) of mean 0 and deviation 1: sines of random directions and lengths around ``length`` metres."""
    directions = chance.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = length * chance.uniform(0.7, 1.5, (count, 1))
    phases = chance.uniform(0, 2 * np.pi, count)
    total = np.sin(points @ (2 * np.pi * directions / lengths).T + phases).sum(axis=1)
    return total * np.sqrt(2.0 / count)
