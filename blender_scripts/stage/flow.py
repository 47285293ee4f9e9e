"""Optical flow: how far what each pixel shows of a person moves in the picture until the next frame, under a camera that stands still."""

from __future__ import annotations

import numpy as np
from mathutils import Vector
from mathutils.bvhtree import BVHTree

from blender_scripts.stage.camera import Pinhole


def flow(vertices: np.ndarray, following: np.ndarray, triangles: np.ndarray, mask: np.ndarray, pinhole: Pinhole) -> np.ndarray:  # fmt: skip
    """The flow of all pixels of people: (H, W, 3) float32, x and y in pixels, and 1 where it is known.

    The ray through the middle of a pixel finds the triangle and the place in it; the same place in the next frame is projected.

    Args:
        vertices, following: (V, 3) of this frame and the next, metres. triangles: (T, 3). mask: (H, W) bool, where people are seen.
    """
    result = np.zeros((*mask.shape, 3), np.float32)
    rows, columns = np.nonzero(mask)
    pixels = np.column_stack([columns, rows]) + 0.5
    inverse = np.linalg.inv(pinhole.intrinsics)
    rays = np.column_stack([pixels, np.ones(len(pixels))]) @ inverse.T @ pinhole.rotation
    start = Vector(-pinhole.rotation.T @ pinhole.translation)
    tree = BVHTree.FromPolygons(vertices.tolist(), triangles.tolist())
    hits = [tree.ray_cast(start, Vector(ray)) for ray in rays]
    known = np.array([h[2] is not None for h in hits], bool)
    if not known.any():
        return result
    places = np.array([h[0] for h in hits if h[2] is not None])
    found = triangles[[h[2] for h in hits if h[2] is not None]]
    shares = _barycentric(places, vertices[found])
    moved = (following[found] * shares[..., None]).sum(axis=1)
    result[rows[known], columns[known], :2] = pinhole.project(moved) - pixels[known]
    result[rows[known], columns[known], 2] = 1
    return result


def _barycentric(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Of points (N, 3) in triangles (N, 3, 3), the share (N, 3) of each corner."""
    one, two, place = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], points - corners[:, 0]  # fmt: skip
    a, b, c = (one**2).sum(axis=1), (one * two).sum(axis=1), (two**2).sum(axis=1)
    d, e = (place * one).sum(axis=1), (place * two).sum(axis=1)
    size = np.maximum(a * c - b * b, 1e-30)
    second, third = (c * d - b * e) / size, (a * e - b * d) / size
    return np.column_stack([1 - second - third, second, third])
