"""What data and models write cannot steer the terminal."""

import io
import logging

from rich.table import Table
from rich.text import Text

from tl_jax.screen import Screen, ShownLog, visible

HOSTILE = "a\x1b[2J\x1b]0;title\x07b\r\x9b31mc\u202ed\te\nf"
SHOWN = "a␛[2J␛]0;title␇b␍\\u009b31mc\\u202ed"


def test_control_characters_are_written_out_but_for_tabs_and_line_feeds():
    assert visible(HOSTILE) == f"{SHOWN}\te\nf"
    assert visible(plain := "Grüße, 3 °C ⟦x⟧") == plain


def test_whatever_is_printed_holds_no_control_character_of_its_own():
    out = io.StringIO()
    console = Screen(
        file=out, force_terminal=True, width=200, highlight=False, color_system="standard"
    )
    console.print(HOSTILE, markup=False)
    console.print(Text(HOSTILE, style="red"))
    table = Table()
    table.add_column("x")
    table.add_row(Text(HOSTILE))
    console.print(table)
    printed = out.getvalue()
    assert printed.count("a␛[2J␛]0;title") == 3
    assert "\x1b[31m" in printed, "styles stay"
    for bad in ("\x1b[2J", "\x1b]0", "\x9b", "\u202e", "\x07"):
        assert bad not in printed


def test_what_is_logged_holds_none_either():
    out = io.StringIO()
    logger = logging.Logger("of this test")
    logger.addHandler(ShownLog(out))
    logger.warning("%s was left", HOSTILE)
    assert out.getvalue() == f"{SHOWN}\te\nf was left\n"
