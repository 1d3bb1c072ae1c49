"""How many series a metric has at most, and that what is beyond is not lost."""

from __future__ import annotations

from emitting import answered, start

from openai_metering.resolution import EMPTY, Attribution, resolve
from openai_metering.settings import Settings

CALLS = "openai_metering.calls"
INPUT = "gen_ai.client.inference.usage.input_tokens"
DURATION = "gen_ai.client.inference.duration"
ORGANIZATION = "attribution.organization.id"
OVERFLOW = {"otel.metric.overflow": True}


def who(number: int):
    return resolve(Attribution(f"org{number}"), EMPTY, EMPTY)


def test_a_metric_has_no_more_series_than_the_limit_and_its_sum_is_whole(emitted, caplog):
    """A thousand organizations do not blow up a metrics store, and no call and no token gets lost."""
    signals = emitted.signals(Settings(metric_series=10))
    for _ in range(2):
        for number in range(100):
            answered(signals, who=who(number))
    points = emitted.points()
    for name, total in ((CALLS, 200), (INPUT, 200 * 11)):
        assert len(points[name]) == 10
        assert sum(point.value for point in points[name]) == total
        (beyond,) = [point for point in points[name] if dict(point.attributes) == OVERFLOW]
        assert beyond.value == total * 91 // 100
    assert len(points[DURATION]) == 10
    assert sum(point.count for point in points[DURATION]) == 200
    assert len(emitted.records) == 200
    assert {record[ORGANIZATION] for record in emitted.records} == {f"org{number}" for number in range(100)}
    assert [r.name for r in caplog.records] == ["openai_metering"]
    assert "OPENAI_METERING_METRIC_SERIES" in caplog.text


def test_a_series_that_is_there_stays_its_own(emitted):
    """Who was counted before the limit was reached is not moved to the overflow by those who come later."""
    signals = emitted.signals(Settings(metric_series=3))
    for number in (0, 1, *range(2, 50), 0, 1):
        answered(signals, who=who(number))
    counted = {point.attributes.get(ORGANIZATION): point.value for point in emitted.points()[CALLS]}
    assert counted == {"org0": 2, "org1": 2, None: 48}


def test_failures_count_as_series_of_their_own(emitted):
    """An error's class is an attribute, so it is bounded like the others."""
    signals = emitted.signals(Settings(metric_series=4))
    for number in range(20):
        start(signals).finish("failed", reason="failed", error_type=f"error{number}")
    points = emitted.points()[DURATION]
    assert len(points) == 4
    assert sum(point.count for point in points) == 20


def test_below_the_limit_nothing_changes(emitted, caplog):
    """The default is far beyond what most applications have."""
    signals = emitted.signals()
    for number in range(200):
        answered(signals, who=who(number))
    assert len(emitted.points()[CALLS]) == 200
    assert caplog.records == []
