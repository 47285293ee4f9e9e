"""The viewer: who is let in, what it gives away, what it takes, and how it looks in a real browser."""

from __future__ import annotations

import datetime
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from posefactory_dagster.renders.documents import read_mask
from posefactory_dagster.review.approval import read_decisions
from posefactory_dagster.review.page import served
from posefactory_dagster.viewer.app import COOKIE, create_app
from tests.conftest import Factory
from tests.servers import free_port, wait_until_it_answers
from tests.test_web_ui import CHROMIUM, FLAGS, needs_chromium

TOKEN = "a-token-of-a-test"
HOST = "http://127.0.0.1:3001"
#: The tests share one factory, so they run in one process, one after the other.
pytestmark = pytest.mark.xdist_group("viewer")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    """One character with variants and a dataset."""
    factory = Factory(tmp_path_factory.mktemp("viewer"))
    factory.add_sample("ada_walk", "ada")
    factory.cli("run", "--all")
    return factory


@pytest.fixture
def client(made: Factory) -> Iterator[TestClient]:
    """A browser that was let in."""
    app = create_app(made.sets, TOKEN, lambda: {"ghost": "its file is <b>broken</b>"})
    with TestClient(app, base_url=HOST, cookies={COOKIE: TOKEN}) as client:
        yield client


def variant_of(made: Factory) -> dict:
    rows = json.loads(made.cli("review", "list", "--json"))
    return next(row for row in rows if row["file"].endswith("_az_000.png"))


def test_nobody_is_let_in_without_the_token(made: Factory) -> None:
    app = create_app(made.sets, TOKEN, dict)
    stranger = TestClient(app, base_url=HOST)
    for path in ("/", "/characters/ada", "/review/ada", "/?token=wrong", "/files/x/y/z/a.png"):
        answer = stranger.get(path)
        assert answer.status_code == 403 and "ada" not in answer.text.replace("posefactory", "")
    assert stranger.post("/review/ada/decisions", json={"decisions": []}).status_code == 403
    let_in = stranger.get(f"/?token={TOKEN}", follow_redirects=False)
    assert let_in.status_code == 303 and TOKEN not in let_in.headers["location"]
    assert (
        "HttpOnly" in let_in.headers["set-cookie"]
        and "samesite=lax" in let_in.headers["set-cookie"].lower()
    )
    assert stranger.get("/").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example:3001"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    ],
)
def test_pages_of_other_sites_are_refused(client: TestClient, headers: dict[str, str]) -> None:
    assert client.get("/", headers=headers).status_code == 403
    assert client.post("/review/ada/decisions", headers=headers, json={}).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/files/multi_angle_renders/ada/{identity}/truth.npz",
        "/files/multi_angle_renders/ada/{identity}/images/../../../../manifest.json",
        "/files/multi_angle_renders/ada/{identity}/%2e%2e/%2e%2e/manifest.json",
        "/files/multi_angle_renders/ada/{identity}/images/nothing.png",
        "/files/..%2f..%2fetc/passwd/x/y.png",
        "/files/a b/c/d/e.png",
        "/characters/nobody",
        "/characters/..%2fada",
        "/characters/ada/images/nothing.png",
        "/variants/ada/nothing",
        "/datasets/nothing",
        "/review/nobody",
    ],
)
def test_what_no_manifest_names_is_not_there(made: Factory, client: TestClient, path: str) -> None:
    renders = made.sets.current("multi_angle_renders", "ada")
    assert renders is not None
    answer = client.get(path.format(identity=renders.ref.identity))
    assert answer.status_code == 404 and "Traceback" not in answer.text


def test_pages_show_what_there_is_and_run_no_strange_script(
    made: Factory, client: TestClient
) -> None:
    home = client.get("/").text
    assert "/characters/ada" in home and "1 character" in home and "current" in home
    assert "&lt;b&gt;broken&lt;/b&gt;" in home and "<b>broken" not in home
    page = client.get("/characters/ada")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe-inline'" not in policy.split("script-src")[1]
    files = [part.split('"')[0] for part in page.text.split('src="')[1:]]
    assert len(files) >= 4
    for file in files:
        picture = client.get(file)
        assert picture.status_code == 200 and picture.headers["content-type"].startswith("image/")
    # Depth is shown so that people see it; the file holds millimetres, of which a browser shows next to nothing.
    renders = made.sets.current("multi_angle_renders", "ada")
    assert renders is not None
    name = next(n for n in renders.files if n.startswith("depth/"))
    shown = client.get(f"/files/multi_angle_renders/ada/{renders.ref.identity}/{name}")
    with Image.open(io.BytesIO(shown.content)) as image:
        greys = np.asarray(image)
    person = read_mask(renders.path(name.replace("depth/", "masks/")))
    assert greys[person].min() >= 60 and greys[person].max() == 255 and not greys[~person].any()
    dataset = made.sets.current("pose_dataset", "all")
    assert dataset is not None
    assert "Pose" in client.get(f"/datasets/{dataset.ref.identity}").text


