"""Errors as problem details (RFC 9457): one shape for whatever goes wrong, and nothing of the inside."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import HTTPException, RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from guardianflow.exceptions import (
    ConfigError,
    ConflictError,
    DatasetError,
    GuardianFlowError,
    HashMismatchError,
    InputError,
    MissingDependencyError,
    ModelFileError,
    NotFoundError,
    RefusedError,
    SchemaTooNewError,
    TrackingUnavailableError,
)

__all__ = ["PROBLEMS", "Problem", "answer_problems", "refused"]

_STATUS: Mapping[type[GuardianFlowError], HTTPStatus] = {
    NotFoundError: HTTPStatus.NOT_FOUND,
    RefusedError: HTTPStatus.CONFLICT,  # the gate; who lacks a role is refused at the door, with 403
    ConflictError: HTTPStatus.CONFLICT,
    HashMismatchError: HTTPStatus.CONFLICT,
    TrackingUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    SchemaTooNewError: HTTPStatus.SERVICE_UNAVAILABLE,
    MissingDependencyError: HTTPStatus.SERVICE_UNAVAILABLE,
    ConfigError: HTTPStatus.SERVICE_UNAVAILABLE,  # of the server, not of who asks
    DatasetError: HTTPStatus.CONFLICT,  # what lies on the server, not what was sent
    ModelFileError: HTTPStatus.CONFLICT,
    InputError: HTTPStatus.UNPROCESSABLE_ENTITY,
}
"""The first that fits an error's class or one of its bases."""


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "about:blank",
                "title": "Not Found",
                "status": 404,
                "detail": "there is no model named 'gaet'. Did you mean 'gate'? Known: gate.",
                "instance": "/api/models/gaet/history",
                "error": "NotFoundError",
            }
        }
    )
    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="The rule, what broke it, and the next step.")
    instance: str = Field(description="The path that was asked.")
    error: str | None = Field(None, description="The library's name of the error.")
    errors: list[dict[str, str]] | None = Field(None, description="Each wrong field: where, and what is wrong.")


_MEANT = {
    401: "No key, or none that opens anything",
    403: "The key's role doesn't reach",
    404: "No such thing",
    409: "Refused by the gate, or changed by somebody else meanwhile",
    422: "A value that can't be used",
    503: "The state database or MLflow doesn't answer",
}


def _documented(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": _MEANT[status], "content": {"application/problem+json": {"schema": schema}}}


PROBLEMS: dict[int | str, dict[str, Any]] = {status: _documented(status) for status in _MEANT}
"""What OpenAPI says of errors, for ``include_router(responses=…)``."""


def refused(status: HTTPStatus, detail: str) -> HTTPException:
    """An error of the door, to be raised."""
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
    return HTTPException(status, detail, headers)


def answer_problems(app: FastAPI) -> None:
    """Let an app answer every error as a problem."""

    @app.exception_handler(GuardianFlowError)
    def _ours(request: Request, error: GuardianFlowError) -> JSONResponse:
        status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), None)
        return _problem(request, status or HTTPStatus.INTERNAL_SERVER_ERROR, str(error), error=type(error).__name__)

    @app.exception_handler(RequestValidationError)
    def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        # What stood there is not repeated: it may be large, or a secret in the wrong place.
        errors = [{"where": ".".join(map(str, item["loc"])), "message": str(item["msg"])} for item in error.errors()]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        detail = f"{errors[0]['where']}: {errors[0]['message']}{more}. /openapi.json says what is asked."
        return _problem(request, HTTPStatus.UNPROCESSABLE_ENTITY, detail, errors=errors[:20])

    @app.exception_handler(StarletteHTTPException)
    def _http(request: Request, error: StarletteHTTPException) -> JSONResponse:
        status = HTTPStatus(error.status_code)
        detail = str(error.detail)
        if status == HTTPStatus.NOT_FOUND and detail == status.phrase:
            detail = f"there is no {request.url.path!r} here; /openapi.json lists what there is"
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = (error.headers or {}).get("Allow", "")
            detail = f"{request.method} is not possible here; possible: {allowed}"
        return _problem(request, status, detail, headers=error.headers)

    @app.exception_handler(Exception)
    def _ours_to_mend(request: Request, error: Exception) -> JSONResponse:
        del error  # the server logs it
        return _problem(
            request, HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed at this; its log says where. Report it."
        )


def _problem(
    request: Request, status: HTTPStatus, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
) -> JSONResponse:
    problem = Problem(title=status.phrase, status=status, detail=detail, instance=request.url.path, **more)
    return JSONResponse(
        jsonable_encoder(problem, exclude_none=True), status, headers=dict(headers or {}),
        media_type="application/problem+json",
    )  # fmt: skip
