"""Cast a motion on a skin, whatever their bones are called and however they stand in their rest poses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from blender_scripts.errors import InputError
from blender_scripts.formats.naming import HUMANOID
from blender_scripts.stage import importing
from blender_scripts.stage.character import Character
from blender_scripts.stage.importing import Imported
from blender_scripts.stage.retarget import Retargeted, retarget, scaled_to
from blender_scripts.stage.rig import Rig, read_rig
from blender_scripts.stage.skeleton import Motion, Skeleton, Surface

#: So many points of a skin stand for all of it where it must not sink into the floor.
SURFACE_POINTS = 3_000
#: The deformed skin is held against the floor in so many frames; so little under it is left alone, metres.
SKIN_FRAMES, SKIN_SLACK = 40, 0.003
#: Frames that a cast may have; a longer take is cut into clips by its owner.
MAX_FRAMES = 20_000


@dataclasses.dataclass(frozen=True)
class Clip:
    """A motion file on the stage: its armature, its rig, and the frames of the take that plays (both included)."""

    imported: Imported
    rig: Rig
    start: int
    end: int
    moves: bool

    @property
    def frames(self) -> range:
        """Every frame of it."""
        return range(self.start, self.end + 1)

    def remove(self) -> None:
        """Remove its armature from the scene."""
        bpy.data.objects.remove(self.imported.armature, do_unlink=True)


def load_clip(path: str, rig_map: dict[str, Any], name: str, take: str | None = None) -> Clip:
    """Bring a motion file on the stage, without its skin.

    Raises:
        InputError: as ``importing.load`` and ``rig.read_rig``; or it holds neither a motion nor a pose.
    """
    imported = importing.load(path, rig_map, name, take, skin=False)
    rig = read_rig(name, imported.armature, rig_map, imported.humanoid)
    if imported.take is None:
        raise InputError(f"{name}: holds neither a motion nor a pose to cast")
    if imported.take.frames > MAX_FRAMES:
        raise InputError(
            f"{name}: {imported.take.frames} frames, and at most {MAX_FRAMES} are cast; cut it into clips"
        )
    return Clip(imported, rig, imported.take.start, imported.take.end, imported.take.moves)


def cast(character: Character, clip: Clip, *, touch: bool = True) -> Curves:
    """The motion of ``clip`` for ``character``, a key on each frame; see ``retarget``, and ``play``."""
    with _still(character):
        skeleton, names = read_skeleton(character.armature, character.rig)
        source, motion = read_motion(clip)
        result = retarget(source, motion, skeleton, _surface(character, names), touch=touch)
    return _above_floor(character, _curves(character, clip, result, names))


def aligned_motion(
    character: Character, clip: Clip, bones: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """A clip at the skin's size: (F, J, 3) where joints of the humanoid are, in the skin's world, and (F, 2) which foot stands."""
    with _still(character):
        skeleton, _ = read_skeleton(character.armature, character.rig)
        source, motion = read_motion(clip)
    return scaled_to(source, motion, skeleton, bones)


def _above_floor(character: Character, curves: Curves) -> Curves:
    """The curves with the body raised where its skin, as it is deformed, is still under the floor: bones alone do not show it.

    The skin is looked at in some frames; what they need is given to the frames around them too.
    """
    play(character, curves)
    count = len(curves.rotations)
    chosen = np.unique(np.linspace(0, count - 1, min(SKIN_FRAMES, count)).round().astype(int))
    depth = np.zeros(len(chosen))
    for index, frame in enumerate(chosen):
        character.at_frame(curves.start + int(frame))
        depth[index] = max(-float(character.skin_vertices()[:, 2].min()) - SKIN_SLACK, 0.0)
    if not depth.any():
        return curves
    widest = np.maximum(depth, np.maximum(np.append(depth[1:], 0.0), np.append(0.0, depth[:-1])))
    lift = np.interp(np.arange(count), chosen, widest)
    world = np.zeros((count, 3))
    world[:, 2] = lift
    locations = curves.locations + world @ _to_bone(character).T
    return dataclasses.replace(curves, locations=locations.astype(np.float32))


def _to_bone(character: Character) -> np.ndarray:
    """(3, 3) from world axes to those in which Blender keys where the hips are."""
    armature = character.armature
    hips = armature.data.bones[character.rig.names["Hips"]]
    return np.linalg.inv(
        np.array(armature.matrix_world)[:3, :3] @ np.array(hips.matrix_local)[:3, :3]
    )


@dataclasses.dataclass(frozen=True)
class Curves:
    """A cast as it is stored: what Blender's pose bones are keyed with, frame by frame.

    ``bones`` are those that move; ``rotations`` (F, bones, 4) quaternions w, x, y, z; ``hips`` the bone that travels, and
    ``locations`` (F, 3) of it, both in Blender's pose space of the armature. ``start``: the first frame.
    """

    bones: list[str]
    rotations: np.ndarray
    hips: str
    locations: np.ndarray
    start: int
    fps: float
    moves: bool
    take: str

    def save(self, path: Path) -> None:
        """Write it as a compressed npz of plain arrays."""
        arrays = dataclasses.asdict(self)
        with path.open("wb") as file:
            np.savez_compressed(file, **{k: np.asarray(v) for k, v in arrays.items()})

    @classmethod
    def read(cls, path: Path) -> Curves:
        """What ``save`` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(
                [str(b) for b in stored["bones"]], stored["rotations"], str(stored["hips"]), stored["locations"],
                int(stored["start"]), float(stored["fps"]), bool(stored["moves"]), str(stored["take"]),
            )  # fmt: skip


