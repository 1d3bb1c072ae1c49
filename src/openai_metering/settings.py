"""Every option: its name, environment variable, default and allowed values; read at each ``instrument()``."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from openai_metering.masking import mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_LEVELS: Final = ("organization", "subscriber", "credential")

PREFIX: Final = "OPENAI_METERING_"
_NEAR: Final = 0.85  # how alike a misspelt name is; no variable of collector-config/ comes near it


class InvalidOption(ValueError):  # noqa: N818 - named for what the user did, as `click.BadParameter` is
    """An option has a value that is not allowed; the text names option, value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The options in force, one field for each row of ``OPTIONS``."""

    enabled: bool = True
    organization_id: str | None = None
    subscriber_identity: str | None = None
    subscriber_credential: str | None = None
    stream_usage: str = "auto"
    spans: str = "auto"
    records: str = "auto"
    ledger_dir: str | None = None
    ledger_fsync: str = "never"
    ledger_rotate_bytes: int = 67_108_864
    ledger_rotate_seconds: float = 3600
    ledger_max_bytes: int | None = None
    ledger_started_after: float = 5
    prices: str | None = None
    metrics: str = "latest"
    metric_attributes: frozenset[str] = frozenset()
    metric_series: int = 2000
    key_map: str | None = None
    fingerprint_secret: str | None = field(default=None, repr=False)
    unmapped_keys: str = "absent"
    baggage: frozenset[str] = frozenset()
    subscriber_hash_secret: str | None = field(default=None, repr=False)
    value_length: int = 256
    max_tags: int = 32


@dataclass(frozen=True, slots=True)
class Option:
    """One row: how an option is spelt, read and explained."""

    name: str
    read: Callable[[object], Any]
    allowed: str
    doc: str

    @property
    def variable(self) -> str:
        """The environment variable."""
        return PREFIX + self.name.upper()


def _switch(value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("false", "0", "no", "off"):
        return False
    raise ValueError(text)


def _text(value: object) -> str | None:
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError
    return os.fspath(value).strip() or None


def _folder(value: object) -> str | None:
    text = _text(value)
    return None if text is None else str(Path(text).expanduser().absolute())


def _bytes(value: object) -> int:
    number = int(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError
    return number


def _seconds(value: object) -> float:
    number = float(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 < number < math.inf:
        raise ValueError
    return number


def _choice(*allowed: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        text = str(value).strip().lower()
        if text not in allowed:
            raise ValueError(text)
        return text

    return read


def _names(*allowed: str) -> Callable[[object], frozenset[str]]:
    def read(value: object) -> frozenset[str]:
        parts: list[Any] = value.split(",") if isinstance(value, str) else list(value)  # type: ignore[call-overload]
        names = frozenset(str(part).strip().lower() for part in parts if str(part).strip())
        if not names <= set(allowed):
            raise ValueError
        return names

    return read


def _number(lowest: int, highest: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise TypeError
        number = int(value)
        if not lowest <= number <= highest:
            raise ValueError
        return number

    return read


def _entries(value: object) -> frozenset[str]:
    parts: list[Any] = value.split(",") if isinstance(value, str) else list(value)  # type: ignore[call-overload]
    names = frozenset(str(part).strip() for part in parts if str(part).strip())
    if not all(name in _LEVELS or (name.startswith("tag.") and len(name) > len("tag.")) for name in names):
        raise ValueError
    return names


OPTIONS: Final = (
    Option("enabled", _switch, "true, false", "Off: only the `usage_metadata` keyword is still taken out of calls."),
    Option("organization_id", _text, "text", "Organization of calls that say none."),
    Option("subscriber_identity", _text, "text", "Subscriber of calls that say none."),
    Option("subscriber_credential", _text, "text", "Alias of the key of calls that say none; never the key itself."),
    Option(
        "stream_usage",
        _choice("auto", "never"),
        "auto, never",
        "Ask for usage on chat streams whose caller did not, and hide the extra chunk; `never` leaves requests untouched.",
    ),
    Option(
        "spans",
        _choice("auto", "always", "never"),
        "auto, always, never",
        "`auto` makes our span unless another instrumentation has one for the very call or instrumentation is suppressed, "
        "`always` makes it all the same, `never` makes none; records and metrics stay.",
    ),
    Option(
        "records",
        _choice("auto", "otlp", "ledger", "both", "none"),
        "auto, otlp, ledger, both, none",
        "Where usage records go: `auto` is the ledger where LEDGER_DIR is set, else OTLP logs.",
    ),
    Option("ledger_dir", _folder, "a folder", "Folder of the ledger: usage records as OTLP JSON lines on local disk."),
    Option(
        "ledger_fsync",
        _choice("never", "interval", "always"),
        "never, interval, always",
        "When the disk confirms a line, which a crash of the machine then spares: never waited for, once a second, or before the call returns.",
    ),
    Option("ledger_rotate_bytes", _bytes, "a whole number", "Size at which a ledger file is followed by a new one."),
    Option("ledger_rotate_seconds", _seconds, "a number", "Age at which a ledger file is followed by a new one."),
    Option(
        "ledger_max_bytes",
        _bytes,
        "a whole number",
        "Limit of the ledger folder, beyond which its oldest files are deleted; unset, nothing is ever deleted.",
    ),
    Option(
        "ledger_started_after",
        _seconds,
        "a number",
        "Seconds after which a call under way leaves a `started` line, so that a killed process does not hide it.",
    ),
    Option(
        "prices",
        _folder,
        "a file",
        "Price file of your own, for the exporter `otlp_priced`; without it, list prices alone.",
    ),
    Option(
        "metrics",
        _choice("latest", "legacy", "both"),
        "latest, legacy, both",
        "Which names tokens and durations have: those of the newest conventions, the `gen_ai.client.token.usage` and "
        "`gen_ai.client.operation.duration` that most dashboards still read, or both.",
    ),
    Option(
        "metric_attributes",
        _names("subscriber", "credential"),
        "subscriber, credential (comma-separated)",
        "Levels of who on metrics beside the organization; each multiplies the number of series.",
    ),
    Option(
        "metric_series",
        _number(1, 1_000_000),
        "1 to 1000000",
        "Sets of attributes that each metric tells apart; what is beyond is summed up in one with `otel.metric.overflow`.",
    ),
    Option(
        "key_map",
        _text,
        "text: JSON, fingerprint=alias pairs, or a file of either",
        "Who is behind which API key, by its fingerprint (`openai-metering fingerprint`).",
    ),
    Option(
        "fingerprint_secret",
        _text,
        "text",
        "Your own secret that the fingerprints of the key map are made with; without it the map is off.",
    ),
    Option(
        "unmapped_keys",
        _choice("absent", "alias"),
        "absent, alias",
        "`alias` names the credential of a key that is in no map `key-<fingerprint>`; it needs the secret, too.",
    ),
    Option(
        "baggage",
        _entries,
        "organization, subscriber, credential, tag.<key> (comma-separated)",
        "What is believed of incoming W3C baggage: its entries `attribution.organization.id` and so on. Anybody who "
        "calls your service can write them.",
    ),
    Option(
        "subscriber_hash_secret",
        _text,
        "text",
        "Your own secret; where it is set, the subscriber leaves as a hash under it, also as `user.hash`, without `user.id`.",
    ),
    Option(
        "value_length",
        _number(16, 4096),
        "16 to 4096",
        "Characters of an attribution value that are kept; `attribution.cut` names the fields that lost some.",
    ),
    Option(
        "max_tags",
        _number(0, 128),
        "0 to 128",
        "Tags of a call that are kept; `attribution.cut` names `tags` where there were more.",
    ),
)

assert {option.name for option in OPTIONS} == {row.name for row in fields(Settings)}  # noqa: S101 - one row each


def load(
    overrides: Mapping[str, object], environ: Mapping[str, str] | None = None
) -> tuple[Settings, list[InvalidOption]]:
    """Read all options, keyword over environment over default.

    Args:
        overrides: options by name, as given to ``instrument()``; ``None`` means not given.
        environ: environment variables, those of the process where left out.

    Returns:
        The settings, with the default in place of each value that is not allowed, and what was wrong, also variables that are
        nearly an option.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    problems: list[InvalidOption] = []
    known = {option.name for option in OPTIONS}
    problems.extend(
        InvalidOption(f"{name} is not an option of instrument(); there are {', '.join(sorted(known))}.")
        for name in overrides
        if name not in known
    )
    for option in OPTIONS:
        given = overrides.get(option.name)
        name = option.name if given is not None else option.variable
        value: object = given if given is not None else environ.get(option.variable)
        if value is None or value == "":
            continue
        try:
            values[option.name] = option.read(value)
        except (ValueError, TypeError):
            # Where a text is expected the value may be a key that was put in the wrong place: only its type is said.
            shown = (
                f"a value of type {type(value).__name__}"
                if option.read in (_text, _folder)
                else f"the value {mask(repr(value)[:200], credential=True)}"
            )
            problems.append(InvalidOption(f"{name} has {shown}, allowed: {option.allowed}. The default is used."))
    problems.extend(_misspelt(environ))
    return Settings(**values), problems


