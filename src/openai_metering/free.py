"""What costs nothing: every other request that the SDK can make, and why it is not metered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

READ: Final = "GET"
WRITE: Final = "POST PUT PATCH DELETE"
ANY: Final = f"{READ} {WRITE}"


@dataclass(frozen=True, slots=True)
class Free:
    """Requests that are not billed.

    Args:
        methods: HTTP methods, with a space between them.
        path: with ``{}`` for one segment, and ``**`` at its end for any number of them, none too.
        reason: why they cost nothing.
    """

    methods: str
    path: str
    reason: str

    def matches(self, method: str, path: str) -> bool:
        """Whether a request is one of these."""
        if method not in self.methods.split():
            return False
        wanted, given = self.path.strip("/").split("/"), path.strip("/").split("/")
        if wanted[-1] == "**":
            wanted.pop()
            if len(given) < len(wanted):
                return False
            given = given[: len(wanted)]
        return len(wanted) == len(given) and all(
            part in ("{}", other) for part, other in zip(wanted, given, strict=True)
        )


_ADMIN: Final = "administration of the account; usage and costs among it are the provider's own meters"
_AGENT: Final = "keeps what agents are made of; what they do is billed in their sessions"
_BROWSER: Final = "opens a session that the end user's browser uses with a key of its own; its calls never pass here"
_CONTAINER: Final = "a container is billed when it is created"
_CONTROL: Final = "steers a session; what it uses is told by the events of its websocket"
_EVAL: Final = "keeps what an evaluation is made of; its runs are billed"
_HISTORY: Final = "shows what was billed before"
_SAID: Final = "keeps what was said or is to be said; what reads it is billed"
_STORED: Final = "keeps or shows data; what is stored is billed by size and day, which only the provider's meters tell"
_VOICE: Final = "keeps a voice; speech with it is billed when it is made"

FREE: Final = (
    Free(ANY, "/organization/**", _ADMIN),
    Free(ANY, "/projects/**", _ADMIN),
    Free(ANY, "/webhook_endpoints/**", _ADMIN),
    Free(READ, "/webhook_event_types", _ADMIN),
    Free(READ, "/safety/**", _ADMIN),
    Free("GET DELETE", "/models/**", "a catalogue"),
    Free("POST", "/moderations", "the provider does not charge for moderation"),
    Free("POST", "/content_provenance_checks", "the provider does not charge for checks of provenance"),
    Free("POST", "/responses/input_tokens", "an estimate: nothing is generated"),
    Free("DELETE", "/responses/{}", "deletes what was billed before"),
    Free(READ, "/responses/{}/input_items", _HISTORY),
    Free("GET POST DELETE", "/chat/completions/{}", "shows, labels or deletes what was billed before"),
    Free(READ, "/chat/completions", _HISTORY),
    Free(READ, "/chat/completions/{}/messages", _HISTORY),
    Free("GET DELETE", "/conversations/**", _SAID),
    Free("POST", "/conversations", _SAID),
    Free("POST", "/conversations/{}", _SAID),
    Free("POST", "/conversations/{}/items", _SAID),
    Free("GET DELETE", "/files/**", _STORED),
    Free("POST", "/files", _STORED),
    Free("POST", "/uploads", _STORED),
    Free("POST", "/uploads/{}/cancel", _STORED),
    Free("POST", "/uploads/{}/complete", _STORED),
    Free("POST", "/uploads/{}/parts", _STORED),
    Free("GET DELETE", "/skills/**", _STORED),
    Free("POST", "/skills", _STORED),
    Free("POST", "/skills/{}", _STORED),
    Free("POST", "/skills/{}/versions", _STORED),
    Free("GET DELETE", "/vector_stores/**", _STORED),
    Free("POST", "/vector_stores", _STORED),
    Free("POST", "/vector_stores/{}", _STORED),
    Free("POST", "/vector_stores/{}/files", _STORED),
    Free("POST", "/vector_stores/{}/files/{}", _STORED),
    Free("POST", "/vector_stores/{}/file_batches", _STORED),
    Free("POST", "/vector_stores/{}/file_batches/{}/cancel", _STORED),
    Free("GET DELETE", "/containers/**", _CONTAINER),
    Free("POST", "/containers/{}/files", _CONTAINER),
    Free("GET DELETE", "/videos/**", "shows or deletes what was billed when it was made"),
    Free("GET DELETE", "/audio/voice_consents/**", _VOICE),
    Free("POST", "/audio/voice_consents", _VOICE),
    Free("POST", "/audio/voice_consents/{}", _VOICE),
    Free("POST", "/audio/voices", _VOICE),
    Free("DELETE", "/audio/voices/{}", _VOICE),
    Free(READ, "/batches", _HISTORY),
    Free(READ, "/fine_tuning/jobs", _HISTORY),
    Free(READ, "/fine_tuning/jobs/{}/checkpoints", _HISTORY),
    Free(READ, "/fine_tuning/jobs/{}/events", _HISTORY),
    Free(ANY, "/fine_tuning/checkpoints/{}/permissions/**", _ADMIN),
    Free("POST", "/fine_tuning/alpha/graders/validate", "checks a grader without running it"),
    Free(READ, "/evals", _EVAL),
    Free("GET DELETE", "/evals/{}", _EVAL),
    Free("POST", "/evals", _EVAL),
    Free("POST", "/evals/{}", _EVAL),
    Free(READ, "/evals/{}/runs", _HISTORY),
    Free("DELETE", "/evals/{}/runs/{}", "deletes what was billed before"),
    Free(READ, "/evals/{}/runs/{}/output_items/**", _HISTORY),
    Free("GET DELETE", "/assistants/**", _SAID),
    Free("POST", "/assistants", _SAID),
    Free("POST", "/assistants/{}", _SAID),
    Free("GET DELETE", "/threads/{}", _SAID),
    Free("GET DELETE", "/threads/{}/messages/**", _SAID),
    Free("POST", "/threads", _SAID),
    Free("POST", "/threads/{}", _SAID),
    Free("POST", "/threads/{}/messages", _SAID),
    Free("POST", "/threads/{}/messages/{}", _SAID),
    Free(READ, "/threads/{}/runs", _HISTORY),
    Free("POST", "/threads/{}/runs/{}", "labels a run"),
    Free(READ, "/threads/{}/runs/{}/steps/**", "shows parts of a run; its usage is told for the whole"),
    Free(READ, "/agents", _AGENT),
    Free("GET DELETE", "/agents/{}", _AGENT),
    Free("GET DELETE", "/agents/environments/**", _AGENT),
    Free("GET DELETE", "/agents/automations/{}", _AGENT),
    Free("POST", "/agents", _AGENT),
    Free("POST", "/agents/{}", _AGENT),
    Free("POST", "/agents/environments", _AGENT),
    Free("POST", "/agents/environments/templates", _AGENT),
    Free("POST", "/agents/environments/templates/{}", _AGENT),
    Free("POST", "/agents/environments/{}/files", _AGENT),
    Free("POST", "/agents/automations", _AGENT),
    Free("POST", "/agents/automations/{}", _AGENT),
    Free("POST", "/agents/automations/{}/pause", _AGENT),
    Free("POST", "/agents/automations/{}/resume", _AGENT),
    Free(READ, "/agents/automations/{}/invocations/**", _HISTORY),
    Free(READ, "/agents/sessions", _HISTORY),
    Free(READ, "/agents/sessions/{}", _HISTORY),
    Free("POST DELETE", "/agents/sessions/{}", _AGENT),
    Free("GET DELETE", "/agents/sessions/{}/artifacts/**", _AGENT),
    Free(READ, "/agents/sessions/{}/items", _HISTORY),
    Free(READ, "/agents/sessions/{}/subagents/**", _HISTORY),
    Free(READ, "/agents/sessions/{}/traces", _HISTORY),
    Free(READ, "/agents/sessions/{}/turns/**", _HISTORY),
    Free("GET DELETE", "/vaults/**", _AGENT),
    Free("POST", "/vaults", _AGENT),
    Free("POST", "/vaults/{}", _AGENT),
    Free("POST", "/vaults/{}/credentials", _AGENT),
    Free("POST", "/vaults/{}/credentials/{}", _AGENT),
    Free("POST", "/chatkit/sessions", _BROWSER),
    Free("POST", "/chatkit/sessions/{}/cancel", _BROWSER),
    Free("GET DELETE", "/chatkit/threads/**", _HISTORY),
    Free("POST", "/realtime/client_secrets", _BROWSER),
    Free("POST", "/realtime/translations/client_secrets", _BROWSER),
    Free("POST", "/realtime/sessions", _BROWSER),
    Free("POST", "/realtime/transcription_sessions", _BROWSER),
    Free("POST", "/realtime/calls", "opens a call over WebRTC; what it uses is told by the events of its websocket"),
    Free("POST", "/realtime/calls/{}/accept", _CONTROL),
    Free("POST", "/realtime/calls/{}/hangup", _CONTROL),
    Free("POST", "/realtime/calls/{}/refer", _CONTROL),
    Free("POST", "/realtime/calls/{}/reject", _CONTROL),
    Free("POST", "/live/sessions", _CONTROL),
    Free("GET", "/live/sessions/{}/content", _CONTROL),
    Free("POST", "/live/sessions/{}/accept", _CONTROL),
    Free("POST", "/live/sessions/{}/fork", _CONTROL),
    Free("POST", "/live/sessions/{}/hangup", _CONTROL),
    Free("POST", "/live/sessions/{}/refer", _CONTROL),
    Free("POST", "/live/sessions/{}/reject", _CONTROL),
)