def _curves(character: Character, clip: Clip, result: Retargeted, names: list[str]) -> Curves:
    """The curves of a cast, in the skin's own bones and units."""
    armature = character.armature
    moved = [i for i, m in enumerate(result.moved) if m]
    hips = armature.data.bones[character.rig.names["Hips"]]
    to_bone = _to_bone(character)
    take = clip.imported.take
    return Curves(
        [names[i] for i in moved],
        result.local[:, moved].astype(np.float32),
        hips.name,
        (result.hips_offset @ to_bone.T).astype(np.float32),
        clip.start,
        clip.imported.fps,
        clip.moves,
        "" if take is None else take.name,
    )


def play(character: Character, curves: Curves) -> None:
    """Key the character with ``curves``, and let it play them.

    Raises:
        InputError: they are those of another skin.
    """
    armature = character.armature
    missing = [b for b in (*curves.bones, curves.hips) if b not in armature.pose.bones]
    if missing:
        raise InputError(
            f"{character.name}: the cast moves {missing[0]}, a bone that the skin lacks; cast it again"
        )
    armature.animation_data_clear()
    armature.animation_data_create()
    action = bpy.data.actions.new("cast")
    armature.animation_data.action = action
    frames = range(curves.start, curves.start + len(curves.rotations))
    for bone in armature.pose.bones:
        bone.rotation_mode = "QUATERNION"
    for index, bone in enumerate(curves.bones):
        path = armature.pose.bones[bone].path_from_id("rotation_quaternion")
        _key(action, armature, path, frames, curves.rotations[:, index])
    path = armature.pose.bones[curves.hips].path_from_id("location")
    _key(action, armature, path, frames, curves.locations)
    slot = armature.animation_data.action_slot
    take = importing.Take(curves.take, frames[0], frames[-1], curves.moves, action, slot)
    character.imported.take = take
    character.imported.fps = curves.fps
    render = bpy.context.scene.render
    render.fps = max(round(curves.fps), 1)
    render.fps_base = render.fps / curves.fps


def read_skeleton(armature: bpy.types.Object, rig: Rig) -> tuple[Skeleton, list[str]]:
    """An armature's rest pose in the world, and the names of its bones in the skeleton's order."""
    bones = list(armature.data.bones)  # parents come before their children
    names = [b.name for b in bones]
    index = {n: i for i, n in enumerate(names)}
    world = np.array(armature.matrix_world)
    local = np.array([np.array(b.matrix_local) for b in bones])
    parents = np.array([index[b.parent.name] if b.parent is not None else -1 for b in bones])
    known = {b: index[rig.names[b]] for b in HUMANOID if b in rig.names}
    heads = local[:, :3, 3] @ world[:3, :3].T + world[:3, 3]
    return Skeleton(known, parents, _turns(world[:3, :3] @ local[:, :3, :3]), heads), names


