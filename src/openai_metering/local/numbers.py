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


def image_usage(n: int) -> Usage:
    """Return what image request number ``n`` used."""
    text, image, drawn = 20 + n, 5 + n * 2, 1000 + n * 3
    return {
        "input_tokens": text + image,
        "input_tokens_details": {"text_tokens": text, "image_tokens": image},
        "output_tokens": drawn,
        "output_tokens_details": {"text_tokens": n % 4, "image_tokens": drawn - n % 4},
        "total_tokens": text + image + drawn,
    }


def audio_usage(n: int) -> Usage:
    """Return what transcription number ``n`` used, by a model that is billed by the token."""
    text, audio, written = n % 7, 1000 + n * 7, 100 + n * 3
    return {
        "type": "tokens",
        "input_tokens": text + audio,
        "input_token_details": {"text_tokens": text, "audio_tokens": audio},
        "output_tokens": written,
        "total_tokens": text + audio + written,
    }


def seconds_usage(n: int) -> Usage:
    """Return what transcription number ``n`` used, by a model that is billed by the second."""
    return {"type": "duration", "seconds": n + 0.5}


def run_usage(n: int) -> Usage:
    """Return what an assistant's run number ``n`` used."""
    prompt, completion = 1000 + n * 7, 100 + n * 3
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
