"""Compressed answers: observed as they are decoded, and written anew where raw bytes are read of which some are hidden."""

from __future__ import annotations

import functools
import sys
import zlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from openai_metering import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from openai_metering.seams.responses import BodyObserver


class ObservedDecoder:
    """The content decoder of a compressed response, which all bytes pass but those of ``iter_raw``.

    Args:
        decoder: the HTTP library's own; it gives bytes in httpx, an iterable of bytes in httpx2.
        observer: sees the decoded bytes.
    """

    def __init__(self, decoder: Any, observer: BodyObserver) -> None:
        self._decoder = decoder
        self._observer = observer

    def decode(self, data: bytes) -> Any:
        """Decode a piece."""
        return self._fed(self._decoder.decode(data))

    def flush(self) -> Any:
        """Decode what is left; the body has been read to its end."""
        out = self._fed(self._decoder.flush())
        rest = b"" if self._observer.raw else self._observer.end()
        if not rest:
            return out
        return out + rest if isinstance(out, bytes) else [*out, rest]

    def _fed(self, out: Any) -> Any:
        observer = self._observer
        if observer.raw:
            return out  # observed already
        if isinstance(out, bytes):
            return observer.feed(out) if out else out
        return [passed for piece in out if piece and (passed := observer.feed(piece))]


class RawReader:
    """What a caller of ``iter_raw`` reads of a compressed answer.

    The bytes stay the server's, unless some of what they say is to be hidden: then they are written anew, in the same
    coding.

    Args:
        decoder: the HTTP library's own for this coding; nobody else uses it.
        coding: as the header names it.
        observer: sees the decoded bytes.
        hides: some of them may have to be hidden.
    """

    def __init__(self, decoder: Any, coding: str, observer: BodyObserver, *, hides: bool) -> None:
        observer.raw = True
        self._observer = observer
        self._encoder = encoder_of(coding) if hides else None
        self._decoder = _Members() if self._encoder is not None and coding == "gzip" else decoder
        self._broken = False

    def feed(self, piece: bytes) -> bytes:
        """Take in a raw piece. Returns the bytes that the caller gets in its place."""
        if self._broken:
            return piece
        try:
            passed = self._passed(self._decoder.decode(piece))
        except Exception as error:
            self._give_up(error)
            return piece
        return piece if self._encoder is None else passed

    def end(self) -> bytes:
        """The body has been read to its end. Returns what was held back of it."""
        passed = b""
        try:
            if not self._broken:
                passed = self._passed(self._decoder.flush())
        except Exception as error:
            self._give_up(error)
        try:
            held = self._observer.end(observed=not self._broken)
            if self._encoder is not None and not self._broken:
                passed += (self._encoder.compress(held) if held else b"") + self._encoder.finish()
        except Exception as error:
            errors.swallow("coding", error)
        return passed

    def _passed(self, decoded: Any) -> bytes:
        pieces: Iterable[bytes] = (decoded,) if isinstance(decoded, bytes) else decoded
        observer, encoder = self._observer, self._encoder
        passed = bytearray()
        for piece in pieces:
            kept = observer.feed(piece) if piece else b""
            if kept and encoder is not None:
                # Flushed, so that the caller can decode each piece as it comes.
                passed += encoder.compress(kept) + encoder.flush()
        return bytes(passed)

    def _give_up(self, error: Exception) -> None:
        """The bytes are not in the coding that their header names: the caller's to deal with, as they came."""
        self._broken = True
        if type(error).__name__ != "DecodingError":
            errors.swallow("coding", error)


class _Members:
    """Decodes gzip to its last member; the HTTP library's own decoder ends with the first."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(16 + zlib.MAX_WBITS)

    def decode(self, data: bytes) -> bytes:
        found = self._member.decompress(data)
        while self._member.eof and self._member.unused_data:
            rest = self._member.unused_data
            self._member = zlib.decompressobj(16 + zlib.MAX_WBITS)
            found += self._member.decompress(rest)
        return found

    def flush(self) -> bytes:
        return self._member.flush()


def reads_decoded(depth: int) -> bool:
    """Whether it is the HTTP library that reads raw bytes, to decode them itself.

    Args:
        depth: how many frames above the caller of this function the reader of the raw bytes is.
    """
    try:
        frame = sys._getframe(depth + 1)  # noqa: SLF001
    except ValueError:
        return False
    # Where it is not recognised the bytes are decoded twice, with the same result.
    return frame.f_code.co_name in ("iter_bytes", "aiter_bytes") and str(frame.f_globals.get("__name__")).startswith(
        "httpx"
    )


# -- Encoders --------------------------------------------------------------------------------------------------------


class Encoder(NamedTuple):
    """Writes a coding piece by piece."""

    compress: Callable[[bytes], bytes]
    flush: Callable[[], bytes]
    """Gives all that can be decoded so far."""
    finish: Callable[[], bytes]


def encoder_of(coding: str) -> Encoder | None:
    """Return an encoder, ``None`` where nothing in this process writes the coding.

    Args:
        coding: as the header names it: one that the HTTP library decodes.
    """
    try:
        make = _ENCODERS.get(coding)
        return None if make is None else make()
    except Exception as error:
        errors.swallow("coding", error)
        return None


def _zlib(wbits: int) -> Encoder:
    made = zlib.compressobj(wbits=wbits)
    return Encoder(made.compress, functools.partial(made.flush, zlib.Z_SYNC_FLUSH), made.flush)


# What follows is loaded where the HTTP library decodes the coding, by the very package that it decodes with.


def _brotli() -> Encoder | None:
    for name in ("brotli", "brotlicffi"):
        module: Any = sys.modules.get(name)
        if module is not None:
            made = module.Compressor(quality=4)  # the default, 11, takes milliseconds for each piece
            return Encoder(getattr(made, "process", None) or made.compress, made.flush, made.finish)
    return None


def _zstd() -> Encoder | None:
    for name in ("compression.zstd", "backports.zstd"):
        module: Any = sys.modules.get(name)
        if module is not None:
            made = module.ZstdCompressor()
            return Encoder(made.compress, functools.partial(made.flush, made.FLUSH_BLOCK), made.flush)
    module = sys.modules.get("zstandard")
    if module is None:
        return None
    made = module.ZstdCompressor().compressobj()
    return Encoder(made.compress, functools.partial(made.flush, module.COMPRESSOBJ_FLUSH_BLOCK), made.flush)


_ENCODERS: Final[dict[str, Callable[[], Encoder | None]]] = {
    "gzip": functools.partial(_zlib, 16 + zlib.MAX_WBITS),
    "deflate": functools.partial(_zlib, zlib.MAX_WBITS),
    "br": _brotli,
    "zstd": _zstd,
}
