"""Look into a glTF or VRM file before any importer does: refuse what points outside it, and take out what is not wanted.

Standard library only. Layout: Khronos glTF 2.0 specification; a binary file is a header of 12 bytes, a JSON chunk and a
binary chunk. VRM 0.x and 1.0 are glTF files with a table of humanoid bones in an extension.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import struct
from collections.abc import Mapping
from typing import Any

from blender_scripts.errors import InputError

MAGIC = b"glTF"
JSON_CHUNK, BINARY_CHUNK = 0x4E4F534A, 0x004E4942
#: Caps, each far above what characters need.
MAX_NODES, MAX_ANIMATIONS, MAX_KEYS, MAX_ELEMENTS = 20_000, 2_000, 1_000_000, 20_000_000
_DATA_URI = re.compile(r"data:[\w.+/-]*(;[\w.+=-]*)*?;base64,")
_COMPONENT_BYTES = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, 5126: 4}
_COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
#: How animations are called in a prepared file, by their place in it.
INNER_NAME = "clip_{:04d}"
MAX_SECONDS = 1_800.0
#: Usual frames a second, one of which a file is taken to have.
RATES, DEFAULT_RATE = (24, 25, 30, 48, 50, 60, 90, 100, 120, 240), 30
#: Extensions that a file may require: those that Blender's importer reads.
READABLE = frozenset(
    {
        "KHR_materials_unlit", "KHR_texture_transform", "KHR_materials_pbrSpecularGlossiness", "KHR_mesh_quantization",
        "KHR_materials_clearcoat", "KHR_materials_emissive_strength", "KHR_materials_ior", "KHR_materials_sheen",
        "KHR_materials_specular", "KHR_materials_transmission", "KHR_materials_volume", "KHR_materials_anisotropy",
        "KHR_materials_variants", "KHR_lights_punctual", "EXT_texture_webp", "VRM", "VRMC_vrm", "VRMC_materials_mtoon",
        "VRMC_springBone", "VRMC_node_constraint",
    }
)  # fmt: skip
#: VRM's names of humanoid bones, as the humanoid has them; fingers follow by rule.
_VRM_BONES = {
    "hips": "Hips", "spine": "Spine", "chest": "Spine1", "upperChest": "Spine2", "neck": "Neck", "head": "Head",
    "Eye": "Eye", "Shoulder": "Shoulder", "UpperArm": "Arm", "LowerArm": "ForeArm", "Hand": "Hand",
    "UpperLeg": "UpLeg", "LowerLeg": "Leg", "Foot": "Foot", "Toes": "ToeBase",
}  # fmt: skip
_VRM_FINGERS = {
    "Thumb": "Thumb",
    "Index": "Index",
    "Middle": "Middle",
    "Ring": "Ring",
    "Little": "Pinky",
}
_VRM_JOINTS = {"Metacarpal": 1, "Proximal": 1, "Intermediate": 2, "Distal": 3}


def clips(document: Mapping[str, Any]) -> list[str]:
    """The names of a file's animations, in its order: nameless ones are numbered, and a name that comes again has its number added."""
    found: list[str] = []
    for index, animation in enumerate(document.get("animations", [])):
        said = str(animation.get("name") or f"animation_{index}")
        name = base = said.encode("utf-8", "replace").decode()
        number = 2
        while name in found:
            name, number = f"{base} {number}", number + 1
        found.append(name)
    return found


def has_skin(document: Mapping[str, Any]) -> bool:
    """Whether a mesh of the file is skinned."""
    return any("skin" in node and "mesh" in node for node in document.get("nodes", []))


def read(data: bytes, name: str) -> tuple[dict[str, Any], bytes]:
    """The JSON document and the binary chunk of a file.

    Raises:
        InputError: the file is truncated or no glTF, or points outside itself.
    """
    try:
        if data.startswith(MAGIC):
            document, binary = _read_binary(data)
        else:
            document, binary = json.loads(data.decode("utf-8-sig"), parse_constant=_no_number), b""
        if not isinstance(document, dict) or not isinstance(document.get("asset"), dict):
            raise ValueError("it has no asset record")
    except (ValueError, struct.error, RecursionError) as error:
        raise InputError(
            f"{name}: damaged or no glTF ({error}); export or upload it again"
        ) from error
    try:
        binary = _gathered(document, binary, name)
        _check(document, binary, name)
    except InputError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
        raise _malformed(name, error) from error
    return document, binary


def _malformed(name: str, error: Exception) -> InputError:
    return InputError(
        f"{name}: its glTF records are malformed ({type(error).__name__}: {str(error)[:100]}); export it again"
    )


