"""Each bad file gets an error of its own, and harms nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blender_scripts.contract import CharacterTask, RenderSettings, SettingsError
from blender_scripts.supervise import Outcome
from posefactory_dagster.blender.job import new_job
from posefactory_dagster.blender.process import run_job
from posefactory_dagster.characters.intake import UploadError, check_file
from tests.conftest import SAMPLES, SMALL, Factory

SAMPLE = SAMPLES / "ada_walk.fbx"


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
    shutil.copyfile(SAMPLE, folder / "zz_good.fbx")
    tasks = [
        CharacterTask(p.stem, str(p), str(folder / f"out_{p.stem}"))
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
        ("two_armatures", "2 armatures"),
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
        ("[pods]\ncloud = 'MINE'\n", "choose SECURE or COMMUNITY"),
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
