"""The web page: static files beside the package, from the same origin as the API it calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.staticfiles import StaticFiles
from starlette.responses import Response

router = APIRouter()

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""Nothing inline, nothing from elsewhere, and no text that the browser would read as HTML."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class Files(StaticFiles):
    """Browsers ask again each time and mostly get a 304, so that no script meets another release's page."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers.update(HEADERS)
        return response


def files() -> Files:
    """The pages, and what they load: scripts, styles and the icon, to be mounted at /web."""
    return Files(directory=Path(__file__).parent.parent / "web")


@router.get("/", include_in_schema=False)
async def page(request: Request) -> Response:
    return await files().get_response("index.html", request.scope)


@router.get("/docs", include_in_schema=False)
async def reference(request: Request) -> Response:
    """The API document for people. FastAPI's own would fetch its scripts from elsewhere."""
    return await files().get_response("reference.html", request.scope)
