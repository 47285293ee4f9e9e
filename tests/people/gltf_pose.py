"""Pose a glTF file by the specification alone: node transforms, an animation's channels, linear blend skinning. No Blender."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

TYPES = {5126: np.float32, 5123: np.uint16, 5121: np.uint8, 5125: np.uint32, 5122: np.int16}
#: The largest value of a normalized component.
NORMALIZED = {np.uint16: 65535.0, np.uint8: 255.0, np.int16: 32767.0}
WIDTH = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


def posed_anchors(path: Path, seconds: float, landmarks: list[str]) -> np.ndarray:
    """(33, 3) where the landmarks of a file made here are at a time of its animation; metres, z up, x left of who faces -y."""
    data = path.read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    document = json.loads(data[20 : 20 + length])
    binary = data[20 + length + 8 :]

    def read(index: int) -> np.ndarray:
        accessor = document["accessors"][index]
        view = document["bufferViews"][accessor["bufferView"]]
        kind, width = TYPES[accessor["componentType"]], WIDTH[accessor["type"]]
        start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        size = np.dtype(kind).itemsize
        stride = view.get("byteStride", size * width)
        rows = np.ndarray((accessor["count"], width), kind, binary, start, (stride, size))
        values = rows.astype(float)
        return values / NORMALIZED[kind] if accessor.get("normalized") else values

    nodes = document["nodes"]
    local = [_matrix(n.get("translation", (0, 0, 0)), n.get("rotation", (0, 0, 0, 1))) for n in nodes]  # fmt: skip
    moved: dict[int, dict[str, np.ndarray]] = {}
    for channel in document["animations"][0]["channels"]:
        sampler = document["animations"][0]["samplers"][channel["sampler"]]
        times, values = read(sampler["input"])[:, 0], read(sampler["output"])
        at = float(np.clip(seconds, times[0], times[-1]))
        if channel["target"]["path"] == "rotation":
            value = Slerp(times, Rotation.from_quat(values))(at).as_quat()
        else:
            value = np.array([np.interp(at, times, values[:, k]) for k in range(3)])
        moved.setdefault(channel["target"]["node"], {})[channel["target"]["path"]] = value
    for index, change in moved.items():
        node: dict[str, Any] = nodes[index]
        local[index] = _matrix(change.get("translation", node.get("translation", (0, 0, 0))), change.get("rotation", node.get("rotation", (0, 0, 0, 1))))  # fmt: skip
    parent = {c: i for i, n in enumerate(nodes) for c in n.get("children", ())}

    def world(index: int) -> np.ndarray:
        return local[index] if index not in parent else world(parent[index]) @ local[index]

    skin = document["skins"][0]
    inverse = read(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
    joints = np.array([world(j) @ inverse[k] for k, j in enumerate(skin["joints"])])
    mesh = next(m for m in document["meshes"] if m["name"] == "posefactory_anchors")
    attributes = mesh["primitives"][0]["attributes"]
    points = np.c_[read(attributes["POSITION"]), np.ones(len(read(attributes["POSITION"])))]
    weights, indices = read(attributes["WEIGHTS_0"]), read(attributes["JOINTS_0"]).astype(int)
    posed = np.einsum("vk,vkij,vj->vi", weights, joints[indices], points)[:, :3]
    stored = json.loads(document["asset"]["extras"]["posefactory"]["anchors"])["landmarks"]
    found = np.array([np.array(stored[n]["weights"]) @ posed[stored[n]["vertices"]] for n in landmarks])  # fmt: skip
    return np.column_stack([found[:, 0], -found[:, 2], found[:, 1]])


def _matrix(translation: Any, rotation: Any) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_quat(rotation).as_matrix()
    matrix[:3, 3] = translation
    return matrix
