"""`posefactory audit`: a pose model on the controlled set."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from posefactory_dagster.characters.documents import ASSET as CHARACTER
from posefactory_dagster.people.documents import ASSET as PERSON
from posefactory_dagster.people.documents import PersonFacts
from posefactory_dagster.settings import sample_characters
from posefactory_dagster.storage.sets import CommittedSets
from posefactory_dagster.terminal import (
    CommandError,
    JsonOption,
    err,
    open_sets,
    out,
    print_table,
    show,
)


def audit(
    models: Annotated[list[str], typer.Argument(help="blazepose (which is installed), a .task, .tflite or .onnx file, or FILE.py:CLASS; several are compared.")],
    to: Annotated[Path, typer.Option("--to", help="Folder of the report; what an earlier audit wrote there is replaced.")] = Path("audit"),
    characters: Annotated[str, typer.Option(help="Keys of rendered characters with commas, in place of the sample people.")] = "",
    size: Annotated[int, typer.Option(min=64, max=2048, help="Width and height of the images, pixels.")] = 384,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Measure pose models on a controlled set that varies one attribute at a time: view, height of the camera, light, occlusion and others."""
    from posefactory_dagster.audits import measuring, report
    from posefactory_dagster.audits.controlled import AuditError, render
    from posefactory_dagster.quality.models import ModelError, open_model

    try:
        opened = {_name(m): open_model(m) for m in models}
    except ModelError as error:
        raise CommandError(str(error)) from error
    if len(opened) < len(models):
        raise CommandError(f"several models have the same name among {', '.join(models)}; rename one")  # fmt: skip
    sets = open_sets()
    bodies, about = _bodies(sets, characters)
    quiet = as_json or not err.is_terminal
    rows, figures = {}, {}
    try:
        with Progress(console=err, disable=quiet) as bar:
            shown = bar.add_task("render the controlled set", total=1.0)
            if quiet:
                err.print("rendering the controlled set; what is there is not rendered again")
            controlled = render(sets, bodies, size, lambda share, key: bar.update(shown, completed=share, description=f"render {key}"))  # fmt: skip
            for name, model in opened.items():
                task = bar.add_task(f"measure {name}", total=None)
                rows[name] = measuring.measure(model, controlled, lambda done, total, task=task: bar.update(task, completed=done, total=total))  # type: ignore[misc]  # fmt: skip
                figures[name] = measuring.by_attribute(rows[name], about)
                if hasattr(model, "close"):
                    model.close()
    except (AuditError, ModelError) as error:
        raise CommandError(str(error)) from error
    to.mkdir(parents=True, exist_ok=True)
    for earlier in to.glob("people_*.parquet"):
        earlier.unlink()
    page = report.write(to, figures, rows, controlled)
    for name, mine in rows.items():
        mine.to_parquet(to / f"people_{name}.parquet", index=False)
    document = {"page": str(page), "models": {n: f.to_dict("records") for n, f in figures.items()}}

    def print_it() -> None:
        table = Table("attribute", "value", *(f"{m} PCK@0.2" for m in figures))
        first = next(iter(figures.values()))
        last = ""
        for place, row in enumerate(first.to_dict("records")):
            cells = [f"{f.iloc[place]['pck']:.3f} ({f.iloc[place]['pck_low']:.2f}-{f.iloc[place]['pck_high']:.2f})" for f in figures.values()]  # fmt: skip
            table.add_row("" if row["attribute"] == last else row["attribute"], row["value"], *cells)  # fmt: skip
            last = row["attribute"]
        print_table(table, "")
        out.print(f"the report: {page}", soft_wrap=True)

    show(as_json, document, print_it)


def _name(model: str) -> str:
    """What a model is called in the report and its files."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", Path(model.replace(":", "_")).name)


def _bodies(sets: CommittedSets, characters: str) -> tuple[list, dict[str, dict[str, str]]]:
    """Who is rendered, and what is said of each."""
    from posefactory_dagster.audits.controlled import Body
    from posefactory_dagster.compute.work import files_of, takes_of

    if not characters:
        samples = sample_characters()
        return [Body(p.stem, {"skin": p}) for p in samples], {p.stem: {"body": p.stem} for p in samples}  # fmt: skip
    bodies, about = [], {}
    for key in dict.fromkeys(k.strip() for k in characters.split(",") if k.strip()):
        character = sets.readable(CHARACTER, key)
        if character is None:
            raise CommandError(f"{key}: no character is made of it yet; posefactory run {key} --until character makes it")  # fmt: skip
        files = {role: character.path(name) for role, name in files_of(character).items()}
        bodies.append(Body(key, files, takes_of(character)))
        about[key] = {"body": key, **_said(sets, key.partition("__")[0])}
    return bodies, about


def _said(sets: CommittedSets, key: str) -> dict[str, str]:
    """Of a person that was made here, by what the report groups people."""
    made = sets.readable(PERSON, key)
    if made is None:
        return {}
    facts = made.facts_as(PersonFacts)
    return {
        "gender": facts.gender,
        "skin tone (Monk)": f"{facts.skin_tone:.0f}",
        "height": f"{facts.height_m:.1f} m",
    }


def add_verbs(app: typer.Typer) -> None:
    """Add the verb of this module to the command line."""
    app.command()(audit)
