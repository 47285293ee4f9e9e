"""Bring a model file (FBX, glTF, VRM, BVH) into an empty scene, and say plainly what is wrong with it."""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import bpy
import mathutils
import numpy as np

from blender_scripts.errors import InputError
from blender_scripts.formats import bvh_file, fbx_file, gltf_file
from blender_scripts.formats.naming import best_fit

RERIG = "rig it (for instance with Mixamo's auto-rigger) and export it as FBX with skin"
#: Keys beyond this are no pose: a file in millimetres that walks ten kilometres.
MAX_KEY_VALUE = 1e7
#: Where a texture is missing: sRGB 0.5, as linear light.
MID_GREY = (0.214, 0.214, 0.214)
#: How far red, green and blue light go in skin, in parts of the scale (H. W. Jensen et al., SIGGRAPH 2001: 3.7, 1.4, 0.7 mm).
SKIN_RADIUS = (1.0, 0.37, 0.19)
#: Of all images in a file together; one of 8192 x 8192 has 67 million.
MAX_TEXTURE_PIXELS = 200_000_000
#: What is worn or carried is no larger than this, in heights of the person's joints.
WORN = 0.6


@dataclass(frozen=True)
class Take:
    """One animation of a file: the armature's own curves in a Blender action.

    ``start`` and ``end`` are frames; ``moves`` says whether the pose changes over more than two of them.
    """

    name: str
    start: int
    end: int
    moves: bool
    action: bpy.types.Action
    slot: Any

    @property
    def frames(self) -> int:
        """How many frames it spans."""
        return self.end - self.start + 1


@dataclass(frozen=True)
class StoredAnchors:
    """Landmarks that a file carries: points that move with the bones and are never seen.

    Attributes:
        points: (K, 3) in the armature's frame at rest. bones: (K, 4) names' indices in ``bone_names``; weights: (K, 4).
        landmarks, markers: which points and weights make each, as ``gltf_file.anchors`` returns them.
    """

    points: np.ndarray
    bone_names: list[str]
    weights: np.ndarray
    landmarks: dict[str, dict[str, list]]
    markers: dict[str, dict[str, list]]

    def posed(self, armature: bpy.types.Object) -> np.ndarray:
        """(K, 3) where the points are now, world frame: linear blend skinning, as Blender's armatures do it."""
        homogeneous = np.concatenate([self.points, np.ones((len(self.points), 1))], axis=1)
        rest = armature.data.bones
        turns = np.array(
            [
                np.array(armature.pose.bones[n].matrix @ rest[n].matrix_local.inverted())
                for n in self.bone_names
            ]
        )
        blended = np.einsum("kb,bij->kij", self.weights, turns)
        placed = np.einsum("kij,kj->ki", blended, homogeneous)
        return (placed @ np.array(armature.matrix_world).T)[:, :3]


#: The mesh that carries the landmarks of a person made here.
ANCHOR_MESH = "posefactory_anchors"


@dataclass
class Imported:
    """What came out of a file.

    ``meshes`` are skinned to ``armature`` or hang on one of its bones (``props``, a part of ``meshes``); ``take`` is the
    animation that plays, None without one. ``warnings`` are sentences for the user; ``humanoid`` the bone for each bone of
    the humanoid, where the file has a table of its own (VRM).
    """

    armature: bpy.types.Object
    meshes: list[bpy.types.Object]
    props: list[bpy.types.Object]
    takes: list[Take]
    take: Take | None
    fps: float
    textures_found: list[str]
    textures_missing: list[str]
    warnings: list[str] = field(default_factory=list)
    humanoid: dict[str, str] = field(default_factory=dict)
    stored: StoredAnchors | None = None

    def role(self, mesh: str) -> str:
        """What a mesh of a person made here is (body, eyes, hair, garment, shoes, ...); empty where nothing is said."""
        obj = next((m for m in self.meshes if m.name == mesh), None)
        return "" if obj is None else str(obj.get("posefactory_role", ""))


