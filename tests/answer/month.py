"""A simulated month: a directory, a price file, usage records, and what they come to, computed on the way by plain arithmetic."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import random
from collections import Counter, defaultdict

from openai_metering.local.journal import Served

FIRST = int(dt.datetime(2026, 7, 1, tzinfo=dt.timezone.utc).timestamp())
MOVE = int(dt.datetime(2026, 7, 16, tzinfo=dt.timezone.utc).timestamp())
LAST = int(dt.datetime(2026, 8, 1, tzinfo=dt.timezone.utc).timestamp())

# Thousandths of a dollar for a million tokens, which are nano-dollars for one: input, cached input, output.
RATES = {"gpt-6": (2500, 250, 12500), "gpt-6-mini": (400, 40, 1600), "gpt-5": (1250, 125, 10000)}
TIERS = {"default": 100, "flex": 50, "batch": 50, "priority": 200}  # percent
FACTOR = {"org-001": 120}
OTHERS = 105  # percent of the cost that a customer without an entry pays


@dataclasses.dataclass
class Sums:
    """What a group comes to; money in units of 10**-13 dollars, so that every factor leaves a whole number."""

    calls: int = 0
    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    cost: int = 0
    price: int = 0

    def add(self, tokens, cost, price):
        self.calls += 1
        self.input += tokens[0]
        self.cached += tokens[1]
        self.output += tokens[2]
        self.reasoning += tokens[3]
        self.cost += cost
        self.price += price


@dataclasses.dataclass
class Month:
    """What was written, and what it comes to."""

    ledger: object
    directory: object
    prices: object
    groups: dict = dataclasses.field(default_factory=lambda: defaultdict(Sums))
    """By account, organization, subscriber, credential, model, tier and kind of row."""
    reasons: Counter = dataclasses.field(default_factory=Counter)
    duplicates: int = 0
    served: list = dataclasses.field(default_factory=list)
    """Each billed request, as the provider has it."""

    def summed(self, *places):
        """Add groups up by some of their parts."""
        found = defaultdict(Sums)
        for key, own in self.groups.items():
            sums = found[tuple(key[place] for place in places)]
            for field in dataclasses.fields(Sums):
                setattr(sums, field.name, getattr(sums, field.name) + getattr(own, field.name))
        return dict(found)


class Simulation:
    """Who there is, and one call after another; the same for the same seed."""

    def __init__(self, organizations, seed=7):
        self.random = random.Random(seed)
        self.organizations = [f"org-{number:03d}" for number in range(organizations)]
        self.account = {
            name: f"group-{number % 17:02d}" if number % 3 else name for number, name in enumerate(self.organizations)
        }
        self.subscribers = {}  # id: organization before the move, and after it
        for number in range(3 * organizations):
            old = self.organizations[number % organizations]
            new = self.organizations[(number * 7 + 1) % organizations] if number % 10 == 0 else old
            self.subscribers[f"person-{number:04d}@example.com"] = (old, new)
        self.credentials = {}  # alias: its subscribers, the organization that is stated
        everybody = list(self.subscribers)
        for number in range(5 * organizations):
            one = everybody[number % len(everybody)]
            if number % 11 == 0:  # shared within one organization
                other = everybody[(number + organizations) % len(everybody)]
                self.credentials[f"key-{number:04d}"] = ((one, other), None)
            elif number % 13 == 0:  # shared by two organizations, of which one pays
                self.credentials[f"key-{number:04d}"] = (
                    (one, everybody[(number + 1) % len(everybody)]),
                    self.organizations[number % organizations],
                )
            else:
                self.credentials[f"key-{number:04d}"] = ((one,), None)
        self.aliases = list(self.credentials)

    def write_directory(self, folder):
        folder.mkdir()
        groups = sorted(set(self.account.values()) - set(self.organizations))
        lines = ["id,name,kind,parent,valid_from,valid_to", *(f"{name},{name.title()},,,," for name in groups)]
        for name in self.organizations:
            parent = self.account[name] if self.account[name] != name else ""
            lines.append(f"{name},Organization {name[4:]},,{parent},,")
        (folder / "organizations.csv").write_text("\n".join(lines) + "\n")
        lines = ["id,name,organization,status,valid_from,valid_to"]
        for name, (old, new) in self.subscribers.items():
            lines += (
                [f"{name},,{old},,,"] if old == new else [f"{name},,{old},,,2026-07-16", f"{name},,{new},,2026-07-16,"]
            )
        (folder / "subscribers.csv").write_text("\n".join(lines) + "\n")
        lines = ["alias,subscriber,organization,fingerprint,api_key_id,project,valid_from,valid_to"]
        for alias, (people, stated) in self.credentials.items():
            lines.append(f"{alias},{';'.join(people)},{stated or ''},,key_{alias[4:]},proj_{int(alias[4:]) % 5},,")
        (folder / "credentials.csv").write_text("\n".join(lines) + "\n")

    def who(self, alias, time):
        """Organization and subscriber behind a credential at a moment."""
        people, stated = self.credentials[alias]
        homes = {self.subscribers[one][time >= MOVE] for one in people}
        person = people[0] if len(people) == 1 else None
        return stated or (homes.pop() if len(homes) == 1 else None), person


def prices():
    lines = ['version = "simulated"', 'currency = "USD"', ""]
    for model, (fresh, cached, out) in RATES.items():
        for tier, percent in TIERS.items():
            factor = percent / 100_000
            lines += ["[[cost]]", f'model = "{model}"', f'tier = "{"standard" if tier == "default" else tier}"']
            lines += [
                f"input_mtok = {fresh * factor}",
                f"cache_read_mtok = {cached * factor}",
                f"output_mtok = {out * factor}",
                "",
            ]
    for name, percent in FACTOR.items():
        lines += ["[[price]]", f'organization = "{name}"', f"factor = {percent / 100}", ""]
    return "\n".join([*lines, "[[price]]", f"factor = {OTHERS / 100}", ""])


def value(content):
    return {"intValue": str(content)} if isinstance(content, int) else {"stringValue": content}


def line(time, attributes):
    record = {
        "timeUnixNano": str(time * 10**9),
        "eventName": "openai_metering.usage",
        "attributes": [{"key": key, "value": value(item)} for key, item in attributes.items() if item is not None],
    }
    return (
        json.dumps(
            {"resourceLogs": [{"resource": {}, "scopeLogs": [{"scope": {}, "logRecords": [record]}]}]},
            separators=(",", ":"),
        )
        + "\n"
    )


def write(folder, count, organizations=300, files=4, seed=7):
    """Write a month of so many calls, and say what it comes to."""
    simulation = Simulation(organizations, seed)
    month = Month(folder / "ledger", folder / "directory", folder / "prices.toml")
    simulation.write_directory(month.directory)
    month.prices.write_text(prices())
    month.ledger.mkdir()
    streams = [(month.ledger / f"part-{number}.jsonl").open("w") for number in range(files)]
    try:
        for number in range(count):
            for index, text in enumerate(_call(simulation, month, number)):
                streams[(number + index) % files].write(text)
    finally:
        for stream in streams:
            stream.close()
    return month


def _call(simulation, month, number):
    """Write the lines of one call, and add it to what the month comes to."""
    draw = simulation.random
    time = draw.randrange(FIRST, LAST)
    alias = simulation.aliases[int(len(simulation.aliases) * draw.random() ** 2)]
    organization, person = simulation.who(alias, time)
    model, tier = draw.choice(list(RATES)), draw.choices(list(TIERS), (80, 8, 7, 5))[0]
    tokens = [draw.randrange(1, 20_000), 0, draw.randrange(1, 3_000), 0]
    tokens[1] = draw.randrange(tokens[0]) if number % 3 == 0 else 0
    tokens[3] = draw.randrange(tokens[2]) if number % 4 == 0 else 0
    kind = draw.choices(
        ("owned", "said", "unattributed", "unknown", "not_billed", "estimated", "job"), (60, 20, 3, 3, 2, 2, 10)
    )[0]
    attributes = {
        "openai_metering.record.id": f"{number:032x}",
        "openai_metering.record.state": "final",
        "attribution.status": "partial",
        "attribution.credential.id": alias,
        "gen_ai.provider.name": "openai",
        "gen_ai.operation.name": "batch" if tier == "batch" else "chat",
        "openai_metering.operation": "batches" if tier == "batch" else "chat.completions",
        "gen_ai.request.model": model,
        "gen_ai.response.model": model,
        "openai.response.service_tier": "default" if tier == "batch" else tier,
        "openai_metering.usage.status": "reported",
        "gen_ai.usage.input_tokens": tokens[0],
        "gen_ai.usage.cache_read.input_tokens": tokens[1] or None,
        "gen_ai.usage.output_tokens": tokens[2],
        "gen_ai.usage.reasoning.output_tokens": tokens[3] or None,
    }
    row = kind if kind in ("unattributed", "unknown", "not_billed", "estimated") else "owned"
    nobody = {"attribution.status": "unattributed", "attribution.credential.id": None}
    lines = []
    if kind == "said" and person is not None and organization is not None:
        attributes |= {"attribution.subscriber.id": person, "attribution.organization.id": organization}
        attributes["attribution.status"] = "complete"
    elif kind == "unattributed":
        attributes |= nobody
        organization = person = alias = None
    elif kind == "unknown":
        reason = draw.choice(("cut", "closed_before_usage"))
        attributes |= {"openai_metering.usage.status": "unknown", "openai_metering.usage.reason": reason}
        attributes = {key: item for key, item in attributes.items() if not key.startswith("gen_ai.usage.")}
        month.reasons[reason] += 1
    elif kind in ("not_billed", "estimated"):
        attributes["openai_metering.usage.status"] = kind
    elif kind == "job":  # ordered by who is known, and seen to end by who knows nothing of that
        unknown = {"openai_metering.usage.status": "unknown", "openai_metering.usage.reason": "deferred"}
        pending = {key: item for key, item in attributes.items() if not key.startswith("gen_ai.usage.")}
        lines.append(line(max(FIRST, time - 3600), pending | unknown | {"openai_metering.record.state": "pending"}))
        attributes |= nobody
    lines.append(line(time, attributes))
    if number % 33 == 0:
        lines.append(lines[-1])
        month.duplicates += 1
    if row != "not_billed":
        month.served.append(served(time, model, tokens))
    known = row in ("owned", "estimated", "unattributed")
    cost, price = _money(model, tier, tokens, organization) if known else (0, 0)
    account = None if organization is None else simulation.account[organization]
    month.groups[account, organization, person, alias, model, tier, row].add(
        tokens if known else (0, 0, 0, 0), cost, price
    )
    return lines


def served(time, model, tokens):
    """A request as the provider has it: it knows what was used, whether or not our record does."""
    used = {
        "prompt_tokens": tokens[0],
        "prompt_tokens_details": {"cached_tokens": tokens[1]},
        "completion_tokens": tokens[2],
    }
    return Served(
        n=1,
        method="POST",
        path="/v1/chat/completions",
        query={},
        headers={},
        body=b"",
        json=None,
        scenario="",
        status=200,
        usage=None,
        stream=False,
        response_id="",
        request_id="",
        model=model,
        kind="chat",
        billed=used,
        time=float(time),
    )


def _money(model, tier, tokens, organization):
    fresh, cached, out = RATES[model]
    nano = (tokens[0] - tokens[1]) * fresh + tokens[1] * cached + tokens[2] * out
    cost = nano * TIERS[tier] * 100  # percent, and two more places for the factor of the price
    return cost, cost // 100 * FACTOR.get(organization, OTHERS)