def _misspelt(environ: Mapping[str, str]) -> Iterator[InvalidOption]:
    """Name the variables that are nearly one of ours; others with our prefix are of the Collector and of commands."""
    known = {option.variable for option in OPTIONS}
    unknown = [name for name in environ if name.upper().startswith(PREFIX) and name not in known]
    if not unknown:
        return
    import difflib  # noqa: PLC0415 - only of use here

    names = {option.name for option in OPTIONS}
    for variable in sorted(unknown):
        near = difflib.get_close_matches(variable[len(PREFIX) :].lower(), names, 1, _NEAR)
        if near:
            # The name may hold anything that somebody exported.
            yield InvalidOption(f"{mask(variable[:100])}: no such option. Did you mean {PREFIX}{near[0].upper()}?")


def otlp_logs_protocol(environ: Mapping[str, str] | None = None) -> str:
    """The protocol that OpenTelemetry's own variables choose for logs."""
    environ = os.environ if environ is None else environ
    return (
        environ.get("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "grpc"
    ).strip()


def resource_from_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The resource attributes that OpenTelemetry's own variables describe, for records written without a provider."""
    from urllib.parse import unquote  # noqa: PLC0415 - needed once, and only where no SDK has a resource

    environ = os.environ if environ is None else environ
    pairs = (part.partition("=") for part in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",") if "=" in part)
    resource = {key.strip(): unquote(value.strip()) for key, _, value in pairs}
    resource["service.name"] = environ.get("OTEL_SERVICE_NAME") or resource.get("service.name") or "unknown_service"
    return resource
