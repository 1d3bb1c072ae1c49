"""The page that says what is metered."""

from __future__ import annotations

from pathlib import Path

import pytest

from openai_metering import readers, shapes
from openai_metering.coverage import FACTS, MEASURES, page
from openai_metering.operations import CALLS
from openai_metering.signals import conventions
from openai_metering.usage import Shape

PAGE = Path(__file__).parents[2] / "docs" / "coverage.md"
CONSTANTS = {value for value in vars(conventions).values() if isinstance(value, str)}
READ = {
    *(name for shape in vars(shapes).values() if isinstance(shape, Shape) for name in shape.attributes),
    *(
        value
        for value in vars(readers).values()
        if isinstance(value, str) and value.startswith("openai_metering.usage.") and value != conventions.SVG_MODEL
    ),
}


@pytest.mark.skipif(not PAGE.exists(), reason="installed without the documentation")
def test_the_page_is_current():
    """`python -m openai_metering.coverage > docs/coverage.md` was run after the last change of a table."""
    assert PAGE.read_text("utf-8") == page()


def test_every_number_that_is_read_is_documented_with_its_unit():
    """No reader knows a name that the table and the conventions do not have, and none is documented in vain."""
    assert {name for name, _, _ in MEASURES} == READ
    assert READ <= CONSTANTS


def test_every_fact_is_documented():
    """What a row records of its request is in the table of facts."""
    assert {attribute for row in CALLS for _, attribute in row.facts} <= {name for name, _ in FACTS} <= CONSTANTS
