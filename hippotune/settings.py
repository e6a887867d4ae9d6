"""Every setting of every process, in one typed class.

A setting `max_batch` is the environment variable HIPPOTUNE_MAX_BATCH and the flag `--max-batch`; the flag
wins. REDIS_URL is read without the prefix too. A setting left unset takes its room's default, so that each default
stands in one place: the rooms never see this class, but records of their own (`hippotune.configs`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from typing_extensions import Doc

from hippotune.calls import URL
from hippotune.checks import server_address
from hippotune.client import Client
from hippotune.setting_types import (
    PREFIX,
    Count,
    Natural,
    Part,
    Positive,
    Share,
    Weight,
    of_redis,
    split,
    variable,
    who_am_i,
)


class Settings(BaseSettings):
    """Read from the environment; keyword arguments win. A variable that is empty counts as unset.

    Raises pydantic.ValidationError.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, populate_by_name=True, env_ignore_empty=True
    )

    url: Annotated[str, Part.CLIENT, Doc("Address of the server."), AfterValidator(server_address)] = URL
    api_key: Annotated[
        str | None,
        Part.CLIENT,
        Doc(
            "API key, if the server wants one; other users of this machine can read flags, not the variable."
        ),
        Field(repr=False),
    ] = None
    timeout_s: Annotated[
        Annotated[float, Field(gt=0)],
        Part.CLIENT,
        Doc("Seconds to connect, and for the next bytes of an answer; `submit` adds one a MiB."),
    ] = 60.0
    retries: Annotated[
        Annotated[int, Field(ge=0)], Part.CLIENT, Doc("Tries after the first when a server is busy or away.")
    ] = 5

    redis_url: Annotated[
        str | None,
        Part.COMMON,
        Doc("Redis to use, redis://, rediss:// or unix://; `up` starts a private one when unset."),
        Field(validation_alias=AliasChoices(variable("redis_url"), "REDIS_URL")),
        AfterValidator(of_redis),
    ] = None
    store: Annotated[Path, Part.COMMON, Doc("Directory of images, versions and the private Redis.")] = Path(
        "store"
    )
    backbone: Annotated[str, Part.COMMON, Doc("A timm vision transformer, or `bundled`.")] = "bundled"
    weights: Annotated[
        Path | None, Part.COMMON, Doc("Safetensors file of the backbone; else timm downloads its own.")
    ] = None
    px: Annotated[Count, Part.COMMON, Doc("Side of the square input; else the backbone's own.")] = None
    device: Annotated[str | None, Part.COMMON, Doc("Torch device; else a GPU if there is one.")] = None
    threads: Annotated[
        Count, Part.COMMON, Doc("CPU threads of each process; else what the machine grants.")
    ] = None
    max_pixels: Annotated[Count, Part.COMMON, Doc("Most pixels of one image.")] = None
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Part.COMMON, Doc("Least severe message to log.")
    ] = "info"
    queue_prefix: Annotated[str | None, Part.COMMON, Doc("First part of every Redis key.")] = None
    queue_capacity: Annotated[Count, Part.COMMON, Doc("Most unfinished tasks; more is 429.")] = None
    queue_lease_s: Annotated[
        Positive, Part.COMMON, Doc("Seconds of silence after which a trainer counts as dead.")
    ] = None
    queue_max_deaths: Annotated[
        Count, Part.COMMON, Doc("Times a trainer may die at a task before it is set aside.")
    ] = None
    queue_idempotency_ttl_s: Annotated[
        Count, Part.COMMON, Doc("Seconds an idempotency key is remembered.")
    ] = None

    queue_dead_letters: Annotated[Count, Part.COMMON, Doc("Failed tasks that can be tried again.")] = None
    queue_events: Annotated[Count, Part.COMMON, Doc("Events kept of one task.")] = None
    queue_event_ttl_s: Annotated[Count, Part.COMMON, Doc("Seconds they are kept after its last one.")] = None

    host: Annotated[str, Part.SERVER, Doc("Address to listen on.")] = "127.0.0.1"
    port: Annotated[
        Annotated[int, Field(ge=0, le=65535)], Part.SERVER, Doc("Port to listen on; 0 takes a free one.")
    ] = 8000
    unready_s: Annotated[
        Annotated[float, Field(ge=0)],
        Part.SERVER,
        Doc("Seconds to answer on, but not ready, once asked to stop, for a balancer to notice."),
    ] = 0.5
    runtime: Annotated[
        str | None,
        Part.SERVER,
        Doc("What computes the forward pass: auto, torch, torch-bf16, onnx or onnx-int8."),
    ] = None
    max_batch: Annotated[Count, Part.SERVER, Doc("Most images in one forward pass.")] = None
    queue_images: Annotated[
        Count, Part.SERVER, Doc("Most images admitted and not yet answered; more is 429.")
    ] = None
    request_timeout_s: Annotated[Positive, Part.SERVER, Doc("Seconds until a request is answered 504.")] = (
        None
    )
    read_timeout_s: Annotated[Positive, Part.SERVER, Doc("Seconds without a byte until 408.")] = None
    idle_s: Annotated[
        Positive, Part.SERVER, Doc("Seconds until a connection is closed on which nothing is asked.")
    ] = None
    max_body_bytes: Annotated[Count, Part.SERVER, Doc("Largest body of /classify.")] = None
    max_held_bytes: Annotated[
        Count, Part.SERVER, Doc("Most bytes of such bodies in memory at the same time; more is 429.")
    ] = None
    max_classify_files: Annotated[Count, Part.SERVER, Doc("Most images in one /classify.")] = None
    max_image_bytes: Annotated[Count, Part.SERVER, Doc("Largest encoded image of a task.")] = None
    max_task_bytes: Annotated[Count, Part.SERVER, Doc("Largest body of /tasks.")] = None
    max_task_images: Annotated[Count, Part.SERVER, Doc("Most images in one task.")] = None
    max_task_check_s: Annotated[
        Positive,
        Part.SERVER,
        Doc(
            "Most seconds of a processor to look through a task's images, besides one for each MiB; more is 413."
        ),
    ] = None
    max_unpacked_bytes: Annotated[Count, Part.SERVER, Doc("Most bytes an archive may unpack to.")] = None
    max_archive_ratio: Annotated[Count, Part.SERVER, Doc("Most an archive may grow when unpacked.")] = None
    max_submissions: Annotated[Count, Part.SERVER, Doc("Tasks received at the same time.")] = None
    max_event_streams: Annotated[Count, Part.SERVER, Doc("Open event streams.")] = None
    model_name: Annotated[
        str | None, Part.SERVER, Doc("What /v2, the Open Inference Protocol, calls the model; no slash.")
    ] = None
    feedback_answers: Annotated[Natural, Part.SERVER, Doc("Answers that POST /feedback can correct.")] = None
    feedback_ttl_s: Annotated[Positive, Part.SERVER, Doc("Seconds for which it can.")] = None
    api_keys_file: Annotated[
        Path | None, Part.SERVER, Doc("File of API keys, made by `hippotune keys new`.")
    ] = None
    api_keys: Annotated[
        str | None, Part.SERVER, Doc("The same lines, role:name:sha256, separated by spaces.")
    ] = None
    open_metrics: Annotated[bool | None, Part.SERVER, Doc("/metrics needs no key.")] = None
    insecure: Annotated[
        bool | None, Part.SERVER, Doc("Without keys, let anybody who reaches the address do anything.")
    ] = None
    access_log: Annotated[
        bool | None, Part.SERVER, Doc("Log every request, not only those that were refused.")
    ] = None

    consumer: Annotated[
        str, Part.TRAINER, Doc("This trainer's name among those of one queue; else its host and process.")
    ] = Field(default_factory=who_am_i, min_length=1)
    keep_versions: Annotated[Count, Part.TRAINER, Doc("Old versions kept to roll back to.")] = None
    keep_tasks: Annotated[Count, Part.TRAINER, Doc("Records kept of tasks that ended.")] = None
    max_pending_mb: Annotated[
        Count,
        Part.TRAINER,
        Doc("Megabytes of decoded images that may wait to be consolidated before no more are taken."),
    ] = None
    upkeep_s: Annotated[
        Positive, Part.TRAINER, Doc("Seconds between two rounds of dropping what is not kept.")
    ] = None
    layers: Annotated[
        tuple[int, ...] | None,
        Part.TRAINER,
        Doc("Blocks that deliberate, counted from 1, as in 1,2,3."),
        NoDecode,
        BeforeValidator(split),
    ] = None
    tmax: Annotated[
        Count, Part.TRAINER, Doc("Loop steps the pools are trained for; the most one may ask.")
    ] = None
    alpha: Annotated[Share, Part.TRAINER, Doc("Share of the old query that a step keeps.")] = None
    temperature: Annotated[Positive, Part.TRAINER, Doc("Sharpness of retrieval.")] = None
    topk: Annotated[Count, Part.TRAINER, Doc("Slots mixed by default.")] = None
    slots: Annotated[Count, Part.TRAINER, Doc("Slots a task brings to each layer.")] = None
    value_scale: Annotated[Positive, Part.TRAINER, Doc("Spread of a new slot's values.")] = None
    settled: Annotated[
        Natural,
        Part.TRAINER,
        Doc("Once so many classes are known, tasks train the head alone; see `outweigh`."),
    ] = None
    outweigh: Annotated[
        Weight, Part.TRAINER, Doc("A task of so many times the images before it trains slots even so.")
    ] = None
    least_images: Annotated[
        Natural,
        Part.TRAINER,
        Doc("Images for which a task's slots are trained."),
    ] = None
    epochs: Annotated[Natural, Part.TRAINER, Doc("Passes over a task; 0 trains the head alone.")] = None
    least_steps: Annotated[Natural, Part.TRAINER, Doc("Training steps a small task gets at least.")] = None
    enough: Annotated[
        Share,
        Part.TRAINER,
        Doc("Training stops after those steps once this share of the images is answered rightly."),
    ] = None
    few_classes: Annotated[
        Natural,
        Part.TRAINER,
        Doc("A task of fewer classes trains slots by telling its images apart too; 0: none does."),
    ] = None
    vary: Annotated[
        bool | None, Part.TRAINER, Doc("Show images in ever new crops and light while slots train.")
    ] = None
    mirror: Annotated[Share, Part.TRAINER, Doc("Share of images mirrored while slots train.")] = None
    batch: Annotated[Count, Part.TRAINER, Doc("Images in each training step.")] = None
    lr: Annotated[Positive, Part.TRAINER, Doc("Learning rate on the first task.")] = None
    later_lr: Annotated[
        Positive, Part.TRAINER, Doc("Learning rate of later tasks, in multiples of `lr`.")
    ] = None
    lambda_orth: Annotated[Weight, Part.TRAINER, Doc("Weight of the loss that keeps keys orthogonal.")] = None
    lambda_ent: Annotated[
        Weight, Part.TRAINER, Doc("Weight of the loss that makes retrieval decided (low entropy).")
    ] = None
    drift_weight: Annotated[
        Weight, Part.TRAINER, Doc("Weight of the loss that holds features where they were.")
    ] = None
    bptt: Annotated[
        Count, Part.TRAINER, Doc("Last loop steps that pass gradients back to each other; unset, all.")
    ] = None
    shrinkage: Annotated[
        Positive,
        Part.TRAINER,
        Doc(
            "How much the head distrusts its covariance: each variance grows by this times channels over images. "
            "Unset, what lets expect the fewest errors."
        ),
    ] = None
    sketch: Annotated[
        Natural,
        Part.TRAINER,
        Doc(
            "Numbers kept of each class and channel to tell how its images spread; 0 takes all to spread "
            "alike. A store keeps what it began with."
        ),
    ] = None
    drift_ridge: Annotated[Positive, Part.TRAINER, Doc("Pull of the drift map towards the identity.")] = None
    seed: Annotated[Natural, Part.TRAINER, Doc("Seed of where slots start.")] = None

    validation_share: Annotated[
        Share, Part.TRAINER, Doc("Share of each class held out to measure forgetting; 0 holds out none.")
    ] = None
    validation_per_class: Annotated[Count, Part.TRAINER, Doc("Most images held out of a class.")] = None
    validation_images: Annotated[Count, Part.TRAINER, Doc("Held-out images measured a version.")] = None
    validation_tolerated_loss: Annotated[
        Share,
        Part.TRAINER,
        Doc("Share of earlier tasks' held-out images that a version may cost; 1 allows any."),
    ] = None
    validation_least_images: Annotated[
        Count, Part.TRAINER, Doc("Held-out images of earlier tasks that it takes to refuse a version.")
    ] = None

    @property
    def given(self) -> dict[str, Any]:
        """The settings that say something."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}

    def environment(self) -> dict[str, str]:
        """The same settings for another process."""
        texts = {"layers": ",".join(map(str, self.layers or ()))}
        return {variable(name): texts.get(name, str(value)) for name, value in self.given.items()}

    def client(self, retries: int | None = None) -> Client:
        """A client of the server named. retries: instead of those set."""
        tries = self.retries if retries is None else retries
        return Client(self.url, api_key=self.api_key, timeout=self.timeout_s, retries=tries)
