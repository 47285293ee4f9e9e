"""Write a person as binary glTF (Khronos glTF 2.0), by pygltflib: pieces, materials, skeleton, motion, and where landmarks are.

glTF's frame is metres, y up, z towards the viewer: (x, y, z) here becomes (x, z, -y) there. What glTF has no words for
(subsurface scattering, the roles of meshes, landmarks) stands in ``extras`` under ``posefactory``.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pygltflib as gl
from PIL import Image

from posefactory_dagster.people.body import INFLUENCES, Body
from posefactory_dagster.people.mesh import Piece, vertex_normals

#: Quality of JPEG textures.
JPEG_QUALITY = 80


@dataclass(frozen=True)
class Material:
    """How a surface looks.

    Attributes:
        colour: (H, W, 3 or 4) uint8 sRGB, or three numbers 0 to 255. normal: (H, W, 3) uint8, tangent space, y up.
        roughness, metallic, subsurface: 0 to 1. normal_scale: strength of ``normal``.
    """

    colour: np.ndarray | tuple[int, int, int]
    normal: np.ndarray | None = None
    roughness: float = 0.7
    metallic: float = 0.0
    subsurface: float = 0.0
    normal_scale: float = 1.0


@dataclass(frozen=True)
class Clip:
    """A motion of a body's bones.

    Attributes:
        name: of the animation. fps: frames a second.
        rotations: (F, B, 3, 3) that turn each bone's rest axes (the world's) into where they are; hips: (F, 3) their heads.
    """

    name: str
    fps: float
    rotations: np.ndarray
    hips: np.ndarray


@dataclass
class _Writer:
    file: gl.GLTF2 = field(default_factory=gl.GLTF2)
    blob: bytearray = field(default_factory=bytearray)

    def view(self, data: bytes, target: int | None = None, stride: int | None = None) -> int:
        self.blob += b"\0" * (-len(self.blob) % 4)
        self.file.bufferViews.append(
            gl.BufferView(
                buffer=0,
                byteOffset=len(self.blob),
                byteLength=len(data),
                target=target,
                byteStride=stride,
            )
        )
        self.blob += data
        return len(self.file.bufferViews) - 1

    def accessor(self, values: np.ndarray, kind: str, target: int | None = None, bounds: bool = False, normalized: bool = False) -> int:  # fmt: skip
        component = {
            "float32": gl.FLOAT, "int16": gl.SHORT, "uint8": gl.UNSIGNED_BYTE, "uint16": gl.UNSIGNED_SHORT, "uint32": gl.UNSIGNED_INT,
        }[values.dtype.name]  # fmt: skip
        rows = values.reshape(len(values), -1)
        padded = kind == "VEC3" and rows.shape[1] == 4
        self.file.accessors.append(
            gl.Accessor(
                bufferView=self.view(np.ascontiguousarray(values).tobytes(), target, values.strides[0] if padded else None),
                componentType=component,
                count=len(values), type=kind, normalized=normalized or None,
                min=rows.min(axis=0).tolist() if bounds else None, max=rows.max(axis=0).tolist() if bounds else None,
            )
        )  # fmt: skip
        return len(self.file.accessors) - 1

    def texture(self, image: np.ndarray) -> int:
        buffer = io.BytesIO()
        alpha = image.shape[2] == 4
        if alpha:
            Image.fromarray(image).save(buffer, "PNG", optimize=True)
        else:
            Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        kind = "image/png" if alpha else "image/jpeg"
        self.file.images.append(gl.Image(bufferView=self.view(buffer.getvalue()), mimeType=kind))
        self.file.textures.append(gl.Texture(source=len(self.file.images) - 1, sampler=0))
        return len(self.file.textures) - 1

    def material(self, name: str, look: Material) -> int:
        pbr = gl.PbrMetallicRoughness(metallicFactor=look.metallic, roughnessFactor=look.roughness)
        made = gl.Material(name=name, pbrMetallicRoughness=pbr, doubleSided=True)
        if isinstance(look.colour, tuple):
            light = (np.array(look.colour) / 255) ** 2.2
            pbr.baseColorFactor = [*light.tolist(), 1.0]
        else:
            pbr.baseColorTexture = gl.TextureInfo(index=self.texture(look.colour))
            if look.colour.shape[2] == 4:
                made.alphaMode = "BLEND"
        if look.normal is not None:
            made.normalTexture = gl.NormalMaterialTexture(
                index=self.texture(look.normal), scale=look.normal_scale
            )
        if look.subsurface:
            made.extras = {"posefactory_subsurface": look.subsurface}
        self.file.materials.append(made)
        return len(self.file.materials) - 1


def turned(points: np.ndarray) -> np.ndarray:
    """Points or directions (..., 3) in glTF's frame."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], axis=-1)


