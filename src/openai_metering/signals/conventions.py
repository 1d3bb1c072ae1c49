"""Every attribute, metric and event name that leaves the process.

The GenAI names follow the OpenTelemetry GenAI conventions (commit ``e9de14ba``, after core 1.44); they are own
constants because the published Python package lags behind and renames break at run time.
"""

from __future__ import annotations

from typing import Final

SCOPE_NAME: Final = "openai_metering"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

# -- Who -------------------------------------------------------------------------------------------------------------
ORGANIZATION_ID: Final = "attribution.organization.id"
SUBSCRIBER_ID: Final = "attribution.subscriber.id"
CREDENTIAL_ID: Final = "attribution.credential.id"
USER_ID: Final = "user.id"
USER_HASH: Final = "user.hash"  # in the place of user.id where subscribers are hashed
ATTRIBUTION_CUT: Final = "attribution.cut"  # the fields of which a part was left out
TAG_PREFIX: Final = "attribution.tag."
ATTRIBUTION_STATUS: Final = "attribution.status"  # complete | partial | unattributed
ORGANIZATION_SOURCE: Final = "attribution.organization.source"
SUBSCRIBER_SOURCE: Final = "attribution.subscriber.source"
CREDENTIAL_SOURCE: Final = "attribution.credential.source"

# -- What ------------------------------------------------------------------------------------------------------------
OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_CHOICE_COUNT: Final = "gen_ai.request.choice.count"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
HTTP_RESEND_COUNT: Final = "http.request.resend_count"
OPENAI_API_TYPE: Final = "openai.api.type"
OPENAI_REQUEST_SERVICE_TIER: Final = "openai.request.service_tier"
OPENAI_RESPONSE_SERVICE_TIER: Final = "openai.response.service_tier"
OPENAI_SYSTEM_FINGERPRINT: Final = "openai.response.system_fingerprint"
OPERATION: Final = "openai_metering.operation"  # the row's own name: chat.completions, responses, embeddings
REQUEST_ID: Final = "openai_metering.request.id"  # the provider's x-request-id
REQUEST_ORGANIZATION: Final = "openai_metering.request.organization"  # the provider's ids, as the request names them
REQUEST_PROJECT: Final = "openai_metering.request.project"
REQUEST_COMPLETION_WINDOW: Final = "openai_metering.request.completion_window"
BATCH_ENDPOINT: Final = "openai_metering.batch.endpoint"
IMAGE_SIZE: Final = "openai_metering.image.size"
IMAGE_QUALITY: Final = "openai_metering.image.quality"
VIDEO_SIZE: Final = "openai_metering.video.size"
OUTCOME: Final = "openai_metering.outcome"  # completed | failed | cancelled | stopped | dropped | unread

# -- How much --------------------------------------------------------------------------------------------------------
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_INPUT_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
REASONING_OUTPUT_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
TEXT_INPUT_TOKENS: Final = "gen_ai.usage.text.input_tokens"
IMAGE_INPUT_TOKENS: Final = "gen_ai.usage.image.input_tokens"
AUDIO_INPUT_TOKENS: Final = "gen_ai.usage.audio.input_tokens"
TEXT_CACHE_READ_TOKENS: Final = "gen_ai.usage.text.cache_read.input_tokens"
IMAGE_CACHE_READ_TOKENS: Final = "gen_ai.usage.image.cache_read.input_tokens"
AUDIO_CACHE_READ_TOKENS: Final = "gen_ai.usage.audio.cache_read.input_tokens"
TEXT_OUTPUT_TOKENS: Final = "gen_ai.usage.text.output_tokens"
IMAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.image.output_tokens"
AUDIO_OUTPUT_TOKENS: Final = "gen_ai.usage.audio.output_tokens"
ACCEPTED_PREDICTION_TOKENS: Final = "openai_metering.usage.accepted_prediction_tokens"
REJECTED_PREDICTION_TOKENS: Final = "openai_metering.usage.rejected_prediction_tokens"
CACHE_WRITE_30M_TOKENS: Final = "openai_metering.usage.cache_write_30m_tokens"
CACHE_WRITE_12H_TOKENS: Final = "openai_metering.usage.cache_write_12h_tokens"
IMAGE_GEN_INPUT_TOKENS: Final = "openai_metering.usage.image_gen_input_tokens"
IMAGE_GEN_OUTPUT_TOKENS: Final = "openai_metering.usage.image_gen_output_tokens"
IMAGE_GEN_CACHED_TOKENS: Final = "openai_metering.usage.image_gen_cached_tokens"
IMAGE_GEN_TEXT_INPUT_TOKENS: Final = "openai_metering.usage.image_gen_text_input_tokens"
IMAGE_GEN_IMAGE_INPUT_TOKENS: Final = "openai_metering.usage.image_gen_image_input_tokens"
IMAGE_GEN_TEXT_OUTPUT_TOKENS: Final = "openai_metering.usage.image_gen_text_output_tokens"
IMAGE_GEN_IMAGE_OUTPUT_TOKENS: Final = "openai_metering.usage.image_gen_image_output_tokens"
IMAGE_GEN_CACHED_TEXT_TOKENS: Final = "openai_metering.usage.image_gen_cached_text_tokens"
IMAGE_GEN_CACHED_IMAGE_TOKENS: Final = "openai_metering.usage.image_gen_cached_image_tokens"
SVG_INPUT_TOKENS: Final = "openai_metering.usage.svg_input_tokens"
SVG_OUTPUT_TOKENS: Final = "openai_metering.usage.svg_output_tokens"
SVG_REASONING_TOKENS: Final = "openai_metering.usage.svg_reasoning_tokens"
SVG_MODEL: Final = "openai_metering.usage.svg_model"
TRAINED_TOKENS: Final = "openai_metering.usage.trained_tokens"
GRADER_TOKENS: Final = "openai_metering.usage.grader_tokens"
IMAGES: Final = "openai_metering.usage.images"
SECONDS: Final = "openai_metering.usage.seconds"
CHARACTERS: Final = "openai_metering.usage.characters"
WEB_SEARCHES: Final = "openai_metering.usage.web_searches"
SEARCHES: Final = "openai_metering.usage.searches"
CONTAINERS: Final = "openai_metering.usage.containers"
INVOCATIONS: Final = "openai_metering.usage.invocations"
BATCH_REQUESTS: Final = "openai_metering.usage.batch_requests"
CODE_INTERPRETER_SESSIONS: Final = "openai_metering.usage.code_interpreter_sessions"  # derived from output items
USAGE_RAW: Final = "openai_metering.usage.raw"  # JSON: what a usage object says under names that are not known
SESSION_SECONDS: Final = "openai_metering.usage.session_seconds"  # of a live session, confirmed at its end
SESSION_ACTIVE_SECONDS: Final = "openai_metering.usage.session_active_seconds"  # part of them
SESSION_PAUSED_SECONDS: Final = "openai_metering.usage.session_paused_seconds"  # part of them
UNCONFIRMED_SESSION_SECONDS: Final = "openai_metering.usage.unconfirmed_session_seconds"  # last heard of one cut off
USAGE_STATUS: Final = "openai_metering.usage.status"  # reported | estimated | unknown | not_billed
USAGE_REASON: Final = "openai_metering.usage.reason"

