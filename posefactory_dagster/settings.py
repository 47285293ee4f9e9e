"""What a user sets: the environment, and `posefactory.toml` beside the project.

Environment names are those of the original system; each is a field here and read nowhere else.
"""

from __future__ import annotations

import dataclasses
import functools
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from blender_scripts.contract import RenderSettings, SettingsError

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
    """The environment now.

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


def _switch(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise SettingsError(f"{name} is {value!r}: give true or false")


def _fraction(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise SettingsError(f"{name} is {value!r}: give a number from 0 to 1")


@dataclasses.dataclass(frozen=True)
class LabelSettings:
    """What `pose_labels` writes beside its Parquet file; the switches of the original system."""

    save_debug_images: bool = True
    save_json: bool = False
    save_numpy: bool = False
    min_detection_confidence: float = 0.5

    def __post_init__(self) -> None:
        for name in ("save_debug_images", "save_json", "save_numpy"):
            _switch(name, getattr(self, name))
        _fraction("min_detection_confidence", self.min_detection_confidence)


@dataclasses.dataclass(frozen=True)
class GateSettings:
    """Thresholds of the gate, set from the proof in docs/gate.md. OKS and IoU 0 to 1; joints in torso lengths.

    ``judgeable_oks``: a render with less is not judged by the truth but against MediaPipe's own opinion of it.
    ``max_joint_shift``: how far a limb's joint may go between MediaPipe's opinions of render and image; the other one
    is for images that are not judged by the truth, where these opinions shake more. ``min_silhouette_iou_alone`` is for
    images whose render shows MediaPipe nobody. ``enforce`` and ``report`` name styles: what the gate refuses is blocked, or
    is kept with the verdict beside it. By default it is enforced for enhancers that may move the pose, and reported for those
    that cannot; for the first, `report` is refused.
    """

    judgeable_oks: float = 0.85
    critical_oks: float = 0.5
    major_oks: float = 0.75
    max_oks_loss: float = 0.1
    max_joint_shift: float = 0.15
    max_joint_shift_unjudged: float = 0.2
    min_silhouette_iou: float = 0.85
    min_silhouette_iou_alone: float = 0.9
    max_silhouette_loss: float = 0.1
    minor_joint_error: float = 0.2
    enforce: tuple[str, ...] = ()
    report: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in ("enforce", "report"):
                _fraction(field.name, value)
                continue
            object.__setattr__(self, field.name, tuple(value))  # TOML gives a list
            if isinstance(value, str) or not all(isinstance(s, str) and s for s in value):
                raise SettingsError(f"{field.name} is a list of names of styles")
        if both := sorted(set(self.enforce) & set(self.report)):
            raise SettingsError(f"{both[0]} is in enforce and in report: choose one")


@dataclasses.dataclass(frozen=True)
class DatasetSettings:
    """How characters are split, and what enters; fractions add up to 1 with the train split as the rest.

    ``negatives``: pictures that the person has left stay, without an annotation; else they are left out.
    ``proportion_landmarks``: landmarks placed by proportion are labels like the others; else they are v = 0.
    """

    val_fraction: float = 0.15
    test_fraction: float = 0.15
    split_seed: int = 0
    negatives: bool = False
    proportion_landmarks: bool = False

    def __post_init__(self) -> None:
        for name in ("negatives", "proportion_landmarks"):
            _switch(name, getattr(self, name))
        _fraction("val_fraction", self.val_fraction)
        _fraction("test_fraction", self.test_fraction)
        if not isinstance(self.split_seed, int) or isinstance(self.split_seed, bool):
            raise SettingsError(f"split_seed is {self.split_seed!r}: give a whole number")
        if self.val_fraction + self.test_fraction > 1:
            raise SettingsError("val_fraction and test_fraction together are at most 1")


@dataclasses.dataclass(frozen=True)
class VariantSettings:
    """Which variants are made, and what they may cost in US dollars.

    ``styles``: names of files in assets_data/styles; empty makes none. ``skip_unjudgeable``: paid enhancers leave out
    renders that the gate could not judge by. ``retry_interrupted``: ask once more for an image whose answer
    was lost and which may have been charged.
    """

    styles: tuple[str, ...] = ("places",)
    max_attempts: int = 5
    skip_unjudgeable: bool = True
    retry_interrupted: bool = False
    max_cost_per_job: float = 100.0
    warn_cost: float = 50.0
    max_cost_per_day: float = 100.0
    max_images_per_batch: int = 1000

    def __post_init__(self) -> None:
        object.__setattr__(self, "styles", tuple(self.styles))  # TOML gives a list
        if not all(isinstance(s, str) and s for s in self.styles):
            raise SettingsError("styles is a list of names of files in assets_data/styles")
        for name in ("skip_unjudgeable", "retry_interrupted"):
            _switch(name, getattr(self, name))
        for name in ("max_attempts", "max_images_per_batch"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1_000_000:
                raise SettingsError(f"{name} is {value!r}: give a whole number above zero")
        for name in ("max_cost_per_job", "warn_cost", "max_cost_per_day"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
                raise SettingsError(f"{name} is {value!r}: give US dollars, zero or more")


@dataclasses.dataclass(frozen=True)
class PodSettings:
    """Rented machines: which, for how much, and how long to wait. Seconds and US dollars.

    ``gpu_types``: acceptable ones by RunPod's ids, in no order, as the cheapest in stock comes first;
    empty means any NVIDIA one. ``seconds_per_image`` and ``startup_s`` are what estimates are made of.
    ``serverless_job_s`` is what one job of an endpoint may take (RunPod's own default limit is 600 s);
    ``serverless_jobs_at_once`` how many wait or run at a time, more than the endpoint has workers;
    ``serverless_price_per_hour`` what an hour of a worker costs; None: RunPod is asked.
    ``enhancer_memory_gb`` and ``enhancer_disk_gb`` are what a pod needs that makes variants, ``enhancer_answer_s`` is how
    long an image may take, models that are fetched and others before it included, and ``enhancer_idle_s`` how
    long such a pod waits for something to do before it ends itself.
    """

    gpu_types: tuple[str, ...] = ()
    cloud: Literal["SECURE", "COMMUNITY"] = "SECURE"
    max_price_per_hour: float = 0.8
    max_cost_per_job: float = 5.0
    seconds_per_image: float = 1.0
    startup_s: float = 180.0
    disk_gb: int = 20
    max_pods_per_job: int = 2
    serverless_job_s: float = 480.0
    serverless_jobs_at_once: int = 10
    serverless_price_per_hour: float | None = None
    enhancer_memory_gb: int = 24
    enhancer_disk_gb: int = 60
    enhancer_answer_s: float = 1200.0
    enhancer_idle_s: float = 600.0
    poll_interval_s: float = 30.0
    provision_timeout_s: float = 600.0
    first_message_timeout_s: float = 600.0
    silence_timeout_s: float = 300.0
    job_timeout_s: float = 3600.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "gpu_types", tuple(self.gpu_types))  # TOML gives a list
        if not all(isinstance(g, str) and g for g in self.gpu_types):
            raise SettingsError(
                "gpu_types is a list of GPU ids; posefactory pods prices shows them"
            )
        if self.cloud not in ("SECURE", "COMMUNITY"):
            raise SettingsError(f"cloud is {self.cloud!r}: choose SECURE or COMMUNITY")
        for field in dataclasses.fields(self)[2:]:
            value = getattr(self, field.name)
            if value is None and field.default is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise SettingsError(f"{field.name} is {value!r}: give a number above zero")
            if field.type == "int" and not isinstance(value, int):
                raise SettingsError(f"{field.name} is {value!r}: give a whole number")


@dataclasses.dataclass(frozen=True)
class ProjectSettings:
    """The sections of `posefactory.toml`; every value has a default.

    ``takes`` maps the key of a skin or a motion to the animation of its file that plays.
    """

    render: RenderSettings = RenderSettings()
    labels: LabelSettings = LabelSettings()
    variants: VariantSettings = VariantSettings()
    gate: GateSettings = GateSettings()
    dataset: DatasetSettings = DatasetSettings()
    pods: PodSettings = PodSettings()
    takes: Mapping[str, str] = dataclasses.field(default_factory=dict)


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
    classes: dict[str, Any] = {
        f.name: type(f.default) for f in dataclasses.fields(ProjectSettings) if f.name != "takes"
    }
    values: dict[str, Any] = {}
    if "takes" in document:
        values["takes"] = _takes(path, document.pop("takes"))
    for section, content in document.items():
        if section not in classes or not isinstance(content, dict):
            raise SettingsError(
                f"{path.name}: unknown section [{section}]: the sections are {', '.join([*classes, 'takes'])}"
            )
        known = [f.name for f in dataclasses.fields(classes[section])]
        if unknown := sorted(set(content) - set(known)):
            raise SettingsError(
                f"{path.name}: unknown setting {', '.join(unknown)} in [{section}]: "
                f"the settings are {', '.join(known)}"
            )
        try:
            values[section] = classes[section](**content)
        except SettingsError as error:
            raise SettingsError(f"{path.name}: [{section}] {error}") from error
    return ProjectSettings(**values)


def project_settings() -> ProjectSettings:
    """What `posefactory.toml` says now; the defaults where there is none.

    Raises:
        SettingsError: the file is not TOML, or has an unknown or impossible setting.
    """
    path = environment().settings_file
    if not path.is_file():
        if path != PROJECT_ROOT / SETTINGS_FILE:
            raise SettingsError(f"POSEFACTORY_SETTINGS={path}: no such file")
        return ProjectSettings()
    return _read(path, path.stat().st_mtime_ns)
