"""What enters a dataset and what does not: near-duplicates, tiny people, motions and looks of other splits; and how pictures are weighed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blender_scripts.contract import COCO_KEYPOINTS, LANDMARKS
from posefactory_dagster.datasets import balance, coco, hygiene, splits
from posefactory_dagster.datasets.card import split_text
from posefactory_dagster.datasets.rows import stable_id
from posefactory_dagster.renders.documents import ImageRecord, ImageSize, Truth, TruthDocument
from posefactory_dagster.settings import DatasetSettings, SettingsError, made


def truth_of(boxes: list[tuple[float, float]], shifts: list[float], views: list[str]) -> Truth:
    """A person in a picture each, boxes of this width and height, landmarks of one pose shifted by so many pixels."""
    count = len(shifts)
    images = [
        ImageRecord(file=f"{n}.png", frame=n, view=views[n], azimuth_degrees=0, cropped=False, bbox=(0, 0, *boxes[n]), area=10)
        for n in range(count)
    ]  # fmt: skip
    document = TruthDocument(key="k", settings=ImageSize(width=400, height=200), parts=[], frames=list(range(count)), images=images)  # fmt: skip
    pixels = np.random.default_rng(0).uniform(0, 100, (1, 33, 2)) + np.array(shifts)[:, None, None]
    arrays = {
        "pixels": pixels,
        "bbox": np.array([(0, 0, *b) for b in boxes], float),
        "area": np.full(count, 10),
    }
    return Truth(document, arrays)


def test_pictures_that_show_the_same_are_left_out_but_for_the_first() -> None:
    # 1 % of the box's longer side, 100 pixels, is a pixel; a shift along both axes is longer by the root of two.
    truth = truth_of([(50, 100)] * 6, [0, 0.5, 0.9, 0, 40, 0.5], ["a", "a", "a", "b", "a", "b"])
    assert hygiene.near_duplicates(truth, 0.01).tolist() == [False, True, False, False, False, True]
    assert not hygiene.near_duplicates(truth, 0.0).any()
    assert hygiene.near_duplicates(truth, 1.0).tolist() == [False, True, True, False, True, True]


def test_one_moving_hand_makes_another_picture() -> None:
    truth = truth_of([(50, 100)] * 2, [0, 0], ["a", "a"])
    truth.arrays["pixels"][1, LANDMARKS.index("left_wrist")] += 3
    assert not hygiene.near_duplicates(truth, 0.01).any()


def test_people_under_a_share_of_the_longer_side_are_too_small() -> None:
    truth = truth_of([(15, 10), (10, 17), (3, 16)], [0, 50, 100], ["a"] * 3)
    assert hygiene.too_small(truth, 0.04).tolist() == [True, False, False]  # 16 of 400 pixels
    truth.arrays["area"][0] = 0  # not seen at all is another thing
    assert not hygiene.too_small(truth, 0.04).any()


def test_settings_name_what_can_be_added() -> None:
    assert made(DatasetSettings, {"extra_files": ["normals"]}).extra_files == ("normals",)
    with pytest.raises(
        SettingsError, match="there are no selfies; give albedo, flow, normals, parts"
    ):
        made(DatasetSettings, {"extra_files": ["selfies"]})


def drawn(
    casts: list[tuple[str, str]],
    looks: dict[str, dict[str, int]],
    split_by: str,
    backgrounds: dict[str, dict[str, int]] | None = None,
) -> tuple[splits.Splits, dict[str, tuple[str, ...]]]:
    """The splits of casts PERSON__MOTION, with pictures in looks, and with variants before backgrounds."""
    wanted = DatasetSettings(split_by=split_by)  # type: ignore[arg-type]
    skins = {f"{p}__{m}": [(p, f"sha of {p}")] for p, m in casts}
    motions: dict[str, tuple[str, ...]] = {f"{p}__{m}": (m,) for p, m in casts}
    plain = splits.assign(skins, {k: range(4) for k in skins}, wanted)
    return splits.apart(plain, motions, looks, backgrounds or {}, wanted), motions


CASTS = st.lists(st.tuples(st.sampled_from([f"p{i}" for i in range(9)]), st.sampled_from([f"m{i}" for i in range(6)])), unique=True, min_size=2, max_size=40)  # fmt: skip


@settings(deadline=None)  # a busy machine is no fault
@given(CASTS, st.integers(0, 1000))
def test_nothing_of_one_split_is_seen_in_another(casts: list[tuple[str, str]], seed: int) -> None:
    chance = np.random.default_rng(seed)
    looks = {
        f"{p}__{m}": {f"look{k}": 4 for k in chance.choice(5, chance.integers(1, 4), replace=False)}
        for p, m in casts
    }
    backgrounds = {k: {f"photo{n}": int(chance.integers(1, 5)) for n in chance.choice(7, 3, replace=False)} for k in looks}  # fmt: skip
    by_person, _ = drawn(casts, looks, "person", backgrounds)
    strict, motions = drawn(casts, looks, "all", backgrounds)
    if by_person.unit == "frame":
        return
    homes: dict[str, set[str]] = {}
    for key, mine in looks.items():
        assert strict.of(key, 0) == by_person.of(key, 0)  # a picture can leave, and never moves
        for look in mine:
            if strict.keeps(key, look):
                for thing in (key.partition("__")[0], *motions[key], look):
                    homes.setdefault(thing, set()).add(strict.of(key, 0))
        for background in backgrounds[key]:
            if strict.keeps_before(key, background):
                homes.setdefault(background, set()).add(strict.of(key, 0))
    assert strict.unit == splits.STRICTEST
    assert all(len(found) == 1 for found in homes.values())


def test_who_has_a_motion_and_a_place_of_their_own_loses_nothing() -> None:
    casts = [(f"p{i}", f"m{i}") for i in range(6)]
    looks = {f"p{i}__m{i}": {f"look{i}": 8} for i in range(6)}
    got, _ = drawn(casts, looks, "auto")
    assert got.unit == splits.STRICT and all(got.keeps(k, look) for k, mine in looks.items() for look in mine)  # fmt: skip
    assert got.document()["looks"]["look0"] == got.by_key["p0__m0"]


def test_backgrounds_are_told_apart_by_themselves_where_that_costs_little() -> None:
    casts = [(f"p{i}", f"m{i}") for i in range(6)]
    looks = {f"p{i}__m{i}": {f"look{i}": 8} for i in range(6)}
    few = {"p0__m0": {"photo": 2}, "p1__m1": {"photo": 1}}
    got, _ = drawn(casts, looks, "auto", few)
    assert got.unit == splits.STRICTEST and got.document()["backgrounds"] == got.backgrounds
    # Everybody before every photo: motions and looks stay apart, backgrounds do not.
    many = {k: {f"photo{n}": 4 for n in range(8)} for k in looks}
    got, _ = drawn(casts, looks, "auto", many)
    assert got.unit == splits.STRICT and got.keeps_before("p0__m0", "photo3")


def test_where_it_would_cost_much_only_persons_are_told_apart_unless_it_is_asked_for() -> None:
    casts = [(f"p{i}", f"m{j}") for i in range(10) for j in range(10)]
    looks = {f"{p}__{m}": {f"look{k}": 1 for k in range(10)} for p, m in casts}
    assert drawn(casts, looks, "auto")[0].unit == "person"
    strict, _ = drawn(casts, looks, "all")
    kept = [k for k, mine in looks.items() for look in mine if strict.keeps(k, look)]
    # Shares of 0.7, 0.15 and 0.15 of three kinds leave about the sum of their cubes.
    assert 0.2 < len(kept) / 1000 < 0.55
    assert {strict.of(k, 0) for k in kept} == set(splits.SPLITS)


def test_weights_make_every_margin_count_the_same() -> None:
    chance = np.random.default_rng(1)
    index = pd.DataFrame(
        {
            "split": chance.choice(["train", "val"], 2000, p=[0.8, 0.2]),
            "character": chance.choice(["a", "b", "c"], 2000, p=[0.5, 0.3, 0.2]),
            "look": chance.choice(["x", "y"], 2000, p=[0.7, 0.3]),
            "view": chance.choice(["front", "side"], 2000),
        }
    )
    index["weight"] = balance.weights(index)
    for _, mine in index.groupby("split"):
        assert mine["weight"].mean() == pytest.approx(1)
        for margin in balance.MARGINS:
            sums = mine.groupby(margin)["weight"].sum()
            assert sums.max() / sums.min() == pytest.approx(1, abs=1e-3)


def test_ids_are_exact_in_every_reader_and_stay() -> None:
    assert stable_id("hero__front_0001.png") == 4235926226594557
    assert all(stable_id(str(n)) < 2**53 for n in range(1000))
    assert len({stable_id(str(n)) for n in range(100_000)}) == 100_000


def test_flip_pairs_name_left_and_right_of_every_keypoint() -> None:
    for names in (COCO_KEYPOINTS, LANDMARKS):
        pairs = coco.category(names)["flip_pairs"]
        paired = {names[i - 1] for pair in pairs for i in pair}
        assert paired == {n for n in names if "left" in n or "right" in n}
        assert all("left" in names[a - 1] and names[b - 1] == names[a - 1].replace("left", "right") for a, b in pairs)  # fmt: skip


@pytest.mark.parametrize(("unit", "said"), [("person", "add characters"), (splits.STRICTEST, "render in more looks")])  # fmt: skip
def test_an_empty_split_says_what_fills_it(unit: str, said: str) -> None:
    text = split_text({"splits": {"train": 9, "val": 0, "test": 0}, "split_by": unit})
    assert "val and test empty: " + said in text
