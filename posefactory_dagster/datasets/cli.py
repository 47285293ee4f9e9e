"""The datasets: which there are, what is in one, where it lies."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table
from rich.tree import Tree

from posefactory_dagster.datasets.documents import ASSET as DATASET
from posefactory_dagster.datasets.documents import CONTACT_SHEET
from posefactory_dagster.datasets.gallery import PAGE
from posefactory_dagster.datasets.selecting import HELP as SELECT_HELP
from posefactory_dagster.review.approval import ApprovalError, locks_of, read_decisions, state_of
from posefactory_dagster.storage import layout
from posefactory_dagster.storage.sets import CommittedSet, CommittedSets
from posefactory_dagster.storage.store import DamagedObject
from posefactory_dagster.terminal import (
    WORK_FAILED,
    CommandError,
    JsonOption,
    Summary,
    err,
    open_instance,
    open_sets,
    out,
    print_error,
    print_table,
    show,
)
from posefactory_dagster.variants.documents import ASSET as VARIANTS
from posefactory_dagster.variants.documents import Variant, read_variants

verbs = typer.Typer(no_args_is_help=True, help="The finished datasets.")
VersionArgument = Annotated[
    str | None, typer.Argument(help="A version or its beginning; the current one by default.")
]


def dataset_summary(
    sets: CommittedSets, dataset: CommittedSet | None = None
) -> dict[str, Any] | None:
    """What a person wants to know of a dataset at the end of a run: where it is and what is in it.

    Args:
        dataset: the current one by default.
    """
    left_out: dict[str, str] = {}
    if dataset is None:
        dataset = sets.readable(DATASET, layout.UNPARTITIONED)
        if dataset is None:
            return None
        left_out = _left_out()
    decisions = read_decisions(sets.store)
    blocked = 0
    for key in {ref[1] for ref in dataset.inputs["sets"]}:
        made = sets.readable(VARIANTS, key)
        with contextlib.suppress(ApprovalError, DamagedObject):  # told by the run, and by verify
            locks = locks_of(sets.store, Variant, key)
            blocked += sum(
                state_of(v, locks.get(v.variant), decisions.of(v)) == "blocked"
                for v in (read_variants(made) if made else ())
            )
    return {
        **dataset.facts,
        "version": dataset.ref.identity,
        "made": dataset.created_at,
        "variants_blocked": blocked,
        "characters_left_out": left_out,
        "contact_sheet": dataset.address(CONTACT_SHEET),
        "gallery": dataset.address(PAGE),
        "dataset": dataset.address(),
        "next": f"yolo pose train data={dataset.address('data.yaml')} model=yolo11n-pose.pt",
    }


def _left_out() -> dict[str, str]:
    """Which characters the run that made the present dataset left out, with the reasons."""
    from posefactory_dagster.pipeline.partitions import last_metadata

    with open_instance() as instance:
        return last_metadata(instance, DATASET, "left_out") or {}


def print_dataset(summary: dict[str, Any]) -> None:
    """The summary for a person; the card says the same."""
    from posefactory_dagster.datasets.card import split_text

    blocked = summary["variants_blocked"]
    held = (
        f", {blocked} more blocked by the gate: posefactory review list --state blocked"
        if blocked
        else ""
    )
    lines = [
        ("dataset", f"{summary['characters']} characters, {summary['images']} images ({summary['variants']} of them variants{held}), {summary['labels']} landmark labels"),
        ("splits", split_text(summary)),
    ]  # fmt: skip
    if reasons := summary["characters_left_out"]:
        first = next(iter(reasons.values()))
        more = f", and {len(reasons) - 1} more: see the asset pose_dataset in the web UI" if len(reasons) > 1 else ""  # fmt: skip
        lines.append(("left out", f"{first}{more}"))
    if "pck_0.2" in summary:
        lines.append(("MediaPipe", f"detects {summary['detection_rate']:.0%}, PCK@0.2 {summary['pck_0.2']:.3f}, OKS {summary['oks']:.3f}, {summary['swaps']} left/right swaps"))  # fmt: skip
    lines += [
        ("contact sheet", summary["contact_sheet"]),
        ("gallery", summary["gallery"]),
        ("dataset folder", summary["dataset"]),
        ("train on it", summary["next"]),
        ("look at it", "posefactory view --open"),
        ("web UI", "make dev, then http://127.0.0.1:3000"),
    ]
    for name, text in lines:
        out.print(f"{name:<15}{text}", soft_wrap=True)


def _find(sets: CommittedSets, version: str | None) -> CommittedSet:
    if version is None:
        dataset = sets.readable(DATASET, layout.UNPARTITIONED)
        if dataset is None:
            raise CommandError("no dataset is made yet; posefactory run --all makes one")
        return dataset
    found = [r for r in sets.all() if r.asset == DATASET and r.identity.startswith(version)]
    if len(found) != 1:
        raise CommandError(f"{version}: {len(found)} datasets begin so; posefactory datasets list shows them")  # fmt: skip
    committed = sets.find(found[0])
    assert committed is not None
    return committed


@verbs.command("variety")
def show_variety(version: VersionArgument = None, as_json: JsonOption = False) -> None:
    """How varied the people in a dataset are, and what would fill the holes; the asset `variety` draws it."""
    from posefactory_dagster.datasets import variety

    sets = open_sets()
    dataset = _find(sets, version)
    try:
        table = variety.read_people(_file(dataset, variety.PEOPLE_TABLE))
    except DamagedObject as error:
        raise CommandError(str(error)) from error
    found = variety.shares(table)
    missing = variety.holes(found)
    document = {"people": len(table), "shares": found, "holes": [vars(h) for h in missing]}

    def print_it() -> None:
        for axis in variety.AXES:
            spread = ", ".join(f"{v} {s:.0%}" for v, s in found[axis.column].items())
            out.print(f"{axis.title}: {spread}", soft_wrap=True)
        rows = Table("missing", "of", "filled by")
        for hole in missing:
            rows.add_row(hole.value, hole.axis, hole.fill)
        print_table(rows, "nothing is missing")

    show(as_json, document, print_it)


@verbs.command("export")
def export_dataset(
    to: Annotated[Path, typer.Option("--to", help="Folder to write; new, empty, or half-written by the same export.")],
    format: Annotated[str, typer.Option("--format", help="coco, yolo, huggingface, webdataset, cvat, mediapipe, h36m, parquet or video.")] = "coco",
    selection: Annotated[str, typer.Option("--select", help=SELECT_HELP)] = "",
    images: Annotated[int | None, typer.Option("--images", min=1, help="So many pictures, as varied as they can be.")] = None,
    version: Annotated[str | None, typer.Option("--version", help="A version or its beginning; the current one by default.")] = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Write a dataset in the form that a tool reads; images are linked, not copied, where the disk allows."""
    from posefactory_dagster.datasets import formats, rows, selecting
    from posefactory_dagster.datasets.balance import weights

    if format not in formats.FORMATS:
        near = difflib.get_close_matches(format, formats.FORMATS, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise CommandError(f"{format!r} is no format{hint} There are {', '.join(formats.FORMATS)}")
    sets = open_sets()
    dataset = _find(sets, version)
    about = {"format": format, "version": dataset.ref.identity, "select": selection, "images": images}  # fmt: skip
    try:
        pictures, landmarks = (_file(dataset, n) for n in (rows.PICTURES, rows.LANDMARK_TABLE))
        index = selecting.select(rows.index_of(pictures, features=images is not None), selection)
        if images is not None:
            index = selecting.varied(index, images)
        if selection or images is not None:
            index = index.assign(weight=weights(index))
        with Progress(console=err, disable=as_json or not err.is_terminal) as bar:
            shown = bar.add_task(f"export {format}", total=len(index))
            target = formats.Target(to, index, pictures, landmarks, dataset.paths, dataset.at_hand, dataset.same, lambda done: bar.update(shown, completed=done))  # fmt: skip
            formats.export(target, format, about)
    except (selecting.SelectionError, formats.ExportError, DamagedObject) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{to}: cannot be written ({error.strerror or error}); free disk space and run the same command again, it goes on where it was") from error  # fmt: skip
    splits = {str(s): int(n) for s, n in index["split"].value_counts(sort=False).items()}
    document = {**about, "to": str(to), "pictures": len(index), "splits": splits}

    def print_it() -> None:
        counts = ", ".join(f"{s} {n}" for s, n in splits.items())
        out.print(f"{len(index)} pictures ({counts}) of dataset {dataset.ref.identity} as {format} in {to}", soft_wrap=True)  # fmt: skip

    show(as_json, document, print_it)


def _file(dataset: CommittedSet, name: str) -> Path:
    """A file of a dataset, which those of earlier versions may not have."""
    try:
        return dataset.path(name)
    except KeyError:
        raise CommandError(f"{dataset.ref.identity}: a dataset of an earlier version; make it anew with posefactory run --all") from None  # fmt: skip


@verbs.command("list")
def list_datasets(as_json: JsonOption = False) -> None:
    """All versions, the newest first."""
    sets = open_sets()
    current = sets.readable(DATASET, layout.UNPARTITIONED)
    rows = [
        {
            "version": d.ref.identity,
            "made": d.created_at,
            "images": d.facts["images"],
            "characters": d.facts["characters"],
            "current": current is not None and d.ref == current.ref,
            "folder": d.address(),
        }
        for d in sets.of_asset(DATASET)
    ]

    def print_it() -> None:
        table = Table("version", "made", "characters", "images", "")
        for row in rows:
            mark = "current" if row["current"] else ""
            table.add_row(
                row["version"], row["made"], str(row["characters"]), str(row["images"]), mark
            )
        print_table(table, "no datasets yet: posefactory run --all makes one")

    show(as_json, rows, print_it)


@verbs.command("show")
def show_dataset(version: VersionArgument = None, as_json: JsonOption = False) -> None:
    """What is in a dataset."""
    sets = open_sets()
    summary = dataset_summary(sets, _find(sets, version)) or {}
    show(as_json, summary, lambda: print_dataset(summary))


@verbs.command("path")
def path(version: VersionArgument = None, as_json: JsonOption = False) -> None:
    """The folder or address of a dataset, alone on a line."""
    address = _find(open_sets(), version).address()
    show(as_json, {"path": address}, lambda: print(address))


@verbs.command("verify")
def verify_dataset(version: VersionArgument = None, as_json: JsonOption = False) -> None:
    """Check every file of a dataset against its sha256."""
    sets = open_sets()
    dataset = _find(sets, version)
    with Progress(console=err, disable=as_json or not err.is_terminal) as bar:
        shown = bar.add_task("verify", total=len(dataset.files))
        found = list(sets.damages(dataset, lambda done, total: bar.update(shown, completed=done)))
    rows = [{"file": d.file, "fault": d.fault} for d in found]
    document = {"version": dataset.ref.identity, "files": len(dataset.files), "damaged": rows}

    def print_it() -> None:
        for row in rows:
            print_error(f"{row['file']}: {row['fault']}")
        out.print(f"{len(dataset.files) - len(rows)} of {len(dataset.files)} files of {dataset.ref.identity} are as they were written")  # fmt: skip

    show(as_json, document, print_it)
    if rows:
        raise typer.Exit(WORK_FAILED)


@verbs.command("diff")
def diff_datasets(
    before: Annotated[str, typer.Argument(help="A version or its beginning.")],
    after: Annotated[str | None, typer.Argument(help="Another; the current one by default.")] = None,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """What one version has and the other has not: characters, pictures, labels, splits and settings."""
    sets = open_sets()
    one, other = _find(sets, before), _find(sets, after)
    document = differences(one, other)

    def print_it() -> None:
        out.print(f"{document['before']} ({one.created_at}) to {document['after']} ({other.created_at})", soft_wrap=True)  # fmt: skip
        for name in ("characters", "images"):
            came, went = document[f"{name}_added"], document[f"{name}_removed"]
            out.print(f"{name}: {len(came)} came, {len(went)} went{_some(came, '+')}{_some(went, '-')}", soft_wrap=True)  # fmt: skip
        out.print(f"other pixels: {len(document['images_changed'])}, other labels: {len(document['labels_changed'])}, other split: {len(document['split_changed'])}", soft_wrap=True)  # fmt: skip
        for name, values in document["settings_changed"].items():
            out.print(f"{name}: {values[0]!r} to {values[1]!r}", soft_wrap=True)

    show(as_json, document, print_it)


@verbs.command("changelog")
def changelog(as_json: JsonOption = False) -> None:
    """What each version has and the one before it has not, the newest first."""
    versions = open_sets().of_asset(DATASET)
    rows: list[dict[str, Any]] = []
    for number, dataset in enumerate(versions):
        row: dict[str, Any] = {"version": dataset.ref.identity, "made": dataset.created_at}
        if number + 1 < len(versions):
            try:
                row["changes"] = differences(versions[number + 1], dataset)
            except (CommandError, DamagedObject) as error:  # of an earlier form, or damaged
                row["changes"], row["fault"] = None, str(error)
        rows.append(row)

    def print_it() -> None:
        for row in rows:
            out.print(f"{row['version']}  {row['made']}", soft_wrap=True)
            if "changes" not in row:
                out.print("  the first that is kept")
            elif row["changes"] is None:
                out.print(f"  not compared with the one before: {row['fault']}", soft_wrap=True)
            else:
                for line in _change_lines(row["changes"]):
                    out.print(f"  {line}", soft_wrap=True)
        if not rows:
            out.print("no datasets yet: posefactory run --all makes one")

    show(as_json, rows, print_it)


def _change_lines(document: dict[str, Any]) -> Iterator[str]:
    """A difference of two versions in a few lines; nothing is said of what is the same."""
    for name in ("characters", "images"):
        came, went = document[f"{name}_added"], document[f"{name}_removed"]
        if came or went:
            shown = f" ({', '.join(['+' + n for n in came] + ['-' + n for n in went])})" if name == "characters" and len(came) + len(went) < 9 else ""  # fmt: skip
            yield f"{name}: {len(came)} came, {len(went)} went{shown}"
    counts = {n: len(document[f"{k}_changed"]) for n, k in (("other pixels", "images"), ("other labels", "labels"), ("other split", "split"))}  # fmt: skip
    if any(counts.values()):
        yield ", ".join(f"{name}: {count}" for name, count in counts.items())
    for name, (old, new) in document["settings_changed"].items():
        yield f"{name}: {old!r} to {new!r}"


def _some(names: list[str], sign: str) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return "".join(f"\n  {sign} {n}" for n in names[:5]) + (f"\n  {sign}{more}" if more else "")


def differences(one: CommittedSet, other: CommittedSet) -> dict[str, Any]:
    """What ``other`` has otherwise than ``one``; pictures are known by their names without the split."""
    from posefactory_dagster.datasets import rows

    def read(dataset: CommittedSet) -> tuple[dict[str, str], dict[str, str], dict[str, str], set[str]]:  # fmt: skip
        path = _file(dataset, rows.PICTURES)
        index = rows.index_of(path)
        labels, pixels, splits = {}, {}, {}
        for item in rows.items(path, index):
            split, _, name = item.name.partition("/")
            labels[name] = hashlib.sha256(json.dumps([[p["bbox"], p["keypoints_33"]] for p in item.people]).encode()).hexdigest()  # fmt: skip
            pixels[name] = str(dataset.files[f"images/{item.name}"]["sha256"])
            splits[name] = split
        return labels, pixels, splits, set(index["character"])

    (labels, pixels, splits, people), (new_labels, new_pixels, new_splits, new_people) = read(one), read(other)  # fmt: skip
    both = sorted(set(pixels) & set(new_pixels))
    settings = sorted(set(one.settings) | set(other.settings))
    return {
        "before": one.ref.identity, "after": other.ref.identity,
        "characters_added": sorted(new_people - people), "characters_removed": sorted(people - new_people),
        "images_added": sorted(set(new_pixels) - set(pixels)), "images_removed": sorted(set(pixels) - set(new_pixels)),
        "images_changed": [n for n in both if pixels[n] != new_pixels[n]],
        "labels_changed": [n for n in both if labels[n] != new_labels[n]],
        "split_changed": [n for n in both if splits[n] != new_splits[n]],
        "settings_changed": {n: [one.settings.get(n), other.settings.get(n)] for n in settings if one.settings.get(n) != other.settings.get(n)},
    }  # fmt: skip


def trace(
    image: Annotated[
        str, typer.Argument(help="An image file, a variant's name, or a file name in a dataset.")
    ],
    as_json: JsonOption = False,
) -> None:
    """The chain behind an image, back to the FBX."""
    from posefactory_dagster.datasets.tracing import Untraceable
    from posefactory_dagster.datasets.tracing import trace as follow

    sets = open_sets()
    try:
        chain = follow(sets, image)
    except Untraceable as error:
        raise CommandError(str(error)) from error

    def print_it() -> None:
        tree = place = Tree(image)
        for link in chain:
            place = place.add(link["link"])
            for name, value in link.items():
                if name != "link" and value not in (None, "", [], {}):
                    _branch(place, name, value)
        out.print(tree)

    show(as_json, chain, print_it)


def _branch(place: Tree, name: str, value: Any) -> None:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        branch = place.add(name)
        for number, entry in enumerate(value, 1):
            twig = branch.add(str(number))
            for key, inner in entry.items():
                if inner not in (None, "", [], {}):
                    twig.add(f"{key}: {_words(inner)}")
    else:
        place.add(f"{name}: {_words(value)}")


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(
            f"{k} {_words(v)}" for k, v in value.items() if v not in (None, "", [], {})
        )
    if isinstance(value, list | tuple):
        return " ".join(str(v) for v in value)
    return str(value)


def add_verbs(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    app.add_typer(verbs, name="datasets")
    app.command()(trace)


SUMMARIES = {"dataset": Summary(dataset_summary, print_dataset)}