def prepare(
    document: dict[str, Any], binary: bytes, name: str, clip: str | None, *, meshes: bool
) -> bytes:
    """The file as a binary glTF for an importer, without animations and meshes that are not wanted.

    Args:
        document, binary: as ``read`` returns them; the document is changed.
        clip: the animation to keep; None keeps all.
        meshes: whether meshes are wanted; without them a motion is read in a tenth of the time.

    Raises:
        InputError: there is no such animation, or a record is malformed.
    """
    try:
        return _prepared(document, binary, name, clip, meshes=meshes)
    except InputError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, struct.error) as error:
        raise _malformed(name, error) from error


def _prepared(
    document: dict[str, Any], binary: bytes, name: str, clip: str | None, *, meshes: bool
) -> bytes:
    names = clips(document)
    # Importers cut names, and read some characters as marks: what they see is a number.
    for index, animation in enumerate(document.get("animations", [])):
        animation["name"] = INNER_NAME.format(index)
    if clip is not None:
        if clip not in names:
            raise InputError(
                f"{name}: no animation {clip!r} in it; its animations are: {', '.join(names) or 'none'}"
            )
        document["animations"] = [document["animations"][names.index(clip)]]
    if not meshes:
        _keep_skins(document)
        for key in ("materials", "textures", "images", "samplers"):
            document.pop(key, None)
    return _written(document, binary)


def frame_rate(document: Mapping[str, Any], binary: bytes, clip: str | None) -> int:
    """Frames a second at which an animation has its keys: what lies between most of them; 30 where that cannot be told.

    Args:
        clip: the animation; None for the first.

    Raises:
        InputError: a record is malformed.
    """
    try:
        return _frame_rate(document, binary, clip)
    except (LookupError, TypeError, AttributeError, ValueError, struct.error) as error:
        raise _malformed("glTF", error) from error


