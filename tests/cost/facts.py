"""Usage records for tests of prices: attributes by short names."""

from __future__ import annotations

from datetime import date, datetime, timezone

from openai_metering.signals import conventions as c

SHORT = {
    "input": c.INPUT_TOKENS,
    "cached": c.CACHE_READ_INPUT_TOKENS,
    "written": c.CACHE_WRITE_INPUT_TOKENS,
    "written_30m": c.CACHE_WRITE_30M_TOKENS,
    "written_12h": c.CACHE_WRITE_12H_TOKENS,
    "output": c.OUTPUT_TOKENS,
    "reasoning": c.REASONING_OUTPUT_TOKENS,
    "text_in": c.TEXT_INPUT_TOKENS,
    "image_in": c.IMAGE_INPUT_TOKENS,
    "audio_in": c.AUDIO_INPUT_TOKENS,
    "text_cached": c.TEXT_CACHE_READ_TOKENS,
    "image_cached": c.IMAGE_CACHE_READ_TOKENS,
    "audio_cached": c.AUDIO_CACHE_READ_TOKENS,
    "text_out": c.TEXT_OUTPUT_TOKENS,
    "image_out": c.IMAGE_OUTPUT_TOKENS,
    "audio_out": c.AUDIO_OUTPUT_TOKENS,
    "web_searches": c.WEB_SEARCHES,
    "code_interpreter_sessions": c.CODE_INTERPRETER_SESSIONS,
    "searches": c.SEARCHES,
    "containers": c.CONTAINERS,
    "images": c.IMAGES,
    "seconds": c.SECONDS,
    "characters": c.CHARACTERS,
    "session_seconds": c.SESSION_SECONDS,
    "session_active": c.SESSION_ACTIVE_SECONDS,
    "trained": c.TRAINED_TOKENS,
    "batch_requests": c.BATCH_REQUESTS,
    "svg_in": c.SVG_INPUT_TOKENS,
    "svg_out": c.SVG_OUTPUT_TOKENS,
    "svg_reasoning": c.SVG_REASONING_TOKENS,
    "tool_in": c.IMAGE_GEN_INPUT_TOKENS,
    "tool_text_in": c.IMAGE_GEN_TEXT_INPUT_TOKENS,
    "tool_out": c.IMAGE_GEN_OUTPUT_TOKENS,
    "model": c.RESPONSE_MODEL,
    "asked": c.REQUEST_MODEL,
    "tier": c.OPENAI_RESPONSE_SERVICE_TIER,
    "asked_tier": c.OPENAI_REQUEST_SERVICE_TIER,
    "window": c.REQUEST_COMPLETION_WINDOW,
    "provider": c.PROVIDER_NAME,
    "host": c.SERVER_ADDRESS,
    "operation": c.OPERATION,
    "kind": c.OPERATION_NAME,
    "usage_status": c.USAGE_STATUS,
    "raw": c.USAGE_RAW,
    "svg_model": c.SVG_MODEL,
    "organization": c.ORGANIZATION_ID,
    "state": c.RECORD_STATE,
    "image_size": c.IMAGE_SIZE,
    "image_quality": c.IMAGE_QUALITY,
    "video_size": c.VIDEO_SIZE,
}
USUAL = {
    "provider": "openai",
    "host": "api.openai.com",
    "operation": "responses",
    "kind": "chat",
    "usage_status": "reported",
}
DAY = date(2026, 11, 2)


def facts(**given):
    """Attributes of a usage record."""
    return {SHORT[name]: value for name, value in {**USUAL, **given}.items() if value is not None}


def at(day=DAY, hour=12):
    """A time in nanoseconds since the epoch."""
    return int(datetime(day.year, day.month, day.day, hour, tzinfo=timezone.utc).timestamp()) * 10**9
