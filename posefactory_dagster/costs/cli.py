"""What things cost: estimates before, the ledger after."""

from __future__ import annotations

import datetime
import json
from typing import Annotated, Any

import typer
from rich.table import Table

from posefactory_dagster.budget import ledger, prices
from posefactory_dagster.budget.estimates import OverBudget, check_budget, estimate_render
from posefactory_dagster.settings import project_settings
from posefactory_dagster.storage import layout
from posefactory_dagster.terminal import (
    WORK_FAILED,
    CommandError,
    JsonOption,
    open_sets,
    out,
    print_error,
    print_table,
    show,
)

verbs = typer.Typer(no_args_is_help=True, help="Prices, estimates, and what was spent.")


@verbs.command("estimate")
def estimate(
    provider: Annotated[
        str,
        typer.Argument(
            help="As `costs list` shows them; or pod, or serverless: what renders cost."
        ),
    ] = "",
    model: Annotated[str, typer.Option(help="A model of that provider.")] = "sd_1_5",
    style: Annotated[str, typer.Option(help="A style, in place of provider and model.")] = "",
    count: Annotated[int, typer.Option("--images", "--count", help="How many images.")] = 1,
    gpu: Annotated[str, typer.Option(help="Of pod or serverless: only this kind.")] = "",
    resolution: Annotated[str, typer.Option(help="Of legacy models.")] = "512x512",
    steps: Annotated[int, typer.Option(help="Sampling steps.")] = prices.DEFAULT_STEPS,
    as_json: JsonOption = False,
) -> None:
    """What images would cost, and whether one job may cost that much. Needs no key, and asks nobody."""
    if provider in ("pod", "serverless"):
        _estimate_rented(provider, count, gpu, as_json)
        return
    if style:
        from posefactory_dagster.variants.documents import read_style

        chosen = read_style(style)
        provider, model, steps = chosen.provider, chosen.model, chosen.steps
    if not provider:
        raise CommandError(
            f"name a provider ({', '.join(prices.list_providers())}) or give --style"
        )
    hourly, gpu = _hourly() if provider in prices.hourly_providers() else (None, "")
    try:
        found = prices.estimate_cost(provider, resolution, steps, model, count, hourly)
    except prices.PriceError as error:
        raise CommandError(str(error)) from error
    limits = project_settings().variants
    allowed, words = prices.validate_cost(found["total"], limits.max_cost_per_job)
    if not prices.is_free(provider) and count > limits.max_images_per_batch:
        allowed = False
        words = f"{count} images are over max_images_per_batch = {limits.max_images_per_batch}"

    def print_it() -> None:
        out.print(
            f"{found['count']} images by {found['provider_name']}, {model}: ${found['total']:.4f} (${found['per_image']:.5f} each)"
        )
        if gpu:
            out.print(
                f"${hourly:.2f} an hour: the cheapest allowed GPU of the last gpu_prices, {gpu}"
            )
        out.print(words) if allowed else print_error(words)

    show(as_json, {**found, "allowed": allowed, "message": words}, print_it)
    if not allowed:
        raise typer.Exit(WORK_FAILED)


