"""What a usage record says was used, as disjoint quantities: no token is in two of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

from openai_metering.signals import conventions as c

if TYPE_CHECKING:
    from collections.abc import Mapping

MODEL: Final = "model"
SVG: Final = "svg"
IMAGE_TOOL: Final = "image tool"

# What is billed beside tokens, and the unit it is priced by. A live session's active seconds are part of its seconds;
# batch requests and a grader's invocations are billed by their tokens alone.
_COUNTS: Final = (
    (c.WEB_SEARCHES, "web_searches"),
    (c.CODE_INTERPRETER_SESSIONS, "code_interpreter_sessions"),
    (c.SEARCHES, "searches"),
    (c.CONTAINERS, "containers"),
    (c.CHARACTERS, "characters"),
    (c.SESSION_SECONDS, "session_seconds"),
    (c.TRAINED_TOKENS, "trained_tokens"),
    (c.GRADER_TOKENS, "grader_tokens"),
)
_MODALITIES: Final = (
    ("text", c.TEXT_INPUT_TOKENS, c.TEXT_CACHE_READ_TOKENS, c.TEXT_OUTPUT_TOKENS),
    ("image", c.IMAGE_INPUT_TOKENS, c.IMAGE_CACHE_READ_TOKENS, c.IMAGE_OUTPUT_TOKENS),
    ("audio", c.AUDIO_INPUT_TOKENS, c.AUDIO_CACHE_READ_TOKENS, c.AUDIO_OUTPUT_TOKENS),
)

NAMES: Final = frozenset(
    {
        c.INPUT_TOKENS,
        c.OUTPUT_TOKENS,
        c.CACHE_READ_INPUT_TOKENS,
        c.CACHE_WRITE_INPUT_TOKENS,
        c.CACHE_WRITE_30M_TOKENS,
        c.CACHE_WRITE_12H_TOKENS,
        c.REASONING_OUTPUT_TOKENS,
        c.IMAGES,
        c.SECONDS,
        c.SVG_INPUT_TOKENS,
        c.SVG_OUTPUT_TOKENS,
        c.SVG_REASONING_TOKENS,
        c.IMAGE_GEN_INPUT_TOKENS,
        c.IMAGE_GEN_OUTPUT_TOKENS,
        c.IMAGE_GEN_CACHED_TOKENS,
        c.IMAGE_GEN_TEXT_INPUT_TOKENS,
        c.IMAGE_GEN_IMAGE_INPUT_TOKENS,
        c.IMAGE_GEN_TEXT_OUTPUT_TOKENS,
        c.IMAGE_GEN_IMAGE_OUTPUT_TOKENS,
        c.IMAGE_GEN_CACHED_TEXT_TOKENS,
        c.IMAGE_GEN_CACHED_IMAGE_TOKENS,
        *(name for name, _ in _COUNTS),
        *(name for row in _MODALITIES for name in row[1:]),
    }
)
"""The attributes that are counted here."""


_DIGITS: Final = 19
"""Of 2^63: a number that has more is none that was used."""


class InvalidSplit(ValueError):  # noqa: N818 - says what was found
    """The parts of a total are more than the total."""


@dataclass(frozen=True, slots=True)
class Used:
    """What one model was used for within a call.

    Args:
        model: ``MODEL``, the one that answered, or ``SVG`` or ``IMAGE_TOOL``, which bill by models of their own.
        quantities: numbers by unit, none of them zero.
        input_tokens: the total that a step for long contexts looks at.
        guessed: how cached tokens are split by modality was not said, and matters.
    """

    model: str
    quantities: Mapping[str, Decimal]
    input_tokens: int = 0
    guessed: bool = False


@dataclass(slots=True)
class _Side:
    """Input or output tokens on their way into disjoint parts."""

    quantities: dict[str, int] = field(default_factory=dict)
    guessed: bool = False

    def put(self, unit: str, number: int) -> None:
        if number < 0:
            raise InvalidSplit(unit)
        self.quantities[unit] = self.quantities.get(unit, 0) + number

    def take(self, number: int, *units: str) -> None:
        """Take tokens, whose modality is not said, out of the parts in which they must be."""
        candidates = sum(self.quantities.get(unit, 0) > 0 for unit in units[1:])
        for unit in units:
            taken = min(number, self.quantities.get(unit, 0))
            if taken:
                self.quantities[unit] -= taken
                number -= taken
                self.guessed = self.guessed or (unit != units[0] and candidates > 1)
        if number:
            raise InvalidSplit(units[0])


def number_of(facts: Mapping[str, Any], name: str) -> Decimal | None:
    """Return a number of a record, which may be written as text; ``None`` where it is none."""
    value = facts.get(name)
    if type(value) is int:
        return Decimal(value) if value >= 0 else None
    if value is None or isinstance(value, bool):
        return None
    try:
        number = Decimal(repr(value) if isinstance(value, float) else str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() and number >= 0 and number.adjusted() < _DIGITS else None


def used_in(facts: Mapping[str, Any]) -> tuple[Used, ...]:
    """Read what a call used.

    Args:
        facts: attributes of a usage record.

    Returns:
        One entry for each model that bills; none where the record names no unit at all.

    Raises:
        InvalidSplit: the parts of a total exceed it.
    """
    quantities: dict[str, Decimal] = {}
    tokens, total, guessed = _tokens(facts)
    for unit, count in tokens.items():
        quantities[unit] = Decimal(count)
    counted = total is not None
    for name, unit in _COUNTS:
        number = number_of(facts, name)
        if number is not None:
            quantities[unit] = number
            counted = True
    for name, unit in ((c.IMAGES, "images"), (c.SECONDS, _seconds(facts))):
        number = number_of(facts, name)
        if number is not None and total is None:  # with tokens, those are what is billed
            quantities[unit] = number
            counted = True
    found = [Used(MODEL, _some(quantities), total or 0, guessed)] if counted else []
    beside = [read(facts) for name, read in _BESIDE if name in facts]
    return (*found, *(used for used in beside if used.quantities))


def _seconds(facts: Mapping[str, Any]) -> str:
    return "video_seconds" if facts.get(c.OPERATION_NAME) == "video" else "audio_seconds"


def _some(quantities: Mapping[str, Decimal]) -> dict[str, Decimal]:
    return {unit: number for unit, number in quantities.items() if number}


def _count(facts: Mapping[str, Any], name: str) -> int:
    return int(number_of(facts, name) or 0)


def _tokens(facts: Mapping[str, Any]) -> tuple[dict[str, int], int | None, bool]:
    """The tokens of the model itself, the total of its input, and whether a split had to be guessed."""
    if number_of(facts, c.INPUT_TOKENS) is None and number_of(facts, c.OUTPUT_TOKENS) is None:
        return {}, None, False
    total = _count(facts, c.INPUT_TOKENS)
    reads = sum(_count(facts, row[2]) for row in _MODALITIES)
    cached = max(_count(facts, c.CACHE_READ_INPUT_TOKENS), reads)
    side = _Side()
    rest = total
    for modality, of_input, of_cached, _ in _MODALITIES:
        whole, read = _count(facts, of_input), _count(facts, of_cached)
        side.put(f"{modality}_input", whole - read)
        side.put(f"cached_{modality}", read)
        rest -= whole
        cached -= read
    side.put("input", rest)
    side.put("cached", cached)
    parts = ("input", "text_input", "image_input", "audio_input")
    side.take(cached, *parts)
    written = _count(facts, c.CACHE_WRITE_INPUT_TOKENS)
    half_hour, half_day = _count(facts, c.CACHE_WRITE_30M_TOKENS), _count(facts, c.CACHE_WRITE_12H_TOKENS)
    written = max(written, half_hour + half_day)
    side.take(written, *parts)
    side.put("cache_written_30m", half_hour)
    side.put("cache_written_12h", half_day)
    side.put("cache_written", written - half_hour - half_day)
    return side.quantities | _output(facts), total, side.guessed


def _output(facts: Mapping[str, Any]) -> dict[str, int]:
    side = _Side()
    rest = _count(facts, c.OUTPUT_TOKENS)
    for modality, _, _, of_output in _MODALITIES:
        number = _count(facts, of_output)
        side.put(f"{modality}_output", number)
        rest -= number
    side.put("output", rest)
    reasoning = _count(facts, c.REASONING_OUTPUT_TOKENS)
    side.take(reasoning, "output", "text_output")
    side.put("reasoning", reasoning)
    return side.quantities


def _svg(facts: Mapping[str, Any]) -> Used:
    total, reasoning = _count(facts, c.SVG_INPUT_TOKENS), _count(facts, c.SVG_REASONING_TOKENS)
    output = _count(facts, c.SVG_OUTPUT_TOKENS)
    if reasoning > output:
        raise InvalidSplit("svg")
    numbers = {"input": total, "output": output - reasoning, "reasoning": reasoning}
    return Used(SVG, _some({unit: Decimal(number) for unit, number in numbers.items()}), total)


def _image_tool(facts: Mapping[str, Any]) -> Used:
    side = _Side()
    total = rest = _count(facts, c.IMAGE_GEN_INPUT_TOKENS)
    reads = _count(facts, c.IMAGE_GEN_CACHED_TEXT_TOKENS) + _count(facts, c.IMAGE_GEN_CACHED_IMAGE_TOKENS)
    cached = max(_count(facts, c.IMAGE_GEN_CACHED_TOKENS), reads)
    output = _count(facts, c.IMAGE_GEN_OUTPUT_TOKENS)
    for modality, of_input, of_cached, of_output in (
        ("text", c.IMAGE_GEN_TEXT_INPUT_TOKENS, c.IMAGE_GEN_CACHED_TEXT_TOKENS, c.IMAGE_GEN_TEXT_OUTPUT_TOKENS),
        ("image", c.IMAGE_GEN_IMAGE_INPUT_TOKENS, c.IMAGE_GEN_CACHED_IMAGE_TOKENS, c.IMAGE_GEN_IMAGE_OUTPUT_TOKENS),
    ):
        whole, read, made = _count(facts, of_input), _count(facts, of_cached), _count(facts, of_output)
        side.put(f"{modality}_input", whole - read)
        side.put(f"cached_{modality}", read)
        side.put(f"{modality}_output", made)
        rest, cached, output = rest - whole, cached - read, output - made
    side.put("input", rest)
    side.put("cached", cached)
    side.take(cached, "input", "text_input", "image_input")
    # Of an image model the output that is not said to be text is the image.
    side.put("image_output", output)
    return Used(IMAGE_TOOL, _some({u: Decimal(n) for u, n in side.quantities.items()}), total, side.guessed)


# The output is always reported where such tokens are, so that most records need not be looked at twice.
_BESIDE: Final = ((c.SVG_OUTPUT_TOKENS, _svg), (c.IMAGE_GEN_OUTPUT_TOKENS, _image_tool))
