"""Directories for tests."""

from __future__ import annotations

from openai_metering.directory import store
from openai_metering.directory.schema import KINDS
from openai_metering.directory.tables import parse

ORGANIZATIONS = "id,name,kind,parent,valid_from,valid_to"
SUBSCRIBERS = "id,name,organization,status,valid_from,valid_to"
CREDENTIALS = "alias,subscriber,organization,fingerprint,api_key_id,project,valid_from,valid_to"
HEADERS = {"organization": ORGANIZATIONS, "subscriber": SUBSCRIBERS, "credential": CREDENTIALS}


def text(kind, rows):
    return "".join(f"{line}\n" for line in (HEADERS[kind], *rows))


def tables(organizations=(), subscribers=(), credentials=()):
    made = {}
    for kind, rows in zip(KINDS, (organizations, subscribers, credentials), strict=True):
        made[kind], problems = parse(KINDS[kind], text(kind, rows))
        assert problems == []
    return made


def write(folder, organizations=(), subscribers=(), credentials=()):
    store.init(folder)
    for kind, rows in zip(KINDS, (organizations, subscribers, credentials), strict=True):
        (folder / KINDS[kind].file).write_text(text(kind, rows), encoding="utf-8")
    return folder
