"""Packs of MakeHuman's wardrobe: what is taken in, and what is refused."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from posefactory_dagster.people.pieces import WardrobeError, find_pieces, unpack
from tests.conftest import PROJECT_ROOT, Factory

CLOTHES = """# released as CC0
basemesh hm08
name vest
obj_file vest.obj
x_scale 5399 11998 1.48
y_scale 791 881 2.32
z_scale 962 5320 1.92
material vest.mhmat
verts 0
 10 11 12 0.2 0.3 0.5 0.0 0.0 0.1
 20
 30
delete_verts
 5 - 9 14
"""
MESH = "v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nf 1/1 2/2 3/3\n"
MATERIAL = "name vest\ndiffuseColor 0.5 0.5 0.5\ndiffuseTexture vest.png\n"


def make(folder: Path, clothes: str = CLOTHES, mesh: str = MESH, material: str = MATERIAL, texture: bool = True) -> Path:  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vest.mhclo").write_text(clothes)
    (folder / "vest.obj").write_text(mesh)
    (folder / "vest.mhmat").write_text(material)
    if texture:
        Image.new("RGB", (8, 8), (200, 30, 30)).save(folder / "vest.png")
    return folder


def test_a_piece_is_taken_with_its_licence_and_files(tmp_path: Path) -> None:
    found, faults = find_pieces(make(tmp_path / "pack"), None)
    assert not faults
    facts = found[0].facts
    assert (facts.name, facts.licence, facts.role) == ("vest", "CC0-1.0", "garment")
    assert set(found[0].files) == {"piece.mhclo", "piece.obj", "piece.mhmat", "diffuseTexture.png"}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: make(f, CLOTHES.replace("hm08", "g3_genesis")), "body mesh 'g3_genesis'"),
        (lambda f: make(f, CLOTHES.replace("# released as CC0\n", "")), "no licence"),
        (lambda f: make(f, CLOTHES.replace("vest.obj", "../../etc/passwd")), "leads out of the pack"),
        (lambda f: make(f, CLOTHES.replace("vest.mhmat", "/etc/hostname")), "leads out of the pack"),
        (lambda f: make(f, CLOTHES.replace("vest.obj", "gone.obj")), "gone.obj is not in the pack"),
        (lambda f: make(f, CLOTHES.replace("obj_file vest.obj\n", "")), "names no obj file"),
        (lambda f: make(f, material="name vest\ndiffuseTexture vest.png\n", texture=False), "vest.png is not in the pack"),
        (lambda f: make(f, material="name vest\n", texture=False), "neither a texture nor a colour"),
        (lambda f: (make(f) / "vest.png").write_bytes(b"no image"), "no image that can be read"),
        (lambda f: f.mkdir(), "no .mhclo in it"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_piece_is_told(tmp_path: Path, spoil: Callable[[Path], object], said: str) -> None:  # fmt: skip
    spoil(tmp_path / "pack")
    found, faults = find_pieces(tmp_path / "pack", None)
    assert not found and len(faults) == 1 and said in faults[0]


def test_a_licence_that_the_user_knows_may_be_said(tmp_path: Path) -> None:
    silent = make(tmp_path / "pack", CLOTHES.replace("# released as CC0\n", ""))
    found, faults = find_pieces(silent, "CC-BY-4.0")
    assert not faults and found[0].facts.licence == "CC-BY-4.0"


@pytest.mark.parametrize("name", ["../escaped.txt", "/absolute.txt", "a/../../b.txt", "C:\\x.txt"])
def test_a_zip_that_leads_outside_is_refused(tmp_path: Path, name: str) -> None:
    pack = tmp_path / "pack.zip"
    with zipfile.ZipFile(pack, "w") as archive:
        archive.writestr(name, "x")
    with pytest.raises(WardrobeError, match="leads out of the pack"):
        unpack(pack, tmp_path / "out")
    assert not (tmp_path / "escaped.txt").exists()


def test_a_zip_of_ten_gigabytes_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    pack = tmp_path / "pack.zip"
    with zipfile.ZipFile(pack, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("big.bin", b"0")
    # The size that the directory at its end announces.
    data = bytearray(pack.read_bytes())
    at = data.rindex(b"PK\x01\x02") + 24
    data[at : at + 4] = (4_000_000_000).to_bytes(4, "little")
    pack.write_bytes(data)
    with pytest.raises(WardrobeError, match="GB unpacked"):
        unpack(pack, tmp_path / "out")


def test_what_is_no_zip_is_told(tmp_path: Path) -> None:
    (tmp_path / "pack.zip").write_bytes(b"PK nothing of the kind")
    with pytest.raises(WardrobeError, match="no zip that can be read"):
        unpack(tmp_path / "pack.zip", tmp_path / "out")


def test_the_verbs_take_pieces_in_and_leave_the_pack_as_it_was(factory: Factory) -> None:
    pack = make(factory.root / "pack")
    before = {p.name: p.read_bytes() for p in pack.iterdir()}
    added = json.loads(factory.cli("wardrobe", "add", str(pack), "--json"))
    assert [p["name"] for p in added["added"]] == ["vest"]
    assert {p.name: p.read_bytes() for p in pack.iterdir()} == before
    assert json.loads(factory.cli("wardrobe", "list", "--json"))[0]["licence"] == "CC0-1.0"
    factory.cli("wardrobe", "remove", "vest")
    assert json.loads(factory.cli("wardrobe", "list", "--json")) == []
    assert "not in the wardrobe" in factory.cli("wardrobe", "remove", "vest", expect=2)


def test_the_base_pack_is_taken_in_whole() -> None:
    pack = PROJECT_ROOT.parent / "shared" / "makehuman" / "base"
    if not pack.is_dir():
        # 74 MB are too much to ship for a test; small made-up packs are tested everywhere.
        pytest.skip("MakeHuman's base pack is not here (../shared/makehuman)")
    found, _ = find_pieces(pack, None)
    assert len(found) > 40 and {p.facts.licence for p in found} == {"CC0-1.0"}
    assert {p.facts.role for p in found} == {"garment", "shoes", "hat", "hair"}