def clear_scene() -> None:
    """Empty Blender wholly: every data-block goes, so memory stays level over many characters."""
    bpy.ops.wm.read_factory_settings(use_empty=True)


def load(
    path: str,
    rig_map: dict[str, Any],
    name: str = "",
    take: str | None = None,
    *,
    skin: bool = True,
) -> Imported:
    """Import ``path`` into the scene; its ending says what it is.

    Args:
        rig_map: of several armatures, the one that fits it is taken.
        skin: whether its meshes are wanted, or its motion alone.
        name: what error texts call the file; its own name by default.
        take: the animation to play; by default the longest that moves.

    Raises:
        InputError: the importer refuses the file, no armature in it can be used, a transform is not finite or zero, or
            there is no such take.
    """
    name = name or Path(path).name
    before = set(bpy.data.objects)
    actions_before = set(bpy.data.actions)
    for index, action in enumerate(
        bpy.data.actions
    ):  # names of the new ones must not be changed for theirs
        action.name = f"earlier_{index}"
    known = read(path, name, take, skin=skin)
    new = [o for o in bpy.data.objects if o not in before]
    if not new:
        raise InputError(f"{name}: Blender finds nothing in it; export the file again")
    warnings: list[str] = []
    if skin:
        _leave_out_hidden(new, warnings)
    else:
        _remove(o for o in new if o.type == "MESH")
    new = [o for o in bpy.data.objects if o not in before]
    armature = _choose_armature(name, new, rig_map, warnings)
    stored = _take_anchors(name, new, armature, known.anchors) if skin else None
    new = [o for o in bpy.data.objects if o not in before]
    skinned, props = _belonging(name, new, armature, warnings)
    found, missing = _secure_textures(name, known.names, warnings)
    if missing:
        warnings.append(
            f"textures not inside the file, left out: {', '.join(missing)}; "
            "export with embedded media to keep them"
        )
    _check_transforms(name, armature, [*skinned, *props])
    actions = [a for a in bpy.data.actions if a not in actions_before]
    _quiet_tracks([armature, *skinned, *props])
    takes = _read_takes(name, armature, actions, known.takes)
    meshes = sorted([*skinned, *props], key=lambda o: o.name)
    imported = Imported(
        armature=armature,
        meshes=meshes,
        props=props,
        takes=takes,
        take=None,
        fps=bpy.context.scene.render.fps / bpy.context.scene.render.fps_base,
        textures_found=found,
        textures_missing=missing,
        warnings=warnings,
        humanoid=known.humanoid,
        stored=stored,
    )
    chosen = _choose_take(name, takes, take, warnings)
    if chosen is not None:
        play(imported, chosen)
    return imported


def play(imported: Imported, take: Take) -> None:
    """Let the armature, and the shapes of its meshes, follow ``take``."""
    imported.take = take
    imported.armature.animation_data_create()
    imported.armature.animation_data.action = take.action
    imported.armature.animation_data.action_slot = take.slot
    for mesh in imported.meshes:
        shapes = mesh.data.shape_keys
        for owner, kind in ((mesh, "OB"), (shapes, "KE")):
            if owner is None:
                continue
            slot = next((s for s in take.action.slots if s.identifier == kind + owner.name), None)
            if slot is not None:
                owner.animation_data_create()
                owner.animation_data.action = take.action
                owner.animation_data.action_slot = slot
            elif owner.animation_data is not None:
                owner.animation_data.action = None


@dataclass(frozen=True)
class FileFacts:
    """What a reader knows beyond the scene: what the file called its images and its animations (by their names here), its
    own table of the humanoid's bones, and the landmarks that it carries."""

    names: dict[str, str] = field(default_factory=dict)
    humanoid: dict[str, str] = field(default_factory=dict)
    takes: dict[str, str] = field(default_factory=dict)
    anchors: dict[str, dict[str, dict[str, list]]] = field(default_factory=dict)


