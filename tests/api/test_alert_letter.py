from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from html.parser import HTMLParser
from typing import override

import pytest

from api.alert_letter import alerts_url, letters, title
from api.mail import Mail, SmtpServer, _compose
from storage.alert_judgement import Reading
from storage.alert_rows import Letter, Notice
from storage.alert_rules import Definition, Period, Rule
from storage.identifiers import uuid7

NOW = datetime(2026, 3, 10, 12, 34, tzinfo=UTC)
BUDGET = Definition("budget", "eur", Decimal(1000), Period("month"), "Our budget")
URL = "https://metrion.example.com/alerts"


def notice(level="alert", reading=None, definition=BUDGET) -> Notice:
    reading = reading or Reading(Decimal("1041.5"), 9)
    return Notice(Rule(uuid7(), definition, NOW), level, reading, NOW)


def write(each: Notice, url: str | None = URL) -> Letter:
    return letters(url)(each)


class Text(HTMLParser):
    """What of a page is read, and what it would load."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.loads: list[str] = []
        self.feed(html)

    @override
    def handle_starttag(self, tag, attrs) -> None:
        self.loads += [value for name, value in attrs if name in ("src", "background", "srcset")]
        if tag in ("script", "link", "img", "iframe", "object"):
            self.loads.append(tag)

    @override
    def handle_data(self, data: str) -> None:
        self.words += data.split()


def test_a_mail_says_what_happened_the_value_the_threshold_and_where_to_go():
    letter = write(notice())
    assert letter.subject == "Alert: Our budget is at 104 % of its threshold"
    assert letter.text == (
        "“Our budget” has reached its threshold: it is at 104 %.\n"
        "\n"
        "Value:     1,041.50 EUR\n"
        "Threshold: 1,000.00 EUR\n"
        "What:      Budget, this month (UTC)\n"
        "Providers: all\n"
        "Looked at: 2026-03-10 12:34 UTC\n"
        "\n"
        "Each level of a rule is mailed at most once in 24 hours.\n"
        "\n"
        "See, edit or pause the rule: https://metrion.example.com/alerts\n"
        "\n"
        "-- \nMetrion\n"
    )
    page = Text(letter.html)
    for words in ("Our budget", "104 %", "1,041.50 EUR", "1,000.00 EUR", "12:34 UTC"):
        assert words in " ".join(page.words)
    assert f'href="{URL}"' in letter.html
    assert page.loads == []


def test_a_warning_a_test_and_a_rule_without_an_address():
    warning = write(notice("warning", Reading(Decimal("999.999"), 1)), None)
    assert warning.subject == "Warning: Our budget is at 99 % of its threshold"
    assert "is close to its threshold" in warning.text
    assert "http" not in warning.text + warning.html.replace('lang="en"', "")
    assert "on the Alerts page" in warning.text
    test = write(notice("test", Reading(None, reason="no_data")))
    assert test.subject == "Test of your alert rule: Our budget"
    assert "Nothing has happened" in test.text
    assert "cannot be judged yet: nothing is recorded" in test.text


def test_what_is_not_known_is_said():
    letter = write(notice(reading=Reading(Decimal(1000), 9, unknown=1234)))
    assert "Value:     at least 1,000.00 EUR" in letter.text
    assert "it is at 100 % or more." in letter.text
    assert "cost of 1,234 requests is not known" in letter.text
    assert "cost of 1 request is" in write(notice(reading=Reading(Decimal(1), 1, 1))).text


@pytest.mark.parametrize(
    ("definition", "value", "expected"),
    [
        (replace(BUDGET, unit="usd"), "0.0042", "0.0042 USD"),
        (replace(BUDGET, unit="chf"), "0.000001", "0.000001 CHF"),
        (BUDGET, "0", "0.00 EUR"),
        (Definition("error_rate", "percent", Decimal(5), Period("rolling", hours=24)), "7.25", "7.3 %"),
        (Definition("error_rate", "count", Decimal(5), Period("rolling", hours=1)), "1200", "1,200 errors"),
        (Definition("latency_p95", "ms", Decimal(5), Period("rolling", hours=168)), "912.04", "912 ms"),
        (Definition("request_volume", "count", Decimal(5), Period("rolling", hours=6)), "10", "10 requests"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_people_write_them(definition, value, expected):
    assert (
        f"Value:     {expected}\n"
        in write(notice(reading=Reading(Decimal(value), 1), definition=definition)).text
    )


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        (Period("month"), "Budget, this month (UTC)"),
        (Period("created"), "Budget, since the rule was made"),
        (Period("since", date(2026, 2, 1)), "Budget, since 2026-02-01"),
        (Period("dates", date(2026, 2, 1), date(2026, 2, 3)), "Budget, 2026-02-01 to 2026-02-03"),
        (Period("rolling", hours=1), "Budget, this hour"),
        (Period("rolling", hours=24), "Budget, last 24 hours"),
        (Period("rolling", hours=168), "Budget, last 7 days"),
    ],
)
def test_a_rule_without_a_name_is_called_what_it_watches(period, expected):
    assert title(replace(BUDGET, name="", period=period)) == expected


def test_a_name_is_text_in_every_part_of_a_mail():
    name = "<b>&'\"Grüße 日本 =?x?q?y?="
    letter = write(notice(definition=replace(BUDGET, name=name)))
    assert "<b>" not in letter.html
    assert name in letter.text
    message = _compose(
        Mail(
            "ada@example.com",
            letter.subject,
            letter.text,
            html=letter.html,
            id=uuid7(),
            written_at=NOW,
        ),
        SmtpServer.parse("smtp://mail.example.com").sender,
    )
    assert "Grüße 日本" in message["Subject"]
    assert message.get_body(("plain",)).get_content() == letter.text
    assert message.get_body(("html",)).get_content() == letter.html
    assert max(map(len, message.as_bytes().splitlines())) < 998


def test_the_link_is_the_dashboards():
    assert alerts_url(None) is None
    assert alerts_url("https://metrion.example.com") == URL
