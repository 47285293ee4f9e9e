"""Cast motions on skins and measure the error and the time of each.

    python benchmarks/casting.py [FOLDER or FILE …] [--skins NAME=FILE …] [--to TABLE.md]

Without files: the motions that ship, on the shipped samples, on one of them brought to an A-pose, and on one with a child's
proportions. Each clip of each file is cast; the worst pairs are listed, and for each skin the mean and the worst figures.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

MOTIONS = ROOT / "assets_data" / "motions"
SAMPLES = ROOT / "tests" / "samples"
ENDINGS = (".fbx", ".glb", ".gltf", ".vrm", ".bvh")


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("motions", nargs="*", type=Path)
    parser.add_argument("--skins", nargs="*", default=[])
    parser.add_argument("--to", type=Path)
    options = parser.parse_args()
    files = [
        p
        for m in options.motions or [MOTIONS]
        for p in (sorted(m.iterdir()) if m.is_dir() else [m])
        if p.suffix in ENDINGS
    ]
    with tempfile.TemporaryDirectory() as folder:
        skins = {p.stem.partition("_")[0]: p for p in sorted(SAMPLES.glob("*.fbx"))}
        skins |= {n: Path(folder) / f"{n}.fbx" for n in ("a_pose", "child")}
        skins |= {name: Path(path) for name, _, path in (s.partition("=") for s in options.skins)}
        context = multiprocessing.get_context("spawn")
        with context.Pool(1) as pool:
            pool.apply(make_skins, (Path(folder),))
        with context.Pool(2, maxtasksperchild=1) as pool:
            rows = [
                r
                for part in pool.imap(cast_all, [(n, p, files) for n, p in skins.items()])
                for r in part
            ]
    text = table(rows)
    print(text)
    if options.to:
        options.to.write_text(text + "\n", "utf-8")


def make_skins(folder: Path) -> None:
    """A sample whose rest pose holds the arms 50 degrees down, and one with a child's proportions (large head, short limbs)."""
    import bpy
    import mathutils

    from blender_scripts.stage import importing

    for name, sample in (("a_pose", "ada_walk"), ("child", "chen_jack")):
        importing.clear_scene()
        bpy.ops.wm.fbx_import(filepath=str(SAMPLES / f"{sample}.fbx"))
        armature = next(o for o in bpy.data.objects if o.type == "ARMATURE")
        meshes = [o for o in bpy.data.objects if o.type == "MESH"]
        armature.animation_data_clear()
        for bone in armature.pose.bones:
            bone.rotation_mode, bone.rotation_quaternion, bone.location = (
                "QUATERNION",
                (1, 0, 0, 0),
                (0, 0, 0),
            )
            plain = bone.name.partition(":")[2]
            if name == "a_pose" and plain in ("LeftArm", "RightArm"):
                turn = mathutils.Matrix.Rotation(np.radians(50 if plain[0] == "L" else -50), 3, "Y")
                rest = bone.bone.matrix_local.to_3x3()
                bone.rotation_quaternion = (rest.inverted() @ turn @ rest).to_quaternion()
            if name == "child":
                scale = {
                    "Head": 1.45,
                    "LeftUpLeg": 0.78,
                    "RightUpLeg": 0.78,
                    "LeftArm": 0.85,
                    "RightArm": 0.85,
                }.get(plain)
                if scale:
                    bone.scale = (scale,) * 3
        bpy.context.view_layer.update()
        for mesh in meshes:
            bpy.context.view_layer.objects.active = mesh
            modifier = next(m for m in mesh.modifiers if m.type == "ARMATURE")
            bpy.ops.object.modifier_apply(modifier=modifier.name)
        bpy.context.view_layer.objects.active = armature
        bpy.ops.object.mode_set(mode="POSE")
        bpy.ops.pose.armature_apply()
        bpy.ops.object.mode_set(mode="OBJECT")
        for mesh in meshes:
            mesh.modifiers.new("Armature", "ARMATURE").object = armature
        importing._enable("io_scene_fbx")  # noqa: SLF001
        bpy.ops.export_scene.fbx(
            filepath=str(folder / f"{name}.fbx"),
            object_types={"ARMATURE", "MESH"},
            add_leaf_bones=False,
            bake_anim=False,
        )


