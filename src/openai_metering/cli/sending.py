"""OTLP/HTTP as ``replay`` speaks it: JSON, compressed, repeated while the receiver is busy or away."""

from __future__ import annotations

import gzip
import http.client
import json
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Final

from openai_metering.cli.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIMEOUT: Final = 30.0
_LONGEST_PAUSE: Final = 30.0
# By the OTLP specification; everything else is not to be repeated.
_REPEATED: Final = frozenset({429, 502, 503, 504})
# The receiver did not take this batch, and may take another.
_REFUSED: Final = frozenset({400, 413, 422})


class Refused(Exception):  # noqa: N818 - what the receiver did
    """The receiver will never take this request.

    Args:
        status: of its answer.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Sender:
    """Sends batches of log records.

    Args:
        endpoint: the whole address, with ``/v1/logs``.
        headers: sent with each request.
        patience: seconds for which one request is repeated.
    """

    def __init__(self, endpoint: str, headers: Mapping[str, str], patience: float) -> None:
        self._endpoint = endpoint
        self._headers = {"Content-Type": "application/json", "Content-Encoding": "gzip", **headers}
        self._patience = patience
        self.rejected = 0
        """Records of accepted requests that the receiver said it dropped."""

    def send(self, resource_logs: list[Any]) -> None:
        """Send one request, until it is acknowledged.

        Args:
            resource_logs: in OTLP's JSON form.

        Raises:
            Refused: the receiver refuses what is in the request.
            Failure: it cannot be reached, or refuses every request.
        """
        body = gzip.compress(json.dumps({"resourceLogs": resource_logs}, separators=(",", ":")).encode("utf-8"), 1)
        deadline = time.monotonic() + self._patience
        pause = 0.5
        while True:
            asked, reason = self._post(body)
            if reason is None:
                return
            if time.monotonic() + (asked or pause) > deadline:
                raise Failure(
                    f"{self._endpoint} did not take the records: {reason}. What it acknowledged is noted: "
                    "run the same command again to go on from there."
                )
            time.sleep(min(asked or pause, _LONGEST_PAUSE))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _post(self, body: bytes) -> tuple[float | None, str | None]:
        """Send once. Returns the pause that the receiver asks for, and why it is to be repeated, if so."""
        request = urllib.request.Request(self._endpoint, body, self._headers)  # noqa: S310 - http and https alone
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:  # noqa: S310
                self._note(response.read())
                return None, None
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in _REPEATED:
                asked = error.headers.get("Retry-After", "")
                return (float(asked) if asked.isdecimal() else None), f"status {error.code}"
            if error.code in _REFUSED:
                raise Refused(error.code) from error
            raise Failure(
                f"{self._endpoint} answers with status {error.code}. Check the address and, for 401 and 403, --header."
            ) from error
        except (OSError, http.client.HTTPException) as error:
            cause = getattr(error, "reason", error)
            return None, str(getattr(cause, "strerror", None) or type(cause).__name__)

    def _note(self, answer: bytes) -> None:
        try:
            partial = json.loads(answer or b"{}").get("partialSuccess") or {}
            self.rejected += int(partial.get("rejectedLogRecords") or 0)
        except (ValueError, AttributeError, TypeError):  # acknowledged, whatever else it says
            pass
