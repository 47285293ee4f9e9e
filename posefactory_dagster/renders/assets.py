"""The asset `multi_angle_renders`: views x frames of each character, with exact truth."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import dagster as dg
from PIL import Image
from pydantic import Field, create_model

from blender_scripts.contract import RENDER_HELP, RenderSettings, SettingsError
from blender_scripts.supervise import Outcome
from posefactory_dagster.characters.documents import ASSET as CHARACTER
from posefactory_dagster.characters.documents import PARTITIONS as CHARACTERS
from posefactory_dagster.characters.documents import facts_of
from posefactory_dagster.compute import engines
from posefactory_dagster.compute.pipes import BlenderResource
from posefactory_dagster.compute.resources import RentedPods
from posefactory_dagster.compute.work import RESULT, Work
from posefactory_dagster.pictures import contact_strip, thumbnail_markdown
from posefactory_dagster.pipeline.jobs import GROUP
from posefactory_dagster.pipeline.partitions import (
    REFERENCES,
    PartitionLedger,
    check_of,
    partition_set,
    viewer_link,
)
from posefactory_dagster.pipeline.plans import NotPlanned
from posefactory_dagster.pipeline.resources import ProjectResource
from posefactory_dagster.renders import looks, render_sets
from posefactory_dagster.renders.documents import ASSET, CAST_WARNING, STRIP, RenderFacts
from posefactory_dagster.renders.validation import (
    InvalidRenders,
    SoundDocument,
    check_renders,
    size_limit,
)
from posefactory_dagster.settings import environment
from posefactory_dagster.storage.io_manager import StoreResource
from posefactory_dagster.storage.sets import CommittedSet, CommittedSets, SetRef, file_sha256
from posefactory_dagster.storage.store import DamagedObject

_TYPES = get_type_hints(RenderSettings)
STRIP_IMAGES = 8
SOUND = "truth_is_sound"

#: One optional field per render setting, so that the launchpad shows and checks them all.
RenderConfig = create_model(  # type: ignore[call-overload]
    "RenderConfig",
    __base__=dg.Config,
    __doc__="What to render differently from posefactory.toml in this run.",
    **{
        f.name: (
            _TYPES[f.name] | None,
            Field(default=None, description=f"{RENDER_HELP[f.name]} Default: {f.default!r}."),
        )
        for f in dataclasses.fields(RenderSettings)
    },
)


def wanted_settings(
    base: RenderSettings, overrides: dict[str, Any], place: str = ""
) -> RenderSettings:
    """The project's render settings with ``overrides``, resolved for where renders run.

    Raises:
        SettingsError: an unknown or impossible setting.
    """
    settings = RenderSettings.from_dict({**dataclasses.asdict(base), **overrides})
    if settings.engine != "auto":
        return settings.resolved()
    # All rented machines have a GPU, and which is not known before one is rented.
    rented = (place or environment().render_on) != "local"
    return settings.resolved("eevee" if rented else engines.choose().engine)


@dg.asset(
    partitions_def=partition_set(CHARACTERS),
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name=GROUP,
    dagster_type=REFERENCES,
    kinds={"blender", "png"},
    check_specs=[
        check_of(
            ASSET,
            SOUND,
            CHARACTERS,
            "Warns when images show nobody, or when landmarks are placed by proportion, as the rig has no bone for them.",
        )
    ],  # fmt: skip
    pool="renders",  # a team's instance limits it: as many pods at a time
    description="Views x frames of a character as PNG, with the exact truth of each image.",
)
def multi_angle_renders(
    context: dg.AssetExecutionContext,
    config: RenderConfig,  # type: ignore[valid-type]
    character: dict[str, CommittedSet],
    store: StoreResource,
    blender: BlenderResource,
    pods: RentedPods,
    project: ProjectResource,
) -> dg.MaterializeResult:
    """Render what is not committed yet, all characters in one Blender process."""
    overrides = {k: v for k, v in config.model_dump().items() if v is not None}  # type: ignore[attr-defined]
    try:
        settings = wanted_settings(project.settings().render, overrides, blender.place)
        known_looks = looks.documents(settings)
    except SettingsError as error:
        raise dg.Failure(description=str(error), allow_retries=False) from error
    sets = store.sets()
    ledger = PartitionLedger(context, sets)
    planner = render_sets.RenderPlanner(settings, known_looks)

    def shown(committed: CommittedSet) -> dict[str, Any]:
        facts = committed.facts_as(RenderFacts)
        empty, guessed = facts.empty_images, facts.landmarks_by_proportion
        faults = [f"{empty} images show nobody"] if empty else []
        faults += [f"{guessed} landmarks are placed by proportion"] if guessed else []
        fault = "; ".join(faults) or None
        ledger.check(SOUND, committed.ref.partition, fault, images=facts.images)
        return _metadata(committed)

    if blender.place == "local" and settings.engine != project.settings().render.engine:
        context.log.info(f"engine {settings.engine}: {engines.choose().why}")
    planned = ledger.plan(planner, {CHARACTER: character}, shown)
    todo = {}
    for key, ref in planned.items():
        mine = looks.wanted_by(known_looks, settings, key)
        try:
            work = _work(sets, ref, character[key], mine)
        except NotPlanned as error:
            ledger.bad(key, str(error))
            continue
        try:
            for warning in _fewer(work, settings):
                context.log.warning(f"{key}: {warning}")
        except SettingsError as error:
            ledger.bad(key, str(error))
            continue
        todo[key] = work
    if not todo:
        return ledger.close()

    with sets.scratch() as scratch:

        def on_outcome(key: str, outcome: Outcome) -> str | None:
            fault = outcome.error
            if fault is None:
                try:
                    committed = _commit(sets, todo[key], settings, scratch / key, outcome)
                    ledger.good(key, committed.ref, shown(committed))
                    return None
                except Exception as error:
                    if outcome.attempt is None:
                        raise  # made here: the store itself is at fault, and the next would fail too
                    if isinstance(error, InvalidRenders | DamagedObject):
                        sets.store.delete([todo[key].key(outcome.attempt, RESULT)])
                        fault = (
                            f"{key}: what the worker sent cannot be used ({error}); run it again"
                        )
                    else:  # the trouble is here, and what was paid for is kept
                        fault = f"{key}: rendered, but not taken over ({error}); run it again to do that"
            ledger.bad(key, fault)
            return fault

        if ledger.failed:
            pods.lease.expect_no_more()
        blender.render(context, settings, todo, sets, scratch, on_outcome, pods.lease)
        return ledger.close()


def _work(sets: CommittedSets, ref: SetRef, source: CommittedSet, mine: dict[str, Any]) -> Work:
    facts = facts_of(source)
    members = []
    for person in facts.persons:
        found = sets.find(SetRef(CHARACTER, person.key, person.character))
        if found is None:
            raise NotPlanned(f"{ref.partition}: its member {person.key} is not as it was arranged; run it again")  # fmt: skip
        members.append(found)
    places = tuple(p.place() for p in facts.persons)
    return Work(ref, source, facts.frame_range, facts.has_motion, mine, tuple(members), places)


def _commit(
    sets: CommittedSets, work: Work, settings: RenderSettings, folder: Path, outcome: Outcome
) -> CommittedSet:
    """Make a set of what was rendered here (in ``folder``), or elsewhere (in the store already).

    Raises:
        InvalidRenders, DamagedObject: it is not what was asked for.
    """
    attempt, uploaded = outcome.attempt, outcome.uploaded
    wanted, frames = work.files(settings), work.frames(settings)
    if attempt is None or uploaded is None:
        paths = {name: folder / name for name in wanted}
        document = check_renders(
            paths,
            work.ref.partition,
            frames,
            settings,
            work.looks,
            persons=work.persons,
            decode=False,
        )
        _strip(paths, document).save(folder / STRIP)
        made = _made_from(work, settings, document, outcome)
        return sets.commit(work.ref, folder, **made)

    for name in wanted:
        if uploaded[name]["size"] > size_limit(name, work.images(settings), settings, work.looks):
            raise InvalidRenders(f"{name}: {uploaded[name]['size']} bytes are too many")
    keys = {name: work.key(attempt, name) for name in wanted}
    found = sets.store.local_paths({keys[n]: uploaded[n]["sha256"] for n in wanted})
    paths = {name: found[key] for name, key in keys.items()}
    document = check_renders(paths, work.ref.partition, frames, settings, work.looks, persons=work.persons, decode=True)  # fmt: skip
    folder.mkdir()
    strip = folder / STRIP
    _strip(paths, document).save(strip)
    files = {
        **uploaded,
        STRIP: {"sha256": file_sha256(strip), "size": strip.stat().st_size},
    }
    sets.store.put_files({work.key(attempt, STRIP): strip})
    made = _made_from(work, settings, document, outcome)
    return sets.commit_uploaded(work.ref, attempt, files, **made)


def _strip(paths: Mapping[str, Path], document: SoundDocument) -> Image.Image:
    return contact_strip([paths[f"images/{i.file}"] for i in document.images[:STRIP_IMAGES]])


def _made_from(
    work: Work, settings: RenderSettings, document: SoundDocument, outcome: Outcome
) -> dict[str, dict[str, Any]]:
    """What a render set's manifest says of its making."""
    return {
        "inputs": {
            "sets": [dataclasses.astuple(s.ref) for s in (work.source, *work.members)],
            "skins": [
                [m.ref.partition, m.inputs["skin"]["sha256"]]
                for m in work.members or (work.source,)
            ],
            **({"looks": {n: dict(d) for n, d in work.looks.items()}} if work.looks else {}),
        },
        "settings": dataclasses.asdict(settings),
        "facts": RenderFacts(
            images=len(document.images),
            frames=document.frames,
            views=len(document.images) // len(document.frames),
            looks=list(dict.fromkeys(i.look for i in document.images)),
            cropped_images=sum(i.cropped for i in document.images),
            empty_images=sum(not i.area for i in document.images),
            landmarks_by_proportion=document.origin.count("proportion"),
            warnings=[*document.warnings, *_fewer(work, settings), *_missed(work)],
            licences=facts_of(work.source).licences,
            persons=work.persons,
            seconds=dict(outcome.seconds),
            peak_mb=outcome.peak_mb,
        ).model_dump(),
    }


