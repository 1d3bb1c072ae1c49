-- The schema for backends/clickhouse.yaml: what the exporter fills, the records as typed columns, views that count once.
-- Run once: clickhouse-client --multiquery < clickhouse.sql. It may be run again; nothing is dropped.

CREATE DATABASE IF NOT EXISTS openai_metering;

-- What the exporter inserts into: kept for a month, for whoever wants to look at a record as it came.
CREATE TABLE IF NOT EXISTS openai_metering.otel_logs (
    Timestamp DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    TraceId String CODEC(ZSTD(1)),
    SpanId String CODEC(ZSTD(1)),
    TraceFlags UInt8,
    SeverityText LowCardinality(String),
    SeverityNumber UInt8,
    ServiceName LowCardinality(String),
    Body String CODEC(ZSTD(1)),
    ResourceSchemaUrl LowCardinality(String),
    ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ScopeSchemaUrl LowCardinality(String),
    ScopeName String CODEC(ZSTD(1)),
    ScopeVersion LowCardinality(String),
    ScopeAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    LogAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    EventName String CODEC(ZSTD(1))
) ENGINE = MergeTree
PARTITION BY toDate(Timestamp)
ORDER BY (ServiceName, Timestamp)
TTL toDateTime(Timestamp) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1;

CREATE TABLE IF NOT EXISTS openai_metering.otel_traces (
    Timestamp DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    TraceId String CODEC(ZSTD(1)),
    SpanId String CODEC(ZSTD(1)),
    ParentSpanId String CODEC(ZSTD(1)),
    TraceState String CODEC(ZSTD(1)),
    SpanName LowCardinality(String),
    SpanKind LowCardinality(String),
    ServiceName LowCardinality(String),
    ResourceAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    ScopeName String CODEC(ZSTD(1)),
    ScopeVersion String CODEC(ZSTD(1)),
    SpanAttributes Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    Duration UInt64,
    StatusCode LowCardinality(String),
    StatusMessage String CODEC(ZSTD(1)),
    Events Nested (Timestamp DateTime64(9), Name LowCardinality(String), Attributes Map(LowCardinality(String), String)),
    Links Nested (TraceId String, SpanId String, TraceState String, Attributes Map(LowCardinality(String), String)),
    INDEX idx_trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1
) ENGINE = MergeTree
PARTITION BY toDate(Timestamp)
ORDER BY (ServiceName, SpanName, Timestamp)
TTL toDateTime(Timestamp) + INTERVAL 30 DAY
SETTINGS ttl_only_drop_parts = 1;

-- The bill. A record may arrive again, and a job leaves a pending one before its final one: `precedence` says which counts.
-- Merges drop most of the others in time; the view below drops all of them, always. What is missing is NULL, never zero.
CREATE TABLE IF NOT EXISTS openai_metering.usage_records (
    record_id String CODEC(ZSTD(1)),
    precedence UInt8,
    state LowCardinality(String),
    time DateTime64(9) CODEC(Delta(8), ZSTD(1)),
    organization LowCardinality(String),
    subscriber String CODEC(ZSTD(1)),
    credential LowCardinality(String),
    attribution_status LowCardinality(String),
    service LowCardinality(String),
    operation LowCardinality(String),
    model LowCardinality(String),
    outcome LowCardinality(String),
    usage_status LowCardinality(String),
    usage_reason LowCardinality(String),
    input_tokens Nullable(UInt64),
    output_tokens Nullable(UInt64),
    cache_read_tokens Nullable(UInt64),
    cache_write_tokens Nullable(UInt64),
    reasoning_tokens Nullable(UInt64),
    cost Nullable(Decimal(38, 18)),
    currency LowCardinality(String),
    attributes Map(LowCardinality(String), String) CODEC(ZSTD(1))
) ENGINE = ReplacingMergeTree(precedence)
PARTITION BY toYYYYMM(time)
ORDER BY (organization, record_id);

CREATE MATERIALIZED VIEW IF NOT EXISTS openai_metering.usage_records_from_logs TO openai_metering.usage_records AS
SELECT
    LogAttributes['openai_metering.record.id'] AS record_id,
    -- final beats pending beats started; of two final ones the attributed one counts
    multiIf(state = 'final', 4, state = 'pending', 2, 0) + (organization != '') AS precedence,
    LogAttributes['openai_metering.record.state'] AS state,
    Timestamp AS time,
    LogAttributes['attribution.organization.id'] AS organization,
    LogAttributes['attribution.subscriber.id'] AS subscriber,
    LogAttributes['attribution.credential.id'] AS credential,
    LogAttributes['attribution.status'] AS attribution_status,
    ServiceName AS service,
    LogAttributes['openai_metering.operation'] AS operation,
    if(LogAttributes['gen_ai.response.model'] != '', LogAttributes['gen_ai.response.model'], LogAttributes['gen_ai.request.model']) AS model,
    LogAttributes['openai_metering.outcome'] AS outcome,
    LogAttributes['openai_metering.usage.status'] AS usage_status,
    LogAttributes['openai_metering.usage.reason'] AS usage_reason,
    toUInt64OrNull(LogAttributes['gen_ai.usage.input_tokens']) AS input_tokens,
    toUInt64OrNull(LogAttributes['gen_ai.usage.output_tokens']) AS output_tokens,
    toUInt64OrNull(LogAttributes['gen_ai.usage.cache_read.input_tokens']) AS cache_read_tokens,
    toUInt64OrNull(LogAttributes['gen_ai.usage.cache_write.input_tokens']) AS cache_write_tokens,
    toUInt64OrNull(LogAttributes['gen_ai.usage.reasoning.output_tokens']) AS reasoning_tokens,
    toDecimal128OrNull(LogAttributes['openai_metering.cost.amount'], 18) AS cost,
    LogAttributes['openai_metering.cost.currency'] AS currency,
    LogAttributes AS attributes
FROM openai_metering.otel_logs
WHERE EventName = 'openai_metering.usage';

-- Each billable consumption once.
CREATE VIEW IF NOT EXISTS openai_metering.usage AS
SELECT * FROM openai_metering.usage_records
ORDER BY precedence DESC
LIMIT 1 BY record_id;

-- The bill by month. Calls whose usage is unknown or not there yet stand beside the totals: the totals are without them.
CREATE VIEW IF NOT EXISTS openai_metering.usage_by_month AS
SELECT
    toStartOfMonth(time) AS month,
    organization,
    subscriber,
    credential,
    model,
    currency,
    count() AS calls,
    countIf(usage_status = 'unknown') AS calls_unknown,
    countIf(state != 'final') AS calls_open,
    sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens,
    sum(cache_read_tokens) AS cache_read_tokens,
    sum(cost) AS cost
FROM openai_metering.usage
GROUP BY month, organization, subscriber, credential, model, currency;
