"""What tests share: places, a factory of their own, and the real Mixamo files where they are."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from blender_scripts.contract import RenderSettings, character_task
from blender_scripts.supervise import Outcome
from posefactory_dagster.compute.job import new_job
from posefactory_dagster.compute.process import run_job
from posefactory_dagster.settings import PROJECT_ROOT
from posefactory_dagster.storage.opening import open_store
from posefactory_dagster.storage.sets import CommittedSets
from tests.servers import S3Server, moto_server, rclone_server
from tests.warm import WarmCommandLine

COMMAND_LINE = WarmCommandLine()
#: A test that asks for one of these starts Blender, MediaPipe, a server, a browser or a command; the others are marked as unit tests.
INTEGRATION_FIXTURES = frozenset(
    {
        "factory", "render", "blender_script", "rclone_s3", "moto_s3", "rented", "made", "outcomes", "faces", "rendered",
        "rendered_once", "gate", "landmarkers", "server", "sensor", "postgres", "small_disk", "in_bucket", "enhancing", "models",
        "mixamo", "opened", "served", "flaky",
    }
)  # fmt: skip
#: People of earlier versions as FBX, with motions of their own.
SAMPLES = Path(__file__).parent / "samples"
MIXAMO = PROJECT_ROOT.parent / "shared" / "mixamo"
#: Small and quick: one frame, two views (front and back), 96 pixels.
SMALL = RenderSettings(
    num_angles=2, frames_per_clip=1, width=96, height=96, samples=1, engine="cycles"
)


#: Fixtures of a module that take Blender half a minute. Tests of a module that want one share a worker, so that it is made once and not by each worker.
MADE_ONCE = frozenset(
    {"arranged", "clip", "exported", "faces", "factory_once", "inspected", "outcomes", "page_file", "rendered", "rendered_once", "small"}
)  # fmt: skip


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test as `unit` or `integration`, by what it asks for, and say which share a worker."""
    for item in items:
        wanted = set(getattr(item, "fixturenames", ()))
        heavy = INTEGRATION_FIXTURES & wanted
        if MADE_ONCE & wanted and not any(item.iter_markers("xdist_group")):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
        marked = any(item.iter_markers("integration"))
        if not marked:
            item.add_marker("integration" if heavy else "unit")


@pytest.fixture(scope="session")
def mixamo() -> Path:
    """The folder of real Mixamo files; tests that need it skip without."""
    if not MIXAMO.is_dir():
        # Adobe's terms forbid shipping them with the project; where they are, these tests run.
        pytest.skip(
            "the real Mixamo files are not here (../shared/mixamo); they are not redistributable"
        )
    return MIXAMO


def run_rendering(
    place: Path,
    skin: Path,
    motion: Path | None = None,
    key: str = "hero",
    kind: str = "render",
    **settings: Any,
) -> tuple[Outcome, Path]:
    """Render one skin with real Blender in the folder ``place``: (outcome, folder of the set)."""
    chosen = dataclasses.replace(SMALL, **settings)
    task = character_task(key, str(skin), str(place / "out"), str(motion) if motion else None)
    return run_job(new_job(kind, [task], chosen), place)[key], place / "out"


@pytest.fixture
def render(tmp_path: Path) -> Callable[..., tuple[Outcome, Path]]:
    """Render one skin with real Blender, without Dagster: (outcome, folder of the set)."""

    def work(skin: Path, motion: Path | None = None, **options: Any) -> tuple[Outcome, Path]:
        place = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        place.mkdir()
        return run_rendering(place, skin, motion, **options)

    return work


def run_blender_script(name: str, *arguments: object) -> Any:
    """Run a script of tests/blender, or of another folder of tests, in Blender; it prints its answer as the last line, in JSON."""
    script = PROJECT_ROOT / "tests" / (name if "/" in name else f"blender/{name}")
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    answers = [x for x in done.stdout.splitlines() if x.startswith("ANSWER ")]
    assert answers, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(answers[-1].removeprefix("ANSWER "))


@pytest.fixture
def blender_script() -> Callable[..., Any]:
    """``run_blender_script`` as a fixture."""
    return run_blender_script


class Factory:
    """A factory of a test's own: store, Dagster home and settings in one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = root / "store"
        self.uploads = self.store / "uploads"
        self.uploads.mkdir(parents=True)
        settings = root / "posefactory.toml"
        settings.write_text(
            "[render]\nnum_angles = 2\nframes_per_clip = 1\nwidth = 96\nheight = 96\nsamples = 1\n"
            "engine = 'cycles'\n[variants]\nmax_attempts = 1\n"
        )
        self.environment = {
            **{
                k: v
                for k, v in os.environ.items()
                if not k.startswith(("POSEFACTORY_", "BLENDER_"))
            },
            "DAGSTER_HOME": str(root / "home"),
            "POSEFACTORY_STORE": str(self.store),
            "POSEFACTORY_SETTINGS": str(settings),
            "NO_COLOR": "1",
            "COLUMNS": "200",
        }

    @property
    def sets(self) -> CommittedSets:
        """Its sets."""
        return CommittedSets(open_store(str(self.store)))

    def command(self, *arguments: str) -> list[str]:
        """The command line of a posefactory verb."""
        return [sys.executable, "-m", "posefactory_dagster.cli", *arguments]

    def cli(self, *arguments: str, expect: int = 0, **environment: str) -> str:
        """Run a posefactory verb as a user would; what it printed (both streams)."""
        done = COMMAND_LINE.run(arguments, {**self.environment, **environment}, self.root)
        text = done.stdout + done.stderr
        assert done.returncode == expect, text
        if "--json" not in arguments:
            return text
        answer = json.loads(done.stdout)
        assert set(answer) == {"ok", "exit_code", "result", "error"}
        assert answer["ok"] == (expect == 0) and answer["exit_code"] == expect
        return json.dumps(answer if answer["result"] is None else answer["result"])

    def add_sample(self, name: str, key: str | None = None) -> None:
        """Upload a sample character as if it had been dropped there, and register it."""
        self.cli("characters", "add", str(SAMPLES / f"{name}.fbx"), "--name", key or name)


@pytest.fixture
def factory(tmp_path: Path) -> Iterator[Factory]:
    """An empty factory."""
    root = tmp_path / "factory"
    root.mkdir()
    yield Factory(root)
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def rclone_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One rclone server for all tests; each uses a prefix of its own."""
    with rclone_server(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture(scope="session")
def moto_s3() -> Iterator[S3Server]:
    """One moto server for all tests; each uses a prefix of its own."""
    with moto_server() as server:
        yield server


# A disk that is really full can only be had by mounting a small one; `make test` as root runs these.
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a tmpfs of a few megabytes."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options: str) -> Path:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "none", str(place)], capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            # Root in a container may still not mount; the reason that mount gives is shown.
            pytest.skip(f"cannot mount here: {done.stderr.strip()}")
        return place

    yield mount
    subprocess.run(["umount", str(place)], check=False, capture_output=True)
