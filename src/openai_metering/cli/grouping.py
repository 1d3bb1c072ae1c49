"""Who used how much: the rows of a report, made of calls."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from openai_metering.cli.columns import ACCOUNT, ORGANIZATION, sort_key
from openai_metering.pricing.amounts import ESTIMATED, PARTIAL, UNPRICED, total as sum_of, unpriced
from openai_metering.pricing.pricer import Priced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from decimal import Decimal

    from openai_metering.cli.columns import Column
    from openai_metering.cli.records import UsageRow
    from openai_metering.pricing.amounts import Amount

Kind: TypeAlias = Literal["owned", "estimated", "others", "unattributed", "unknown", "not_billed"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
GROUPED_KINDS: Final[frozenset[Kind]] = frozenset({"owned", "estimated"})
"""The kinds with a row for each group; each of the others is one row."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Sums of tokens, exact."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(
            self.input + other.input,
            self.cached + other.cached,
            self.output + other.output,
            self.reasoning + other.reasoning,
        )


@dataclass(frozen=True, slots=True)
class Money:
    """Sums of amounts, exact; absent where no call has one."""

    cost: Decimal | None = None
    price: Decimal | None = None
    unpriced: int = 0
    """Calls whose cost, or price where there are prices, is not known or not known whole."""
    estimated: int = 0
    """Calls with an amount that is estimated."""
    cost_lacks: int = 0
    """Calls whose cost is not known, or not known whole."""
    price_lacks: int = 0
    """Calls whose price is not known, or not known whole."""

    def __add__(self, other: Money) -> Money:
        return Money(
            _sum(self.cost, other.cost),
            _sum(self.price, other.price),
            self.unpriced + other.unpriced,
            self.estimated + other.estimated,
            self.cost_lacks + other.cost_lacks,
            self.price_lacks + other.price_lacks,
        )


