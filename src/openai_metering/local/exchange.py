"""One request to the provider stand-in and the answer to it."""

from __future__ import annotations

import json
import re
import time
from typing import Any, Final, NamedTuple

from aiohttp import web

from openai_metering.local import strict
from openai_metering.local.journal import Journal, Served
from openai_metering.local.scenarios import HEADER, SCENARIOS, Scenario

_ROUTE: Final = re.compile(
    r"(?:/openai/deployments/(?P<deployment>[^/]+)|(?P<azure>/openai(?!/v1))|/openai/v1|/v1)?(/.*)"
)
_encode = json.JSONEncoder(separators=(",", ":")).encode


# A field of a form; files have a name of their own and are passed by.
_FIELD: Final = re.compile(rb'name="([^";\r\n]+)"\r\n(?:[^\r\n]+\r\n)*\r\n(.*?)\r\n--', re.DOTALL)


def _form(body: bytes) -> dict[str, Any]:
    """The fields of a multipart form, none where the body is no form."""
    return {name.decode(): value.decode("utf-8", "replace") for name, value in _FIELD.findall(body)}


class Place(NamedTuple):
    """Where a request is addressed to."""

    route: str
    """The path below the API's root."""
    deployment: str | None
    azure: bool


def placed(path: str) -> Place:
    """Take a path apart, in the provider's own form or in Azure's."""
    found = _ROUTE.fullmatch(path)
    if found is None:
        return Place(path, None, False)
    deployment = found["deployment"]
    return Place(found[3], deployment, deployment is not None or found["azure"] is not None)


class Exchange:
    """One request and the answer to it, noted once."""

    def __init__(self, request: web.BaseRequest, body: bytes, request_id: str, journal: Journal) -> None:
        self.request = request
        self.body = body
        self.request_id = request_id
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        self.place = placed(request.path)
        try:
            self.payload: Any = json.loads(body) if body else None
        except ValueError:
            self.payload = None
        self.fields: dict[str, Any] = self.payload if isinstance(self.payload, dict) else _form(body)
        self.stream = self.fields.get("stream") in (True, "true") or self.fields.get("stream_format") == "sse"
        self.n = 0
        self.status = 0
        self.usage: dict[str, Any] | None = None
        self.kind = ""
        self.billed: dict[str, Any] | None = None
        self.response_id = ""
        self.model = ""
        self._name = self.headers.get(HEADER, "")
        self._journal: Journal | None = journal

    @property
    def scenario(self) -> Scenario:
        """The row that the request names."""
        return SCENARIOS[self._name]

    @property
    def pause(self) -> float:
        """Seconds between two events of a slow stream."""
        return float(self.headers.get("x-standin-pause-ms", "10")) / 1000

    def violations(self) -> list[str]:
        """What is wrong with the request."""
        query = self.request.query
        found = list(strict.violations(self.place.route, query, self.headers, self.body, self.payload))
        if self.place.azure and "api-version" not in query:
            found.append("missing: api-version in the query")
        if self._name not in SCENARIOS:
            found.append(f"no scenario is called {self._name}")
        return found

    def answer_headers(self, content_type: str) -> dict[str, str]:
        """The headers of the answer."""
        return {
            "content-type": content_type,
            "x-request-id": self.request_id,
            "openai-organization": "org-standin",
            "openai-processing-ms": "12",
            "openai-version": "2020-10-01",
        }

    def whole(
        self, body: Any, status: int = 200, headers: dict[str, str] | None = None, kind: str = "application/json"
    ) -> web.Response:
        """Answer with a JSON value."""
        return self.raw(_encode(body).encode(), kind, headers, status)

    def raw(self, body: bytes, kind: str, headers: dict[str, str] | None = None, status: int = 200) -> web.Response:
        """Answer with bytes."""
        self.status = status
        return web.Response(body=body, status=status, headers=self.answer_headers(kind) | (headers or {}))

    def dropped(self, response: web.StreamResponse) -> web.StreamResponse:
        """Close the connection in the middle of an answer."""
        if self.request.transport is not None:
            self.request.transport.close()
        return response

    def note(self) -> None:
        """Enter the request into the journal, the first time."""
        journal, self._journal = self._journal, None
        if journal is None:
            return
        request = self.request
        journal.add(
            Served(
                n=self.n,
                method=request.method,
                path=request.path,
                query=dict(request.query),
                headers=self.headers,
                body=self.body,
                json=self.payload,
                scenario=self._name,
                status=self.status,
                usage=self.usage,
                stream=self.stream,
                response_id=self.response_id,
                request_id=self.request_id,
                model=self.model,
                kind=self.kind,
                billed=self.billed,
                time=time.time(),
            )
        )
