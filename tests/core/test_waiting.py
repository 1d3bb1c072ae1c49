"""Messages of a websocket session that wait: whose an error is that names none."""

from __future__ import annotations

import pytest

from openai_metering.finished import Request
from openai_metering.resolution import EMPTY
from openai_metering.seams.sending import RESPONSE, Sent
from openai_metering.seams.waiting import Waiting


@pytest.mark.parametrize(
    ("error", "taken"),
    [
        ({"type": "invalid_request_error", "code": "invalid_value", "param": "response.modalities"}, True),
        ({"code": "conversation_already_has_active_response"}, True),
        ({"message": "no"}, True),
        ({"code": "invalid_value", "param": "session.voice"}, False),
        ({"code": "input_audio_buffer_commit_empty"}, False),
        ({"code": "invalid_value", "param": "item.content"}, False),
        ({"event_id": "of-another"}, False),
    ],
)
def test_an_error_without_a_message_is_of_the_oldest_response_unless_it_names_another_thing(error, taken):
    """Where the server starts responses by itself, too: who waits on would take a later one's place."""
    first, second = Sent(RESPONSE, EMPTY, Request()), Sent(RESPONSE, EMPTY, Request(), metadata={"n": "2"})
    waiting = Waiting([first, second], unasked=True)
    waiting.refused({"error": {"event_id": None, **error}})
    assert waiting.starter({}, {"metadata": None}) is (None if taken else first)
    assert waiting.starter({}, {"metadata": {"n": "2"}}) is second
