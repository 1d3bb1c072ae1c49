"""Routing for each organization, written as Collector configuration from a table of tenants."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from openai_metering.cli.failure import Failure
from openai_metering.masking import mask

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

COLUMNS: Final = ("organization", "otlp_endpoint", "otlp_authorization", "file", "kafka_topic")
_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]*")
_FILE: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")
_ENDPOINT: Final = re.compile(r"https?://[^\s\"'\\$]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]")

_HEAD: Final = """\
# Promise:    records of each organization below reach its own destinations and no other's; one that is away delays no other.
# Needs:      what the table named: backends, topics, and the environment variables of their credentials.
# Runs on:    the distribution of this folder, or the contrib distribution 0.158 or newer (beside gateway.yaml: only ours).
# Start with: otelcol-metering --config gateway.yaml --config tenants.yaml
# Watch:      otelcol_exporter_queue_size at 127.0.0.1:8888/metrics, and overflow-*.jsonl: what a full queue could not take.
# Written by `openai-metering collector gateway --tenants` from a table of {count}; change the table, not this file.
"""


@dataclass(frozen=True, slots=True)
class Tenant:
    """One row of the table: an organization and where its records go.

    Args:
        organization: Its id, as records say it in ``attribution.organization.id``.
        otlp_endpoint: Base URL of its backend (OTLP over HTTP), or "".
        otlp_authorization: The environment variable that holds the ``authorization`` header for it, or "".
        file: Name of its file, without folder and ending, or "".
        kafka_topic: Its topic, or "".
    """

    organization: str
    otlp_endpoint: str = ""
    otlp_authorization: str = ""
    file: str = ""
    kafka_topic: str = ""

    @property
    def name(self) -> str:
        """What its components are called: the same for as long as the organization is, since queues on disk have that name."""
        readable = re.sub(r"[^a-z0-9]+", "_", self.organization.lower()).strip("_")[:40]
        return f"{readable or 'tenant'}_{hashlib.sha256(self.organization.encode()).hexdigest()[:8]}"


def read(path: Path) -> list[Tenant]:
    """Read the table.

    Args:
        path: A CSV file with the columns `COLUMNS`, of which all but the first may be left out.

    Returns:
        One tenant for each row.

    Raises:
        Failure: The file cannot be read, or a row cannot be meant as it is.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            unknown = [column for column in rows.fieldnames or () if column not in COLUMNS]
            if unknown or "organization" not in (rows.fieldnames or ()):
                raise Failure(f"{path}: its first line names the columns, of these: {', '.join(COLUMNS)}.")
            tenants = [_tenant(path, number, row) for number, row in enumerate(rows, 2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Failure(f"{path} cannot be read: {error}") from error
    if not tenants:
        raise Failure(f"{path} has no row: add one for each organization that has a destination of its own.")
    _no_two_share(path, tenants)
    return tenants


def _tenant(path: Path, number: int, row: dict[str | None, str | None]) -> Tenant:
    if None in row or None in row.values():
        raise Failure(f"{path}, row {number}: not as many cells as columns.")
    cells = {str(name): (value or "").strip() for name, value in row.items()}
    tenant = Tenant(**cells)
    checks = (
        (bool(tenant.organization) and not _CONTROL.search(tenant.organization), "organization is a name"),
        (not tenant.otlp_endpoint or _ENDPOINT.fullmatch(tenant.otlp_endpoint), "otlp_endpoint is an http(s) URL"),
        (
            not tenant.otlp_authorization or _VARIABLE.fullmatch(tenant.otlp_authorization),
            "otlp_authorization names an environment variable; the secret itself never stands in the table",
        ),
        (
            not tenant.file or (_FILE.fullmatch(tenant.file) and not tenant.file.startswith("overflow-")),
            "file is letters, digits, dots, dashes, without a folder, and does not begin with overflow-",
        ),
        (not tenant.kafka_topic or _TOPIC.fullmatch(tenant.kafka_topic), "kafka_topic is a topic's name"),
        (
            tenant.otlp_endpoint or tenant.file or tenant.kafka_topic,
            "a tenant has at least one of otlp_endpoint, file, kafka_topic",
        ),
    )
    for right, rule in checks:
        if not right:
            raise Failure(f"{path}, row {number} ({mask(tenant.organization)}): {rule}.")
    return tenant


def _no_two_share(path: Path, tenants: Iterable[Tenant]) -> None:
    """Two organizations in one place would be one stream."""
    seen: dict[tuple[str, ...], Tenant] = {}
    for tenant in tenants:
        places = [("organization", tenant.organization), ("file", tenant.file.lower()), ("topic", tenant.kafka_topic)]
        if tenant.otlp_endpoint:
            places.append(("otlp_endpoint", f"{tenant.otlp_endpoint.rstrip('/')} {tenant.otlp_authorization}"))
        for place in places:
            if not place[1]:
                continue
            if place in seen:
                names = f"{mask(seen[place].organization)} and {mask(tenant.organization)}"
                raise Failure(f"{path}: {names} have the same {place[0]}; each has its own.")
            seen[place] = tenant


def configuration(tenants: Iterable[Tenant]) -> str:
    """Write the merge fragment for ``gateway.yaml``: one routing table, and a queue of its own for each destination."""
    chosen = list(tenants)
    connectors, exporters, pipelines = _Section(), _Section(), _Section()
    routes = []
    for tenant in chosen:
        entries = []
        for exporter, settings in _exporters(tenant):
            exporters.add(exporter, settings)
            pipeline = f"logs/{exporter.replace('/', '_', 1)}"
            entries.append(pipeline)
            if exporter.startswith("file/"):
                pipelines.add(pipeline, f"receivers: [routing/tenants]\nexporters: [{exporter}]")
                continue
            failover, overflow = f"failover/{pipeline[5:]}", f"file/overflow_{pipeline[5:]}"
            connectors.add(
                failover,
                f"priority_levels:\n  - [{pipeline}_queue]\n  - [{pipeline}_overflow]\n"
                "retry_interval: ${env:OPENAI_METERING_TENANT_RETRY:-30s}\nsending_queue:\n  enabled: false",
            )
            exporters.add(overflow, _file(f"overflow-{pipeline[5:]}"))
            pipelines.add(pipeline, f"receivers: [routing/tenants]\nexporters: [{failover}]")
            pipelines.add(f"{pipeline}_queue", f"receivers: [{failover}]\nexporters: [{exporter}]")
            pipelines.add(f"{pipeline}_overflow", f"receivers: [{failover}]\nexporters: [{overflow}]")
        routes.append(
            f"- condition: {_condition(tenant.organization)}\n  pipelines: [{', '.join(entries)}]",
        )
    connectors.add(
        "routing/tenants",
        "default_pipelines: [logs/no_tenant]\nerror_mode: propagate\ntable:\n"
        + "".join(f"  {line}\n" for route in routes for line in route.splitlines()),
    )
    pipelines.add("logs/tenants", "receivers: [forward/bill]\nexporters: [routing/tenants]")
    pipelines.add("logs/no_tenant", "receivers: [routing/tenants]\nexporters: [nop]")
    count = "1 organization" if len(chosen) == 1 else f"{len(chosen)} organizations"
    return (
        _HEAD.format(count=count)
        + f"\nexporters:\n{exporters}\nconnectors:\n{connectors}\nservice:\n  pipelines:\n"
        + "".join(f"  {line}\n" for line in str(pipelines).splitlines())
    )


def _exporters(tenant: Tenant) -> Iterator[tuple[str, str]]:
    if tenant.otlp_endpoint:
        headers = (
            f"headers:\n  authorization: ${{env:{tenant.otlp_authorization}:-}}\n" if tenant.otlp_authorization else ""
        )
        yield (
            f"otlp_http/{tenant.name}",
            f"endpoint: {json.dumps(tenant.otlp_endpoint)}\n{headers}timeout: 30s\n{_QUEUE}",
        )
    if tenant.file:
        yield f"file/{tenant.name}", _file(tenant.file)
    if tenant.kafka_topic:
        yield f"kafka/{tenant.name}", _KAFKA.format(topic=json.dumps(tenant.kafka_topic)) + _QUEUE


_QUEUE: Final = """\
retry_on_failure:
  initial_interval: 1s
  max_interval: 30s
  max_elapsed_time: 0s
sending_queue:
  storage: file_storage/queue
  sizer: items
  queue_size: ${env:OPENAI_METERING_TENANT_QUEUE_RECORDS:-200000}
  num_consumers: 2
  batch:
    flush_timeout: 200ms
    min_size: 500
    max_size: 2000
"""
_KAFKA: Final = """\
brokers: ["${{env:OPENAI_METERING_KAFKA_BROKERS:-127.0.0.1:9092}}"]
logs:
  topic: {topic}
  encoding: otlp_proto
producer:
  required_acks: -1
  compression: zstd
"""


def _file(name: str) -> str:
    return (
        f"path: ${{env:OPENAI_METERING_STORE_DIR:-./openai-metering-gateway}}/tenants/{name}.jsonl\n"
        'create_directory: true\ndirectory_permissions: "0700"\n'
        "rotation: # written at once, so that kill -9 catches nothing acknowledged\n"
        "  max_megabytes: ${env:OPENAI_METERING_STORE_FILE_MB:-1024}\n  max_backups: 0"
    )


def _condition(organization: str) -> str:
    """The organization as a literal of OTTL, in YAML, where a dollar begins a variable."""
    literal = organization.replace("\\", "\\\\").replace('"', '\\"')
    statement = f'log.attributes["attribution.organization.id"] == "{literal}"'
    return "'" + statement.replace("$", "$$").replace("'", "''") + "'"


class _Section:
    """Named components of one kind, as YAML."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, name: str, settings: str) -> None:
        self._lines += [f"  {name}:", *(f"    {line}" for line in settings.splitlines())]

    def __str__(self) -> str:
        return "".join(f"{line}\n" for line in self._lines)