def write(
    path: Path,
    body: Body,
    pieces: Sequence[Piece],
    materials: Mapping[str, Material],
    anchors: Piece,
    about: Mapping[str, Any],
    clip: Clip | None = None,
) -> None:
    """Write a person.

    Args:
        anchors: the triangles that landmarks are on, as a mesh that is never rendered.
        about: of the scene: the person's description, landmarks, licences; plain values.
        clip: the motion to play.
    """
    writer = _Writer()
    file = writer.file
    file.asset = gl.Asset(version="2.0", generator="Pose Factory", extras={"posefactory": dict(about)})  # fmt: skip
    file.extensionsUsed = file.extensionsRequired = ["KHR_mesh_quantization"]
    file.samplers.append(gl.Sampler(wrapS=gl.REPEAT, wrapT=gl.REPEAT, magFilter=gl.LINEAR, minFilter=gl.LINEAR_MIPMAP_LINEAR))  # fmt: skip
    heads = turned(body.heads)
    for index, (bone, parent) in enumerate(zip(body.bones, body.parents, strict=True)):
        start = heads[index] - (heads[parent] if parent >= 0 else 0)
        children = [i for i, p in enumerate(body.parents) if p == index]
        file.nodes.append(gl.Node(name=bone, translation=start.tolist(), children=children))
    inverse = np.tile(np.eye(4, dtype=np.float32), (len(body.bones), 1, 1))
    inverse[:, :3, 3] = -heads
    matrices = writer.accessor(inverse.transpose(0, 2, 1).reshape(-1, 16).astype(np.float32), "MAT4")  # fmt: skip
    root = int(np.flatnonzero(body.parents < 0)[0])
    file.skins.append(
        gl.Skin(inverseBindMatrices=matrices, joints=list(range(len(body.bones))), skeleton=root)
    )
    indices = {name: writer.material(name, look) for name, look in materials.items()}
    # Other programs must not show what carries landmarks.
    file.materials.append(
        gl.Material(
            name="unseen", alphaMode="MASK", alphaCutoff=0.5, pbrMetallicRoughness=gl.PbrMetallicRoughness(baseColorFactor=[0.0, 0.0, 0.0, 0.0])
        )
    )  # fmt: skip
    indices[anchors.material] = len(file.materials) - 1
    top = [root]
    for piece in (*pieces, anchors):
        top.append(len(file.nodes))
        _add_piece(writer, piece, indices.get(piece.material))
    if clip is not None:
        _add_clip(writer, body, clip)
    file.scenes.append(gl.Scene(nodes=top))
    file.scene = 0
    file.buffers.append(gl.Buffer(byteLength=len(writer.blob)))
    file.set_binary_blob(bytes(writer.blob))
    file.save_binary(str(path))


