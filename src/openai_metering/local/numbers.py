"""The token numbers of the provider stand-in: different for every billable request, so that a mix-up shows."""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias

Usage: TypeAlias = "dict[str, Any]"

SNAPSHOT: Final = "-2025-01-01"
_DATED = re.compile(r"\d{4}-\d{2}-\d{2}$")


def served_model(model: str) -> str:
    """Name the snapshot that answers for a model: the name and a date, unless it has one already."""
    return model if _DATED.search(model) else model + SNAPSHOT


def chat_usage(n: int) -> Usage:
    """Return what chat completion number ``n`` used."""
    prompt, completion = 1000 + n * 7, 100 + n * 3
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {
            "cached_tokens": n % 5 * 16,
            "cache_write_tokens": n % 6 * 8,
            "audio_tokens": n % 3 * 4,
        },
        "completion_tokens_details": {
            "reasoning_tokens": n % 4 * 8,
            "audio_tokens": n % 2 * 6,
            "accepted_prediction_tokens": n % 3 * 2,
            "rejected_prediction_tokens": n % 2,
        },
    }


def response_usage(n: int) -> Usage:
    """Return what response number ``n`` used."""
    prompt, completion = 1000 + n * 7, 100 + n * 3
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": n % 5 * 16, "cache_write_tokens": n % 6 * 8},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": n % 4 * 8},
        "total_tokens": prompt + completion,
    }


def embedding_usage(n: int) -> Usage:
    """Return what embedding request number ``n`` used."""
    prompt = 1000 + n * 7
    return {"prompt_tokens": prompt, "total_tokens": prompt}