def _read_fbx(path: Path, name: str, take: str | None, skin: bool) -> FileFacts:
    prepared = fbx_file.prepare(path.read_bytes(), name)
    _import(prepared.data, "file.fbx", name, lambda p: bpy.ops.wm.fbx_import(filepath=p))
    return FileFacts(prepared.names)


def _read_gltf(path: Path, name: str, take: str | None, skin: bool) -> FileFacts:
    document, binary = gltf_file.read(path.read_bytes(), name)
    render = bpy.context.scene.render
    render.fps, render.fps_base = gltf_file.frame_rate(document, binary, take), 1.0
    names = gltf_file.clips(document)
    humanoid, anchors = gltf_file.humanoid(document), gltf_file.anchors(document, name)
    _enable("io_scene_gltf2")
    prepared = gltf_file.prepare(document, binary, name, take, meshes=skin)
    _import(
        prepared, "file.glb", name,
        lambda p: bpy.ops.import_scene.gltf(filepath=p, disable_bone_shape=True, import_select_created_objects=False),
    )  # fmt: skip
    takes = {gltf_file.INNER_NAME.format(i): n for i, n in enumerate(names)}
    _take_subsurface()
    return FileFacts(humanoid=humanoid, takes=takes, anchors=anchors)


def _take_subsurface() -> None:
    """glTF has no word for subsurface scattering; files made here say it beside the material."""
    for material in bpy.data.materials:
        share = material.get("posefactory_subsurface")
        shader = material.node_tree and material.node_tree.nodes.get("Principled BSDF")
        if isinstance(share, float) and 0 < share <= 1 and shader is not None:
            shader.inputs["Subsurface Weight"].default_value = share
            shader.inputs["Subsurface Radius"].default_value = SKIN_RADIUS
            shader.inputs["Subsurface Scale"].default_value = 0.004


def _take_anchors(
    name: str,
    new: list[bpy.types.Object],
    armature: bpy.types.Object,
    said: dict[str, dict[str, dict[str, list]]],
) -> StoredAnchors | None:
    """Take the mesh that carries landmarks out of the scene, and keep what it says.

    Raises:
        InputError: the file names landmarks that its mesh does not have.
    """
    there = [o for o in bpy.data.objects if o in new]
    mesh = next((o for o in there if o.type == "MESH" and o.name.startswith(ANCHOR_MESH)), None)
    if mesh is None:
        return None
    points = np.empty(len(mesh.data.vertices) * 3, np.float32)
    mesh.data.vertices.foreach_get("co", points)
    to_armature = np.array(armature.matrix_world.inverted() @ mesh.matrix_world)
    points = points.reshape(-1, 3) @ to_armature[:3, :3].T + to_armature[:3, 3]
    bones = [b.name for b in armature.data.bones]
    weights = np.zeros((len(points), len(bones)))
    groups = [bones.index(g.name) if g.name in bones else -1 for g in mesh.vertex_groups]
    for i, vertex in enumerate(mesh.data.vertices):
        for group in vertex.groups:
            if groups[group.group] >= 0:
                weights[i, groups[group.group]] += group.weight
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    bpy.data.objects.remove(mesh, do_unlink=True)
    rows = [r for kind in said.values() for r in kind.values()]
    if any(v >= len(points) for r in rows for v in (*r["vertices"], *(c for t in r["patch"] for c in t))):  # fmt: skip
        raise InputError(f"{name}: its landmarks are on vertices that it does not have; build the person again")  # fmt: skip
    if not said:
        return None
    return StoredAnchors(points, bones, weights, said["landmarks"], said["markers"])


def _read_bvh(path: Path, name: str, take: str | None, skin: bool) -> FileFacts:
    data = path.read_bytes()
    header = bvh_file.check(data, name)
    _enable("io_anim_bvh")
    _import(data, "motion.bvh", name, lambda p: bpy.ops.import_anim.bvh(filepath=p))
    render = bpy.context.scene.render  # the importer rounds to whole frames a second
    render.fps = max(round(header.fps), 1)
    render.fps_base = render.fps / header.fps
    return FileFacts()