def _sum(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    known = [value for value in (one, other) if value is not None]
    return sum_of(known) if known else None


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a report."""

    kind: Kind
    cells: tuple[str | None, ...]
    """One for each column of the grouping; all absent in a row that is not of a group."""
    calls: int
    tokens: Tokens | None
    """Absent when nobody knows."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Why usage is unknown, and how often."""
    money: Money = field(default_factory=Money)
    """Empty where no cost was asked for."""
    before: Sum | None = None
    """The same row in the period before, where that was asked for."""
    budget: Decimal | None = None
    """What it may cost in the period, in the currency of the report, where somebody said so."""


@dataclass(frozen=True, slots=True)
class Sum:
    """Calls and tokens of several rows; what is unknown adds calls and no tokens."""

    calls: int
    tokens: Tokens
    money: Money = field(default_factory=Money)


@dataclass(frozen=True, slots=True)
class Lack:
    """Calls whose cost, or price, is not known or not known whole, for one reason."""

    amount: Literal["cost", "price"]
    reason: str
    """One of ``openai_metering.pricing.amounts.REASONS``."""
    units: tuple[str, ...]
    """What has no rate, where that is the reason."""
    part: bool
    """Whether the amounts have what is known of these calls; else they are without them."""
    calls: int
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class Report:
    """Who used how much, ready to be shown."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    """Groups first, in the order of their cells; then what has no group."""
    total: Sum
    records: int
    """Distinct calls: the sum of the calls of the rows."""
    other_units: int
    """Calls with known usage and no tokens at all: seconds, characters, images."""
    duplicates: int
    bad_lines: int
    currency: str | None = None
    """Of all amounts; absent where no cost was asked for, or none could be told."""
    unpriced: Mapping[str, int] = field(default_factory=dict)
    """Why calls are unpriced, and how often: ``model_not_listed``, ``no_rate (characters)``, ..."""
    partly: Mapping[str, int] = field(default_factory=dict)
    """How many of these are in an amount with what is known of them."""
    lacking: tuple[Lack, ...] = ()
    """What costs and prices lack, most calls first."""
    priceless: bool = False
    """Whether amounts were asked for, and there is neither a price table nor a record with one."""
    period: str | None = None
    """In words; absent where all time was asked for."""
    untimed: int = 0
    """Calls whose records carry no time; they are in no period, and in no row where one was asked for."""
    before: Sum | None = None
    """All of the period before, where that was asked for."""
    before_period: str | None = None
    quarantined: int = 0
    """Records that the gateway found at fault: they are in no row."""
    hidden: int = 0
    """Groups that ``--top`` put together into the row ``others``."""
    hidden_names: int = 0
    """How many of the first column, such as organizations, have all their groups there."""


def kind_of(row: UsageRow) -> Kind:
    """Say which kind of row a call belongs to: first how sure its usage is, then whether it has an owner."""
    if row.state != "final" or row.usage == "unknown":
        return "unknown"
    if row.usage != "reported":
        return row.usage
    return "unattributed" if row.attribution == "unattributed" else "owned"


def tokens_of(row: UsageRow) -> Tokens:
    """Return the tokens of a call whose usage is known."""
    return Tokens(
        row.input_tokens or 0,
        row.cached_tokens or 0,
        row.output_tokens or 0,
        row.reasoning_tokens or 0,
    )


def total_of(rows: Iterable[Row]) -> Sum:
    """Add rows up."""
    rows = tuple(rows)
    return Sum(
        sum(row.calls for row in rows),
        sum((row.tokens for row in rows if row.tokens is not None), Tokens()),
        sum((row.money for row in rows), Money()),
    )


def merged(kind: Kind, cells: tuple[str | None, ...], rows: Iterable[Row]) -> Row:
    """Put rows together into one, also what they were in the period before.

    Args:
        kind: of the row that is made.
        cells: its cells.
        rows: what it is the sum of.
    """
    rows = tuple(rows)
    whole = total_of(rows)
    olds = [row.before for row in rows if row.before is not None]
    before = total_of(Row(kind, (), one.calls, one.tokens, money=one.money) for one in olds) if olds else None
    return Row(kind, cells, whole.calls, whole.tokens, money=whole.money, before=before)


def in_blocks(report: Report) -> bool:
    """Say whether the grouping starts with an organization, or account, whose rows belong together."""
    return report.columns[0] in (ACCOUNT, ORGANIZATION)


def subtotals(report: Report) -> dict[str | None, Row]:
    """Add up each organization, or account, that has more than one row, when the grouping starts with it."""
    if not in_blocks(report):
        return {}
    rows: dict[str | None, list[Row]] = {}
    for row in report.rows:
        if row.kind in GROUPED_KINDS:
            rows.setdefault(row.cells[0], []).append(row)
    return {organization: merged("owned", (), own) for organization, own in rows.items() if len(own) > 1}


@dataclass(slots=True)
class _Lacks:
    """What the amounts of a report lack."""

    why: Counter[str] = field(default_factory=Counter)
    partly: Counter[str] = field(default_factory=Counter)
    sums: dict[tuple[str, str, tuple[str, ...], bool], tuple[int, Tokens]] = field(default_factory=dict)

    def add(self, lacking: Mapping[str, Amount], tokens: Tokens, *, part: bool) -> None:
        first = next(iter(lacking.values()))
        units = f" ({', '.join(first.units)})" if first.reason == "no_rate" else ""
        self.why[f"{first.reason}{units}"] += 1
        self.partly[f"{first.reason}{units}"] += part
        for name, amount in lacking.items():
            named = amount.units if amount.reason == "no_rate" else ()
            key = (name, amount.reason or "", named, amount.value is not None)
            calls, others = self.sums.get(key, (0, Tokens()))
            self.sums[key] = (calls + 1, others + tokens)

    def all(self) -> tuple[Lack, ...]:
        found = [Lack(*key, *sums) for key, sums in self.sums.items()]  # type: ignore[arg-type]
        return tuple(sorted(found, key=lambda lack: (lack.amount, -lack.calls, lack.reason, lack.units)))


@dataclass(slots=True)
class _Group:
    calls: int = 0
    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    costs: list[Decimal] = field(default_factory=list)
    prices: list[Decimal] = field(default_factory=list)
    unpriced: int = 0
    estimated: int = 0
    cost_lacks: int = 0
    price_lacks: int = 0

    def add_money(self, priced: Priced, lacks: _Lacks, tokens: Tokens) -> None:
        amounts = [amount for amount in priced if amount is not None]
        for amount, values in zip(priced, (self.costs, self.prices), strict=True):
            if amount is not None and amount.value is not None:
                values.append(amount.value)
                if len(values) > _SUMMED_AT:
                    values[:] = [sum_of(values)]
        self.estimated += any(amount.status == ESTIMATED for amount in amounts)
        lacking = {
            name: amount
            for name, amount in zip(("cost", "price"), priced, strict=True)
            if amount is not None and amount.status in (UNPRICED, PARTIAL)
        }
        self.unpriced += bool(lacking)
        self.cost_lacks += "cost" in lacking
        self.price_lacks += "price" in lacking
        if lacking:
            lacks.add(lacking, tokens, part=any(amount.value is not None for amount in amounts))

    @property
    def money(self) -> Money:
        return Money(
            sum_of(self.costs) if self.costs else None,
            sum_of(self.prices) if self.prices else None,
            self.unpriced,
            self.estimated,
            self.cost_lacks,
            self.price_lacks,
        )


_SUMMED_AT: Final = 1000
_UNKNOWN: Final = Priced(unpriced("usage_unknown"), None)


def group(
    calls: Iterable[UsageRow],
    columns: Sequence[Column],
    *,
    duplicates: int = 0,
    bad_lines: int = 0,
    price: Callable[[UsageRow], Priced | None] | None = None,
    currency: str | None = None,
) -> Report:
    """Group calls.

    Args:
        calls: one row for each call.
        columns: what to group by.
        duplicates: how many records were there more than once.
        bad_lines: how many lines could not be read whole.
        price: prices one call; ``None`` where nothing is billed.
        currency: of what ``price`` gives.

    Returns:
        The report.
    """
    lacks = _Lacks()
    groups: dict[tuple[Kind, tuple[str | None, ...]], _Group] = {}
    no_group = (None,) * len(columns)
    readers = [column.read for column in columns]
    other_units = 0
    for row in calls:
        kind = kind_of(row)
        cells = tuple([read(row) for read in readers]) if kind in GROUPED_KINDS else no_group
        own = groups.get((kind, cells))
        if own is None:
            own = groups[kind, cells] = _Group()
        own.calls += row.weight
        if kind == "unknown":
            own.reasons[row.reason or (row.state if row.state != "final" else "no_reason")] += row.weight
        elif kind != "not_billed":  # whatever a refusal says was used, nobody pays for it
            tokens = tokens_of(row)
            own.input += tokens.input
            own.cached += tokens.cached
            own.output += tokens.output
            own.reasoning += tokens.reasoning
            other_units += row.weight * (row.input_tokens is None and row.output_tokens is None)
        if price is not None and kind != "not_billed":
            known = Tokens() if kind == "unknown" else tokens_of(row)
            own.add_money((price(row) if kind != "unknown" else None) or _UNKNOWN, lacks, known)
    rows = tuple(_row(kind, cells, groups[kind, cells]) for kind, cells in sorted(groups, key=_order))
    total = total_of(rows)
    return Report(
        columns=tuple(column.name for column in columns),
        rows=rows,
        total=total,
        records=total.calls,
        other_units=other_units,
        duplicates=duplicates,
        bad_lines=bad_lines,
        currency=currency,
        unpriced=_by_number(lacks.why),
        partly=_by_number(+lacks.partly),
        lacking=lacks.all(),
    )


def _order(key: tuple[Kind, tuple[str | None, ...]]) -> tuple[object, ...]:
    kind, cells = key
    return kind not in GROUPED_KINDS, sort_key(cells), KINDS.index(kind)


def _row(kind: Kind, cells: tuple[str | None, ...], own: _Group) -> Row:
    tokens = None if kind == "unknown" else Tokens(own.input, own.cached, own.output, own.reasoning)
    return Row(kind, cells, own.calls, tokens, _by_number(own.reasons), own.money)


def _by_number(reasons: Counter[str]) -> dict[str, int]:
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))
