"""The HTML page in a real browser: its numbers are those of the query, and everybody can use it."""

from __future__ import annotations

import re
import sys
from decimal import Decimal
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))
from usage_lines import line, record

from openai_metering.cli import main

BY = "account,organization,subscriber,credential"
NUMBERS = {"calls": "calls", "input": "input_tokens", "cached": "cached_tokens", "output": "output_tokens"}
NUMBERS |= {"reasoning": "reasoning_tokens", "cost": "cost", "price": "price"}


@pytest.fixture(scope="module")
def file(options, tmp_path_factory):
    output = tmp_path_factory.mktemp("page") / "page.html"
    assert main([*options, "--format", "html", "--by", BY, "--output", str(output)]) == 0
    return output


@pytest.fixture
def show(browser):
    """Open a file in a window of its own; whatever it asks of others, or complains about, is noted."""
    contexts = []

    def opened(file, **settings):
        context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"} | settings
        )
        contexts.append(context)
        page = context.new_page()
        page.complaints = []
        page.asked = []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (page.complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()


def rows_of(page):
    """The visible rows of the table: level or kind, name, and numbers by column, exactly."""
    return page.eval_on_selector_all(
        "#table tbody tr, #table tfoot tr",
        """rows => rows.map(row => [row.dataset.level || row.dataset.kind || "total", row.querySelector("th").innerText.trim(),
        Object.fromEntries([...row.querySelectorAll("td")].map(cell => [cell.dataset.column, cell.dataset.exact ?? null]))])""",
    )


def exact(value):
    return None if value is None else Decimal(value)


def test_the_numbers_are_those_of_the_query(show, file, query):
    """Each node of each level, each row without a group and the total are the sums of the query's rows."""
    page = show(file)
    page.click("#open")
    found = rows_of(page)
    asked = query("--by", BY)
    path, leaves, specials = [], {}, {}
    levels = BY.split(",")
    for level, name, values in found[:-1]:
        if level not in levels:
            specials[level] = values
            continue
        path = [*path[: levels.index(level)], re.sub(r"^[▾▸]|\(\d+ estimated\)$", "", name).strip()]
        if level == levels[-1]:
            leaves[tuple(path)] = values
    expected = {}
    for row in asked["rows"]:
        if row["kind"] in ("owned", "estimated"):
            names = [row.get(f"{level}_name") or row[level] for level in levels]
            key = tuple(
                "-" if row[level] is None else f"{name} ({row[level]})" if name != row[level] else name
                for level, name in zip(levels, names, strict=True)
            )
            sums = expected.setdefault(key, dict.fromkeys(NUMBERS, Decimal(0)))
            for column, name in NUMBERS.items():
                sums[column] += Decimal(row[name] or 0)
    assert len(expected) > 50
    assert {key: {name: exact(own[name]) for name in NUMBERS} for key, own in leaves.items()} == expected
    labels = {"unattributed": "unattributed", "unknown": "usage unknown", "not_billed": "not billed"}
    assert {label: {name: exact(specials[label][name]) for name in NUMBERS} for label in specials} == {
        labels[row["kind"]]: {column: exact(row[name]) for column, name in NUMBERS.items()}
        for row in asked["rows"]
        if row["kind"] in labels
    }
    total = {name: exact(found[-1][2][name]) for name in NUMBERS}
    assert total == {column: exact(asked["total"][name]) for column, name in NUMBERS.items()}
    cards = page.eval_on_selector_all(
        ".card", "cards => Object.fromEntries(cards.map(card => [card.dataset.card, card.dataset.exact]))"
    )
    assert {name: exact(cards[name]) for name in ("calls", "input", "output", "cost", "price")} == {
        name: total[name] for name in ("calls", "input", "output", "cost", "price")
    }
    assert page.complaints == []
    assert page.asked == [file.as_uri()]


def test_the_charts_show_all_of_it(show, file, query):
    """The bars of each chart, whose numbers also stand in a table, come to the total, in each measure."""
    page = show(file)
    total = query("--by", "organization")["total"]
    wanted = {"money": Decimal(total["price"]), "calls": Decimal(total["calls"])}
    wanted["tokens"] = Decimal(total["input_tokens"] + total["output_tokens"])
    for measure, sum_of in wanted.items():
        page.click(f"[data-measure={measure}]")
        for number in (0, 1):
            cells = page.eval_on_selector_all(f"#chart-{number} td", "cells => cells.map(cell => cell.textContent)")
            assert sum(Decimal(cell.replace(",", "")) for cell in cells) == sum_of
            assert page.locator(f"#chart-{number} tbody tr").count() == 31
    drawn = page.evaluate("charts.map(one => one.drawn.data.datasets.length)")
    assert min(drawn) > 3


def test_search_and_sort_by_keyboard(show, file):
    """Without a mouse one comes to the table, opens a group, sorts and searches."""
    page = show(file)
    assert page.inner_text("#found") == "Open an account to see its organizations."
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.focus(".toggle >> nth=0")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
    assert page.locator("tr[aria-level='2']").count() > 0
    page.keyboard.press("Space")
    assert page.locator("tr[aria-level='2']").count() == 0
    page.focus("[data-sort=calls]")
    page.keyboard.press("Enter")
    calls = [int(values["calls"]) for level, _, values in rows_of(page) if level == "account"]
    assert calls == sorted(calls, reverse=True)
    page.keyboard.press("Enter")
    assert page.get_attribute("th[data-index='0']", "aria-sort") == "ascending"
    page.focus("#search")
    page.keyboard.type("PERSON-0003")
    assert page.inner_text("mark >> nth=0").lower() == "person-0003"
    assert "found" in page.inner_text("#found")
    names = [name for level, name, _ in rows_of(page) if level == "subscriber"]
    assert names
    assert all("person-0003" in name for name in names)


def test_light_dark_phone_and_paper(show, file):
    """It follows the system, can be switched, fits a phone, and prints in light without what can only be pressed."""
    back = "getComputedStyle(document.body).backgroundColor"
    light, dark = show(file), show(file, color_scheme="dark")
    assert light.evaluate(back) == "rgb(255, 255, 255)"
    assert dark.evaluate(back) != light.evaluate(back)
    shown = dark.evaluate(back)
    light.click("#theme")
    assert light.evaluate(back) == shown
    phone = show(file, viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    assert phone.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    dark.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert dark.evaluate(back) == "rgb(255, 255, 255)"
    dark.emulate_media(media="print")
    assert not dark.is_visible("#theme")
    assert not dark.is_visible("#search")
    assert dark.evaluate(
        "[...document.querySelectorAll('canvas')].every(one => one.clientWidth <= one.closest('figure').clientWidth)"
    )
    assert dark.pdf(format="A4", landscape=True).startswith(b"%PDF")


HOSTILE = "</script><img src=x onerror=alert(1)>"


def test_no_name_is_taken_for_markup(show, tmp_path):
    """Whatever a record calls somebody is text on the page, and on the invoice."""
    ledger = tmp_path / "a.jsonl"
    ledger.write_text(f"{line(record(organization=HOSTILE, subscriber='<b>x</b>', input=2**60))}\n")
    for words in (["--format", "html"], ["--invoice", HOSTILE, "--month", "2026-07"]):
        output = tmp_path / "page.html"
        assert main(["report", str(ledger), *words, "--no-cost", "--output", str(output)]) == 0
        page = show(output)
        assert HOSTILE in page.inner_text("body")
        assert page.locator("img, main b:text-is('x')").count() == 0
        assert f"{2**60:,}" in page.inner_text("body")
        assert page.complaints == []
        assert page.asked == [output.as_uri()]


def test_the_invoice(show, options, simulated, tmp_path):
    """An invoice comes to what its organization used in the month, also of what moved to it, and says what is missing."""
    account = "group-01"
    output = tmp_path / "invoice.html"
    assert main([*options, "--invoice", "Group-01", "--output", str(output)]) == 0
    page = show(output)
    sums = simulated.summed(0, 6)
    units = sum(sums[account, kind].price for kind in ("owned", "estimated") if (account, kind) in sums)
    tokens = sum(sums[account, kind].input for kind in ("owned", "estimated") if (account, kind) in sums)
    assert page.inner_text("#total") == f"{Decimal(units) / 10**13:,.2f} USD"
    assert f"{tokens:,}" in page.inner_text("tfoot")
    unknown = sums[account, "unknown"].calls
    assert f"{unknown} call{'' if unknown == 1 else 's'}: usage unknown" in page.inner_text("#lacking")
    assert page.evaluate("document.scripts.length") == 0


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_the_invoice_fits_every_screen(show, tmp_path, width):
    """On a phone as on a desk every number is on the screen under its title, and an address breaks only behind a sign."""
    people = ["ann@acme.co", "svc-triage@brighthealth.example.org", "person-0003@example.com"]
    ledger, output = tmp_path / "a.jsonl", tmp_path / "invoice.html"
    records = [record(name, subscriber=name, input=123_456_789_012, output=98_765_432) for name in people]
    ledger.write_text("".join(f"{line(one)}\n" for one in records))
    prices = tmp_path / "prices.toml"
    prices.write_text('[[cost]]\nmodel = "*"\ninput_mtok = 5\noutput_mtok = 15\n')
    words = ["--invoice", "AcmeSoft", "--month", "2026-07", "--prices", str(prices), "--output", str(output)]
    assert main(["report", str(ledger), *words]) == 0
    page = show(output, viewport={"width": width, "height": 800})
    boxes = page.eval_on_selector_all("td", "cells => cells.map(cell => cell.getBoundingClientRect().toJSON())")
    assert len(boxes) == 4 * 4
    assert all(box["left"] >= 0 and box["right"] <= width and box["width"] > 0 for box in boxes)
    assert page.evaluate("[...document.querySelectorAll('.wide')].every(one => one.scrollWidth <= one.clientWidth)")
    cells = page.locator("tbody th:first-child")
    lines = cells.evaluate_all(
        """cells => cells.flatMap(cell => {
        const found = []; let last = null; const range = document.createRange();
        const walk = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
        for (let node = walk.nextNode(); node; node = walk.nextNode()) for (let place = 0; place < node.length; place++) {
          range.setStart(node, place); range.setEnd(node, place + 1);
          const top = Math.round(range.getBoundingClientRect().top);
          if (top !== last) found.push(""); last = top; found[found.length - 1] += node.data[place];
        }
        return found;
        })"""
    )
    assert "".join(lines) == "".join(sorted(people))
    assert all(line.endswith(("@", ".", "-", *people)) or any(one.endswith(line) for one in people) for line in lines)
    label = page.eval_on_selector("td", "cell => getComputedStyle(cell, '::before').content")
    assert label == ('"calls"' if width <= 768 else "none")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--invoice", "org-001", "--by", "organization"], "give --month"),
        (["--invoice", "orgg-001", "--month", "2026-07"], "Did you mean 'org-001'?"),
        (["--format", "html", "--budgets", "nowhere.csv"], "cannot be read"),
    ],
)
def test_errors(simulated, capsys, words, said):
    """What cannot be made says what would do."""
    assert main(["report", str(simulated.ledger), "--no-cost", "--directory", str(simulated.directory), *words]) == 2
    assert said in capsys.readouterr().err
