"""Tasks and versions as the API document describes them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal, Self

from fastapi import Response
from pydantic import BaseModel, Field

from exchange.manifests import Manifest
from exchange.records import TaskRecord, TaskState

MOST_TASKS = 1000
"""Listed at once."""


class ChangeView(BaseModel):
    """What an order does to a class."""

    label: str = Field(description="What the class is called until then.")
    becomes: str | None = Field(
        description="What it is called from then on, together with the class that is called so already, if there is "
        "one; null: it is forgotten."
    )


class TaskView(BaseModel):
    """A task as it is now. Times are Unix seconds, null for what has not come yet."""

    id: str = Field(description="Names it in /tasks/{id}.")
    name: str = Field(description="What people call it.")
    state: TaskState = Field(description="Where it is on its way.")
    images: int = Field(description="How many it brought.")
    labels: list[str] = Field(description="Sorted, each once.")
    progress: float = Field(description="0 (nothing learned) to 1 (consolidated).")
    metrics: dict[str, float] = Field(
        description="What was measured while it was learned, by name; *Teaching it* lists all of them. "
        "`seconds_to_fast`: from accepting it to the first version that answers with its labels. "
        "`repeated_images`: how many of its images were known under the same label, or came twice. "
        "`contradicting_images`: how many of its files were given another label, too."
    )
    error: str | None = Field(description="Why it failed, or waits.")
    version: int | None = Field(description="The newest version that knows this task.")
    created_at: float = Field(description="Accepted.")
    updated_at: float = Field(description="Changed last.")
    served_at: float | None = Field(description="Answered by the head alone since.")
    consolidated_at: float | None = Field(description="Learned for good since.")
    change: ChangeView | None = Field(
        description="Of an order to rename or forget a class, which brings no images; null of every other task."
    )

    @classmethod
    def of(cls, task: TaskRecord) -> Self:
        return cls(**asdict(task))


def located(task: TaskRecord, response: Response) -> TaskView:
    """A task, and in the answer's `Location` where to follow it."""
    response.headers["Location"] = f"/tasks/{task.id}"
    return TaskView.of(task)


class TaskList(BaseModel):
    tasks: list[TaskView] = Field(description="Newest first.")


class LabelView(BaseModel):
    """A class that a version knows."""

    label: str = Field(description="What it is called.")
    images: int | None = Field(
        description="How many images taught it, with corrections and without those held out; null in versions from "
        "before that was noted."
    )
    tasks: list[str] | None = Field(
        description="Ids of the tasks that taught it, with those that only the head knows yet and of the correction "
        "that brought it; null where `images` is."
    )


class LabelList(BaseModel):
    """What a version knows, sorted by label."""

    version: int | None = Field(description="Which version that is; null before anything was learned.")
    count: int = Field(
        description="How many labels it has that contain what was asked for, listed here or not."
    )
    labels: list[LabelView] = Field(description="At most `limit` of them, those after `after`.")


class BackboneView(BaseModel):
    """The frozen network a version fits; it fits no other."""

    name: str = Field(description="`bundled`, or what timm calls it.")
    px: int = Field(description="Side of the square image it sees, in pixels.")
    sha256: str = Field(description="Of its weights.")


class FileView(BaseModel):
    """A file of a version."""

    name: str = Field(description="In the store's folder `versions`.")
    sha256: str = Field(description="Of what is in it.")
    bytes: int = Field(description="Its size.")


class VersionView(BaseModel):
    """An immutable version: what it was learned on and what it knows."""

    version: int = Field(description="Its number; later ones are larger.")
    parent: int | None = Field(description="The version it was learned on top of; null for the first.")
    created_at: float = Field(description="Unix seconds.")
    kind: Literal["fast", "consolidated"] = Field(
        description="`fast`: new tasks are known to the head alone; `consolidated`: all is learned for good."
    )
    backbone: BackboneView = Field(description="What it was learned on.")
    labels: list[str] = Field(description="In the order of the head's outputs.")
    consolidated: list[str] = Field(description="Ids of the tasks that are fully learned.")
    fast: list[str] = Field(description="Ids of the tasks that only the head knows yet.")
    slots: int = Field(description="In each layer that deliberates.")
    metrics: dict[str, float] = Field(description="What was measured of it, by name.")
    files: dict[str, FileView] = Field(description="By what they are for.")
    current: bool = Field(description="The version pointer is here.")
    serving: bool = Field(description="This server answers with it.")

    @classmethod
    def of(cls, manifest: Manifest, current: int | None, serving: int | None) -> Self:
        version = manifest.version
        return cls(**asdict(manifest), current=version == current, serving=version == serving)


class ListedVersion(VersionView):
    """A version as one of many: what is new in it is told, so that its labels can be left out."""

    labels: list[str] = Field(description="In the order of the head's outputs; none with `labels=false`.")
    label_count: int = Field(description="How many labels it knows.")
    new_label_count: int = Field(
        description="How many of them its parent does not know, or the newest older version where that is not listed."
    )
    new_labels: list[str] = Field(description="The first ten of those.")


class BudgetView(BaseModel):
    """What a request gets that asks for nothing (`default_...`), and the most that it may ask."""

    tmax: int = Field(description="Most steps a layer that may be asked for.")
    topk: int = Field(description="Most slots a step that may be asked for.")
    default_tmax: int = Field(description="Steps a layer.")
    default_epsilon: float = Field(description="0: no early stop.")
    default_topk: int = Field(description="Slots a step.")
    default_keep: float = Field(description="1: no token is merged.")
    least_keep: float = Field(description="The least `keep` that may be asked for.")


class RefusalView(BaseModel):
    """A version that this server was pointed to and could not serve."""

    version: int = Field(description="Its number.")
    reason: str = Field(description="What is wrong with it.")


class CanaryView(BaseModel):
    """A version that answers a share of the requests beside the one that is served."""

    version: int = Field(description="Its number.")
    share: float = Field(description="Of all requests, 0 to 1.")
    answering: bool = Field(description="This server has loaded it; one that it refuses is in `refused`.")


class VersionList(BaseModel):
    """What answers here, and every version there is to go back or forward to."""

    current: int | None = Field(description="Where the version pointer is; null before anything was learned.")
    serving: int | None = Field(description="What this server answers with; it follows within moments.")
    canary: CanaryView | None = Field(description="Beside the version that is served, if there is one.")
    runtime: str = Field(description="What computes the answers of the version served, and why, in words.")
    budget: BudgetView | None = Field(description="Of the version this server answers with.")
    refused: list[RefusalView] = Field(description="Versions this server was pointed to and could not serve.")
    versions: list[ListedVersion] = Field(description="Newest first.")