# -- The usage record ------------------------------------------------------------------------------------------------
USAGE_EVENT: Final = "openai_metering.usage"
RECORD_ID: Final = "openai_metering.record.id"
RECORD_VERSION: Final = "openai_metering.record.version"
RECORD_STATE: Final = "openai_metering.record.state"  # started | pending | final
RECORD_START_TIME: Final = "openai_metering.record.start_time"  # integer, nanoseconds since the epoch
RECORD_STARTED_ID: Final = "openai_metering.record.started_id"  # of the `started` record that this one replaces
SDK_VERSION: Final = "openai_metering.sdk.version"

# -- What it costs, and what the customer pays: on records that were priced ------------------------------------------
COST_AMOUNT: Final = "openai_metering.cost.amount"  # decimal text
COST_CURRENCY: Final = "openai_metering.cost.currency"  # ISO 4217
COST_SOURCE: Final = "openai_metering.cost.source"  # provider | list | file
COST_TABLE_VERSION: Final = "openai_metering.cost.table_version"
COST_STATUS: Final = "openai_metering.cost.status"  # priced | estimated | partial | unpriced
COST_REASON: Final = "openai_metering.cost.reason"
COST_UNPRICED_UNITS: Final = "openai_metering.cost.unpriced_units"  # with commas
PRICE_AMOUNT: Final = "openai_metering.price.amount"
PRICE_CURRENCY: Final = "openai_metering.price.currency"
PRICE_SOURCE: Final = "openai_metering.price.source"
PRICE_TABLE_VERSION: Final = "openai_metering.price.table_version"
PRICE_STATUS: Final = "openai_metering.price.status"
PRICE_REASON: Final = "openai_metering.price.reason"
PRICE_UNPRICED_UNITS: Final = "openai_metering.price.unpriced_units"

# -- Metrics ---------------------------------------------------------------------------------------------------------
UNIT: Final = "unit"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - input | output, not a secret
TOKEN_MODALITY: Final = "gen_ai.token.modality"  # noqa: S105 - text | image | audio | unknown, not a secret
METRIC_INFERENCE_DURATION: Final = "gen_ai.client.inference.duration"
METRIC_EMBEDDINGS_DURATION: Final = "gen_ai.client.embeddings.duration"
METRIC_OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
METRIC_TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105 - of earlier conventions, read by most dashboards
METRIC_INPUT_TOKENS: Final = "gen_ai.client.inference.usage.input_tokens"
METRIC_OUTPUT_TOKENS: Final = "gen_ai.client.inference.usage.output_tokens"
METRIC_CACHE_READ: Final = "gen_ai.client.inference.usage.cache_read.input_tokens"
METRIC_CACHE_WRITE: Final = "gen_ai.client.inference.usage.cache_write.input_tokens"
METRIC_REASONING: Final = "gen_ai.client.inference.usage.reasoning.output_tokens"
METRIC_OVERFLOW: Final = "otel.metric.overflow"  # the one series of what is beyond the limit of series
METRIC_CALLS: Final = "openai_metering.calls"
METRIC_OPEN_CALLS: Final = "openai_metering.calls.open"
METRIC_UNITS: Final = "openai_metering.units"
METRIC_COST: Final = "openai_metering.cost"
METRIC_ERRORS: Final = "openai_metering.errors"
METRIC_RECORDS_DROPPED: Final = "openai_metering.records.dropped"
METRIC_RECORDS: Final = "openai_metering.records"
METRIC_LEDGER_BYTES: Final = "openai_metering.ledger.bytes"
METRIC_LEDGER_ERRORS: Final = "openai_metering.ledger.errors"
METRIC_LEDGER_DELETED: Final = "openai_metering.ledger.deleted"
