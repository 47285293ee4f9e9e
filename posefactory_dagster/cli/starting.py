"""The first steps: the demo, the places, and what works on this machine."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from posefactory_dagster.characters.cli import add_files
from posefactory_dagster.characters.documents import PARTITIONS as CHARACTERS
from posefactory_dagster.datasets.cli import dataset_summary, print_dataset
from posefactory_dagster.datasets.documents import ASSET as DATASET
from posefactory_dagster.intake import uploads as intake
from posefactory_dagster.pipeline.cli import print_report, run_in_terminal, wait_for_others
from posefactory_dagster.renders.documents import ASSET as RENDERS
from posefactory_dagster.settings import project_settings, sample_characters
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.store import LocalStore
from posefactory_dagster.terminal import (
    WORK_FAILED,
    CommandError,
    JsonOption,
    dagster_home,
    err,
    native_chatter_in_log,
    open_instance,
    open_sets,
    out,
    print_error,
    print_table,
    register,
    show,
)
from posefactory_dagster.variants.documents import ASSET as VARIANTS

#: The demo shows everybody in one place of these.
DEMO_LOOK: dict[str, Any] = {
    "looks": "living_room,kitchen,office,gym,street,park,hdri_city,hdri_forest",
    "looks_per_character": 1,
    "frames_per_clip": 2,
    "seed": 38,  # six people, six places
}
#: Its pictures are in places already; none is pasted into another.
DEMO_VARIANTS: dict[str, Any] = {"styles": []}


def demo(as_json: JsonOption = False) -> None:
    """Take every sample character through all assets to a dataset."""
    started = time.monotonic()
    sets = open_sets()
    project_settings()
    from posefactory_dagster.definitions import house as whole_house

    house = whole_house()
    for check in house.checks:
        check()
    samples = sample_characters()
    if not samples:
        raise CommandError("no sample characters in assets_data/characters")
    there = intake.uploads_by_key(sets.store)
    new = [s for s in samples if s.stem not in there]
    _, errors = add_files(sets, new)
    if errors:
        raise CommandError("; ".join(errors))
    keys = [s.stem for s in samples]
    with open_instance() as instance:
        register(instance, CHARACTERS, keys)
        wait_for_others(instance, wait=True)
        flow = house.flows[CHARACTERS]
        overrides: dict[str, dict[str, Any]] = {RENDERS: DEMO_LOOK, VARIANTS: DEMO_VARIANTS}
        stale = house.stale_keys(sets, flow, keys, overrides)
        if stale or sets.readable(DATASET, layout.UNPARTITIONED) is None:
            parts = [(flow, stale or keys, DATASET)]
            document = run_in_terminal(house, instance, sets, parts, as_json, overrides)
            if document["failed"] or document["trouble"]:
                show(as_json, document, lambda: print_report(document, {}))
                raise typer.Exit(WORK_FAILED)
    dataset = sets.readable(DATASET, layout.UNPARTITIONED)
    if dataset is None:
        raise CommandError("no dataset was made; posefactory doctor shows what is missing")
    made = [s for k in stale if (s := sets.readable(RENDERS, k))]
    summary = {
        **(dataset_summary(sets) or {}),
        "images_made": sum(s.facts["images"] for s in made),
        "seconds": round(time.monotonic() - started, 2),
    }
    show(as_json, summary, lambda: _print_demo(summary))


def _print_demo(summary: dict[str, Any]) -> None:
    made, spent = summary["images_made"], summary["seconds"]
    if made:
        rate = f", {spent / made:.2f} s an image"
        out.print(Text.assemble("\n", (f"{made} images made in {spent:.1f} s", "bold"), rate))
    else:
        out.print(Text.assemble("\n", ("everything found committed", "bold"), f", {spent:.1f} s"))
    print_dataset(summary)


def home(as_json: JsonOption = False) -> None:
    """Make DAGSTER_HOME from the shipped `dagster.yaml`, and the upload folder; say where they are."""
    store = open_sets().store
    if isinstance(store, LocalStore):
        Path(store.address(layout.UPLOADS)).mkdir(parents=True, exist_ok=True)
    places = {"DAGSTER_HOME": str(dagster_home()), "uploads": store.address(layout.UPLOADS)}

    def print_it() -> None:
        for name, place in places.items():
            out.print(f"{name:12} {place}", soft_wrap=True)

    show(as_json, places, print_it)


def doctor(
    spend: Annotated[
        bool, typer.Option("--spend", help="Render one image on one rented pod.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Spend without asking.")] = False,
    as_json: JsonOption = False,
) -> None:
    """What works on this machine, and what to do about the rest."""
    if spend:
        _spend(yes, as_json)
        return
    from posefactory_dagster.doctor import examine

    findings = []
    with (
        native_chatter_in_log(),
        err.status("looking") as status,
        tempfile.TemporaryDirectory() as scratch,
    ):
        for finding in examine(Path(scratch)):
            findings.append(finding)
            status.update(f"looking: {finding.what} {'ok' if finding.ok else 'not ok'}")
    rows = [{"what": f.what, "ok": f.ok, "needed": f.needed, "says": f.says} for f in findings]

    def print_it() -> None:
        table = Table("what", "", "")
        for f in findings:
            bad = ("missing", "red") if f.needed else ("no", "yellow")
            table.add_row(f.what, Text.assemble(("ok", "green") if f.ok else bad), f.says)
        print_table(table, "none")

    show(as_json, rows, print_it)
    if any(f.needed and not f.ok for f in findings):
        raise typer.Exit(WORK_FAILED)


def _spend(yes: bool, as_json: bool) -> None:
    """One real pod for one image of a sample, with its price said first."""
    from posefactory_dagster.budget.estimates import estimate_render
    from posefactory_dagster.compute.runpod import provisioning
    from posefactory_dagster.compute.runpod.account import bucket_of, open_api
    from posefactory_dagster.compute.runpod.api import RunPodError
    from posefactory_dagster.definitions import house as whole_house
    from posefactory_dagster.pipeline.jobs import run_keys

    sets = open_sets()
    settings = project_settings().pods
    try:
        bucket_of(sets.store)
        with open_api() as api:
            gpu = provisioning.candidates(api.gpu_types(settings.cloud), settings)[0]
    except RunPodError as error:
        raise CommandError(str(error)) from error
    price = provisioning.price_of(gpu, settings)
    estimate = estimate_render(1, price, settings)
    err.print(
        f"one image on a {gpu.id} at ${price:.2f} an hour: about {estimate.seconds:.0f} s, ${estimate.cost:.3f}"
    )
    if not yes and not typer.confirm("spend it?", err=True):
        raise CommandError("nothing was started")
    key = "posefactory_doctor"
    sample = sample_characters()[0]
    _, errors = add_files(sets, [sample], key)
    if errors:
        raise CommandError("; ".join(errors))
    os.environ["POSEFACTORY_RENDER_ON"] = "pod"
    # Another seed each time, as an image that is committed already would cost and prove nothing.
    look = {
        "num_angles": 1,
        "frames_per_clip": 1,
        "width": 256,
        "height": 256,
        "seed": time.time_ns() % 2**31,
    }
    with open_instance() as instance:
        register(instance, CHARACTERS, [key])
        house = whole_house()
        with native_chatter_in_log(), err.status("rendering on a pod"):
            report = run_keys(
                house, instance, sets, house.flows[CHARACTERS], [key], RENDERS, {RENDERS: look}
            )
        tags = [instance.get_run_by_id(r).tags for r in report.runs]
    cost = [t["posefactory/cost_usd"] for t in tags if "posefactory/cost_usd" in t]
    document: dict[str, Any] = {
        "done": report.done == [key],
        "cost_usd": sum(float(c) for c in cost),
        "faults": [*report.failed.values(), *report.trouble],
    }

    def print_it() -> None:
        for text in document["faults"]:
            print_error(text)
        words = "a pod rendered one image" if document["done"] else "no image was rendered"
        out.print(
            f"{words}, for ${document['cost_usd']:.4f}; posefactory characters remove {key} forgets it"
        )

    show(as_json, document, print_it)
    if not document["done"]:
        raise typer.Exit(WORK_FAILED)


def add_verbs(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    for verb in (demo, home, doctor):
        app.command()(verb)
