"""The query of POST /classify, checked in one step: FastAPI's own way goes through its parameters one by one."""

from __future__ import annotations

from typing import Any, Self

from fastapi import Request
from pydantic import BaseModel, Field, ValidationError

from model.merging import LEAST_KEEP
from service.engine.snapshot import Asked
from service.http.problems import invalid
from service.http.query import check_names


class ClassifyQuery(BaseModel):
    """What a request may ask for; None takes the version's own default."""

    tmax: int | None = Field(None, ge=1, description="Most retrieval steps a layer.")
    epsilon: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="Stop once a step moves the recall by less; 0 never does.",
    )
    topk: int | None = Field(None, ge=1, description="Slots a step may mix.")
    keep: float | None = Field(
        None,
        ge=LEAST_KEEP,
        le=1,
        description="Share of tokens still apart after the middle; less is faster and a little less accurate.",
    )
    budget_ms: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Answer within so long if that can be, with the largest `keep` that does; see `budget`.",
    )
    labels: list[str] = Field(
        [],
        description="Answer with these only: repeated, or separated by commas. Scores stay shares among all labels.",
    )
    top: int = Field(5, ge=1, le=1000, description="Labels answered, unless `labels` names them.")
    explain: bool = Field(False, description="Add the retrieval trace.")
    timeout_ms: int | None = Field(None, ge=1, description="Give up with 504 after so long.")

    @classmethod
    def of(cls, request: Request) -> ClassifyQuery:
        """Raises Problem."""
        if not request.scope["query_string"]:
            return NOTHING_ASKED
        params = request.query_params
        values: dict[str, Any] = dict(params)
        if "labels" in values:
            values["labels"] = params.getlist("labels")
        check_names(params, cls.model_fields.keys(), {"labels"})
        return cls.checked(values)

    @classmethod
    def checked(cls, values: dict[str, Any]) -> Self:
        """Raises Problem."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise invalid(error) from error

    @property
    def asked(self) -> Asked:
        """The knobs that it names."""
        return Asked(self.tmax, self.epsilon, self.topk, self.keep)


NOTHING_ASKED = ClassifyQuery()
"""Made once: making it takes longer than everything else that an empty query takes."""