def read(path: str, name: str, take: str | None = None, *, skin: bool = True) -> FileFacts:
    """Let the importer of a file's kind bring its objects into the scene, as they are.

    Raises:
        InputError: the file is at fault.
    """
    reader = _READERS.get(Path(path).suffix.lower(), _read_fbx)
    return reader(Path(path), name, take, skin)


_READERS = {
    ".fbx": _read_fbx,
    ".glb": _read_gltf,
    ".gltf": _read_gltf,
    ".vrm": _read_gltf,
    ".bvh": _read_bvh,
}


def _enable(addon: str) -> None:
    """Importers other than FBX's are add-ons, which empty settings leave off."""
    import addon_utils

    addon_utils.enable(addon)


def _import(data: bytes, file: str, name: str, operator: Callable[[str], set[str]]) -> None:
    """Let Blender read a prepared file from an empty folder of its own, so that no path leads anywhere."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file
        path.write_bytes(data)
        try:
            outcome = operator(str(path))
        except RuntimeError as error:
            said = str(error).replace("Error:", "").replace(str(path), name)
            reason = " ".join(said.strip().splitlines()[-1:]) or "no reason given"
            raise InputError(
                f"{name}: Blender cannot read it as {path.suffix[1:].upper()} ({' '.join(reason.split())}); export the file again"
            ) from error
        if "FINISHED" not in outcome:
            raise InputError(f"{name}: Blender finds nothing in it; export the file again")


def _quiet_tracks(objects: list[bpy.types.Object]) -> None:
    """Remove tracks of the non-linear editor, which importers make of animations: the one take that plays is chosen below."""
    for obj in objects:
        shapes = obj.data.shape_keys if obj.type == "MESH" else None
        for owner in (obj, shapes):
            if owner is None or owner.animation_data is None:
                continue
            for track in list(owner.animation_data.nla_tracks):
                owner.animation_data.nla_tracks.remove(track)


def _remove(objects: Iterable[bpy.types.Object]) -> None:
    for obj in objects:
        bpy.data.objects.remove(obj, do_unlink=True)


def _leave_out_hidden(new: list[bpy.types.Object], warnings: list[str]) -> None:
    """Meshes that the file hides are helpers of its maker; they must neither show nor occlude."""
    meshes = [o for o in new if o.type == "MESH"]
    hidden = [o for o in meshes if o.hide_viewport or o.hide_render or o.hide_get()]
    if not hidden:
        return
    if len(hidden) == len(meshes):
        warnings.append("every mesh of the file is hidden; they are shown all the same")
        for obj in hidden:
            obj.hide_viewport = obj.hide_render = False
            obj.hide_set(False)
        return
    names = ", ".join(sorted(o.name for o in hidden))
    warnings.append(f"hidden in the file, left out: {names}")
    _remove(hidden)


def _choose_armature(
    name: str, new: list[bpy.types.Object], rig_map: dict[str, Any], warnings: list[str]
) -> bpy.types.Object:
    """The armature that has most of the rig map's bones."""
    armatures = sorted((o for o in new if o.type == "ARMATURE"), key=lambda o: o.name)
    if not armatures:
        if not any(o.type == "MESH" for o in new):
            raise InputError(f"{name}: no mesh and no armature in it; {RERIG}")
        raise InputError(f"{name}: no armature, so nothing can be posed; {RERIG}")

    def fit(armature: bpy.types.Object) -> int:
        bones = [b.name for b in armature.data.bones]
        mixamo = sum(any(b.endswith(wanted) for b in bones) for wanted in rig_map["required"])
        other = best_fit(bones, rig_map.get("namings", []), rig_map["required"])
        return max(mixamo, 0 if other is None else len(rig_map["required"]) - len(other.missing))

    fits = {a.name: fit(a) for a in armatures}
    best = max(armatures, key=lambda a: fits[a.name])
    whole = [a.name for a in armatures if fits[a.name] == len(rig_map["required"])]
    if len(whole) > 1:
        raise InputError(
            f"{name}: {len(whole)} people in it (armatures {', '.join(whole)}); export one character a file"
        )
    others = [a for a in armatures if a is not best]
    if others:
        dependants = [
            o
            for o in new
            if o.type == "MESH" and (o.find_armature() in others or o.parent in others)
        ]
        kept = [m for m in dependants if _rebind(m, best) or _hang(m, best)]
        lost = [o for o in dependants if o not in kept]
        names = ", ".join(a.name for a in others)
        what = f"; {', '.join(m.name for m in kept)} hang on the person's now" if kept else ""
        what += f"; left out: {', '.join(o.name for o in lost)}" if lost else ""
        warnings.append(f"more armatures than the person's ({best.name}): {names}{what}")
        _remove([*lost, *others])
    return best