def _fewer(work: Work, settings: RenderSettings) -> list[str]:
    """What to say where a motion has fewer distinct frames than are asked for."""
    count = len(work.frames(settings))
    if not work.moves or count >= settings.frames_per_clip:
        return []
    return [
        f"{settings.frames_per_clip} frames were asked for, and its motion has {count} distinct ones"
    ]


def _missed(work: Work) -> list[str]:
    """What a dataset's card must say of a cast that is far from its motion."""
    transfer = facts_of(work.source).transfer
    return [f"{CAST_WARNING}{text}" for text in (transfer.misses if transfer is not None else ())]


def _metadata(committed: CommittedSet) -> dict[str, Any]:
    facts = committed.facts_as(RenderFacts)
    spent = sum(facts.seconds.values())
    return {
        "viewer": viewer_link(committed.ref.partition, "characters"),
        "preview": dg.MetadataValue.md(thumbnail_markdown(committed.path(STRIP), 416)),
        "images": facts.images,
        "views": facts.views,
        "frames": ", ".join(str(f) for f in facts.frames),
        "looks": ", ".join(facts.looks),
        "cropped_images": facts.cropped_images,
        "engine": committed.settings["engine"],
        "samples": committed.settings["samples"],
        "seed": committed.settings["seed"],
        "seconds_per_image": round(spent / max(facts.images, 1), 4),
        "peak_memory_mb": facts.peak_mb or 0.0,
        "warnings": "\n".join(facts.warnings) or "none",
        "folder": committed.address(),
        "identity": committed.ref.identity,
    }