def _frame_rate(document: Mapping[str, Any], binary: bytes, clip: str | None) -> int:
    animations = document.get("animations", [])
    names = clips(document)
    if not animations:
        return DEFAULT_RATE
    animation = animations[names.index(clip)] if clip in names else animations[0]
    accessors = {s["input"] for s in animation.get("samplers", [])}
    if not accessors:
        return DEFAULT_RATE
    densest = max(accessors, key=lambda a: document["accessors"][a]["count"])
    times = _floats(document, binary, document["accessors"][densest])
    steps = sorted(b - a for a, b in zip(times, times[1:], strict=False) if b > a)
    if not steps:
        return DEFAULT_RATE
    rate = 1.0 / steps[len(steps) // 2]
    return min(RATES, key=lambda r: abs(r - rate)) if rate > min(RATES) / 2 else DEFAULT_RATE


def _floats(document: Mapping[str, Any], binary: bytes, accessor: Mapping[str, Any]) -> list[float]:
    """A scalar accessor of 32-bit floats; empty where it is stored in another way."""
    if accessor.get("componentType") != 5126 or "bufferView" not in accessor:
        return []
    view = document["bufferViews"][accessor["bufferView"]]
    buffer = document["buffers"][view["buffer"]]
    data = (
        binary if buffer.get("uri") is None else base64.b64decode(buffer["uri"].partition(",")[2])
    )
    start = int(view.get("byteOffset", 0)) + int(accessor.get("byteOffset", 0))
    return list(struct.unpack_from(f"<{int(accessor['count'])}f", data, start))


def _keep_skins(document: dict[str, Any]) -> None:
    """Importers make an armature of a skin only where a mesh uses it: the smallest piece of each skin's meshes stands for all."""
    smallest: dict[int, tuple[int, dict[str, Any], dict[str, Any]]] = {}
    for node in document.get("nodes", []):
        mesh, skin = node.pop("mesh", None), node.get("skin")
        node.pop("weights", None)
        if mesh is None or skin is None:
            continue
        for piece in document["meshes"][mesh]["primitives"]:
            wanted = ("POSITION", "JOINTS_0", "WEIGHTS_0")
            if all(k in piece["attributes"] for k in wanted):
                size = document["accessors"][piece["attributes"]["POSITION"]]["count"]
                kept = {"attributes": {k: piece["attributes"][k] for k in wanted}}
                kept |= {k: piece[k] for k in ("indices", "mode") if k in piece}
                if skin not in smallest or size < smallest[skin][0]:
                    smallest[skin] = (size, node, kept)
    document["meshes"] = []
    for _, node, piece in smallest.values():
        node["mesh"] = len(document["meshes"])
        document["meshes"].append({"name": "stand_in", "primitives": [piece]})
    if not document["meshes"]:
        del document["meshes"]


def humanoid(document: Mapping[str, Any]) -> dict[str, str]:
    """The bones of the humanoid by a VRM file's own table; empty for other files, and where the table is malformed."""
    try:
        return _humanoid(document)
    except (LookupError, TypeError, AttributeError):
        return {}


def _humanoid(document: Mapping[str, Any]) -> dict[str, str]:
    extensions = document.get("extensions", {})
    if "VRMC_vrm" in extensions:
        table = {
            b: v.get("node")
            for b, v in extensions["VRMC_vrm"].get("humanoid", {}).get("humanBones", {}).items()
        }
    elif "VRM" in extensions:
        table = {
            b["bone"]: b["node"]
            for b in extensions["VRM"].get("humanoid", {}).get("humanBones", [])
        }
    else:
        return {}
    nodes = document.get("nodes", [])
    found = {}
    for bone, node in table.items():
        ours = _of_vrm(bone)
        if (
            ours is not None
            and isinstance(node, int)
            and 0 <= node < len(nodes)
            and nodes[node].get("name")
        ):
            found[ours] = str(nodes[node]["name"])
    return found


def _of_vrm(bone: str) -> str | None:
    """The humanoid's name for a bone of VRM's table; None for those that it has no use for (jaw)."""
    if bone in _VRM_BONES:
        return _VRM_BONES[bone]
    side = next((s for s in ("left", "right") if bone.startswith(s)), None)
    if side is None:
        return None
    rest = bone[len(side) :]
    if rest in _VRM_BONES:
        return side.capitalize() + _VRM_BONES[rest]
    for theirs, ours in _VRM_FINGERS.items():
        for joint, number in _VRM_JOINTS.items():
            if rest == theirs + joint:
                # VRM 1.0's thumb begins with a metacarpal, where VRM 0.x has a proximal and an intermediate bone.
                return f"{side.capitalize()}Hand{ours}{number}"
    return None


#: Of the landmarks that a file of a person made here carries: at most so many points, each over so many vertices.
MAX_ANCHORS, MAX_ANCHOR_VERTICES = 500, 2_000


def anchors(document: Mapping[str, Any], name: str) -> dict[str, dict[str, dict[str, list]]]:
    """Where a person made by the factory has its landmarks and markers; empty for other files.

    Returns:
        ``{"landmarks": {name: {"vertices", "weights", "patch"}}, "markers": …}``; indices into the mesh `posefactory_anchors`.

    Raises:
        InputError: the file says so in a way that cannot be read.
    """
    extras = document.get("asset", {}).get("extras", {})
    stored = extras.get("posefactory", {}).get("anchors") if isinstance(extras, dict) else None
    if stored is None:
        return {}
    try:
        found = json.loads(stored, parse_constant=_no_number)
        rows = [r for kind in ("landmarks", "markers") for r in found[kind].values()]
        if len(rows) > MAX_ANCHORS or any(len(r["vertices"]) > MAX_ANCHOR_VERTICES for r in rows):
            raise ValueError("too many")
        for row in rows:
            whole = [*row["vertices"], *(v for t in row["patch"] for v in t)]
            sound = all(isinstance(v, int) and 0 <= v < 100_000 for v in whole)
            sound &= all(len(t) == 3 for t in row["patch"]) and len(row["vertices"]) == len(row["weights"])  # fmt: skip
            if not sound or abs(sum(map(float, row["weights"])) - 1.0) > 1e-3:
                raise ValueError("indices or weights are out of range")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{name}: its record of landmarks is malformed ({error}); build the person again") from error  # fmt: skip
    return {kind: dict(found[kind]) for kind in ("landmarks", "markers")}


def _read_binary(data: bytes) -> tuple[dict[str, Any], bytes]:
    _, version, length = struct.unpack_from("<4sII", data)
    if version != 2:
        raise ValueError(f"version {version}, and only 2 can be read")
    if length > len(data):
        raise ValueError(f"truncated: {len(data)} bytes, and {length} are announced")
    chunks: dict[int, bytes] = {}
    position = 12
    while position + 8 <= length:
        size, kind = struct.unpack_from("<II", data, position)
        position += 8
        if position + size > length:
            raise ValueError("truncated in a chunk")
        chunks.setdefault(kind, data[position : position + size])
        position += size
    if JSON_CHUNK not in chunks:
        raise ValueError("no JSON chunk")
    document = json.loads(chunks[JSON_CHUNK].decode("utf-8"), parse_constant=_no_number)
    return document, chunks.get(BINARY_CHUNK, b"")


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _gathered(document: dict[str, Any], binary: bytes, name: str) -> bytes:
    """All data of a file in one buffer: no address is left in the document for an importer to follow.

    Raises:
        InputError: an address leads outside the file, or its data is not what is announced.
    """
    for kind in (
        "nodes",
        "meshes",
        "animations",
        "accessors",
        "bufferViews",
        "buffers",
        "images",
        "skins",
    ):
        if not all(isinstance(item, dict) for item in document.get(kind, [])):
            raise TypeError(f"{kind} holds what is no record")
    whole, starts = bytearray(), []
    for index, buffer in enumerate(document.get("buffers", [])):
        uri = buffer.pop("uri", None)
        data = binary if uri is None else _decoded(str(uri), f"buffer {index}", name)
        if len(data) < int(buffer["byteLength"]) or int(buffer["byteLength"]) < 0:
            raise InputError(
                f"{name}: its data is {len(data)} bytes, and {buffer['byteLength']} are announced; upload it again"
            )
        whole += b"\0" * (-len(whole) % 4)
        starts.append((len(whole), int(buffer["byteLength"])))
        whole += data[: int(buffer["byteLength"])]
    for index, view in enumerate(document.get("bufferViews", [])):
        start, length = starts[view["buffer"]]
        offset, size = int(view.get("byteOffset", 0)), int(view["byteLength"])
        if offset < 0 or size < 0 or offset + size > length:
            raise InputError(
                f"{name}: buffer view {index} ends outside its buffer; export or upload it again"
            )
        view["buffer"], view["byteOffset"] = 0, start + offset
    for index, image in enumerate(document.get("images", [])):
        uri = image.pop("uri", None)
        if uri is None:
            continue
        data = _decoded(str(uri), f"image {index}", name)
        whole += b"\0" * (-len(whole) % 4)
        views = document.setdefault("bufferViews", [])
        image["bufferView"] = len(views)
        image.setdefault("mimeType", str(uri)[5:].partition(";")[0] or "image/png")
        views.append({"buffer": 0, "byteOffset": len(whole), "byteLength": len(data)})
        whole += data
    if whole or document.get("buffers"):
        document["buffers"] = [{"byteLength": len(whole)}]
    return bytes(whole)


def _decoded(uri: str, what: str, name: str) -> bytes:
    """The data of a data URI."""
    found = _DATA_URI.match(uri)
    if found is None:
        raise InputError(
            f"{name}: {what} is outside the file ({uri[:80]!r}), and only what is inside is read; export as .glb, or as .gltf with "
            "embedded data"
        )
    try:
        return base64.b64decode(uri[found.end() :], validate=True)
    except binascii.Error as error:
        raise InputError(f"{name}: its embedded data is no base64; export it again") from error


def _check(document: dict[str, Any], binary: bytes, name: str) -> None:
    unknown = sorted(set(document.get("extensionsRequired", [])) - READABLE)
    if unknown:
        raise InputError(
            f"{name}: it requires {', '.join(map(str, unknown))}, which cannot be read here; export it without (Draco and meshopt "
            "compression off)"
        )
    if len(document.get("nodes", [])) > MAX_NODES or len(document.get("animations", [])) > MAX_ANIMATIONS:  # fmt: skip
        raise InputError(
            f"{name}: over {MAX_NODES} nodes or {MAX_ANIMATIONS} animations; export one character"
        )
    accessors = document.get("accessors", [])
    for animation in document.get("animations", []):
        for sampler in animation.get("samplers", []):
            times = accessors[sampler["input"]]
            last = max(times.get("max") or [0.0])
            if int(times["count"]) > MAX_KEYS or not math.isfinite(last) or last > MAX_SECONDS:
                raise InputError(
                    f"{name}: its animation {str(animation.get('name', ''))!r} has over {MAX_KEYS} keys or {MAX_SECONDS:g} s; "
                    "cut it into clips"
                )
    for index, accessor in enumerate(accessors):
        _check_accessor(document, accessor, index, name)


def _check_accessor(
    document: Mapping[str, Any], accessor: Mapping[str, Any], index: int, name: str
) -> None:
    count = int(accessor["count"])
    size = _COMPONENT_BYTES[accessor["componentType"]] * _COMPONENTS[accessor["type"]]
    if not 0 <= count <= MAX_ELEMENTS:
        raise InputError(f"{name}: accessor {index} has {count} elements; export one character")
    if accessor.get("bufferView") is None:
        return
    view = document["bufferViews"][accessor["bufferView"]]
    stride = int(view.get("byteStride", size))
    end = int(accessor.get("byteOffset", 0)) + (stride * (count - 1) + size if count else 0)
    if int(accessor.get("byteOffset", 0)) < 0 or end > int(view["byteLength"]):
        raise InputError(
            f"{name}: accessor {index} ends outside its buffer view; export or upload it again"
        )


def _written(document: Mapping[str, Any], binary: bytes) -> bytes:
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), JSON_CHUNK) + text
    if binary:
        padded = binary + b"\0" * (-len(binary) % 4)
        chunks += struct.pack("<II", len(padded), BINARY_CHUNK) + padded
    return struct.pack("<4sII", MAGIC, 2, 12 + len(chunks)) + chunks
