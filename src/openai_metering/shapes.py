"""Where a provider writes each number of a usage object, and the name it gets."""

from __future__ import annotations

from typing import Final

from openai_metering.usage import Shape

_CACHED: Final = Shape(
    counts=(
        ("text_tokens", "gen_ai.usage.text.cache_read.input_tokens"),
        ("image_tokens", "gen_ai.usage.image.cache_read.input_tokens"),
        ("audio_tokens", "gen_ai.usage.audio.cache_read.input_tokens"),
    )
)
_CACHE_WRITE: Final = Shape(
    counts=(
        ("ttl_30m_tokens", "openai_metering.usage.cache_write_30m_tokens"),
        ("ttl_12h_tokens", "openai_metering.usage.cache_write_12h_tokens"),
    )
)
_INPUT: Final = Shape(
    counts=(
        ("cached_tokens", "gen_ai.usage.cache_read.input_tokens"),
        ("cache_write_tokens", "gen_ai.usage.cache_write.input_tokens"),
        ("text_tokens", "gen_ai.usage.text.input_tokens"),
        ("image_tokens", "gen_ai.usage.image.input_tokens"),
        ("audio_tokens", "gen_ai.usage.audio.input_tokens"),
    ),
    details=(("cached_tokens_details", _CACHED), ("cache_write_tokens_details", _CACHE_WRITE)),
)
_OUTPUT: Final = Shape(
    counts=(
        ("reasoning_tokens", "gen_ai.usage.reasoning.output_tokens"),
        ("text_tokens", "gen_ai.usage.text.output_tokens"),
        ("image_tokens", "gen_ai.usage.image.output_tokens"),
        ("audio_tokens", "gen_ai.usage.audio.output_tokens"),
        ("accepted_prediction_tokens", "openai_metering.usage.accepted_prediction_tokens"),
        ("rejected_prediction_tokens", "openai_metering.usage.rejected_prediction_tokens"),
    )
)

CHAT_USAGE: Final = Shape(
    counts=(
        ("prompt_tokens", "gen_ai.usage.input_tokens"),
        ("completion_tokens", "gen_ai.usage.output_tokens"),
    ),
    details=(("prompt_tokens_details", _INPUT), ("completion_tokens_details", _OUTPUT)),
    also=("total_tokens",),
)
EMBEDDINGS_USAGE: Final = Shape(counts=(("prompt_tokens", "gen_ai.usage.input_tokens"),), also=("total_tokens",))
RESPONSES_USAGE: Final = Shape(
    counts=(
        ("input_tokens", "gen_ai.usage.input_tokens"),
        ("output_tokens", "gen_ai.usage.output_tokens"),
    ),
    details=(("input_tokens_details", _INPUT), ("output_tokens_details", _OUTPUT)),
    also=("total_tokens",),
)
AUDIO_USAGE: Final = Shape(
    counts=RESPONSES_USAGE.counts,
    amounts=(("seconds", "openai_metering.usage.seconds"),),
    details=(
        ("input_token_details", _INPUT),
        ("output_token_details", _OUTPUT),
        *RESPONSES_USAGE.details,
    ),
    also=("total_tokens", "type"),
)
EVAL_USAGE: Final = Shape(
    counts=(
        *CHAT_USAGE.counts,
        ("cached_tokens", "gen_ai.usage.cache_read.input_tokens"),
        ("invocation_count", "openai_metering.usage.invocations"),
    ),
    also=("total_tokens", "model_name", "run_model_name"),
)
SVG_USAGE: Final = Shape(
    counts=(
        ("input_tokens", "openai_metering.usage.svg_input_tokens"),
        ("output_tokens", "openai_metering.usage.svg_output_tokens"),
        ("reasoning_tokens", "openai_metering.usage.svg_reasoning_tokens"),
    ),
    also=("total_tokens", "model"),
)
TOOL_USAGE: Final = Shape(
    details=(
        ("web_search", Shape(counts=(("num_requests", "openai_metering.usage.web_searches"),))),
        (
            "image_gen",
            Shape(
                counts=(
                    ("input_tokens", "openai_metering.usage.image_gen_input_tokens"),
                    ("output_tokens", "openai_metering.usage.image_gen_output_tokens"),
                    ("cached_tokens", "openai_metering.usage.image_gen_cached_tokens"),
                ),
                details=(
                    (
                        "input_tokens_details",
                        Shape(
                            counts=(
                                ("text_tokens", "openai_metering.usage.image_gen_text_input_tokens"),
                                ("image_tokens", "openai_metering.usage.image_gen_image_input_tokens"),
                            )
                        ),
                    ),
                    (
                        "output_tokens_details",
                        Shape(
                            counts=(
                                ("text_tokens", "openai_metering.usage.image_gen_text_output_tokens"),
                                ("image_tokens", "openai_metering.usage.image_gen_image_output_tokens"),
                            )
                        ),
                    ),
                    (
                        "cached_tokens_details",
                        Shape(
                            counts=(
                                ("cached_text_tokens", "openai_metering.usage.image_gen_cached_text_tokens"),
                                ("cached_image_tokens", "openai_metering.usage.image_gen_cached_image_tokens"),
                            )
                        ),
                    ),
                ),
                also=("total_tokens",),
            ),
        ),
    )
)
