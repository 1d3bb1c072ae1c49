"""Which texts are taken for secrets, and which are not."""

from __future__ import annotations

import pytest

from openai_metering import masking
from openai_metering.masking import mask

BODY = "Ab3dEf6hIj9lMn2pQr5tUv8xYz1BcD4fGh7jKl0n"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"
PEM = (
    "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIIrYSSNQFaA2Hwf1duRSxKtLYX5CB04fSeQ6tF1aY7PuoAoGCCqGSM49\n"
    "AwEHoUQDQgAEPR3tU2Fta9ktY+6P9G0cWO+0kETA6SFs38GecTyudlHz6xvCdz8q\n-----END EC PRIVATE KEY-----"
)
KEYS = {
    "openai-project": f"sk-proj-{BODY}",
    "openai-service": f"sk-svcacct-{BODY}",
    "openai-admin": f"sk-admin-{BODY}",
    "openai-classic": f"sk-{BODY}",
    "anthropic": f"sk-ant-api03-{BODY}-{BODY}",
    "openrouter": f"sk-or-v1-{'0123456789abcdef' * 4}",
    "aws": "AKIAIOSFODNN7EXAMPLE",
    "aws-session": "ASIAIOSFODNN7EXAMPLE",
    "google": "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "google-oauth": f"ya29.{BODY}",
    "github": f"ghp_{BODY[:36]}",
    "github-fine": f"github_pat_{BODY[:22]}_{BODY}",
    "slack": "xoxb-123456789012-1234567890123-abcdefABCDEF",
    "slack-app": "xapp-1-A0123456789-1234567890-abcdef",
    "slack-rotated": "xoxe.xoxp-1-Mi0yLTEyMzQ1Njc4OTAxMjM0NTY3ODkwLWFiY2Q",
    "slack-hook": "hooks.slack.com/services/T0123456789/B0123456789/abcdefGHIJKL0123456789mn",
    "google-client": f"GOCSPX-{BODY[:28]}",
    "entra": f"abc8Q~{BODY[:34]}",
    "databricks": "dapi0123456789abcdef0123456789abcdef",
    "aws-secret": "aws_secret_access_key=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "azure-storage": f"AccountKey={BODY}{BODY}==",
    "azure-sas": "sig=Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6%3D",
    "groq": f"gsk_{BODY}",
    "realtime": f"ek_{'0a1b2c3d' * 4}",
    "fireworks": f"fw_{'3Zx9Kq7Lm2' * 3}",
    "cerebras": f"csk-{'x9y8z7w6' * 6}",
    "google, new": f"AQ.Ab8{'RN6Jk-w_1' * 5}",
    "hugging-face": f"hf_{BODY[:34]}",
    "stripe": f"sk_live_{BODY}",
    "jwt": JWT,
    "bearer": f"Bearer {BODY}",
    "basic": "Basic dXNlcjpwYXNzd29yZDEyMzQ=",
    "pem": PEM,
}
AZURE_HEX = "0123456789abcdef0123456789ABCDEF"
AZURE_LONG = (BODY + BODY + "AAAA")[:84]


def left_of(key: str, masked: str) -> list[str]:
    """Every run of eight characters of the key's secret part that is still there."""
    return [key[at : at + 8] for at in range(8, len(key) - 7) if key[at : at + 8] in masked]


@pytest.mark.parametrize("name", KEYS)
def test_a_key_is_masked_and_nothing_of_it_is_left(name):
    """The formats of the large vendors are recognised, and masking takes the whole key."""
    masked = mask(KEYS[name])
    assert "[masked]" in masked
    assert left_of(KEYS[name], masked) == []


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("around", ["key={}", "({})", "team a: {}, team b", '"{}"', "{}\n"], ids=str)
def test_a_key_within_a_text_is_masked(name, around):
    """A key pasted into a sentence is found, and the sentence stays."""
    masked = mask(around.format(KEYS[name]))
    assert left_of(KEYS[name], masked) == []
    assert masked.startswith(around.partition("{}")[0])


@pytest.mark.parametrize("name", ["openai-project", "openai-classic", "github", "aws", "google", "slack"])
def test_a_key_behind_an_underscore_is_masked(name):
    """`prod_<key>` is as much a key as `prod <key>`."""
    assert left_of(KEYS[name], mask(f"prod_{KEYS[name]}")) == []


# Their beginnings end ordinary words, such as `week_`, so that they count at the beginning of a word alone.
ALONE = ("basic", "pem", "realtime", "fireworks", "cerebras", "google, new")


