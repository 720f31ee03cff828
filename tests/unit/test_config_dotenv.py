"""Reading what people write into dotenv files."""

import pytest

from ops.config.dotenv import compose_form, parse, read, read_differently
from ops.errors import ConfigError


def test_quotes_comments_and_export_are_understood():
    text = "A=1 # one\nexport B='two # 2'\nC=\"three\\nlines\"\n# D=4\n"
    assert parse(text, ".env") == {"A": "1", "B": "two # 2", "C": "three\nlines"}


def test_a_dollar_is_taken_literally():
    assert parse("A=1\nB=${A}$$\n", ".env") == {"A": "1", "B": "${A}$$"}


def test_a_name_without_value_is_absent_and_an_empty_value_is_not():
    assert parse("A\nB=\n", ".env") == {"B": ""}


def test_bad_syntax_is_told_with_file_and_line(tmp_path):
    (tmp_path / ".env").write_text("A=1\n\nB='open\nC=2\n")
    with pytest.raises(ConfigError, match=r"\.env:3: "):
        read(tmp_path / ".env")


def test_a_file_that_is_not_text_is_told(tmp_path):
    (tmp_path / ".env").write_bytes(b"A=\xff\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read(tmp_path / ".env")


def test_values_that_compose_would_interpolate_are_named():
    assert read_differently("A=x$B\nC='x$B'\nD=5$\nE=a$$b\n") == ("A", "E")


@pytest.mark.parametrize("values", [{"A": "a\0b"}, {"A B": "1"}, {"": "1"}, {"A\n": "1"}])
def test_what_no_dotenv_file_can_hold_is_refused(values):
    with pytest.raises(ValueError, match=r"NUL|not a name"):
        compose_form(values)
