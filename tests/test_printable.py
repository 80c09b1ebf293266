import os

import pytest

from tagmask.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\r\n\tb", "a\\r\\n\\tb"),
        ("\x7f\x9b\x85", "\\x7f\\x9b\\x85"),
        ("photo\u202egpj.exe", "photo\\u202egpj.exe"),
        ("a\u2066\u2028", "a\\u2066\\u2028"),
        (os.fsdecode(b"caf\xe9"), "caf\\xe9"),
        ("\ud83d", "\\ud83d"),
        ("Grüße 猫 🐈 \u200d", "Grüße 猫 🐈 \u200d"),
    ],
)
def test_what_would_act_on_a_terminal_is_escaped_and_nothing_else(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown
    printable(text).encode()
