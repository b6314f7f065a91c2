"""Steps that rewrite: one form, and nobody's address."""

from __future__ import annotations

import pytest

from minigpt import registry
from minigpt.errors import UserError


def step(name: str, **options):
    return registry.build(registry.spec("clean", {"name": name} | options))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("plain text", "plain text"),
        ("cafe\u0301", "café"),
        ("cafÃ© naÃ¯ve â€œquotedâ€\x9d", "café naïve “quoted”"),
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("in\u200bvis\u00adible\ufeff \u202eright-to-left\u202c", "invisible right-to-left"),
        ("tab\tstays\x00\x07", "tab\tstays"),
        ("no\u00a0break\u3000space  kept", "no break space  kept"),
        ("end  \t\nof line", "end\nof line"),
        ("one\n\n\n\n\ntwo\n", "one\n\ntwo"),
        ("    indented\n\tcode", "    indented\n\tcode"),
        (
            "👨\u200d👩\u200d👧, \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "👨\u200d👩\u200d👧, \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),
        ("lone \ud800 surrogate", "lone \ufffd surrogate"),
        ("Ünïcödé that is right, ½ π", "Ünïcödé that is right, ½ π"),
        ("", ""),
    ],
)
def test_text_is_normalised(given, expected):
    normalise = step("normalise")
    assert normalise.rewrite(given) == expected
    assert normalise.rewrite(expected) == expected


def test_options_of_normalise_matter():
    assert step("normalise", form="NFKC").rewrite("\ufb01ne \uff21") == "fine A"
    assert step("normalise", form="none").rewrite("cafe\u0301") == "cafe\u0301"
    assert step("normalise", controls=False).rewrite("a\u200bb") == "a\u200bb"
    assert step("normalise", mojibake=False).rewrite("cafÃ©") == "cafÃ©"
    assert step("normalise", whitespace="collapse").rewrite("a  \t b") == "a b"
    assert step("normalise", whitespace="none").rewrite("a \n\n\n\nb") == "a \n\n\n\nb"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("mail bob.smith+x@mail.example.co.uk now", "mail <EMAIL> now"),
        ("<a href='mailto:jörg@exämple.de'>", "<a href='mailto:<EMAIL>'>"),
        ("a@b and x@localhost and @handle", "a@b and x@localhost and @handle"),
        ("server 8.8.8.8, http://93.184.216.34/x", "server <IP>, http://<IP>/x"),
        ("at 2001:4860:4860::8888 and 2606:4700:4700:0:0:0:0:1111", "at <IP> and <IP>"),
        ("call +49 30 1234567 or +1 (555) 123-4567.", "call <PHONE> or <PHONE>."),
        ("(555) 123-4567, 555-123-4567", "<PHONE>, <PHONE>"),
        ("card 4111 1111 1111 1111 or 5500-0000-0000-0004", "card <CARD> or <CARD>"),
        ("IBAN DE89 3704 0044 0532 0130 00, GB82WEST12345698765432.", "IBAN <IBAN>, <IBAN>."),
        ("key AKIAIOSFODNN7EXAMPLE, ghp_" + "a1" * 18, "key <KEY>, <KEY>"),
    ],
)
def test_personal_data_are_masked(given, expected):
    assert step("personal").rewrite(given) == expected


@pytest.mark.parametrize(
    "text",
    [
        "version 1.2.3.4, v1.2.3.4, numpy==1.26.4.1, torch>=2.0.0.1, Chrome/58.0.29.110, release 10.0.1.2",
        "1.2.3 and 1.2.3.4.5 and 300.1.2.3 and 1.2.3.4-beta and section 1.2.3.4",
        "localhost 127.0.0.1, home 192.168.1.1, any 0.0.0.0, ::1 and fe80::1",
        "std::vector a::b C++::x 12:30:45 00:1A:2B:3C:4D:5E",
        "2024-01-15 12:30, 1999-12-31, 10/12/2024, 3.14159265358979, 1,234,567,890",
        "ISBN 978-3-16-148410-0, arXiv:2112.11446, 6.02214076e23, order 1234567890123456",
        "0000 0000 0000 0000, 1111111111111111",
        "DE00 1234 5678 9012 3456 78, ABCD EFGH, HTTP2 QUIC 3000",
        "+ 1 + 2 + 3, x+1 2 3 4 5 6 7 8, C++20 2023",
        "sk-learn, key_value, ghp_short",
        "@decorator\ndef f(self): return a@b",
    ],
)
def test_what_is_nobodys_stays(text):
    assert step("personal").rewrite(text) == text


def test_kinds_can_be_left_out():
    text = "bob@example.org at 8.8.8.8"
    assert step("personal", email=False).rewrite(text) == "bob@example.org at <IP>"
    assert step("personal", ip=False).rewrite(text) == "<EMAIL> at 8.8.8.8"
    off = dict.fromkeys(["email", "ip", "phone", "card", "iban", "key"], False)
    with pytest.raises(UserError, match="masks nothing"):
        step("personal", **off)


def test_masks_take_no_time_on_text_made_to_take_it():
    import time

    began = time.process_time()
    for hostile in ("a." * 50_000 + "@", "1" * 100_000, "+1 " * 30_000, "1.2.3." * 20_000, ":" * 100_000, "A1" * 50_000,
                    "x@" + "a." * 50_000, "12 " * 40_000, "a@" * 50_000):  # fmt: skip
        step("personal").rewrite(hostile)
        step("normalise").rewrite(hostile)
    assert time.process_time() - began < 30  # quadratic would be hours