def read_motion(clip: Clip) -> tuple[Skeleton, Motion]:
    """A clip's skeleton, and what it does in each frame, as Blender evaluates it; in the world of the file."""
    armature = clip.imported.armature
    skeleton, names = read_skeleton(armature, clip.rig)
    world = np.array(armature.matrix_world)
    pose = [armature.pose.bones[n] for n in names]
    matrices = np.empty((len(clip.frames), len(names), 4, 4))
    for i, frame in enumerate(clip.frames):
        bpy.context.scene.frame_set(frame)
        matrices[i] = [b.matrix for b in pose]
    heads = matrices[..., :3, 3] @ world[:3, :3].T + world[:3, 3]
    motion = Motion(_turns(world[:3, :3] @ matrices[..., :3, :3]), heads, clip.imported.fps)
    if not (np.isfinite(motion.heads).all() and np.isfinite(motion.rotations).all()):
        raise InputError(
            f"{clip.imported.armature.name}: its motion has poses that are no numbers; export it again"
        )
    return skeleton, motion


class _still:
    """While it lasts, the skin neither moves nor is deformed: only the motion's armature is evaluated at each frame."""

    def __init__(self, character: Character) -> None:
        self._character = character

    def __enter__(self) -> None:
        armature = self._character.armature
        if armature.animation_data is not None:
            armature.animation_data.action = None
        armature.data.pose_position = "REST"
        bpy.context.view_layer.update()
        for mesh in self._character.meshes:
            mesh.hide_viewport = True

    def __exit__(self, *error: object) -> None:
        for mesh in self._character.meshes:
            mesh.hide_viewport = False
        self._character.armature.data.pose_position = "POSE"


def _turns(matrices: np.ndarray) -> np.ndarray:
    """The rotations nearest to matrices (..., 3, 3) that may scale or mirror, by their axes in turn (Gram-Schmidt)."""
    y = matrices[..., :, 1]  # a Blender bone points along y
    y = y / np.maximum(np.linalg.norm(y, axis=-1, keepdims=True), 1e-12)
    x = matrices[..., :, 0]
    x = x - np.sum(x * y, axis=-1, keepdims=True) * y
    x = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def _surface(character: Character, names: list[str]) -> Surface:
    """Points of the skin in its rest pose, each with its dominant bone."""
    bones = character.surface.vertex_bone
    index = {n: i for i, n in enumerate(names)}
    order = np.array([index[n] for n in character.surface.bone_names])
    owned = np.flatnonzero(bones >= 0)
    feet = {f"{s}{b}" for s in ("Left", "Right") for b in ("Foot", "ToeBase")}
    soles = {names.index(character.rig.names[b]) for b in feet if character.rig.has(b)}
    on_feet = owned[np.isin(order[bones[owned]], list(soles))]
    others = owned[:: max(len(owned) // SURFACE_POINTS, 1)]
    low = on_feet[np.argsort(character.rest_vertices[on_feet, 2])[:SURFACE_POINTS]]
    chosen = np.unique(np.concatenate([others, low]))
    return Surface(character.rest_vertices[chosen], order[bones[chosen]])


def _key(
    action: bpy.types.Action,
    target: bpy.types.Object,
    data_path: str,
    frames: range,
    values: np.ndarray,
) -> None:
    """Key all frames at once (one by one, a cast took seven times as long); ``values`` (frames, axes)."""
    for axis in range(values.shape[1]):
        curve = action.fcurve_ensure_for_datablock(target, data_path, index=axis)
        curve.keyframe_points.add(len(frames))
        points = np.column_stack([frames, values[:, axis]])
        curve.keyframe_points.foreach_set("co", points.ravel())
        curve.update()
