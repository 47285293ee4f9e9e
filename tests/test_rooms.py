"""The house: rooms are added without touching others, and shared folders know none of them."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from posefactory_dagster import rooms
from posefactory_dagster.definitions import defs
from posefactory_dagster.settings import PROJECT_ROOT
from posefactory_dagster.variants.providers import PROVIDERS
from tests.conftest import Factory

SHARED = ("pipeline", "storage", "compute", "budget", "intake", "quality", "review", "diffusion")
TOY = {
    "__init__.py": "",
    "documents.py": 'ASSET = PARTITIONS = "greeting"\n',
    "assets.py": """
        import dagster as dg

        from posefactory_dagster.pipeline.partitions import PartitionLedger, partition_set
        from posefactory_dagster.storage.io_manager import StoreResource
        from posefactory_dagster.storage.sets import SetRef
        from toy_room.documents import ASSET, PARTITIONS


        @dg.asset(name=ASSET, partitions_def=partition_set(PARTITIONS), backfill_policy=dg.BackfillPolicy.single_run())
        def greeting(context: dg.AssetExecutionContext, store: StoreResource):
            sets = store.sets()
            ledger = PartitionLedger(context, sets)
            for key, ref in ledger.plan(lambda key, inputs: SetRef(ASSET, key, "1"), {}, lambda committed: {}).items():
                with sets.scratch() as scratch:
                    (scratch / "hello.txt").write_text(f"hello {key}")
                    made = sets.commit(ref, scratch, inputs={"sets": []}, settings={}, facts={})
                ledger.good(key, made.ref, {})
            return ledger.close()
    """,
    "sensors.py": """
        import dagster as dg

        from posefactory_dagster.pipeline.jobs import asset_job
        from toy_room.documents import ASSET


        @dg.sensor(job=asset_job(ASSET))
        def greeting_sensor(context):
            return dg.SkipReason("nobody came")
    """,
    "definitions.py": """
        import dagster as dg

        from posefactory_dagster.pipeline.jobs import asset_job
        from toy_room.assets import greeting
        from toy_room.documents import ASSET
        from toy_room.sensors import greeting_sensor

        defs = dg.Definitions(assets=[greeting], jobs=[asset_job(ASSET)], sensors=[greeting_sensor])
    """,
    "cli.py": """
        import typer

        from posefactory_dagster.terminal import open_instance, out, register
        from toy_room.documents import PARTITIONS


        def add_verbs(app: typer.Typer) -> None:
            app.command()(greet)


        def greet(key: str) -> None:
            with open_instance() as instance:
                register(instance, PARTITIONS, [key])
            out.print(f"registered {key}")
    """,
}
ONE_LINE = 'rooms.ROOMS.append("toy_room")'
MAIN = f"""
from posefactory_dagster import rooms
{ONE_LINE}
from posefactory_dagster.cli.app import main
main()
"""


@pytest.mark.integration
def test_a_room_is_added_by_one_line(factory: Factory) -> None:
    folder = factory.root / "toy_room"
    folder.mkdir()
    for name, content in TOY.items():
        (folder / name).write_text(textwrap.dedent(content))

    def posefactory(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", MAIN, *words], cwd=factory.root, capture_output=True, text=True, check=False,
            env={**factory.environment, "PYTHONPATH": f"{factory.root}:{PROJECT_ROOT}"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    assert "registered ada" in posefactory("greet", "ada")
    document = json.loads(posefactory("run", "ada", "--json"))["result"]
    assert document["apart"] == {"ada": "greeting"} and not document["failed"]
    made = factory.sets.current("greeting", "ada")
    assert made is not None and made.path("hello.txt").read_text() == "hello ada"
    assert "greet" in posefactory("--help")


def names_in(path: Path) -> Iterator[str]:
    """What a module imports, and its texts; comments and docstrings apart."""
    tree = ast.parse(path.read_text("utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docstrings
        ):
            yield node.value


def test_shared_folders_name_no_room() -> None:
    package = PROJECT_ROOT / "posefactory_dagster"
    folders = {name.split(".")[1] for name in rooms.ROOMS}
    mine = sorted(folders - set(SHARED))
    assert len(mine) >= 7
    assets = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
    assets -= {"character", "motion"}  # also words of the job document
    for folder in SHARED:
        for path in (package / folder).rglob("*.py"):
            for name in names_in(path):
                where = f"{path.relative_to(PROJECT_ROOT)}: {name!r}"
                assert name not in assets, where
                assert not any(name.startswith(f"posefactory_dagster.{room}") for room in mine), (
                    where
                )


def test_providers_are_named_by_their_own_classes_alone() -> None:
    package = PROJECT_ROOT / "posefactory_dagster"
    own = {
        package / "variants" / "providers.py",
        *(package / "variants" / "enhancers").glob("*.py"),
    }
    own.add(package / "diffusion" / "engine.py")  # where it is the name of a package
    own.add(package / "budget" / "prices.py")  # a default of the original system, kept
    for path in set(package.rglob("*.py")) - own:
        assert not set(PROVIDERS) & set(names_in(path)), path


@pytest.mark.xdist_group("together")
def test_tests_that_share_what_is_dear_share_a_worker(request: pytest.FixtureRequest) -> None:
    """xdist sends them to one by a name that it gives them; with pytest 9.2 it gave none, and each worker made everything anew."""
    if not hasattr(request.config, "workerinput"):
        pytest.skip("all tests run in one process")
    assert request.node.nodeid.endswith("@together")