def _rebind(mesh: bpy.types.Object, armature: bpy.types.Object) -> bool:
    """Let a mesh that is skinned to another armature follow this one, if this one has all its bones; whether it does."""
    weighted = {g.group for v in mesh.data.vertices for g in v.groups if g.weight > 0}
    used = {mesh.vertex_groups[i].name for i in weighted}
    modifiers = [m for m in mesh.modifiers if m.type == "ARMATURE"]
    if not used or not modifiers or not used <= {b.name for b in armature.data.bones}:
        return False
    world = mesh.matrix_world.copy()
    mesh.parent = armature
    mesh.parent_type = "OBJECT"
    mesh.matrix_world = world
    for modifier in modifiers:
        modifier.object = armature
    return True


def _hang(mesh: bpy.types.Object, armature: bpy.types.Object) -> bool:
    """Let a mesh of another armature hang on the nearest bone of this one, if it is small and near enough to be worn or carried."""
    corners = np.array([mesh.matrix_world @ mathutils.Vector(c) for c in mesh.bound_box])
    heads = np.array([armature.matrix_world @ b.head_local for b in armature.data.bones])
    height = float(np.ptp(heads[:, 2])) or 1.0
    middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
    distances = np.linalg.norm(heads - middle, axis=1)
    nearest = int(np.argmin(distances))
    if np.ptp(corners, axis=0).max() > WORN * height or distances[nearest] > WORN / 2 * height:
        return False
    world = mesh.matrix_world.copy()
    for modifier in [m for m in mesh.modifiers if m.type == "ARMATURE"]:
        mesh.modifiers.remove(modifier)
    mesh.parent, mesh.parent_type = armature, "BONE"
    mesh.parent_bone = armature.data.bones[nearest].name
    bpy.context.view_layer.update()
    mesh.matrix_world = world
    return True


def _belonging(
    name: str,
    new: list[bpy.types.Object],
    armature: bpy.types.Object,
    warnings: list[str],
) -> tuple[list[bpy.types.Object], list[bpy.types.Object]]:
    """The meshes skinned to the armature, and those that hang on a bone of it; everything else is removed."""
    left = [o for o in bpy.data.objects if o in new]
    meshes = [o for o in left if o.type == "MESH"]
    skinned = [m for m in meshes if m.find_armature() is armature and len(m.data.polygons)]
    props = [
        m for m in meshes if m not in skinned and len(m.data.polygons) and _bone_of(m, armature)
    ]
    loose = [m for m in meshes if m not in skinned and m not in props]
    for mesh in loose:
        warnings.append(
            f"{mesh.name}: a mesh that neither is skinned to the armature nor hangs on a bone is left out"
        )
    if meshes and not skinned:
        raise InputError(f"{name}: no mesh is skinned to the armature; {RERIG}")
    _remove(
        [*loose, *(o for o in left if o.type in {"CAMERA", "LIGHT", "CURVE", "SURFACE", "FONT"})]
    )
    return skinned, props


def _bone_of(obj: bpy.types.Object, armature: bpy.types.Object) -> str | None:
    """The bone that ``obj`` hangs on, itself or by its parents."""
    here = obj
    while here.parent is not None:
        if here.parent is armature:
            return here.parent_bone if here.parent_type == "BONE" else None
        here = here.parent
    return None