def _add_piece(writer: _Writer, piece: Piece, material: int | None) -> None:
    best = np.argsort(-piece.weights, axis=1, kind="stable")[:, :INFLUENCES]
    weights = np.take_along_axis(piece.weights, best, axis=1)
    weights = weights / weights.sum(axis=1, keepdims=True)
    joints = np.where(weights > 0, best, 0).astype(np.uint8)
    normals = piece.normals if piece.normals is not None else vertex_normals(piece.vertices, piece.triangles)  # fmt: skip
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.where(lengths > 1e-9, normals / np.maximum(lengths, 1e-9), (0.0, 0.0, 1.0))
    vertex = gl.ARRAY_BUFFER
    attributes = gl.Attributes(
        POSITION=writer.accessor(turned(piece.vertices).astype(np.float32), "VEC3", vertex, bounds=True),
        NORMAL=writer.accessor(_packed_normals(turned(normals)), "VEC3", vertex, normalized=True),
        TEXCOORD_0=writer.accessor(piece.uvs.astype(np.float32), "VEC2", vertex),
        JOINTS_0=writer.accessor(joints, "VEC4", vertex),
        WEIGHTS_0=writer.accessor(_whole_shares(weights), "VEC4", vertex, normalized=True),
    )  # fmt: skip
    kind = np.uint16 if len(piece.vertices) < 65535 else np.uint32
    corners = writer.accessor(piece.triangles.reshape(-1).astype(kind), "SCALAR", gl.ELEMENT_ARRAY_BUFFER)  # fmt: skip
    primitive = gl.Primitive(attributes=attributes, indices=corners, material=material)
    file = writer.file
    file.meshes.append(gl.Mesh(name=piece.name, primitives=[primitive]))
    role = {"posefactory_role": piece.role, "posefactory_licence": piece.licence, "posefactory_source": piece.source}  # fmt: skip
    file.nodes.append(gl.Node(name=piece.name, mesh=len(file.meshes) - 1, skin=0, extras=role))


def _whole_shares(weights: np.ndarray) -> np.ndarray:
    """Weights (V, 4) as 16-bit shares that sum to exactly 65535: what rounding leaves goes to the largest."""
    shares = np.round(weights * 65535).astype(np.int64)
    shares[:, 0] += 65535 - shares.sum(axis=1)
    return shares.astype(np.uint16)


def _packed_normals(normals: np.ndarray) -> np.ndarray:
    """Unit vectors (V, 3) in 16 bits a number (KHR_mesh_quantization), each row padded to 8 bytes as glTF asks."""
    packed = np.zeros((len(normals), 4), np.int16)
    packed[:, :3] = np.round(normals * 32767)
    return packed


def _add_clip(writer: _Writer, body: Body, clip: Clip) -> None:
    from scipy.spatial.transform import Rotation

    turn = np.array(((1.0, 0, 0), (0, 0, 1.0), (0, -1.0, 0)))
    world = turn @ clip.rotations @ turn.T
    frames = len(world)
    times = writer.accessor((np.arange(frames) / clip.fps).astype(np.float32), "SCALAR", bounds=True)  # fmt: skip
    animation = gl.Animation(name=clip.name)
    for index, parent in enumerate(body.parents):
        local = world[:, parent].transpose(0, 2, 1) @ world[:, index] if parent >= 0 else world[:, index]  # fmt: skip
        quaternions = Rotation.from_matrix(local).as_quat()
        flips = np.sign(np.einsum("fi,fi->f", quaternions[1:], quaternions[:-1]))
        quaternions[1:] *= np.cumprod(np.where(flips == 0, 1, flips))[:, None]
        if np.abs(quaternions - quaternions[0]).max() < 1e-5 and np.abs(quaternions[0, 3]) > 0.999999:  # fmt: skip
            continue
        animation.samplers.append(gl.AnimationSampler(input=times, output=writer.accessor(quaternions.astype(np.float32), "VEC4")))  # fmt: skip
        animation.channels.append(gl.AnimationChannel(sampler=len(animation.samplers) - 1, target=gl.AnimationChannelTarget(node=index, path="rotation")))  # fmt: skip
    root = int(np.flatnonzero(body.parents < 0)[0])
    animation.samplers.append(gl.AnimationSampler(input=times, output=writer.accessor(turned(clip.hips).astype(np.float32), "VEC3")))  # fmt: skip
    animation.channels.append(gl.AnimationChannel(sampler=len(animation.samplers) - 1, target=gl.AnimationChannelTarget(node=root, path="translation")))  # fmt: skip
    writer.file.animations.append(animation)
