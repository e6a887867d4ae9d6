"""Everything the server can be told, in one frozen record."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from exchange.queue import QueueConfig
from model.spec import BackboneSpec

KIB = 1024
MIB = 1024 * KIB
RUNTIMES = ("auto", "torch", "torch-bf16", "onnx", "onnx-int8")


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """Settings of one server process. Raises ValueError when two of them contradict each other.

    redis_url: where tasks are queued and the version pointer lives.
    store: directory shared with the trainer; holds `blobs` and `versions`.
    backbone: the frozen transformer; must be the one the trainer uses.
    queue: names and bounds of the task queue.
    runtime: what computes the forward pass, "torch" or "onnx"; "auto" takes the faster once it has measured both, on a
        GPU torch.
        "torch-bf16" multiplies in bfloat16 and "onnx-int8" by the backbone's weights in eight bits: both change answers
        and so are never chosen.
    device: torch device; None takes a GPU when there is one.
    threads: CPU threads of the forward pass and of decoding; None takes what the container may use.
    max_batch: most images in one forward pass.
    queue_images: most images admitted and not yet answered; more is 429.
    request_timeout_s: seconds until 504, unless a request asks for less.
    read_timeout_s: seconds without a byte of a body until 408.
    idle_s: seconds until a connection is closed on which nothing is asked. Balancers and pools of connections give up
        theirs after 60 s or less, and must come first: a request on its way to a closed connection is lost.
    max_body_bytes: largest body of /classify.
    max_held_bytes: most bytes of such bodies in memory at the same time; more is 429.
    max_classify_files: most images in one /classify.
    max_pixels: most pixels of one image, read from its header before anything is decoded.
    max_image_bytes: largest single encoded image of a task.
    max_task_bytes: largest body of /tasks. Forms together may hold twice that at the same time; more is 429.
    max_task_images: most images in one task.
    max_task_check_s: most seconds of a processor to look through a task's images, besides one for each MiB of them.
        Flat images of few bytes and many pixels take more; that is 413.
    max_unpacked_bytes: most bytes an archive may unpack to.
    max_archive_ratio: most an archive may grow when unpacked.
    max_submissions: tasks received at the same time; each may hold a body on disk. More is 429.
    max_event_streams: open /tasks/{id}/events streams.
    model_name: what /v2 calls the model.
    feedback_answers: answers that can be corrected, the newest; each takes as many bytes as four times the features.
    feedback_ttl_s: seconds for which they can be.
    api_keys_file: API keys, as `service.http.api_keys` reads them; with it, every request but to health needs a key.
    api_keys: the same lines, separated by white space.
    open_metrics: /metrics needs no key.
    insecure: without keys, answer to any name and address.
    access_log: log each request; else those that are refused.
    """

    redis_url: str
    store: Path
    backbone: BackboneSpec = field(default_factory=BackboneSpec)
    queue: QueueConfig = field(default_factory=QueueConfig)
    runtime: str = "auto"
    device: str | None = None
    threads: int | None = None
    max_batch: int = 32
    queue_images: int = 256
    request_timeout_s: float = 30.0
    read_timeout_s: float = 30.0
    idle_s: float = 75.0
    max_body_bytes: int = 20 * MIB
    max_held_bytes: int = 512 * MIB
    max_classify_files: int = 64
    max_pixels: int = 50_000_000
    max_image_bytes: int = 20 * MIB
    max_task_bytes: int = 512 * MIB
    max_task_images: int = 20_000
    max_task_check_s: float = 60.0
    max_unpacked_bytes: int = 1024 * MIB
    max_archive_ratio: int = 100
    max_submissions: int = 16
    max_event_streams: int = 100
    model_name: str = "hippotune"
    feedback_answers: int = 20_000
    feedback_ttl_s: float = 3600.0
    api_keys_file: Path | None = None
    api_keys: str = ""
    open_metrics: bool = False
    insecure: bool = False
    access_log: bool = False

    def __post_init__(self) -> None:
        if self.runtime not in RUNTIMES:
            raise ValueError(f"runtime is {self.runtime!r}; it must be one of {', '.join(RUNTIMES)}")
        if not 1 <= self.max_classify_files <= self.queue_images:
            raise ValueError(
                f"max_classify_files is {self.max_classify_files}; "
                f"it must lie in 1..queue_images, which is {self.queue_images}"
            )
        if self.max_held_bytes < self.max_body_bytes:
            raise ValueError(
                f"max_held_bytes is {self.max_held_bytes}; "
                f"it must be at least max_body_bytes, which is {self.max_body_bytes}"
            )
        if self.insecure and (self.api_keys_file or self.api_keys):
            raise ValueError("insecure is set, and API keys are; only one of them can be meant")
        if "/" in self.model_name or self.model_name in ("", ".", ".."):  # which clients make another path of
            raise ValueError(
                f"model_name is {self.model_name!r}; it must be one part of a path, without a slash"
            )
