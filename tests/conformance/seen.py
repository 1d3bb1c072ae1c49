"""What a caller sees: of a result, of an exception, of a client."""

from __future__ import annotations

import copy
import pickle
import traceback
from typing import Any

PER_CALL = ("x-request-id", "date")
"""Headers of an answer that differ from call to call."""


def described(value: Any) -> Any:
    """Everything that a caller can see of an SDK model."""
    return {
        "type": type(value),
        "repr": repr(value),
        "dump": value.model_dump(),
        "set": value.model_dump(exclude_unset=True),
        "json": value.to_json(),
        "dict": value.to_dict(),
        "fields_set": sorted(value.model_fields_set),
        "extra": value.model_extra,
        "copied": copy.deepcopy(value) == value,
        "shallow": copy.copy(value) == value,
        "attributes": sorted(vars(value)),
        "request_id": bool(getattr(value, "_request_id", None)),
    }


def anything(value: Any) -> Any:
    """Everything that a caller can see of whatever a form gives: models, chunks, events, responses, bytes, text."""
    if isinstance(value, (list, tuple)):
        return [type(value), *map(anything, value)]
    if hasattr(value, "iter_pages"):  # a page holds its client, which cannot be copied
        return type(value), repr(value), value.model_dump(), sorted(value.model_fields_set), sorted(vars(value))
    if hasattr(value, "to_dict") and hasattr(value, "model_fields_set"):
        request_id = getattr(value, "_request_id", None)
        if request_id is not None:
            value._request_id = None
        found = described(value), _pickled(value)
        if request_id is not None:
            value._request_id = request_id
        return bool(request_id), found
    response = getattr(value, "http_response", None) or getattr(value, "response", None) or value
    if hasattr(response, "headers"):
        content = response.content
        return type(value), sorted(vars(value)), response.status_code, headers(response), content, _pickled(response)[0]
    # The events of helpers are plain objects, some of them with models inside.
    return type(value), repr(value)


def _pickled(value: Any) -> Any:
    """The type and state after pickling; the error where the SDK's own cannot be pickled."""
    try:
        copied = pickle.loads(pickle.dumps(value))
    except Exception as error:
        return type(error), str(error)
    return type(copied), repr(copied)


def headers(response: Any) -> dict[str, str]:
    """The headers of an answer, without what differs from call to call."""
    return {name: found for name, found in response.headers.items() if name not in PER_CALL}


def frames(error: BaseException) -> list[tuple[str, str]]:
    """The traceback without our own frames."""
    return [
        (frame.filename, frame.name)
        for frame in traceback.extract_tb(error.__traceback__)
        if "openai_metering" not in frame.filename and "wrapt" not in frame.filename
    ]


def failure(error: BaseException) -> Any:
    """An exception as the caller sees it: type, text, traceback, attributes; and all that it came from."""
    found = []
    here: BaseException | None = error
    while here is not None:
        found.append((type(here), str(here), frames(here), sorted(vars(here)), getattr(here, "body", None)))
        here = here.__cause__ or here.__context__
    return found