def cast_all(work: tuple[str, Path, list[Path]]) -> list[dict]:
    """All clips of all files on one skin; a row for each."""
    from blender_scripts.formats import gltf_file
    from blender_scripts.stage import importing
    from blender_scripts.stage.character import load_character
    from blender_scripts.stage.motion import cast, load_clip, play
    from blender_scripts.stage.transfer import measure

    name, skin, files = work
    rigs = ROOT / "assets_data" / "rigs"
    rig_map = json.loads((rigs / "mixamo.json").read_text())
    rig_map["namings"] = [
        json.loads(p.read_text()) for p in sorted(rigs.glob("*.json")) if p.stem != "mixamo"
    ]
    rows = []
    for file in files:
        takes: list[str | None] = [None]
        if file.suffix in (".glb", ".gltf", ".vrm"):
            takes = list(gltf_file.clips(gltf_file.read(file.read_bytes(), file.name)[0]))
        for take in takes:
            with contextlib.redirect_stdout(io.StringIO()):
                importing.clear_scene()
                character = load_character(str(skin), rig_map, name)
                started = time.perf_counter()
                clip = load_clip(str(file), rig_map, file.name, take)
                loaded = time.perf_counter()
                curves = cast(character, clip)
                done = time.perf_counter()
                play(character, curves)
                found = measure(character, clip)
                apart = nearest_neighbours(character) if name == FIRST and clip.moves else {}
            rows.append(
                {
                    **apart,
                    "skin": name, "motion": take or file.stem, "frames": len(clip.frames), "vertices": len(character.rest_vertices),
                    "load_s": loaded - started, "cast_s": done - loaded, "direction": found.direction, "worst_limb": found.worst_limb,
                    "slide_cm": found.slide_cm, "floor_cm": found.penetration_cm, "self_cm": found.self_penetration_cm,
                    "limits": found.joint_limits, "jerk": found.jerk,
                }
            )  # fmt: skip
    return rows


def nearest_neighbours(character: object) -> dict[str, float]:
    """Mean distance (degrees) of each of 8 chosen frames from the pose nearest to it, spread evenly and chosen to differ."""
    from blender_scripts.contract import RenderSettings, sample_frames
    from blender_scripts.stage.transfer import limb_directions
    from posefactory_dagster.compute.frames import diverse_frames, pose_distance

    directions = limb_directions(character)  # type: ignore[arg-type]
    start, end = character.frame_range  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        poses = Path(folder) / "poses.npz"
        np.savez(poses, directions=directions, start=start)
        chosen = {
            "even": sample_frames((start, end), True, RenderSettings(frames_per_clip=8)),
            "diverse": diverse_frames(poses, 8, 0),
        }
    found = {}
    for how, frames in chosen.items():
        mine = directions[[f - start for f in frames]]
        distances = np.array([[pose_distance(a, b) for b in mine] for a in mine]) + np.diag(
            [np.inf] * len(mine)
        )
        found[how] = float(distances.min(axis=1).mean()) if len(mine) > 1 else float("nan")
    return found


FIRST = "ada"
FIGURES = ("direction", "worst_limb", "slide_cm", "floor_cm", "self_cm", "jerk")


def table(rows: list[dict]) -> str:
    """Markdown: a line for each skin, and the pairs that are worst."""
    lines = [
        "| skin | motions | direction, mean and worst (degrees) | worst limb, 95 % | foot slide, worst (cm) | into the floor, worst (cm) | "
        "hands in the body, mean (cm) | jerk, mean | over 3° / 2 cm / 1 cm |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for skin in dict.fromkeys(r["skin"] for r in rows):
        mine = [r for r in rows if r["skin"] == skin]
        values = {n: np.array([r[n] for r in mine]) for n in FIGURES}
        over = sum(r["direction"] > 3 or r["slide_cm"] > 2 or r["floor_cm"] > 1 for r in mine)
        lines.append(
            f"| {skin} | {len(mine)} | {values['direction'].mean():.2f}, {values['direction'].max():.2f} | {values['worst_limb'].max():.1f} | "
            f"{values['slide_cm'].max():.2f} | {values['floor_cm'].max():.2f} | {values['self_cm'].mean():.1f} | {values['jerk'].mean():.2f} | {over} |"
        )
    lines += ["", "| worst pairs | direction | slide (cm) | floor (cm) |", "|---|---|---|---|"]
    rank = sorted(rows, key=lambda r: -max(r["direction"] / 3, r["slide_cm"] / 2, r["floor_cm"]))
    lines += [
        f"| {r['skin']}, {r['motion']} | {r['direction']:.2f} | {r['slide_cm']:.2f} | {r['floor_cm']:.2f} |"
        for r in rank[:12]
    ]
    slow = max(rows, key=lambda r: r["frames"] * r["vertices"])
    lines += [
        "",
        f"Longest: {slow['frames']} frames on {slow['vertices']} vertices: read {slow['load_s']:.2f} s, cast {slow['cast_s']:.2f} s.",
    ]
    apart = [
        r
        for r in rows
        if np.isfinite(r.get("even", np.nan)) and np.isfinite(r.get("diverse", np.nan))
    ]
    if apart:
        even, diverse = (float(np.mean([r[k] for r in apart])) for k in ("even", "diverse"))
        lines.append(
            f"Nearest pose among 8 frames, mean of {len(apart)} motions: even {even:.2f} degrees, diverse {diverse:.2f}."
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
