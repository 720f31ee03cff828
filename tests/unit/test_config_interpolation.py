"""Compose's `$NAME` and `${NAME…}`."""

import pytest

from ops.config.interpolation import references, substitute


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("$A-${B}", ["A", "B"]),
        ("$$A and $$$B", ["B"]),
        ("${A:-${B:-c}}", ["A", "B"]),
        ("^/(sys|proc)($$|/)", []),
        ("{{ $labels.instance }}", ["labels"]),
        ("${A", []),
        ("costs 5$", []),
        ("${A:?tell me}", ["A"]),
    ],
)
def test_names_are_found_where_compose_sees_them(text, names):
    assert [reference.name for reference in references(text)] == names


def test_a_reference_in_a_default_is_marked_as_nested():
    assert [reference.nested for reference in references("${A:-${B:?no}}")] == [False, True]


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("${SET}-$SET", "x-x"),
        ("${UNSET:-d}${UNSET-d}", "dd"),
        ("${EMPTY:-d}${EMPTY-d}", "d"),
        ("${SET:+y}${UNSET:+y}${EMPTY+y}", "yy"),
        ("$$SET", "$SET"),
        ("${UNSET:-${SET}}", "x"),
        ("$UNSET.", "."),
    ],
)
def test_substitution_does_as_compose_does(text, result):
    assert substitute(text, {"SET": "x", "EMPTY": ""}.get) == result