def bone_of_prop(imported: Imported, prop: bpy.types.Object) -> str:
    """The bone that a mesh of ``imported.props`` hangs on."""
    return _bone_of(prop, imported.armature) or ""


def _secure_textures(
    name: str, names: dict[str, str], warnings: list[str]
) -> tuple[list[str], list[str]]:
    """Keep images packed in the file, and leave the others out.

    Args:
        names: what the file called an image, by the name that stood in its place.
    """
    found: list[str] = []
    missing: list[str] = []
    pixels = 0
    for image in list(bpy.data.images):
        if image.source in {"VIEWER", "GENERATED"}:
            continue
        said = names.get(Path(image.filepath).name, image.name)
        shown = Path(said.replace("\\", "/")).name or said
        if image.packed_file is not None:
            found.append(shown)
            pixels += _pixels(image)
            if pixels > MAX_TEXTURE_PIXELS:
                raise InputError(
                    f"{name}: textures of over {MAX_TEXTURE_PIXELS // 10**6} million pixels; make them smaller"
                )
            image.name = shown
            continue
        missing.append(shown)
        for material in bpy.data.materials:
            if material.node_tree is None:
                continue
            for node in list(material.node_tree.nodes):
                if node.type == "TEX_IMAGE" and node.image == image:
                    _stand_in(node)
                    material.node_tree.nodes.remove(node)
        bpy.data.images.remove(image)
    for material in bpy.data.materials:
        _tell_colour_from_normals(material, warnings)
    return sorted(found), sorted(missing)


def _stand_in(texture: bpy.types.Node) -> None:
    """Let what a missing texture coloured be mid-grey: the shader's own colour behind a texture is mostly pure white."""
    for link in texture.outputs["Color"].links:
        if link.to_socket.type == "RGBA":
            link.to_socket.default_value = (*MID_GREY, 1.0)


def _pixels(image: bpy.types.Image) -> int:
    """Width times height by the header of a packed image, which is not decoded for it; 0 if no reader knows it."""
    library = image_library()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        path.write_bytes(image.packed_file.data)
        opened = library.ImageInput.open(str(path))
        if opened is None:
            library.geterror()  # else it stands before the next error
            return 0
        spec = opened.spec()
        opened.close()
        return int(spec.width) * int(spec.height)


def _tell_colour_from_normals(material: bpy.types.Material, warnings: list[str]) -> None:
    """Unlink a normal map that is the very image of the colour: one of the two overwrote the other in the file."""
    if material.node_tree is None:
        return
    links = [
        (link, link.from_node.image)
        for link in material.node_tree.links
        if link.from_node.type == "TEX_IMAGE" and link.from_node.image is not None
    ]
    colours = {i.name for link, i in links if link.to_socket.name == "Base Color"}
    for link, image in links:
        if link.to_node.type == "NORMAL_MAP" and image.name in colours:
            warnings.append(
                f"{material.name}: the file embeds one image as colour and as normal map; it is used as colour"
            )
            image.colorspace_settings.name = "sRGB"
            material.node_tree.links.remove(link)
            normal_map = [n for n in material.node_tree.nodes if n.type == "NORMAL_MAP"]
            for node in normal_map:
                material.node_tree.nodes.remove(node)
            return


@functools.cache
def image_library() -> ModuleType:
    """OpenImageIO, which every Blender ships; the bpy package keeps it out of the import path."""
    try:
        import OpenImageIO
    except ImportError:
        python = Path(bpy.utils.resource_path("LOCAL")) / "python"
        places = python.glob("lib/python*/site-packages")
        sys.path.extend(str(p) for p in places if str(p) not in sys.path)
        import OpenImageIO
    return OpenImageIO


