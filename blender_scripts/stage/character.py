"""A character on the stage: metre-sized, upright, feet on z = 0, with its joints and its surface."""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import mathutils
import numpy as np

from blender_scripts.stage import fbx
from blender_scripts.stage.errors import InputError
from blender_scripts.stage.rig import Rig, facing, read_rig

#: Heights that count as a person's, in metres; a file in centimetres or inches of decimals is scaled in.
PLAUSIBLE_HEIGHT = (0.4, 3.0)
SCALES = (1.0, 0.01, 100.0, 0.1, 10.0, 0.001, 1000.0)


@dataclass
class Surface:
    """All meshes of a character as one: who owns each vertex and each triangle.

    ``bone_names`` are the armature's; ``vertex_bone`` (V,) is each vertex's dominant bone as an index
    into it, -1 where none; ``triangles`` (T, 3) index vertices; ``polygon_bone`` maps a mesh name to
    the dominant bone of each of its polygons; ``offsets`` maps a mesh name to its first vertex.
    """

    bone_names: list[str]
    vertex_bone: np.ndarray
    triangles: np.ndarray
    polygon_bone: dict[str, np.ndarray]
    offsets: dict[str, int]


class Character:
    """An imported skin, brought to size. Positions are metres in Blender's world frame (z up)."""

    def __init__(self, name: str, imported: fbx.Imported, rig: Rig) -> None:
        self.name = name
        self.imported = imported
        self.rig = rig
        self.armature = imported.armature
        self.meshes = imported.meshes
        self.root = bpy.data.objects.new("stage_root", None)
        bpy.context.scene.collection.objects.link(self.root)
        self.scale_found = float(np.mean(np.abs(self.armature.matrix_world.to_scale())))
        for obj in [self.armature, *self.meshes]:
            if obj.parent is None:
                obj.parent = self.root
        self._bring_to_size()
        self.surface = self._read_surface()

    def joint(self, bone: str) -> np.ndarray:
        """Where the head of ``bone`` (a name of the rig map) is now; shape (3,)."""
        pose_bone = self.armature.pose.bones[self.rig.names[bone]]
        return np.array(self.armature.matrix_world @ pose_bone.head)

    def vertices(self) -> np.ndarray:
        """The deformed surface now, all meshes in order; shape (V, 3)."""
        depsgraph = bpy.context.evaluated_depsgraph_get()
        return np.concatenate([_world_vertices(m.evaluated_get(depsgraph)) for m in self.meshes])

    def facing(self) -> np.ndarray | None:
        """The horizontal direction of the torso now; see ``rig.facing``."""
        pairs = [(self.joint(a), self.joint(b)) for a, b in self.rig.map["lateral_pairs"]]
        return facing(pairs)

    def rest(self) -> None:
        """Take the bind pose."""
        self.armature.data.pose_position = "REST"
        bpy.context.view_layer.update()

    def at_frame(self, frame: int) -> None:
        """Take the pose of ``frame``."""
        self.armature.data.pose_position = "POSE"
        bpy.context.scene.frame_set(frame)

    @property
    def frame_range(self) -> tuple[int, int]:
        """First and last frame of the motion; (1, 1) without one."""
        action = self.imported.action
        if action is None:
            return (1, 1)
        start, end = action.frame_range
        return (round(start), round(end))

    def has_motion(self) -> bool:
        """Whether the pose changes over the frames; a T-pose of two equal frames does not count."""
        return action_moves(self.imported.action)

    def _bring_to_size(self) -> None:
        self.rest()
        points = self.vertices()
        # Up is where the head is: a file whose axes Blender could not tell is not laid down silently.
        hips, head = self.joint(self.rig.map["hips"]), self.joint(self.rig.map["head"])
        up = head - hips
        length = np.linalg.norm(up)
        if not np.isfinite(length) or length < 1e-9:
            raise InputError(f"{self.name}: hips and head are at one place; the rig has no size")
        if up[2] / length < 0.7:
            turn = mathutils.Vector(up).rotation_difference(mathutils.Vector((0, 0, 1)))
            self.root.rotation_euler = turn.to_euler()
            bpy.context.view_layer.update()
            points = self.vertices()
        height = float(np.ptp(points[:, 2]))
        for scale in SCALES:
            if PLAUSIBLE_HEIGHT[0] <= height * scale <= PLAUSIBLE_HEIGHT[1]:
                break
        else:
            raise InputError(
                f"{self.name}: {height:.3g} units tall, which is no person's height in metres, "
                "centimetres or millimetres; set the scale and export again"
            )
        self.scale_applied = scale
        self.height = height * scale
        self.root.scale = (scale, scale, scale)
        bpy.context.view_layer.update()
        lowest = float(self.vertices()[:, 2].min())
        self.root.location.z -= lowest
        bpy.context.view_layer.update()
        rest_facing = self.facing()
        if rest_facing is None:
            raise InputError(f"{self.name}: cannot tell left from right in its rest pose")
        self.rest_facing = rest_facing

    def _read_surface(self) -> Surface:
        names = [b.name for b in self.armature.data.bones]
        index = {n: i for i, n in enumerate(names)}
        dominant, triangles = [], []
        polygon_bone: dict[str, np.ndarray] = {}
        offsets: dict[str, int] = {}
        offset = 0
        for obj in self.meshes:
            for modifier in list(obj.modifiers):
                if modifier.type != "ARMATURE":  # anything else would change the topology
                    obj.modifiers.remove(modifier)
            mesh = obj.data
            groups = np.array([index.get(g.name, -1) for g in obj.vertex_groups], dtype=np.int32)
            bone = np.full(len(mesh.vertices), -1, np.int32)
            for i, vertex in enumerate(mesh.vertices):
                best = max(vertex.groups, key=lambda g: g.weight, default=None)
                if best is not None and best.weight > 0:
                    bone[i] = groups[best.group]
            mesh.calc_loop_triangles()
            tris = np.empty(len(mesh.loop_triangles) * 3, np.int32)
            mesh.loop_triangles.foreach_get("vertices", tris)
            owner = np.empty(len(mesh.loop_triangles), np.int32)
            mesh.loop_triangles.foreach_get("polygon_index", owner)
            tris = tris.reshape(-1, 3)
            # A polygon belongs to the bone of most of its corners, first corner first on a tie.
            per_triangle = bone[tris]
            majority = np.where(
                per_triangle[:, 1] == per_triangle[:, 2], per_triangle[:, 1], per_triangle[:, 0]
            )
            of_polygon = np.full(len(mesh.polygons), -1, np.int32)
            of_polygon[owner[::-1]] = majority[::-1]
            polygon_bone[obj.name] = of_polygon
            offsets[obj.name] = offset
            dominant.append(bone)
            triangles.append(tris + offset)
            offset += len(mesh.vertices)
        return Surface(
            names, np.concatenate(dominant), np.concatenate(triangles), polygon_bone, offsets
        )


def action_moves(action: bpy.types.Action | None) -> bool:
    """Whether any curve of ``action`` changes over more than two frames."""
    if action is None or action.frame_range[1] - action.frame_range[0] < 2:
        return False
    for curve in action.fcurves:
        values = np.empty(len(curve.keyframe_points) * 2, np.float32)
        curve.keyframe_points.foreach_get("co", values)
        if len(values) > 2 and np.ptp(values[1::2]) > 1e-4:
            return True
    return False


def load_character(path: str, rig_map: dict, name: str) -> Character:
    """Import a skin and bring it to size.

    Raises:
        InputError: as ``fbx.load`` and ``rig.read_rig``, and when the file has no skin.
    """
    imported = fbx.load(path)
    rig = read_rig(name, imported.armature, rig_map)
    if not imported.meshes:
        raise InputError(
            f"{name}: a motion without a skin; cast it on a character: "
            f"posefactory cast SKIN --motion {name}"
        )
    return Character(name, imported, rig)


def _world_vertices(obj: bpy.types.Object) -> np.ndarray:
    mesh = obj.data
    points = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", points)
    matrix = np.array(obj.matrix_world)
    return points.reshape(-1, 3).astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
