"""Tasks and versions as the API document describes them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal, Self

from pydantic import BaseModel, Field

from exchange.records import Manifest, TaskRecord, TaskState


class TaskView(BaseModel):
    """Times are unix seconds."""

    id: str
    name: str
    state: TaskState
    images: int
    labels: list[str]
    progress: float = Field(description="0 (nothing learned) to 1 (consolidated).")
    metrics: dict[str, float]
    error: str | None
    version: int | None = Field(description="The newest version that knows this task.")
    created_at: float
    updated_at: float
    served_at: float | None
    consolidated_at: float | None

    @classmethod
    def of(cls, task: TaskRecord) -> Self:
        return cls(**asdict(task))


class TaskList(BaseModel):
    tasks: list[TaskView]


class BackboneView(BaseModel):
    name: str
    px: int
    sha256: str


class FileView(BaseModel):
    name: str
    sha256: str
    bytes: int


class VersionView(BaseModel):
    """An immutable version: what it was learned on and what it knows."""

    version: int
    parent: int | None
    created_at: float
    kind: Literal["fast", "consolidated"]
    backbone: BackboneView
    labels: list[str]
    consolidated: list[str] = Field(description="Ids of the tasks that are fully learned.")
    fast: list[str] = Field(description="Ids of the tasks that only the head knows yet.")
    slots: int
    metrics: dict[str, float]
    files: dict[str, FileView]
    current: bool = Field(description="The version pointer is here.")
    serving: bool = Field(description="This server answers with it.")

    @classmethod
    def of(cls, manifest: Manifest, current: int | None, serving: int | None) -> Self:
        version = manifest.version
        return cls(**asdict(manifest), current=version == current, serving=version == serving)


class BudgetView(BaseModel):
    """What a request gets that asks for nothing (`default_...`), and the most that it may ask."""

    tmax: int
    topk: int
    default_tmax: int
    default_epsilon: float
    default_topk: int
    default_keep: float
    least_keep: float


class RefusalView(BaseModel):
    version: int
    reason: str


class CanaryView(BaseModel):
    """A version that answers a share of the requests beside the one that is served."""

    version: int
    share: float = Field(description="Of all requests, 0 to 1.")
    answering: bool = Field(description="This server has loaded it; one that it refuses is in `refused`.")


class VersionList(BaseModel):
    """current: where the pointer is.  serving: what this server answers with; it follows within moments."""

    current: int | None
    serving: int | None
    canary: CanaryView | None
    runtime: str
    budget: BudgetView | None = Field(description="Of the version this server answers with.")
    refused: list[RefusalView] = Field(description="Versions this server was pointed to and could not serve.")
    versions: list[VersionView] = Field(description="Newest first.")
