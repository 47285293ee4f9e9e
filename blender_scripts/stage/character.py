"""A character on the stage: metre-sized, upright, feet on z = 0, with its joints and its surface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import bpy
import mathutils
import numpy as np

from blender_scripts.errors import InputError
from blender_scripts.stage import importing
from blender_scripts.stage.rig import Rig, facing, read_rig

#: The least height of a person, in metres: a file is scaled by the power of ten that brings it from here to ten times it.
LEAST_HEIGHT = 0.4
#: A person so tall in units is as likely measured in inches as in centimetres.
INCHES_TALL = (50.0, 85.0)
METRES_PER_INCH = 0.0254


@dataclass
class Surface:
    """All meshes of a character as one: who owns each vertex and each triangle.

    A mesh that hangs on a bone as a whole (a hat, an eye, a tool) belongs to that bone.

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

    def __init__(self, name: str, imported: importing.Imported, rig: Rig) -> None:
        self.name = name
        self.imported = imported
        self.rig = rig
        self.armature = imported.armature
        self.meshes = imported.meshes
        self.root = bpy.data.objects.new("stage_root", None)
        bpy.context.scene.collection.objects.link(self.root)
        self.scale_found = float(np.mean(np.abs(self.armature.matrix_world.to_scale())))
        for obj in [self.armature, *self.meshes]:
            top = obj
            while top.parent is not None:  # glTF files hang the armature on nodes of their own
                top = top.parent
            if top is not self.root:
                top.parent = self.root
        self._mirror = 1.0
        self._bring_to_size()
        self.surface = self._read_surface()
        self.rest_vertices = self.vertices()
        self._check_facing()

    def joint(self, bone: str) -> np.ndarray:
        """Where the head of ``bone`` (a name of the rig map) is now; shape (3,)."""
        pose_bone = self.armature.pose.bones[self.rig.names[bone]]
        return np.array(self.armature.matrix_world @ pose_bone.head)

    def vertices(self) -> np.ndarray:
        """The deformed surface now, all meshes in order; shape (V, 3)."""
        depsgraph = bpy.context.evaluated_depsgraph_get()
        return np.concatenate([_world_vertices(m.evaluated_get(depsgraph)) for m in self.meshes])

    def all_points(self) -> np.ndarray:
        """As ``vertices``, and behind these the points of landmarks that the file carries; shape (V + K, 3)."""
        stored = self.imported.stored
        points = self.vertices()
        if stored is None:
            return points
        return np.concatenate([points, stored.posed(self.armature)])

    def skin_vertices(self) -> np.ndarray:
        """As ``vertices``, of the skinned meshes alone: what is carried makes nobody taller; shape (V, 3)."""
        depsgraph = bpy.context.evaluated_depsgraph_get()
        skinned = [m for m in self.meshes if m not in self.imported.props]
        return np.concatenate([_world_vertices(m.evaluated_get(depsgraph)) for m in skinned])

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
        take = self.imported.take
        return (1, 1) if take is None else (take.start, take.end)

    def has_motion(self) -> bool:
        """Whether the pose changes over the frames; a T-pose of two equal frames does not count."""
        return self.imported.take is not None and self.imported.take.moves

    def _bring_to_size(self) -> None:
        self.rest()
        points = self.skin_vertices()
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
            points = self.skin_vertices()
        if np.linalg.det(np.array(self.armature.matrix_world)[:3, :3]) < 0:
            self.imported.warnings.append(
                "mirrored by a negative scale, so that left and right were exchanged; it is mirrored back"
            )
            self._mirror = -1.0
        height = float(np.ptp(points[:, 2]))
        if not height > 0:
            raise InputError(f"{self.name}: its skin has no height; export it again")
        self.scale_applied = float(10.0 ** -np.floor(np.log10(height / LEAST_HEIGHT)))
        self.height = height * self.scale_applied
        self._tell_scale(height)
        self.root.scale = (self._mirror * self.scale_applied, *(self.scale_applied,) * 2)
        bpy.context.view_layer.update()
        lowest = float(self.skin_vertices()[:, 2].min())
        self.root.location.z -= lowest
        bpy.context.view_layer.update()
        rest_facing = self.facing()
        if rest_facing is None:
            raise InputError(f"{self.name}: cannot tell left from right in its rest pose")
        self.rest_facing = rest_facing

    def _tell_scale(self, height: float) -> None:
        if INCHES_TALL[0] <= height <= INCHES_TALL[1]:
            self.imported.warnings.append(
                f"{height:.3g} units tall, taken as {self.height:.2f} m; if these are inches, it is "
                f"{height * METRES_PER_INCH:.2f} m: set the unit of the file and export it again"
            )
        elif self.scale_applied != 1.0:
            self.imported.warnings.append(f"{height:.3g} units tall, taken as {self.height:.2f} m")

    def _check_facing(self) -> None:
        """Hold the facing that left and right joints give against the feet and the eyes.

        Raises:
            InputError: the feet point backwards and no eyes say otherwise: left and right are exchanged in the rig.
        """
        feet = self._feet_direction()
        if feet is None or feet @ self.rest_facing > 0:
            return
        eyes = [self.joint(e) for e in self.rig.map["eyes"] if self.rig.has(e)]
        head = self.joint(self.rig.map["head"])
        if eyes and (np.mean(eyes, axis=0) - head) @ self.rest_facing > 0.02:
            self.imported.warnings.append("its feet point backwards in the rest pose")
            return
        raise InputError(
            f"{self.name}: its toes point away from where its left and right sides say it faces; the bones of left and "
            "right are exchanged (or mirrored): rename them, or export it without mirroring"
        )

    def _feet_direction(self) -> np.ndarray | None:
        """Horizontal direction from the ankles to the toes, (3,): by toe bones, else by the surface of the feet."""
        directions = []
        for leg, toe in zip(self.rig.map["legs"], self.rig.map["toes"], strict=True):
            ankle = self.joint(leg[-1])
            if self.rig.has(toe):
                directions.append(self.joint(toe) - ankle)
                continue
            bone = self.surface.bone_names.index(self.rig.names[leg[-1]])
            foot = self.rest_vertices[self.surface.vertex_bone == bone]
            if len(foot):
                directions.append((foot.min(axis=0) + foot.max(axis=0)) / 2 - ankle)
        if not directions:
            return None
        mean = np.mean(directions, axis=0) * (1.0, 1.0, 0.0)
        return mean if np.linalg.norm(mean) > 0.01 * self.height else None

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
            if obj in self.imported.props:
                bone[:] = index.get(importing.bone_of_prop(self.imported, obj), -1)
            for i, vertex in enumerate(mesh.vertices if obj not in self.imported.props else ()):
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


def load_character(
    path: str, rig_map: dict[str, Any], name: str, take: str | None = None
) -> Character:
    """Import a skin and bring it to size.

    Args:
        name: what error texts call it.
        take: the animation to play; by default the longest that moves.

    Raises:
        InputError: as ``importing.load`` and ``rig.read_rig``, and when the file has no skin.
    """
    imported = importing.load(path, rig_map, name, take)
    rig = read_rig(name, imported.armature, rig_map, imported.humanoid)
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
