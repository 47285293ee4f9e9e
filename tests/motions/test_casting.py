"""Motions of all kinds of files, casts of many, and the error that is printed on each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from blender_scripts.contract import POSES
from blender_scripts.errors import InputError
from blender_scripts.formats import bvh_file, gltf_file
from posefactory_dagster.characters.documents import CharacterFacts
from posefactory_dagster.characters.sensors import upload_sensor
from posefactory_dagster.compute.frames import diverse_frames, pose_distance
from posefactory_dagster.definitions import defs
from posefactory_dagster.motions.cli import select_keys
from posefactory_dagster.motions.documents import (
    MotionFacts,
    MotionRecord,
    clip_keys,
    read_motion_record,
    record_clips,
    write_motion_record,
)
from posefactory_dagster.settings import ASSETS_DATA, sample_characters
from posefactory_dagster.storage.io_manager import StoreResource
from posefactory_dagster.storage.store import LocalStore
from posefactory_dagster.terminal import CommandError
from tests.conftest import SAMPLES, Factory
from tests.motions.test_rigs import rigs as rigs  # the fixture

MOTIONS = ASSETS_DATA / "motions"


def test_the_measure_tells_errors_that_are_known(blender_script: Callable[..., Any]) -> None:
    """One arm turned by 12 degrees, hips that drift 6 cm over standing feet, a body 4 cm too deep."""
    found = blender_script(
        "motions/prove_transfer.py", SAMPLES / "ada_walk.fbx", MOTIONS / "wave.bvh"
    )
    good = found["good"]
    assert good["direction"] < 0.5 and good["slide_cm"] < 0.3 and good["penetration_cm"] < 0.3
    assert good["stands"] >= 2 and good["joint_limits"] == 0
    arm = found["arm 12"]["limbs"]
    assert arm["left_upper_arm"][0] == pytest.approx(12.0, abs=0.3)
    # The clip is turned as a whole to where it fits best, so that one wrong limb of nine turns the others a little.
    assert arm["right_upper_arm"][0] == pytest.approx(good["limbs"]["right_upper_arm"][0], abs=1.6)
    # From the middle of its way, a foot strays 3 cm to either side.
    assert found["slide 6 cm"]["slide_cm"] == pytest.approx(3.0, abs=0.4)
    assert found["sunk 4 cm"]["penetration_cm"] == pytest.approx(4.0, abs=0.4)


@pytest.mark.integration
def test_clips_of_a_file_become_motions_and_many_skins_do_many_of_them(
    rigs: Path, factory: Factory
) -> None:
    shipped = next(p for p in sample_characters() if p.stem == "ada_walk")
    factory.cli("characters", "add", str(shipped), "--name", "ada")
    added = json.loads(factory.cli("motions", "add", str(rigs / "rigify.glb"), str(MOTIONS / "squat.bvh"), "--tag", "mine", "--json"))  # fmt: skip
    assert [sorted(a["keys"]) for a in added["added"]] == [
        ["rigify_Lower", "rigify_Raise"],
        ["squat"],
    ]
    factory.cli("motions", "tag", "squat", "deep")
    cast = json.loads(factory.cli("cast", "--skins", "tag:sample", "--motions", "tag:deep,rigify_R*", "--json"))  # fmt: skip
    assert cast["keys"] == ["ada__rigify_Raise", "ada__squat"]
    done = json.loads(factory.cli("run", *cast["keys"], "--json"))
    assert sorted(done["done"]) == cast["keys"] and not done["failed"]
    for key in cast["keys"]:
        made = factory.sets.current("character", key)
        assert (
            made is not None
            and "cast.npz" in made.files
            and not any("motion" in n for n in made.files)
        )
        transfer = made.facts_as(CharacterFacts).transfer
        assert transfer is not None and transfer.misses == [] and transfer.direction < 1.0
        assert factory.sets.current("multi_angle_renders", key) is not None
    listed = {m["key"]: m for m in json.loads(factory.cli("motions", "list", "--json"))}
    assert listed["squat"]["tags"] == ["mine", "deep", "standing"] and listed["squat"][
        "cast_on"
    ] == ["ada"]
    assert listed["rigify_Raise"]["clip"] == "Raise" and listed["rigify_Raise"]["rig"] == "rigify"
    assert listed["rigify_Lower"]["frames"] is None
    motion = factory.sets.current("motion", "squat")
    assert motion is not None and {"contacts.png", "thumbnail.png"} <= set(motion.files)
    assert motion.facts_as(MotionFacts).contacts["left"] == [(0, 151)]
    # A motion that is removed takes nothing away that was made of it.
    assert "removed squat" in factory.cli("motions", "remove", "squat")
    assert factory.sets.current("multi_angle_renders", "ada__squat") is not None
    assert "squat" in factory.cli("run", "ada__squat", expect=1)
    picture = factory.root / "beside.png"
    factory.cli(
        "motions",
        "compare",
        "ada",
        "rigify_Raise",
        "--frames",
        "3",
        "--size",
        "96",
        "--to",
        str(picture),
    )
    assert picture.stat().st_size > 3000
    film = factory.root / "beside.mp4"
    factory.cli("motions", "compare", "ada", "rigify_Raise", "--size", "64", "--to", str(film))
    factory.cli("motions", "add", str(MOTIONS / "kick.bvh"))
    factory.cli("run", "kick", "--until", "motion")
    factory.cli(
        "motions",
        "compare",
        "ada",
        "kick",
        "--frames",
        "2",
        "--size",
        "96",
        "--to",
        str(factory.root / "new" / "kick.png"),
    )
    assert (factory.root / "new" / "kick.png").stat().st_size > 2000
    import av

    with av.open(str(film)) as opened:
        frames = [f.to_ndarray() for f in opened.decode(video=0)]
    assert len(frames) == 12 and float(np.abs(frames[0].astype(int) - frames[-1]).max()) > 20


@pytest.mark.integration
def test_frames_that_differ_most_are_rendered_where_they_are_asked_for(factory: Factory) -> None:
    factory.add_sample("bruno_squat", "bruno")
    settings = factory.root / "posefactory.toml"
    plain = settings.read_text()
    factory.cli("run", "bruno", "--until", "multi_angle_renders")
    even = factory.sets.current("multi_angle_renders", "bruno")
    settings.write_text(
        plain.replace("frames_per_clip = 1", "frames_per_clip = 3\nframes = 'diverse'")
    )
    factory.cli("run", "bruno", "--until", "multi_angle_renders")
    diverse = factory.sets.current("multi_angle_renders", "bruno")
    assert even is not None and diverse is not None and even.ref != diverse.ref
    character = factory.sets.current("character", "bruno")
    assert character is not None
    poses = character.path(POSES)
    assert diverse.facts["frames"] == diverse_frames(poses, 3, 0)
    with np.load(poses) as arrays:
        directions = arrays["directions"].astype(float)
    assert np.allclose(np.linalg.norm(directions, axis=-1), 1, atol=1e-5)
    settings.write_text(plain.replace("frames_per_clip = 1", "frames_per_clip = 90\nframes = 'diverse'").replace("num_angles = 2", "num_angles = 1"))  # fmt: skip
    factory.cli("run", "bruno", "--until", "multi_angle_renders")
    all_of_them = factory.sets.current("multi_angle_renders", "bruno")
    assert all_of_them is not None
    count = len(all_of_them.facts["frames"])
    assert 5 < count < 90
    assert (
        f"90 frames were asked for, and its motion has {count} distinct ones"
        in all_of_them.facts["warnings"]
    )


def test_farthest_points_are_taken_until_no_pose_is_new(tmp_path: Path) -> None:
    angle = np.radians(np.repeat([0.0, 40.0, 80.0], 4))
    directions = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=1)[:, None]
    np.savez(tmp_path / "poses.npz", directions=directions, start=10)
    chosen = diverse_frames(tmp_path / "poses.npz", 8, seed=3)
    assert len(chosen) == 3 and {(f - 10) // 4 for f in chosen} == {0, 1, 2}
    assert diverse_frames(tmp_path / "poses.npz", 2, seed=3) == diverse_frames(
        tmp_path / "poses.npz", 2, seed=3
    )
    assert pose_distance(directions[0], directions[4]) == pytest.approx(40.0)


def test_keys_of_clips_are_slugs_and_never_twice() -> None:
    keys = clip_keys("base", ["Walk Loop", "Walk_Loop", "A|B/../C", "", "x" * 90])
    assert list(keys)[:2] == ["base_Walk_Loop", "base_Walk_Loop_2"]
    assert len(keys) == 5 and list(keys.values())[2] == "A|B/../C"
    assert all(len(k) <= 64 and "/" not in k and ".." not in k for k in keys)


def test_selections_name_something_or_say_what_there_is() -> None:
    words = {"walk": ["walking"], "run_fast": ["walking", "fast"], "sit": []}
    assert select_keys("tag:walking", words, "motions") == ["walk", "run_fast"]
    assert select_keys("s*,walk", words, "motions") == ["walk", "sit"]
    assert select_keys("*", {}, "motions") == []
    with pytest.raises(
        CommandError, match=r"tag:dance: none of the motions \(3 keys; tags: fast, walking\)"
    ):
        select_keys("tag:dance", words, "motions")


def bvh(
    text: str = "", frames: str = "Frames: 2", rows: str = "0 0 0 0 0 0 0 0 0\n0 0 0 0 0 0 0 0 0"
) -> bytes:
    hierarchy = text or (
        "HIERARCHY\nROOT Hips\n{\nOFFSET 0 0 0\nCHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation\n"
        "JOINT Spine\n{\nOFFSET 0 10 0\nCHANNELS 3 Zrotation Xrotation Yrotation\nEnd Site\n{\nOFFSET 0 1 0\n}\n}\n}\n"
    )
    return f"{hierarchy}MOTION\n{frames}\nFrame Time: 0.0333333\n{rows}\n".encode()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff\xfe\x00", "not a text file"),
        (b"hello", "lacks HIERARCHY or MOTION"),
        (bvh("HIERARCHY\nROOT Hips\n{\nOFFSET 0 0 0\nCHANNELS 3 Zrotation Xrotation Yrotation\n}\n", rows="0 0 0\n0 0 0"), "a skeleton of 1 bone"),
        (bvh(frames="Frames: 0", rows=""), "it has 0 frames"),
        (bvh(frames="Frames: 1000000"), "1000000 frames, and at most"),
        (bvh(frames="Frames: many"), "says neither frames nor their time"),
        (bvh(frames="Frames: 3"), "announces 3 frames, and 2 are there"),
        (bvh(rows="0 0 0 0 0 0 0 0 0\n0 0 0 0 0 0 0 0"), "frame 2 has 8 values, and the header announces 9"),
        (bvh(rows="0 0 0 0 0 0 0 0 0\nnan 0 0 0 0 0 0 0 0"), "frame 2 has values that are no numbers"),
        (bvh(rows="0 0 0 0 0 0 0 0 0\n0 0 inf 0 0 0 0 0 0"), "frame 2 has values that are no numbers"),
        (bvh(rows="0 0 0 0 0 0 0 0 0\n0 0 x 0 0 0 0 0 0"), "frame 2 has values that are no numbers"),
        (bvh().replace(b"}\n}\n}", b"}\n}"), "brackets do not match"),
        (bvh().replace(b"OFFSET 0 10 0", b"OFFSET 0 nan 0"), "places that are no numbers"),
        (bvh().replace(b"JOINT", b"ROOT"), "2 skeletons"),
    ],
)  # fmt: skip
def test_a_bvh_at_fault_is_told_by_its_fault(data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=f"^m.bvh: .*{words}"):
        bvh_file.check(data, "m.bvh")


def test_a_sound_bvh_says_what_it_is() -> None:
    header = bvh_file.check(bvh(), "m.bvh")
    assert (header.joints, header.channels, header.frames, header.fps) == (
        ["Hips", "Spine"],
        9,
        2,
        30.0,
    )


def gltf(**changes: Any) -> bytes:
    document: dict[str, Any] = {"asset": {"version": "2.0"}, "nodes": [{"name": "a"}]}
    return json.dumps({**document, **changes}).encode()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"glTF\x02\x00\x00\x00\xff\xff\x00\x00", "truncated"),
        (b"glTF\x01\x00\x00\x00\x0c\x00\x00\x00", "version 1"),
        (b"[]", "no asset record"),
        (b"{" * 10_000, "damaged or no glTF"),
        (gltf(buffers=[{"uri": "../../secret.bin", "byteLength": 4}]), "buffer 0 is outside the file"),
        (gltf(images=[{"uri": "http://x/y.png"}]), "image 0 is outside the file"),
        (gltf(images=[{"uri": "data:x/../../../secret.png"}]), "image 0 is outside the file"),
        (gltf(images=[{"uri": "data:image/png;x=../%2e%2e/secret"}]), "image 0 is outside the file"),
        (gltf(nodes=[1]), "malformed"),
        (gltf(buffers=[{"uri": "data:;base64,AAAA", "byteLength": "abc"}]), "malformed"),
        (b'{"asset":{},"buffers":[{"uri":"data:;base64,AAAA","byteLength":1e999}]}', "malformed"),
        (gltf(accessors=[{"count": 2_000_000_000, "componentType": 5126, "type": "VEC3"}]), "2000000000 elements"),
        (gltf(buffers=[{"uri": "data:;base64,AAAA", "byteLength": 3}], bufferViews=[{"buffer": 0, "byteLength": 3}], accessors=[{"bufferView": 0, "count": 2, "componentType": 5126, "type": "SCALAR"}]), "accessor 0 ends outside"),
        (gltf(extensionsRequired=["KHR_draco_mesh_compression"]), "requires KHR_draco_mesh_compression"),
        (gltf(buffers=[{"byteLength": 100}]), "0 bytes, and 100 are announced"),
        (gltf(buffers=[{"uri": "data:;base64,AAAA", "byteLength": 3}], bufferViews=[{"buffer": 0, "byteOffset": 2, "byteLength": 2}]), "buffer view 0 ends outside"),
        (gltf(buffers=[{"uri": "data:;base64,!!", "byteLength": 3}]), "no base64"),
        (gltf(bufferViews=[{"buffer": 7, "byteLength": 2}]), "malformed"),
        (gltf(accessors=[{"count": 5_000_000}], animations=[{"name": "long", "samplers": [{"input": 0}]}]), "'long' has over 1000000 keys"),
        (gltf(accessors=[{"count": 2, "max": [1e9]}], animations=[{"samplers": [{"input": 0}]}]), "1800 s"),
        (gltf(nodes=[{}] * 20_001), "over 20000 nodes"),
    ],
)  # fmt: skip
def test_a_gltf_at_fault_is_told_by_its_fault(data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=f"^m.glb: .*{words}"):
        gltf_file.read(data, "m.glb")


def test_tables_of_both_vrm_versions_are_read() -> None:
    nodes = [{"name": "a"}, {"name": "b"}, {"name": "c"}]
    new = {
        "VRMC_vrm": {
            "humanoid": {
                "humanBones": {
                    "hips": {"node": 0},
                    "leftUpperArm": {"node": 1},
                    "rightLittleProximal": {"node": 2},
                    "jaw": {"node": 1},
                }
            }
        }
    }
    old = {
        "VRM": {
            "humanoid": {
                "humanBones": [
                    {"bone": "hips", "node": 0},
                    {"bone": "leftUpperArm", "node": 1},
                    {"bone": "head", "node": 99},
                ]
            }
        }
    }
    assert gltf_file.humanoid({"nodes": nodes, "extensions": new}) == {
        "Hips": "a",
        "LeftArm": "b",
        "RightHandPinky1": "c",
    }
    assert gltf_file.humanoid({"nodes": nodes, "extensions": old}) == {"Hips": "a", "LeftArm": "b"}
    assert gltf_file.humanoid({"nodes": nodes}) == {}


@pytest.mark.integration
def test_each_fault_stands_on_its_own_key_and_stops_no_other(rigs: Path, factory: Factory) -> None:
    factory.add_sample("ada_walk", "ada")
    (factory.root / "lame.bvh").write_bytes(bvh())
    no_hips = (
        (MOTIONS / "wave.bvh")
        .read_text()
        .replace("ROOT Hips", "ROOT Thing")
        .replace("LeftUpLeg", "Limb")
    )
    (factory.root / "no_hips.bvh").write_text(no_hips)
    bad = factory.root / "bad.bvh"
    bad.write_bytes(bvh(frames="Frames: 7"))
    text = factory.cli(
        "motions",
        "add",
        str(bad),
        str(MOTIONS / "wave.bvh"),
        str(factory.root / "no_hips.bvh"),
        expect=2,
    )
    assert "announces 7 frames" in text
    motions = [m["key"] for m in json.loads(factory.cli("motions", "list", "--json"))]
    assert sorted(motions) == ["no_hips", "wave"]
    answer = json.loads(factory.cli("run", "wave", "no_hips", "--json", expect=1))
    result = answer.get("result") or answer
    assert (
        "Hips, LeftUpLeg" in json.dumps(result)
        and factory.sets.current("motion", "wave") is not None
    )
    assert "is a motion; name a character" in factory.cli(
        "cast", "wave", "--motion", "wave", expect=2
    )
    assert "is a skin; a cast takes one skin and one motion" in factory.cli(
        "cast", "ada", "--motion", "ada", expect=2
    )
    factory.cli("cast", "ada", "--motion", "wave")
    assert "is a cast itself" in factory.cli("cast", "ada__wave", "--motion", "wave", expect=2)
    assert "is a cast itself" in factory.cli("cast", "ada", "--motion", "ada__wave", expect=2)
    assert "none of the motions" in factory.cli("cast", "ada", "--motions", "tag:nobody", expect=2)


def test_dropped_files_become_characters_and_motions_but_what_was_added_for_its_motion_stays_one(
    rigs: Path, factory: Factory
) -> None:
    """A glTF with a skin and two animations is dropped; another one like it was taken in by `motions add`."""
    factory.cli("motions", "add", str(rigs / "ready_player_me.glb"), "--name", "moves")
    shutil.copyfile(rigs / "rigify.glb", factory.uploads / "dropped.glb")
    shutil.copyfile(MOTIONS / "wave.bvh", factory.uploads / "wave.bvh")
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions("motion", ["moves_Lower", "moves_Raise"])
        resources = {"store": StoreResource(address=str(factory.store))}
        cursor = None
        for _ in range(2):  # the first look only sees the files
            context = dg.build_sensor_context(
                instance=instance, cursor=cursor, resources=resources, definitions=defs
            )
            result = upload_sensor(context)
            assert isinstance(result, dg.SensorResult)
            again = upload_sensor(
                dg.build_sensor_context(
                    instance=instance, cursor=cursor, resources=resources, definitions=defs
                )
            )
            assert [r.run_key for r in again.run_requests or ()] == [
                r.run_key for r in result.run_requests or ()
            ]
            cursor = result.cursor
        added = {
            r.partitions_def_name: sorted(r.partition_keys)
            for r in result.dynamic_partitions_requests or ()
        }
        assert added == {
            "character": ["dropped"],
            "motion": ["dropped_Lower", "dropped_Raise", "wave"],
        }
        jobs = [r.job_name for r in result.run_requests or ()]
        assert len(jobs) == 2 and "characters_to_dataset" in jobs


@pytest.mark.integration
def test_animations_of_any_name_are_found_and_names_of_the_skin_do_not_disturb_them(
    rigs: Path, factory: Factory
) -> None:
    """Bars in a name, none at all, and two alike; cast on a glTF whose own animations are called the same."""
    data = (rigs / "rigify.glb").read_bytes()
    document, binary = gltf_file.read(data, "x.glb")
    first, second = document["animations"]
    third = {**json.loads(json.dumps(first)), "name": None}
    first["name"] = second["name"] = "Rig|walk|Layer0"
    document["animations"] = [first, second, third]
    (factory.root / "odd.glb").write_bytes(gltf_file._written(document, binary))  # noqa: SLF001
    (factory.root / "skin.glb").write_bytes((factory.root / "odd.glb").read_bytes())
    factory.cli("characters", "add", str(factory.root / "skin.glb"))
    added = json.loads(factory.cli("motions", "add", str(factory.root / "odd.glb"), "--json"))[
        "added"
    ][0]
    assert added["keys"] == ["odd_Rig_walk_Layer0", "odd_Rig_walk_Layer0_2", "odd_animation_2"]
    factory.cli("cast", "skin", "--motions", "odd_*")
    keys = [f"skin__{k}" for k in added["keys"]]
    done = json.loads(factory.cli("run", *keys, "--until", "character", "--json"))
    assert sorted(done["done"]) == sorted(keys)
    names = [factory.sets.current("motion", k) for k in added["keys"]]
    assert [m.facts["take"] for m in names if m] == [
        "Rig|walk|Layer0",
        "Rig|walk|Layer0 2",
        "animation_2",
    ]


def test_keys_that_mean_something_else_are_left_alone(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put_bytes("uploads/walk_fast.fbx", b"x")
    write_motion_record(store, "a_b_c", MotionRecord(upload="a", clip="b_c"))
    assert record_clips(store, "walk", ["fast", "slow"], skin=False) == ["walk_fast_2", "walk_slow"]
    assert record_clips(store, "a_b", ["c", "d"], skin=False) == ["a_b_c_2", "a_b_d"]
    assert record_clips(store, "a", ["b_c", "x"], skin=False) == ["a_b_c", "a_x"]
    assert record_clips(store, "a_b_c", [], skin=False) == ["a_b_c_3"]
    assert read_motion_record(store, "a_b_c_3").upload == "a_b_c"
