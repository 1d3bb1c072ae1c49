"""The numbers of the websocket stand-in: different for every consumption, so that a mix-up shows."""

from __future__ import annotations

from typing import Any, TypeAlias

Usage: TypeAlias = "dict[str, Any]"


def realtime_usage(n: int) -> Usage:
    """Return what realtime response number ``n`` used, by modality."""
    text, image, audio = 100 + n, 20 + n % 7, 300 + n * 2
    output_text, output_audio = 10 + n, 40 + n * 3
    cached_text, cached_audio = 5 + n % 4, 7 + n % 3
    return {
        "total_tokens": text + image + audio + output_text + output_audio,
        "input_tokens": text + image + audio,
        "output_tokens": output_text + output_audio,
        "input_token_details": {
            "text_tokens": text,
            "image_tokens": image,
            "audio_tokens": audio,
            "cached_tokens": cached_text + cached_audio,
            "cached_tokens_details": {"text_tokens": cached_text, "image_tokens": 0, "audio_tokens": cached_audio},
        },
        "output_token_details": {"text_tokens": output_text, "audio_tokens": output_audio},
    }


def transcription_usage(n: int, model: str) -> Usage:
    """Return what input transcription number ``n`` used: seconds for whisper, tokens for the others."""
    if model == "whisper-1":
        return {"type": "duration", "seconds": n + 0.5}
    return {
        "type": "tokens",
        "total_tokens": 30 + n * 2,
        "input_tokens": 20 + n,
        "output_tokens": 10 + n,
        "input_token_details": {"text_tokens": 0, "audio_tokens": 20 + n},
    }