def _check_transforms(
    name: str, armature: bpy.types.Object, meshes: list[bpy.types.Object]
) -> None:
    bpy.context.view_layer.update()
    for obj in [armature, *meshes]:
        matrix = np.array(obj.matrix_world)
        if not np.isfinite(matrix).all():
            raise InputError(
                f"{name}: {obj.name} has a transform that is not a number; export again"
            )
        if abs(np.linalg.det(matrix[:3, :3])) < 1e-12:
            raise InputError(
                f"{name}: {obj.name} is scaled to zero; apply a scale above zero and export again"
            )
    for bone in armature.data.bones:
        if not np.isfinite(np.array(bone.matrix_local)).all():
            raise InputError(f"{name}: bone {bone.name} is not a number; export again")
    for mesh in meshes:
        points = np.empty(len(mesh.data.vertices) * 3, np.float32)
        mesh.data.vertices.foreach_get("co", points)
        if not np.isfinite(points).all():
            raise InputError(f"{name}: {mesh.name} has vertices that are not numbers; export again")


def _read_takes(
    name: str,
    armature: bpy.types.Object,
    actions: list[bpy.types.Action],
    names: dict[str, str],
) -> list[Take]:
    """The armature's own curves in each action; an action that moves other things only is no take."""
    takes = []
    for action in actions:
        slot = _slot_for(armature, action)
        curves = _curves(action, slot)
        if not curves:
            continue
        low, high, moves = np.inf, -np.inf, False
        for curve in curves:
            keys = np.empty(len(curve.keyframe_points) * 2, np.float32)
            curve.keyframe_points.foreach_get("co", keys)
            if not len(keys):
                continue
            frames, values = keys[::2], keys[1::2]
            if not (np.isfinite(keys).all() and np.abs(values).max() < MAX_KEY_VALUE):
                raise InputError(
                    f"{name}: its animation {action.name} has keys that are no pose ({curve.data_path}); export again"
                )
            low, high = min(low, float(frames.min())), max(high, float(frames.max()))
            moves = moves or (len(values) > 1 and float(np.ptp(values)) > 1e-4)
        if not np.isfinite(low):
            continue
        start, end = round(low), round(high)
        takes.append(
            Take(
                _take_name(action.name, names), start, end, moves and end - start >= 2, action, slot
            )
        )
    return takes


def _take_name(action_name: str, names: dict[str, str]) -> str:
    """What the file calls the take; Blender puts the object's name before that of an FBX."""
    if action_name in names:
        return names[action_name]
    return action_name.rpartition("|")[2] or action_name


def _slot_for(armature: bpy.types.Object, action: bpy.types.Action) -> Any:
    """The slot of an action that is the armature's; its shape keys and other objects have slots of their own."""
    own = "OB" + armature.name
    slots = list(action.slots)
    exact = next((s for s in slots if s.identifier == own), None)
    if exact is not None:
        return exact
    bones = 'pose.bones["'
    for slot in slots:
        if any(c.data_path.startswith(bones) for c in _curves(action, slot)):
            return slot
    return None


def _curves(action: bpy.types.Action, slot: Any) -> list[bpy.types.FCurve]:
    if slot is None:
        return []
    found = []
    for layer in action.layers:
        for strip in layer.strips:
            bag = strip.channelbag(slot)
            if bag is not None:
                found += list(bag.fcurves)
    return found


def _choose_take(
    name: str, takes: list[Take], wanted: str | None, warnings: list[str]
) -> Take | None:
    if wanted is not None:
        named = next((t for t in takes if t.name == wanted), None)
        if named is None:
            listed = ", ".join(t.name for t in takes) or "none"
            raise InputError(f"{name}: no take {wanted!r} in it; its takes are: {listed}")
        return named
    if not takes:
        return None
    moving = [t for t in takes if t.moves]
    chosen = max(moving or takes, key=lambda t: t.frames)
    if len(moving) > 1:
        others = ", ".join(t.name for t in moving if t is not chosen)
        warnings.append(
            f"several takes move; the longest, {chosen.name}, is used and not {others}: [takes] in posefactory.toml "
            "chooses another"
        )
    return chosen
