"""Settings: environment variables, and `posefactory.toml` beside the project.

Environment names are those of the original system; each is a field here and read nowhere else.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import textwrap
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import platformdirs
from pydantic import ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from blender_scripts.contract import RENDER_HELP, RenderSettings, SettingsError

PROJECT_ROOT = Path(__file__).resolve().parents[1]
ASSETS_DATA = PROJECT_ROOT / "assets_data"
SETTINGS_FILE = "posefactory.toml"


class Environment(BaseSettings):
    """The environment variables that the factory reads."""

    model_config = SettingsConfigDict(populate_by_name=True, extra="ignore", env_ignore_empty=True)

    store: str = Field(default=str(PROJECT_ROOT / "data"), validation_alias="POSEFACTORY_STORE")
    r2_endpoint_url: str | None = Field(default=None, validation_alias="R2_ENDPOINT_URL")
    r2_access_key_id: str | None = Field(default=None, validation_alias="R2_ACCESS_KEY_ID")
    r2_secret_access_key: SecretStr | None = Field(
        default=None, validation_alias="R2_SECRET_ACCESS_KEY"
    )
    r2_bucket: str = Field(default="pose-factory", validation_alias="R2_BUCKET")
    cache: Path = Field(
        default=Path(platformdirs.user_cache_dir("posefactory")),
        validation_alias="POSEFACTORY_CACHE",
    )
    render_on: Literal["local", "pod", "serverless"] = Field(
        default="local", validation_alias="POSEFACTORY_RENDER_ON"
    )
    enhance_on: Literal["local", "pod"] = Field(
        default="local", validation_alias="POSEFACTORY_ENHANCE_ON"
    )
    runpod_api_key: SecretStr | None = Field(default=None, validation_alias="RUNPOD_API_KEY")
    runpod_api_base_url: str = Field(
        default="https://api.runpod.io", validation_alias="RUNPOD_API_BASE_URL"
    )
    pod_image: str | None = Field(default=None, validation_alias="POSEFACTORY_POD_IMAGE")
    runpod_endpoint_base_url: str | None = Field(
        default=None, validation_alias="RUNPOD_ENDPOINT_BASE_URL"
    )
    endpoint_id: str | None = Field(default=None, validation_alias="POSEFACTORY_ENDPOINT_ID")
    stability_api_key: SecretStr | None = Field(default=None, validation_alias="STABILITY_API_KEY")
    dreamstudio_api_key: SecretStr | None = Field(
        default=None, validation_alias="DREAMSTUDIO_API_KEY"
    )
    stability_api_base_url: str = Field(
        default="https://api.stability.ai", validation_alias="STABILITY_API_BASE_URL"
    )
    view_address: str = Field(
        default="http://127.0.0.1:3001", validation_alias="POSEFACTORY_VIEW_ADDRESS"
    )
    blender_path: Path | None = Field(default=None, validation_alias="BLENDER_PATH")
    pose_landmarker_model: Path | None = Field(
        default=None, validation_alias="POSE_LANDMARKER_MODEL"
    )
    max_upload_mb: float = Field(default=200, gt=0, validation_alias="POSEFACTORY_MAX_UPLOAD_MB")
    character_timeout_s: float = Field(
        default=1800, gt=0, validation_alias="POSEFACTORY_CHARACTER_TIMEOUT_S"
    )
    settings_file: Path = Field(
        default=PROJECT_ROOT / SETTINGS_FILE,
        validation_alias="POSEFACTORY_SETTINGS",
    )


def environment() -> Environment:
    """Read the environment variables.

    Raises:
        SettingsError: a variable has a value that does not fit; the text names it.
    """
    try:
        return Environment()
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingsError(
            f"environment variable {first['loc'][0]}: {first['msg']} (it is {first['input']!r})"
        ) from error


#: Values of the type that they are written in, and no others: `true` is no number, "3" is none either.
_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
#: TOML gives a list.
Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Dollars = Annotated[float, Field(ge=0)]
Seconds = Annotated[float, Field(gt=0)]
Section = TypeVar("Section")


@dataclass(frozen=True, config=_STRICT)
class LabelSettings:
    """What `pose_labels` writes beside its Parquet file; the switches of the original system."""

    min_detection_confidence: Fraction = Field(
        default=0.5, description="MediaPipe's least confidence that somebody is there"
    )
    save_debug_images: bool = Field(
        default=True, description="draw the truth and MediaPipe's landmarks on each image"
    )
    save_json: bool = Field(default=False, description="write labels.json too")
    save_numpy: bool = Field(default=False, description="write labels.npy too, (images, 33, 8)")


@dataclass(frozen=True, config=_STRICT)
class GateSettings:
    """Thresholds of the gate, set from the proof in docs/gate.md."""

    judgeable_oks: Fraction = Field(
        default=0.85,
        description="a render with less OKS is judged by MediaPipe's own opinion of it, not by the truth",
    )
    critical_oks: Fraction = Field(
        default=0.5, description="less OKS than this is a critical failure"
    )
    major_oks: Fraction = Field(default=0.75, description="less OKS than this is a major failure")
    max_oks_loss: Fraction = Field(
        default=0.1, description="by how much OKS may fall from the render to its variant"
    )
    max_joint_shift: Fraction = Field(
        default=0.15,
        description="how far a limb's joint may move between render and variant, torso lengths",
    )
    max_joint_shift_unjudged: Fraction = Field(
        default=0.2, description="the same where the truth does not judge, torso lengths"
    )
    min_silhouette_iou: Fraction = Field(
        default=0.85, description="least overlap of the person's outline with the mask"
    )
    min_silhouette_iou_alone: Fraction = Field(
        default=0.9, description="the same where MediaPipe sees nobody in the render"
    )
    max_silhouette_loss: Fraction = Field(
        default=0.1, description="by how much that overlap may fall from the render to its variant"
    )
    minor_joint_error: Fraction = Field(
        default=0.2, description="a joint further from the truth than this is noted, torso lengths"
    )
    enforce: Names = Field(
        default=(),
        description="styles that cannot move the pose, of which what the gate refuses is blocked all the same",
    )
    report: Names = Field(
        default=(),
        description="styles of which the gate only tells: the default for `relight`, refused for others",
    )

    @model_validator(mode="after")
    def _choose_one(self) -> GateSettings:
        if both := sorted(set(self.enforce) & set(self.report)):
            raise ValueError(f"{both[0]} is in enforce and in report: choose one")
        return self


#: Images of truth that a dataset holds on request.
EXTRA_FILES = {"normals", "albedo", "parts", "flow"}


@dataclass(frozen=True, config=_STRICT)
class DatasetSettings:
    """How characters are split, and what enters a dataset."""

    val_fraction: Fraction = Field(default=0.15, description="share of the val split")
    test_fraction: Fraction = Field(
        default=0.15, description="share of the test split; the rest is train"
    )
    split_seed: int = Field(default=0, description="of the draw")
    split_by: Literal["auto", "person", "all"] = Field(
        default="auto",
        description="what is never in two splits: person; all (person, motion, look and the backgrounds of variants; pictures that mix them are left out); auto takes all where that costs at most a tenth of the pictures",
    )
    near_duplicate: Fraction = Field(
        default=0.01,
        description="a picture whose landmarks all lie so near those of another one of the same character, look and view is left out, in lengths of the person's box",
    )
    min_size: Fraction = Field(
        default=0.04,
        description="least longer side of a person's box, of the image's longer side: smaller people have no keypoints, and pictures of nobody larger are left out",
    )
    extra_files: Names = Field(
        default=(),
        description="more images of truth that a dataset holds: normals, albedo, parts, flow",
    )
    negatives: bool = Field(
        default=False, description="pictures that the person has left stay, without an annotation"
    )
    proportion_landmarks: bool = Field(
        default=False,
        description="landmarks placed by proportion are labels like the others; else they are v = 0",
    )

    @model_validator(mode="after")
    def _fits(self) -> DatasetSettings:
        if self.val_fraction + self.test_fraction > 1:
            raise ValueError("val_fraction and test_fraction together are at most 1")
        if unknown := sorted(set(self.extra_files) - EXTRA_FILES):
            raise ValueError(f"extra_files: there are no {', '.join(unknown)}; give {', '.join(sorted(EXTRA_FILES))}")  # fmt: skip
        return self


@dataclass(frozen=True, config=_STRICT)
class VariantSettings:
    """Which variants are made, and what they may cost."""

    styles: Names = Field(
        default=("places",),
        description="names of files in assets_data/styles, without .yaml; [] makes none",
    )
    max_attempts: int = Field(
        default=5,
        ge=1,
        le=1_000_000,
        description="a lost pose is corrected and tried again, so often at most",
    )
    skip_unjudgeable: bool = Field(
        default=True, description="nothing is paid for renders that the gate could not judge by"
    )
    retry_interrupted: bool = Field(
        default=False, description="ask (and pay) once more where an answer was lost"
    )
    max_cost_per_job: Dollars = Field(
        default=100.0, description="US dollars by estimate; above it nothing starts"
    )
    warn_cost: Dollars = Field(default=50.0, description="US dollars; above it there is a warning")
    max_cost_per_day: Dollars = Field(
        default=100.0, description="US dollars of a day in UTC, by the ledger"
    )
    max_images_per_batch: int = Field(
        default=1000, ge=1, le=1_000_000, description="paid images of one run"
    )


@dataclass(frozen=True, config=_STRICT)
class PodSettings:
    """Rented machines: which, for how much, and how long to wait."""

    gpu_types: Names = Field(
        default=(),
        description="ids of RunPod's catalogue, in no order, as the cheapest in stock comes first; [] means any NVIDIA one",
    )
    cloud: Literal["SECURE", "COMMUNITY"] = Field(
        default="SECURE", description="RunPod's kind of cloud"
    )
    max_price_per_hour: float = Field(
        default=0.8, gt=0, description="US dollars; dearer machines are not taken"
    )
    max_cost_per_job: float = Field(
        default=5.0, gt=0, description="US dollars by estimate; above it nothing starts"
    )
    seconds_per_image: Seconds = Field(
        default=1.0, description="what estimates are made of: measure yours, s"
    )
    startup_s: Seconds = Field(
        default=180.0, description="until a machine begins, for estimates, s"
    )
    disk_gb: int = Field(default=20, gt=0, description="of a pod that renders, GB")
    max_pods_per_job: int = Field(default=2, gt=0, description="one after the other")
    serverless_job_s: Seconds = Field(
        default=480.0, description="of one job of an endpoint (RunPod's own limit is 600 s), s"
    )
    serverless_jobs_at_once: int = Field(
        default=10, gt=0, description="jobs that wait or run, more than the endpoint has workers"
    )
    serverless_price_per_hour: float | None = Field(
        default=None,
        gt=0,
        description="of a worker, US dollars; RunPod is asked where nothing is said",
    )
    enhancer_memory_gb: int = Field(
        default=24, gt=0, description="GPU memory of a pod that makes variants, GB"
    )
    enhancer_disk_gb: int = Field(
        default=60, gt=0, description="disk of a pod that makes variants, for its models, GB"
    )
    enhancer_answer_s: Seconds = Field(
        default=1200.0,
        description="an image may take so long once the pod was heard of, with models that are fetched before it, s",
    )
    enhancer_idle_s: Seconds = Field(
        default=600.0,
        description="such a pod ends itself when nothing is asked of it for so long, s",
    )
    poll_interval_s: Seconds = Field(default=30.0, description="how often RunPod is asked, s")
    provision_timeout_s: Seconds = Field(default=600.0, description="for a machine to be there, s")
    first_message_timeout_s: Seconds = Field(default=600.0, description="for its first word, s")
    silence_timeout_s: Seconds = Field(default=300.0, description="between its words, s")
    job_timeout_s: Seconds = Field(default=3600.0, description="for a whole job, s")


@dataclasses.dataclass(frozen=True)
class ProjectSettings:
    """The sections of `posefactory.toml`; every value has a default.

    ``takes`` maps the key of a skin or a motion to the animation of its file that plays.
    """

    render: RenderSettings = RenderSettings()
    takes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    labels: LabelSettings = LabelSettings()
    variants: VariantSettings = VariantSettings()
    gate: GateSettings = GateSettings()
    dataset: DatasetSettings = DatasetSettings()
    pods: PodSettings = PodSettings()


#: The sections whose fields say by themselves what they allow.
SECTIONS: dict[str, Any] = {
    "labels": LabelSettings,
    "variants": VariantSettings,
    "gate": GateSettings,
    "dataset": DatasetSettings,
    "pods": PodSettings,
}


def fields_of(section: Any) -> dict[str, FieldInfo]:
    """The fields of a section of ``SECTIONS``, with their descriptions and limits."""
    found: dict[str, FieldInfo] = section.__pydantic_fields__
    return found


def allowed(field: FieldInfo) -> str:
    """The allowed values of a setting, as text."""
    kind, limits = field.annotation, {type(m).__name__: m for m in field.metadata}
    if kind is bool:
        return "true or false"
    if kind is str or "tuple" in str(kind):
        return "a list of names"
    if choices := [c for c in get_args(kind) if isinstance(c, str)]:
        return " or ".join(choices)
    number = "a whole number" if kind is int else "a number"
    low = getattr(limits.get("Ge"), "ge", None)
    high = getattr(limits.get("Le"), "le", None)
    if low is not None and high is not None:
        return (
            f"{number} from {low:g} to {high:,g}"
            if high < 1000
            else f"{number} from {low:g} to {high:,.0f}"
        )
    if low is not None:
        return f"{number}, {low:g} or more"
    return f"{number} above zero" if "Gt" in limits else number


def launchpad_fields(section: Any, names: Iterable[str] = ()) -> dict[str, Any]:
    """Fields for a form in which settings may be overridden: each optional, with its meaning, limits and default.

    Args:
        names: of the settings that a run may override; all without.

    Returns:
        Arguments for ``pydantic.create_model``.
    """
    fields = {}
    for name, info in fields_of(section).items():
        if names and name not in names:
            continue
        kind: Any = list[str] if "tuple" in str(info.annotation) else info.annotation
        words = f"{str(info.description)[:1].upper()}{str(info.description)[1:]}: {allowed(info)}. Default: {info.default!r}."
        fields[name] = (kind | None, Field(default=None, description=words))
    return fields


def changed(section: Section, **overrides: Any) -> Section:
    """A copy of a settings section with other values.

    Raises:
        SettingsError: a value does not fit; the text names it and says what is allowed.
    """
    values = {f.name: getattr(section, f.name) for f in dataclasses.fields(section)}  # type: ignore[arg-type]
    return made(type(section), {**values, **overrides})


def made(section: type[Section], values: Mapping[str, Any]) -> Section:
    """A settings section from plain values.

    Raises:
        SettingsError: a value does not fit; the text names it and says what is allowed.
    """
    try:
        return section(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        if name not in fields_of(section):
            raise SettingsError(str(first["msg"]).removeprefix("Value error, ")) from error
        words = allowed(fields_of(section)[name])
        raise SettingsError(f"{name} is {values[name]!r}: give {words}") from error


def _takes(path: Path, content: object) -> Mapping[str, str]:
    if not isinstance(content, dict) or not all(isinstance(v, str) and v for v in content.values()):
        raise SettingsError(f'{path.name}: [takes] has lines like hero = "Walk"')
    return content


@functools.cache
def _read(path: Path, modified_ns: int) -> ProjectSettings:
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path.name}: not TOML: {error}") from error
    values: dict[str, Any] = {}
    for section, content in document.items():
        if section == "takes":
            values["takes"] = _takes(path, content)
            continue
        if section not in ("render", *SECTIONS) or not isinstance(content, dict):
            names = ", ".join(f.name for f in dataclasses.fields(ProjectSettings))
            raise SettingsError(
                f"{path.name}: unknown section [{section}]: the sections are {names}"
            )
        kind = RenderSettings if section == "render" else SECTIONS[section]
        known = [f.name for f in dataclasses.fields(kind)]
        if unknown := sorted(set(content) - set(known)):
            raise SettingsError(
                f"{path.name}: unknown setting {', '.join(unknown)} in [{section}]: "
                f"the settings are {', '.join(known)}"
            )
        try:
            values[section] = kind(**content) if section == "render" else made(kind, content)
        except SettingsError as error:
            raise SettingsError(f"{path.name}: [{section}] {error}") from error
    return ProjectSettings(**values)


def sample_characters() -> list[Path]:
    """The sample people that ship, in order of their names."""
    return sorted((ASSETS_DATA / "characters").glob("*.glb"))


def project_settings(file: Path | None = None) -> ProjectSettings:
    """Read `posefactory.toml`; defaults apply if there is none.

    Args:
        file: another file; by default the one that POSEFACTORY_SETTINGS names.

    Raises:
        SettingsError: the file is not TOML, or has an unknown or impossible setting.
    """
    path = file or environment().settings_file
    if not path.is_file():
        if path != PROJECT_ROOT / SETTINGS_FILE:
            named = str(path) if file else f"POSEFACTORY_SETTINGS={path}"
            raise SettingsError(f"{named}: no such file")
        return ProjectSettings()
    return _read(path, path.stat().st_mtime_ns)


def example_file() -> str:
    """A `posefactory.toml` that says every default, with what each setting means and allows; `docs/settings.md` shows it."""
    return "\n".join(_example_lines()) + "\n"


def _example_lines() -> Iterator[str]:
    yield "[render]"
    for field in dataclasses.fields(RenderSettings):
        yield from _example_of(field.name, field.default, RENDER_HELP[field.name].rstrip("."))
    yield "\n# Which animation of a file plays, by the key of a skin or a motion."
    yield '[takes]\n#hero = "Walk"'
    for name, section in SECTIONS.items():
        yield f"\n# {(section.__doc__ or '').splitlines()[0]}\n[{name}]"
        for key, info in fields_of(section).items():
            yield from _example_of(key, info.default, f"{info.description}: {allowed(info)}")


def _example_of(name: str, value: object, words: str) -> Iterator[str]:
    yield from textwrap.wrap(
        f"{words[:1].upper()}{words[1:]}", 86, initial_indent="# ", subsequent_indent="# "
    )
    shown = json.dumps(list(value) if isinstance(value, tuple) else value)
    yield f"#{name} =" if value is None else f"{name} = {shown}"


if __name__ == "__main__":
    print(example_file(), end="")