@pytest.mark.parametrize("name", [name for name in KEYS if name not in ALONE])
@pytest.mark.parametrize(
    "around", ["my{}", "MY{}", "key2{}", "{}my", "a{}b", '{{"k": "x\\n{}"}}', "k%3D{}", "x?k=a{}&b=c"], ids=str
)
def test_a_key_with_something_glued_to_it_is_masked(name, around):
    """Letters right before a key, such as of an escape in JSON or in a URL, or behind it, do not hide it."""
    assert left_of(KEYS[name], mask(around.format(KEYS[name]))) == []


def test_every_key_of_a_text_is_masked():
    """Two keys are two secrets."""
    assert mask(f"{KEYS['openai-project']} and {KEYS['github']}") == "[masked] and [masked]"


@pytest.mark.parametrize("key", [AZURE_HEX, AZURE_LONG, AZURE_HEX * 2], ids=["azure-32-hex", "azure-84", "64-hex"])
def test_a_bare_key_is_masked_where_a_credential_belongs(key):
    """Azure's keys have no prefix: in the place of the alias such a text is the key itself, elsewhere it is an id."""
    assert mask(key, credential=True) == "[masked]"
    assert mask(key) == key


@pytest.mark.parametrize("credential", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        "joe@acme.com",
        "very.long.name+tag-with-many-parts@subdomain.department.example-company.co.uk",
        "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        "sk-team-finance",
        "sk-finance",
        "key1-hubspot",
        "key2-financeProject",
        "AcmeSoft",
        "brighthealth-clinops",
        "A very long name of an organization that goes on and on for more than forty characters",
        "the-quarterly-financial-planning-and-analysis-department",
        "gpt-4o-2024-08-06",
        "o3-mini-2025-01-31",
        "ft:gpt-4o:acme::abc123",
        "ft:gpt-4o-mini-2024-07-18:acme-corp:support-bot:9aBcDeF1",
        "text-embedding-3-large",
        "meta-llama/Llama-3.3-70B-Instruct-Turbo",
        "arn:aws:bedrock:us-east-1::foundation-model/amazon.titan-text-express-v1",
        "München Straßenbahn GmbH",
        "task-42",
        "task-3f2504e04f8911d39a0c0305e82c3301",
        "risk-assessment-3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        "desk-ManagementTeam2024Finance",
        "task-proj-migrationPhase2Rollout",
        "task-proj-Phase2-Rollout-Q3-2024-Finance-Department-Europe",
        "task-V1StGXR8Z5jdHi6BmyTzk",
        "laughs_averagetemperaturevaluemeasured",
        "flexapp-release-candidate-2024",
        "eurasia-pacific-markets-2024",
        "Maya29.Smith@acme.com",
        "heyJonathan.smith2@acme.example.com",
        "shelf_life_extension_study_2024_phase2",
        "mynpm-package-maintainers-2024",
        "https://acme.com/desk-research/2024/q3?team=risk-analysis-group-2&sigma=12",
        '{"team": "task-force-9", "mask-policy": "sk-none"}',
        "risk-assessment",
        "",
    ],
)
def test_a_look_alike_survives(text, credential):
    """Names, addresses, ids and models are who and what a bill is about: they are never masked."""
    assert mask(text, credential=credential) == text


@pytest.mark.parametrize(
    "text",
    [
        "api-key-rotation",
        "signature=required",
        "password: none",
        "dapibus",
        "Q~4 plan",
        "helpdesk-admin-frontdesk",
        "task-proj-migration",
        "npm-package-maintainers",
        "hf-research-and-evaluation",
        "Basic subscription",
        "Bearer securities",
    ],
)
def test_an_ordinary_name_is_not_taken_for_a_key(text):
    """Customers whose names only share a word with a key's format are not merged into one `[masked]`."""
    assert mask(text) == text


def test_secrets_are_not_kept_in_the_memory_of_harmless_texts():
    """What was masked is remembered nowhere, whole or in part."""
    masking._harmless_credentials.clear()
    masking._harmless.clear()
    for key in (*KEYS.values(), AZURE_HEX, AZURE_LONG):
        for credential in (True, False, True):
            mask(f"alias {key}" if key in KEYS.values() else key, credential=credential)
    kept = "\n".join((*masking._harmless_credentials, *(text for text in masking._harmless if text in KEYS.values())))
    assert [name for name, key in KEYS.items() if left_of(key, kept)] == []
    assert AZURE_HEX not in masking._harmless_credentials
    assert AZURE_LONG not in masking._harmless_credentials


def test_an_id_known_as_harmless_is_still_masked_as_a_credential():
    """The two places do not share their memory."""
    assert mask(AZURE_HEX) == AZURE_HEX
    assert mask(AZURE_HEX, credential=True) == "[masked]"


def test_the_memory_of_harmless_texts_is_bounded():
    """A service with a million customers does not grow by their names."""
    for number in range(masking._REMEMBERED + 100):
        mask(f"customer {number}")
    assert len(masking._harmless) <= masking._REMEMBERED