def _estimate_rented(kind: str, images: int, gpu: str, as_json: bool) -> None:
    """Renders on rented machines, by the prices that ship and the speed that posefactory.toml assumes."""
    if not 1 <= images <= prices.MOST:
        raise CommandError(f"--images {images}: give a number from 1 to {prices.MOST}")
    try:
        hourly = prices.rented_prices(kind, gpu)  # type: ignore[arg-type]
    except prices.PriceError as error:
        raise CommandError(str(error)) from error
    limits = project_settings().pods
    table = prices.price_table().rented[kind]  # type: ignore[index]
    rows: list[dict[str, Any]] = []
    for name, price in sorted(hourly.items(), key=lambda item: item[1]):
        guess = estimate_render(images, price, limits)
        faults = []
        if kind == "pod" and price > limits.max_price_per_hour:
            faults.append(f"over max_price_per_hour = ${limits.max_price_per_hour:.2f}")
        try:
            check_budget(guess, limits)
        except OverBudget:
            faults.append(f"over max_cost_per_job = ${limits.max_cost_per_job:.2f}")
        rows.append(
            {
                "gpu": name,
                "usd_per_hour": price,
                "seconds": guess.seconds,
                "usd": round(guess.cost, 4),
                "usd_per_image": round(guess.cost / images, 6),
                "allowed": not faults,
                "message": ", ".join(faults) or "within the limits of posefactory.toml, [pods]",
            }
        )
    document = {
        "where": kind,
        "images": images,
        "seconds_per_image": limits.seconds_per_image,
        "startup_s": limits.startup_s,
        "source": table.source,
        "date": str(table.date),
        "machines": rows,
    }

    def print_it() -> None:
        shown = Table("GPU", "an hour", "time", "cost", "an image", "limits")
        for row in rows:
            shown.add_row(
                row["gpu"], f"${row['usd_per_hour']:.2f}", f"{row['seconds'] / 60:.0f} min", f"${row['usd']:.2f}",
                f"${row['usd_per_image']:.5f}", row["message"],
            )  # fmt: skip
        print_table(shown, "none")
        out.print(
            f"{images} images on one machine at {limits.seconds_per_image:g} s each and {limits.startup_s:g} s to start it "
            f"(posefactory.toml, [pods]). Prices: {table.source}, {table.date}; with RUNPOD_API_KEY, posefactory pods prices asks RunPod",
            soft_wrap=True,
        )

    show(as_json, document, print_it)
    if not any(row["allowed"] for row in rows):
        raise typer.Exit(WORK_FAILED)


def _hourly() -> tuple[float | None, str]:
    """US dollars an hour of the GPU that would be rented, and its name; as `gpu_prices` last saw them."""
    catalogue = open_sets().current("gpu_prices", layout.UNPARTITIONED)
    if catalogue is None:
        return None, ""
    wanted = project_settings().pods
    kind = wanted.cloud.lower()
    rows = [
        (g["price"][kind], g["id"])
        for g in json.loads(catalogue.path("gpu_prices.json").read_text("utf-8"))
        if g["price"].get(kind) and (not wanted.gpu_types or g["id"] in wanted.gpu_types)
    ]
    return min(rows, default=(None, ""))


@verbs.command("list")
def list_prices(as_json: JsonOption = False) -> None:
    """Providers and models with their prices, and where these are from."""
    document = {name: prices.get_provider_info(name) for name in prices.list_providers()}

    def print_it() -> None:
        table = Table("provider", "model", "an image", "source", "date")
        for name in document:
            for model in prices.get_models(name):
                each = prices.estimate_cost(name, model=model)["per_image"]
                info = document[name]["models"][model]
                source = info["source"] or document[name]["source"]
                table.add_row(
                    name,
                    model,
                    f"${each:.4f}",
                    source,
                    str(info["date"] or document[name]["date"] or ""),
                )
        print_table(table, "none")

    show(as_json, document, print_it)


@verbs.command("spent")
def spent(
    day: Annotated[str, typer.Option(help="A day (2026-11-21, UTC); all without.")] = "",
    as_json: JsonOption = False,
) -> None:
    """What the ledger says was paid, beside what was estimated."""
    try:
        chosen = datetime.date.fromisoformat(day) if day else None
    except ValueError as error:
        raise CommandError(f"--day {day}: give it as 2026-11-21") from error
    sums: dict[tuple[str, str, str], list[float]] = {}
    store = open_sets().store
    entries, faults = ledger.read_ledger(store, chosen)
    for key, fault in faults.items():
        print_error(f"{store.address(key)}: left out, {fault}; posefactory store verify --repair")
    for entry in entries:
        name = (entry.at.date().isoformat(), entry.provider, entry.style)
        total = sums.setdefault(name, [0.0, 0.0, 0])
        total[0] += entry.estimate_usd
        total[1] += entry.cost_usd
        total[2] += 1
    rows: list[dict[str, Any]] = [
        {"day": d, "provider": p, "style": s, "payments": int(n), "estimate_usd": round(e, 4), "cost_usd": round(c, 4)}
        for (d, p, s), (e, c, n) in sorted(sums.items())
    ]  # fmt: skip

    def print_it() -> None:
        table = Table("day", "provider", "style", "payments", "estimate", "paid")
        for row in rows:
            table.add_row(row["day"], row["provider"], row["style"], str(row["payments"]), f"${row['estimate_usd']:.4f}", f"${row['cost_usd']:.4f}")  # fmt: skip
        print_table(table, "nothing was spent")

    show(as_json, rows, print_it)


def add_verbs(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    app.add_typer(verbs, name="costs")
