"""What answers look like, for the API document: each is the record itself, so that it has every field and no other."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from exchange.records import TaskState
from service.answering.answers import BudgetAnswer, Classification, Prediction, Timings
from service.api.records import (
    BackboneView,
    BudgetView,
    ChangeView,
    FileView,
    LabelList,
    LabelView,
    ListedVersion,
    TaskList,
    TaskView,
    VersionList,
    VersionView,
)

JSON = "application/json"
Responses = dict[int | str, dict[str, Any]]

CLASSIFICATION = Classification(
    id="5d0c8f1e-9b1f6a3d2c4e5f60718293a4",
    predictions=[Prediction(label="rose", score=0.97), Prediction(label="tulip", score=0.03)],
    familiarity=0.42,
    version=4,
    budget=BudgetAnswer(tmax=2, epsilon=0, topk=10, keep=1),
    steps=[2, 2, 2, 2, 2, 2, 2],
    timings_ms=Timings(read=0.1, decode=1.2, queue=0.2, compute=7.9, total=9.6),
)
QUEUED = TaskView(
    id="3f9a41c07be2d685",
    name="flowers",
    state=TaskState.QUEUED,
    images=2,
    labels=["rose", "tulip"],
    progress=0,
    metrics={},
    error=None,
    version=None,
    created_at=1767225600.0,
    updated_at=1767225600.0,
    served_at=None,
    consolidated_at=None,
    change=None,
)
CONSOLIDATED = QUEUED.model_copy(
    update={
        "state": TaskState.CONSOLIDATED,
        "progress": 1.0,
        "metrics": {
            "accuracy": 0.98,
            "forgetting": 0.01,
            "interference": 0.0,
            "held_out_images": 50,
            "seconds_to_fast": 1.1,
        },
        "version": 4,
        "updated_at": 1767225609.4,
        "served_at": 1767225601.1,
        "consolidated_at": 1767225609.4,
    }
)
FORGETTING = CONSOLIDATED.model_copy(update={"state": TaskState.FORGETTING})
CANCELLED = QUEUED.model_copy(update={"state": TaskState.CANCELLED})
CORRECTION = QUEUED.model_copy(update={"name": "feedback: rose", "images": 1, "labels": ["rose"]})
RENAMING = QUEUED.model_copy(
    update={
        "name": "rename: rosse -> rose",
        "images": 0,
        "labels": ["rose", "rosse"],
        "change": ChangeView(label="rosse", becomes="rose"),
    }
)
DROPPING = QUEUED.model_copy(
    update={
        "name": "forget: tulip",
        "images": 0,
        "labels": ["tulip"],
        "change": ChangeView(label="tulip", becomes=None),
    }
)
LABELS = LabelList(
    version=4,
    count=2,
    labels=[
        LabelView(label="rose", images=48, tasks=[CONSOLIDATED.id]),
        LabelView(label="tulip", images=52, tasks=[CONSOLIDATED.id]),
    ],
)
TASKS = TaskList(tasks=[CONSOLIDATED])

SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
VERSION = VersionView(
    version=4,
    parent=3,
    created_at=1767225609.4,
    kind="consolidated",
    backbone=BackboneView(name="bundled", px=64, sha256=SHA256),
    labels=["rose", "tulip"],
    consolidated=[CONSOLIDATED.id],
    fast=[],
    slots=10,
    metrics={"accuracy": 0.98, "forgetting": 0.01, "interference": 0.0, "held_out_images": 50},
    files={"serving": FileView(name="000004.serving.safetensors", sha256=SHA256, bytes=845848)},
    current=True,
    serving=True,
)
VERSIONS = VersionList(
    current=4,
    serving=4,
    canary=None,
    runtime="onnx cpu float32 (auto; speed of onnx over torch: 1.31 at batch 1, 1.18 at batch 8)",
    budget=BudgetView(
        tmax=4,
        topk=10,
        default_tmax=4,
        default_epsilon=0,
        default_topk=10,
        default_keep=1,
        least_keep=0.5,
    ),
    refused=[],
    versions=[
        ListedVersion(**VERSION.model_dump(), label_count=2, new_label_count=2, new_labels=["rose", "tulip"])
    ],
)
EVENT = f"id: 1767225609400-0\nevent: task\ndata: {CONSOLIDATED.model_dump_json()}\n\n"
METRICS = 'hippotune_queue_depth 0.0\nhippotune_version_info{version="4"} 1.0\n'
ETAG = {"ETag": {"description": "Names this answer.", "schema": {"type": "string"}}}
LOCATION = {"Location": {"description": "Where to follow the task.", "schema": {"type": "string"}}}


def answered(
    description: str,
    example: BaseModel | dict[str, Any] | str,
    status: int = 200,
    media: str = JSON,
    **more: Any,
) -> Responses:
    """The `responses` of a route for one that succeeds."""
    shown = example.model_dump(mode="json", exclude_unset=True) if isinstance(example, BaseModel) else example
    return {status: {"description": description, "content": {media: {"example": shown}}, **more}}
