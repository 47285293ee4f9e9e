"""People look at variants: the command line, the page in a real browser, the sensor; and every image leads back to its FBX."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from posefactory_dagster.review.approval import read_lock
from posefactory_dagster.storage.io_manager import StoreResource
from posefactory_dagster.storage.sets import file_sha256
from posefactory_dagster.variants.documents import Variant, read_variants
from posefactory_dagster.variants.sensors import review_sensor
from posefactory_dagster.variants.variant_sets import PAGE
from tests.conftest import SAMPLES, Factory
from tests.test_web_ui import CHROMIUM, FLAGS, needs_chromium


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Factory]:
    """A factory whose one character has been through all assets."""
    made = Factory(tmp_path_factory.mktemp("review"))
    (made.root / "posefactory.toml").write_text(
        "[render]\nnum_angles = 8\nframes_per_clip = 1\nwidth = 384\nheight = 384\nsamples = 4\nengine = 'cycles'\n"
        "[variants]\nmax_attempts = 1\n[gate]\nmax_joint_shift = 0.1\nmax_joint_shift_unjudged = 0.1\nenforce = ['places']\n"
    )
    made.add_sample("ada_walk", "ada")
    done = json.loads(made.cli("run", "ada", "--json"))
    assert done["done"] == ["ada"], done
    yield made
    shutil.rmtree(made.root, ignore_errors=True)


def listed(factory: Factory, state: str = "") -> list[dict]:
    return json.loads(
        factory.cli("review", "list", "--json", *(["--state", state] if state else []))
    )


def dataset(factory: Factory) -> dict[str, dict]:
    """The variants of the present dataset, made anew first."""
    assert json.loads(factory.cli("run", "ada", "--json"))["done"] == ["ada"]
    committed = factory.sets.current("pose_dataset", "all")
    assert committed is not None
    return json.loads(committed.path("variants.json").read_text())


def names(variants: dict[str, dict]) -> set[str]:
    return {v["variant"] for v in variants.values()}


def test_the_dataset_holds_what_is_locked_and_nothing_else(factory: Factory) -> None:
    inside = names(dataset(factory))
    by_state = {v["variant"]: v["state"] for v in listed(factory)}
    assert len(by_state) == 8
    assert inside == {v for v, state in by_state.items() if state == "locked_approved"}
    assert "blocked" in by_state.values()  # the gate of this factory is strict


def test_people_win_over_the_gate(factory: Factory) -> None:
    blocked = next(v for v in listed(factory, "blocked") if v["severity"] == "major")
    text = factory.cli("review", "approve", blocked["variant"][:8], "--reviewer", "kim")
    assert "approved" in text and blocked["variant"] in names(dataset(factory))
    lock = read_lock(factory.sets.store, Variant, "ada", blocked["variant"])
    assert lock is not None and lock.approved_by == "kim"
    image = factory.sets.store.get_bytes(lock.image.key)

    factory.cli("review", "reject", blocked["variant"], "--reason", "the hand looks wrong")
    assert blocked["variant"] not in names(dataset(factory))
    assert factory.sets.store.get_bytes(lock.image.key) == image
    assert read_lock(factory.sets.store, Variant, "ada", blocked["variant"]) == lock
    assert "no such variant" in factory.cli("review", "approve", "ffffffffff", expect=2)
    assert "6 letters" in factory.cli("review", "approve", blocked["variant"][:3], expect=2)


def test_what_was_locked_and_is_another_image_now_stops_the_dataset(factory: Factory) -> None:
    lock = read_lock(factory.sets.store, Variant, "ada", next(iter(names(dataset(factory)))))
    assert lock is not None
    before = factory.sets.store.get_bytes(lock.image.key)
    assert before is not None
    factory.sets.drop(factory.sets.current("pose_dataset", "all").ref)
    try:
        factory.sets.store.put_bytes(lock.image.key, before[:-1] + b"x")
        text = factory.cli("run", "ada", expect=1)
        assert "not the image that was locked" in text
        assert "not the image that was locked" in factory.cli("store", "verify", expect=1)
    finally:
        factory.sets.store.put_bytes(lock.image.key, before)
    dataset(factory)


def test_every_image_leads_back_to_its_fbx(factory: Factory, tmp_path: Path) -> None:
    variants = dataset(factory)
    folder = factory.sets.current("pose_dataset", "all").path("README.md").parent
    name = next(iter(variants))
    upload = file_sha256(SAMPLES / "ada_walk.fbx")
    for asked in (str(folder / name), Path(name).name, variants[name]["variant"]):
        chain = json.loads(factory.cli("trace", asked, "--json"))
        links = {link["link"]: link for link in chain}
        assert list(links)[-4:] == ["variant", "render", "character", "upload"]
        assert (
            links["upload"]["sha256"] == upload and links["variant"]["state"] == "locked_approved"
        )
        assert links["render"]["settings"]["num_angles"] == 8
        assert links["variant"]["attempts"][0]["parameters"]["seed"] > 0
    plain = next(p for p in (folder / "images").glob("*/*_front.png"))
    assert [link["link"] for link in json.loads(factory.cli("trace", str(plain), "--json"))] == [
        "dataset", "render", "character", "upload",
    ]  # fmt: skip
    assert upload in factory.cli("trace", str(plain)).replace("\n", "")
    assert "no dataset, variant or render" in factory.cli("trace", "nothing.png", expect=2)

    again = json.loads(factory.cli("review", "remake", variants[name]["variant"], str(tmp_path / "a.jpg"), "--json"))  # fmt: skip
    assert again["same"] and (tmp_path / "a.jpg").read_bytes() == (folder / name).read_bytes()
    assert "is there already" in factory.cli("review", "remake", variants[name]["variant"], str(tmp_path / "a.jpg"), expect=2)  # fmt: skip


@needs_chromium
def test_the_page_in_a_browser(factory: Factory, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    page_path = json.loads(factory.cli("review", "show", "ada", "--json"))["page"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 950})
        errors: list[str] = []
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.goto(Path(page_path).as_uri())
        page.wait_for_function("document.getElementById('made').getContext('2d').getImageData(0, 0, 99, 99).data.some(v => v > 0)")  # fmt: skip
        page.screenshot(path=tmp_path / "review.png")
        first = page.locator("#title").inner_text()
        page.keyboard.press("j")
        assert page.locator("#title").inner_text() != first
        page.keyboard.press("k")
        # One is made critical here, as which ones the gate finds so is its own affair.
        critical = page.evaluate(
            "(() => { const i = data.items.findIndex(v => v.image && v.severity !== 'major');"
            " data.items[i].severity = 'critical'; return i; })()"
        )
        page.locator("nav button").nth(critical).click()
        page.keyboard.press("a")
        assert "written reason" in page.locator("#message").inner_text()
        assert page.locator("#decision").inner_text() == "undecided"
        page.keyboard.type("typed into the reason: ar")
        page.keyboard.press("Escape")
        page.keyboard.press("a")
        page.locator("nav button").nth(critical).click()
        assert page.locator("#decision").inner_text() == "approve"
        assert page.locator("#reason").input_value() == "typed into the reason: ar"
        page.keyboard.press("u")
        assert page.locator("#decision").inner_text() == "undecided"
        major = page.evaluate("data.items.findIndex(v => v.severity === 'major')")
        page.locator("nav button").nth(major).click()
        page.keyboard.press("a")
        locked = page.evaluate("data.items.findIndex(v => v.state === 'locked_approved')")
        page.locator("nav button").nth(locked).click()
        page.keyboard.press("r")
        page.keyboard.press("b")
        page.locator("#reviewer").fill("kim <b>")
        with page.expect_download() as download:
            page.locator("#save").click()
        download.value.save_as(tmp_path / "decisions.json")
        chosen = page.evaluate(f"[data.items[{major}].id, data.items[{locked}].id]")
        page.reload()
        page.locator("nav .reject").wait_for()  # what was decided is still there
        assert page.locator("nav .reject").count() == 1
        assert not errors
        browser.close()
    saved = json.loads((tmp_path / "decisions.json").read_text())["decisions"]
    assert {d["id"]: d["decision"] for d in saved} == {
        chosen[0]: "approve",
        chosen[1]: "reject",
    }
    assert {d["reviewer"] for d in saved} == {"kim <b>"}

    # The saved file, dropped into the store, is what the sensor waits for.
    context_store = StoreResource(address=str(factory.store))
    with dg.instance_for_test() as instance:

        def tick(cursor: str | None) -> dg.SensorResult:
            context = dg.build_sensor_context(instance=instance, cursor=cursor)
            result = review_sensor(context, store=context_store)
            assert isinstance(result, dg.SensorResult)
            return result

        before = tick(None)
        quiet = tick(before.cursor)
        assert not quiet.run_requests
        factory.sets.store.put_bytes("decisions/from_the_page.json", (tmp_path / "decisions.json").read_bytes())  # fmt: skip
        result = tick(quiet.cursor)
        (request,) = result.run_requests
        assert request.asset_selection == [dg.AssetKey("pose_dataset")]
        assert not tick(result.cursor).run_requests
    inside = names(dataset(factory))
    assert chosen[0] in inside and chosen[1] not in inside
    # The same file by hand does no harm, and one that is none says so.
    factory.cli("review", "import", str(tmp_path / "decisions.json"))
    (tmp_path / "bad.json").write_text('{"decisions": [{}]}')
    assert "not a file of decisions" in factory.cli("review", "import", str(tmp_path / "bad.json"), expect=2)  # fmt: skip


def test_the_page_cannot_be_broken_out_of(factory: Factory) -> None:
    from posefactory_dagster.storage.opening import open_store
    from posefactory_dagster.variants.render_views import RenderViews
    from posefactory_dagster.variants.variant_sets import page

    committed = factory.sets.current("enhanced_variants", "ada")
    assert committed is not None and PAGE in committed.files
    variant = read_variants(committed)[0]
    nasty = variant.model_copy(update={"style_name": "</script><script>alert(1)</script>"})
    render_views = RenderViews.of(factory.sets.current("multi_angle_renders", "ada"))
    images = {i.key: i.sha256 for v in [variant] if (i := v.image)}
    text = page(render_views, [nasty], open_store(str(factory.store)).local_paths(dict(images)))
    assert "</script><script>alert" not in text


def test_many_are_decided_at_once_by_how_they_stand(factory: Factory) -> None:
    every = json.loads(factory.cli("review", "list", "--json"))
    style = every[0]["style"]
    assert "choose them by --state" in factory.cli("review", "reject", expect=2)
    assert "no variant stands so" in factory.cli(
        "review", "reject", "--state", "failed", "--yes", expect=2
    )
    both = factory.cli("review", "reject", every[0]["variant"], "--style", style, expect=2)
    assert "name variants, or choose them" in both
    done = json.loads(
        factory.cli(
            "review", "reject", "--style", style, "--state", "locked_approved", "--yes", "--json"
        )
    )
    wanted = {v["variant"] for v in every if (v["style"], v["state"]) == (style, "locked_approved")}
    assert {d["variant"] for d in done["decided"]} == wanted
    back = json.loads(
        factory.cli(
            "review",
            "approve",
            "--state",
            "qa_rejected",
            "--character",
            "ada",
            "--reason",
            "looked at",
            "--yes",
            "--json",
        )
    )
    assert {d["variant"] for d in back["decided"]} >= wanted
    after = {v["variant"]: v["state"] for v in json.loads(factory.cli("review", "list", "--json"))}
    assert all(after[v] == "locked_approved" for v in wanted)
