"""Each bad file gets an error of its own, and harms nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blender_scripts.contract import LANDMARKS, RenderSettings, SettingsError, character_task
from blender_scripts.supervise import Outcome
from posefactory_dagster.compute.job import new_job
from posefactory_dagster.compute.process import run_job
from posefactory_dagster.intake.uploads import UploadError, check_file
from posefactory_dagster.renders.documents import person_rows
from tests.blender import fbx_bytes
from tests.conftest import SAMPLES, SMALL, Factory

SAMPLE = SAMPLES / "ada_walk.fbx"
#: What a hostile file might print, to be taken for the worker's word.
FORGED = '{"event": "failed", "key": "zz_good", "error": "forged"}'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"garbage" * 100, "not an FBX"),
        (bytes(range(256)) * 50, "not an FBX"),
        (b"Kaydara FBX Binary  \x00\x1a\x00", "truncated"),
        (SAMPLE.read_bytes()[:300_000], "truncated"),
    ],
    ids=["empty", "not an FBX", "random bytes", "head only", "truncated"],
)
def test_found_before_blender_starts(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "hero.fbx"
    path.write_bytes(content)
    with pytest.raises(UploadError, match=f"hero.fbx: .*{words}"):
        check_file(path, "hero.fbx", 200)


def test_too_large(tmp_path: Path) -> None:
    path = tmp_path / "hero.fbx"
    shutil.copyfile(SAMPLE, path)
    with pytest.raises(UploadError, match="limit of 0.5 MB.*POSEFACTORY_MAX_UPLOAD_MB"):
        check_file(path, "hero.fbx", 0.5)
    check_file(path, "hero.fbx", 200)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Outcome], Path]:
    """One process inspects all bad files, a damaged one, and a good one at the end."""
    import subprocess
    import sys

    folder = tmp_path_factory.mktemp("bad")
    script = Path(__file__).parents[1] / "blender" / "make_bad_fbx.py"
    done = subprocess.run([sys.executable, str(script), str(folder), str(SAMPLE)], capture_output=True, text=True, check=False, timeout=300)  # fmt: skip
    assert "ANSWER" in done.stdout, done.stdout + done.stderr
    data = bytearray(SAMPLE.read_bytes())
    data[1000:60000] = bytes(59000)
    (folder / "damaged.fbx").write_bytes(data)
    sample = SAMPLE.read_bytes()
    shared = (folder / "sharedtex.fbx").read_bytes()
    patched = {
        "hidden": fbx_bytes.hide((folder / "proxy.fbx").read_bytes(), "Proxy"),
        "weights": fbx_bytes.weights_outside(sample),
        "longkey": fbx_bytes.last_key_at(sample, 1e6 / 30),
        "dotpath": fbx_bytes.rename_paths(shared, "."),
        "evilpath": fbx_bytes.rename_paths(shared, f"x\n{FORGED}\n"),
        "many": fbx_bytes.many_models(sample, 25_000),
        "bigendian": fbx_bytes.big_endian(sample),
    }
    for name, content in patched.items():
        (folder / f"{name}.fbx").write_bytes(content)
    (folder / "ascii.fbx").write_text(
        "FBXHeaderExtension:  {\n\tFBXVersion: 7400\n}\nObjects: {\n}\n"
    )
    shutil.copyfile(SAMPLE, folder / "zz_good.fbx")
    tasks = [
        character_task(p.stem, str(p), str(folder / f"out_{p.stem}"))
        for p in sorted(folder.glob("*.fbx"))
    ]
    return run_job(new_job("render", tasks, SMALL), folder), folder


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_armature", "no armature.*rig it"),
        ("no_mesh", "nothing in it|no mesh and no armature"),
        ("chair", "not a humanoid"),
        (
            "lacks_bones",
            "lacks .*RightHand.*LeftLeg|lacks .*LeftLeg.*RightHand|lacks RightHand, LeftLeg",
        ),
        ("two_people", "2 people in it"),
        ("weights", "skin weights for vertices that its mesh does not have"),
        ("longkey", "an animation of 33333 s"),
        ("many", "objects, over the limit"),
        ("bigendian", "Unsupported version"),
        ("ascii", "finds nothing in it"),
        ("exchanged", "left and right are exchanged"),
        ("faraway", "keys that are no pose"),
        ("pose", "--motion pose"),
        ("ghost", "nobody is in any of its 2 pictures"),
        ("zero_scale", "scaled to zero|no size|no person's height"),
        ("nan", "not numbers|not a number"),
        ("damaged", "."),
    ],
)
def test_found_inside_blender(outcomes: Any, name: str, words: str) -> None:
    import re

    error = outcomes[0][name].error
    assert error is not None and re.search(words, error), error
    assert name in error and "fault of ours" not in error, error


def test_the_good_one_after_the_bad_ones_is_done(outcomes: Any) -> None:
    assert outcomes[0]["zz_good"].error is None


def test_a_texture_outside_is_a_warning_and_never_read(outcomes: Any) -> None:
    result, folder = outcomes
    assert result["outside_texture"].error is None
    document = json.loads((folder / "out_outside_texture" / "truth.json").read_text())
    assert any("secret.png" in w and "embedded" in w for w in document["warnings"])
    # What is missing is mid-grey, not the pure white that a shader has behind its texture.
    with Image.open(next((folder / "out_outside_texture" / "albedo").iterdir())) as image:
        colours = np.asarray(image).reshape(-1, 4)
    body = colours[colours[:, 3] == 255][:, :3]
    assert (np.abs(body - 127.5).max(axis=1) < 6).mean() > 0.1


def truth_of(outcomes: Any, name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    result, folder = outcomes
    assert result[name].error is None, result[name].error
    with np.load(folder / f"out_{name}" / "truth.npz") as arrays:
        document = json.loads((folder / f"out_{name}" / "truth.json").read_text())
        return document, person_rows(arrays)


def test_a_mesh_on_a_bone_follows_it_and_a_loose_one_is_left_out(outcomes: Any) -> None:
    document, a = truth_of(outcomes, "prop")
    assert [w for w in document["warnings"] if "Stone" in w] == document["warnings"]
    plain = truth_of(outcomes, "zz_good")[0]
    assert document["persons"][0]["height_m"] == pytest.approx(
        plain["persons"][0]["height_m"], abs=1e-3
    )
    wrist = LANDMARKS.index("right_wrist")
    parts = [document["parts"][p] for p in a["first_hit_part"][:, wrist]]
    assert set(parts) == {"mixamorig:RightHand"} and not a["visible"][:, wrist].all()


def test_the_longest_take_that_moves_is_used_and_another_by_name(
    outcomes: Any, render: Callable[..., Any]
) -> None:
    document, _ = truth_of(outcomes, "takes")
    assert document["persons"][0]["take"] == "Walk" and document["frame_range"][1] > 50
    file = outcomes[1] / "takes.fbx"
    outcome, folder = render(file, kind="character")
    facts = json.loads((folder / "facts.json").read_text())
    assert {t["name"]: t["moves"] for t in facts["takes"]} == {"A_Still": False, "Walk": True}
    task = character_task("hero", str(file), str(folder.parent / "still"), take="A_Still")
    still = run_job(new_job("render", [task], SMALL), folder.parent)["hero"]
    assert still.error is None
    assert (
        json.loads((folder.parent / "still" / "truth.json").read_text())["persons"][0]["take"]
        == "A_Still"
    )
    task = character_task("hero", str(file), str(folder.parent / "none"), take="Run")
    error = run_job(new_job("render", [task], SMALL), folder.parent)["hero"].error
    assert error is not None and "no take 'Run'" in error and "A_Still, Walk" in error


def test_shape_keys_play_and_do_not_hide_the_motion(outcomes: Any) -> None:
    document, a = truth_of(outcomes, "shapekey")
    assert document["frame_range"][1] > 50
    plain = truth_of(outcomes, "zz_good")[1]
    assert a["area"].mean() > 1.1 * plain["area"].mean()  # fat in the middle of the clip


def mean_colour(outcomes: Any, name: str) -> np.ndarray:
    folder = outcomes[1] / f"out_{name}"
    with Image.open(next((folder / "images").iterdir())) as opened:
        image = np.asarray(opened.convert("RGB")).astype(float)
    with Image.open(next((folder / "masks").iterdir())) as opened:
        return image[np.asarray(opened) > 127].mean(axis=0)


def test_colours_survive_textures_that_share_a_path(outcomes: Any) -> None:
    document, _ = truth_of(outcomes, "sametex")
    assert any("colour and as normal map" in w for w in document["warnings"])
    red, green, blue = mean_colour(outcomes, "sametex")
    assert red > 1.5 * max(green, blue)
    assert not truth_of(outcomes, "sharedtex")[0]["warnings"]
    red, green, blue = mean_colour(outcomes, "sharedtex")
    assert green > 1.5 * max(red, blue)


def test_rays_pass_what_is_transparent(outcomes: Any) -> None:
    _, a = truth_of(outcomes, "alpha")
    _, plain = truth_of(outcomes, "zz_good")
    knees = [LANDMARKS.index("left_knee"), LANDMARKS.index("right_knee")]
    assert (a["visible"][:, knees] == plain["visible"][:, knees]).all() and plain["visible"][
        0, knees
    ].any()
    assert np.abs(a["occluder_gap_m"][:, knees] - plain["occluder_gap_m"][:, knees]).max() < 0.002


def test_meshes_that_the_file_hides_neither_show_nor_occlude(outcomes: Any) -> None:
    document, a = truth_of(outcomes, "hidden")
    assert [w for w in document["warnings"] if "Proxy" in w] == document["warnings"]
    plain = truth_of(outcomes, "zz_good")[1]
    assert (a["visible"] == plain["visible"]).all() and a["area"] == pytest.approx(
        plain["area"], rel=0.02
    )


def test_odd_sizes_and_mirrors_are_mended_and_told(outcomes: Any) -> None:
    warnings = {n: truth_of(outcomes, n)[0]["warnings"] for n in ("giant35", "inches", "centimetres", "mirrored", "second_armature")}  # fmt: skip
    heights = {n: truth_of(outcomes, n)[0]["persons"][0]["height_m"] for n in warnings}
    assert heights["giant35"] == pytest.approx(3.36, rel=0.01) and heights[
        "inches"
    ] == pytest.approx(0.68, rel=0.01)
    assert (
        not warnings["giant35"]
        and "inches" in warnings["inches"][0]
        and "1.73 m" in warnings["inches"][0]
    )
    assert warnings["centimetres"] == ["170 units tall, taken as 1.70 m"]
    assert (
        "mirrored back" in warnings["mirrored"][0]
        and "Armature.001" in warnings["second_armature"][0]
    )
    _, a = truth_of(outcomes, "mirrored")
    _, plain = truth_of(outcomes, "zz_good")
    assert a["visibility"].tolist() == plain["visibility"].tolist()
    assert a["pixels"] == pytest.approx(plain["pixels"], abs=0.05)


def test_texture_names_are_those_of_the_file_and_forge_nothing(outcomes: Any) -> None:
    assert outcomes[0]["evilpath"].error is None and outcomes[0]["dotpath"].error is None
    assert outcomes[0]["zz_good"].error is None


def test_a_pose_without_a_skin_can_be_cast(outcomes: Any, render: Callable[..., Any]) -> None:
    pose = outcomes[1] / "pose.fbx"
    outcome, folder = render(pose, kind="character", key="pose")
    facts = json.loads((folder / "facts.json").read_text())
    assert outcome.error is None and facts["kind"] == "motion" and not facts["has_motion"]
    outcome, folder = render(SAMPLES / "chen_jack.fbx", pose, key="chen__pose")
    assert outcome.error is None, outcome.error
    assert len(json.loads((folder / "truth.json").read_text())["frames"]) == 1


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("num_angles", 0), ("num_angles", -8), ("width", 0), ("height", -1), ("samples", 0), ("seed", -1),
        ("preset", "wide"), ("engine", "povray"), ("background", "../x"), ("frames_per_clip", 0),
        ("sun_energy", float("nan")), ("width", True), ("height", 1e3),
    ],
)  # fmt: skip
def test_impossible_settings_name_themselves(setting: str, value: object) -> None:
    with pytest.raises(SettingsError, match=setting):
        RenderSettings.from_dict({setting: value})


def test_unknown_settings_list_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="unknown setting angles.*num_angles"):
        RenderSettings.from_dict({"angles": 8})


def test_settings_file_faults_name_file_and_setting(factory: Factory) -> None:
    factory.add_sample("ada_walk")
    (factory.root / "posefactory.toml").write_text("[render]\nangles = 3\n")
    text = factory.cli("run", "ada_walk", "--stale", expect=2)
    assert "posefactory.toml" in text and "angles" in text and "num_angles" in text


def test_names_with_spaces_and_other_scripts_are_taken_in(factory: Factory) -> None:
    for name in ("Samba Dancing.fbx", "人物.fbx"):
        shutil.copyfile(SAMPLE, factory.root / name)
        factory.cli("characters", "add", str(factory.root / name))
    keys = [r["key"] for r in json.loads(factory.cli("characters", "list", "--json"))]
    assert keys == ["Samba_Dancing", "RenWu"]


def test_a_name_of_another_character_is_refused(factory: Factory) -> None:
    shutil.copyfile(SAMPLE, factory.uploads / "my hero.fbx")
    other = SAMPLES / "chen_jack.fbx"
    text = factory.cli("characters", "add", str(other), "--name", "my_hero", expect=2)
    assert "my hero.fbx" in text and sorted(p.name for p in factory.uploads.iterdir()) == [
        "my hero.fbx"
    ]


def test_casts_need_one_skin_and_one_motion(factory: Factory, mixamo: Path) -> None:
    factory.add_sample("ada_walk")
    factory.add_sample("chen_jack")
    for name in ("kick", "sit"):
        source = mixamo / ("ybot@kick.fbx" if name == "kick" else "sitting.fbx")
        factory.cli("characters", "add", str(source), "--name", name)
    assert "is a skin" in factory.cli("cast", "ada_walk", "--motion", "chen_jack", expect=2)
    assert "is a motion" in factory.cli("cast", "kick", "--motion", "sit", expect=2)
    assert "no such upload" in factory.cli("cast", "nobody", "--motion", "sit", expect=2)
    factory.cli("people", "add", "a tall man", "--name", "unborn")
    assert "posefactory run unborn --until character builds it" in factory.cli("cast", "unborn", "--motion", "sit", expect=2)  # fmt: skip


def test_a_motion_says_what_it_is_when_rendered(render: Callable[..., Any], mixamo: Path) -> None:
    outcome, _ = render(mixamo / "ybot@kick.fbx", key="kick")
    assert "motion without a skin" in outcome.error and "--motion kick" in outcome.error


def test_adding_never_takes_another_files_place_unasked(factory: Factory) -> None:
    factory.add_sample("ada_walk", "hero")
    before = (factory.uploads / "hero.fbx").read_bytes()
    other = str(SAMPLES / "chen_jack.fbx")
    text = factory.cli("characters", "add", other, "--name", "hero", expect=2)
    assert "--replace" in text and (factory.uploads / "hero.fbx").read_bytes() == before
    factory.add_sample("ada_walk", "hero")  # the same content again is fine
    factory.cli("characters", "add", other, "--name", "hero", "--replace")
    assert (factory.uploads / "hero.fbx").read_bytes() == Path(other).read_bytes()


def test_brackets_in_names_are_shown_as_they_are(factory: Factory) -> None:
    shutil.copyfile(SAMPLE, factory.root / "hero [v2].fbx")
    assert "hero [v2].fbx  ->  hero_v2" in factory.cli("characters", "add", str(factory.root / "hero [v2].fbx"))  # fmt: skip
    assert "x[/b]: not registered" in factory.cli("run", "x[/b]", expect=2)
    (factory.root / "posefactory.toml").write_text("[render]\nwidht = 3\n")
    assert "in [render]" in factory.cli("run", "hero_v2", expect=2)


def test_a_removed_character_is_forgotten(factory: Factory) -> None:
    factory.add_sample("ada_walk")
    (factory.uploads / "bad.fbx").write_text("not an FBX")
    factory.add_sample("chen_jack")
    factory.cli("characters", "remove", "ada_walk")
    assert [r["key"] for r in json.loads(factory.cli("characters", "list", "--json"))] == [
        "chen_jack"
    ]
    assert not (factory.uploads / "ada_walk.fbx").exists()
    document = json.loads(factory.cli("characters", "remove", "nobody", "--json", expect=2))
    assert "nobody: not registered" in document["error"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[dataset]\nval_fraction = 'a'\n", "[dataset] val_fraction is 'a'"),
        ("[labels]\nmin_detection_confidence = 7\n", "min_detection_confidence is 7"),
        ("[pods]\nmax_cost_per_job = 0\n", "[pods] max_cost_per_job is 0"),
        ("[pods]\ncloud = 'MINE'\n", "cloud is 'MINE': give SECURE or COMMUNITY"),
        ("[rendr]\n", "unknown section [rendr]"),
        ("nonsense", "not TOML"),
    ],
)
def test_settings_of_the_wrong_kind(factory: Factory, text: str, words: str) -> None:
    (factory.root / "posefactory.toml").write_text(text)
    assert words in factory.cli("run", "--all", expect=2)


def test_a_settings_file_that_is_not_there(factory: Factory) -> None:
    text = factory.cli("run", "--all", expect=2, POSEFACTORY_SETTINGS="/nowhere.toml")
    assert "POSEFACTORY_SETTINGS=/nowhere.toml: no such file" in text


def test_a_renamed_file_is_recognised_and_a_dash_is_no_beginning(factory: Factory) -> None:
    factory.add_sample("ada_walk", "hero")
    shutil.copyfile(SAMPLE, factory.root / "heroine.fbx")
    shutil.copyfile(SAMPLE, factory.root / "-x.fbx")
    text = factory.cli("characters", "add", str(factory.root / "heroine.fbx"))
    assert "the same file as hero" in text and "characters remove hero" in text
    text = factory.cli("characters", "add", str(factory.root / "-x.fbx"), expect=2)
    assert "may not begin with a dash" in text


def test_the_command_line_helps_who_types_wrongly(factory: Factory) -> None:
    factory.add_sample("ada_walk", "hero")
    assert "did you mean hero?" in factory.cli("run", "heroo", expect=2)
    assert factory.cli("--version").strip()[0].isdigit()
    assert "error" in json.loads(factory.cli("run", "hero", "--no-such", "--json", expect=2))
    assert "error" in json.loads(factory.cli("datasets", "path", "--json", expect=2))
    settings = factory.root / "posefactory.toml"
    settings.write_text(settings.read_text() + "styles = ['placs']\n")
    text = factory.cli("run", "hero", expect=2)
    assert (
        "style 'placs'" in text
        and "places" in text
        and factory.sets.current("character", "hero") is None
    )