def decisions(made: Factory, **values: object) -> dict:
    variant = variant_of(made)
    base = {
        "character": "ada", "variant": variant["variant"], "decision": "reject", "reviewer": "a person",
        "reason": "", "at": datetime.datetime.now(datetime.UTC).isoformat(),
    }  # fmt: skip
    return {"decisions": [{**base, **values}]}


def test_decisions_are_saved_at_once_and_only_those_of_the_page(
    made: Factory, client: TestClient
) -> None:
    address = "/review/ada/decisions"
    for wrong, status in (
        (b"no json", 400),
        (json.dumps({"decisions": [{"x": 1}]}).encode(), 400),
        (json.dumps(decisions(made, character="bob")).encode(), 400),
        (b" " * (5 * 2**20), 413),
    ):
        answer = client.post(address, content=wrong, headers={"content-type": "application/json"})
        assert answer.status_code == status and answer.json()["error"]
    plain = client.post(address, content=b"{}", headers={"content-type": "text/plain"})
    assert plain.status_code == 415
    assert not read_decisions(made.sets.store).by_place
    answer = client.post(address, json=decisions(made)).json()
    assert answer["decided"][0]["decision"] == "reject" and answer["refused"] == []
    assert variant_of(made)["state"] == "qa_rejected"
    page = client.get("/review/ada").text
    assert f'"{variant_of(made)["variant"]}":"qa_rejected"' in page
    again = decisions(made)
    lock = next((made.store / "locks" / "ada").iterdir())
    kept = lock.read_bytes()
    lock.write_bytes(b"{}")
    answer = client.post(address, json=again)
    assert answer.status_code == 500 and "not a lock" in answer.json()["error"]
    lock.write_bytes(kept)
    # Whatever the gate said of it: a critical failure needs a reason, which harms no other.
    client.post(address, json=decisions(made, decision="approve", reason="the pose is the same"))
    assert variant_of(made)["state"] == "locked_approved"


def test_pages_of_earlier_versions_are_shown_too() -> None:
    """They escaped only `</`, and their texts hold `<`."""
    row = {
        "character": "ada",
        "variant": "v1",
        "file": "f.png",
        "style": "s",
        "raw_pose": None,
        "reasons": ["IoU 0.50 < 0.80"],
    }
    data = json.dumps({"skeleton": [], "raws": {}, "variants": [row]})
    old = f'<script type="application/json" id="data">{data}</script>'
    page = served(old, {"x": "blocked"}, "/save")
    assert "IoU 0.50 \\u003c 0.80" in page and '"save":"/save"' in page
    with pytest.raises(ValueError, match="nothing to review"):
        served("<html></html>", {}, "/save")


@needs_chromium
def test_a_person_reviews_in_the_browser(made: Factory, tmp_path: Path) -> None:
    import subprocess

    from playwright.sync_api import sync_playwright

    port = free_port()
    log = tmp_path / "view.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            made.command("view", "--port", str(port)), env=made.environment, cwd=made.root, stdout=file, stderr=file
        )  # fmt: skip
    try:
        wait_until_it_answers(f"http://127.0.0.1:{port}/", process)
        address = log.read_text().split()[0]
        assert ((made.root / "home" / "view_token").stat().st_mode & 0o077) == 0
        with sync_playwright() as playwright:
            page = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS).new_page()
            page.set_default_timeout(30_000)
            faults: list[str] = []
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
            page.goto(address)
            page.click("text=ada")
            page.click("a.pose >> nth=0")
            box, picture = (
                page.locator(".pose svg").bounding_box(),
                page.locator(".pose img").bounding_box(),
            )
            assert box and picture and abs(box["height"] - picture["height"]) < 2, (
                "landmarks lie on the picture"
            )
            assert not page.locator(".found").first.is_visible()
            page.check("#found")
            assert page.locator(".found").first.is_visible()
            page.goto(f"http://127.0.0.1:{port}/review/ada")
            page.keyboard.press("r")
            page.fill("#reviewer", "a person")
            page.click("#save")
            page.wait_for_selector("#message:has-text('1 saved')")
            assert faults == []
        rejected = [
            v
            for v in json.loads(made.cli("review", "list", "--json"))
            if v["state"] == "qa_rejected"
        ]
        assert len(rejected) == 1
    finally:
        process.terminate()
        process.wait(20)
