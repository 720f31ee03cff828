"""Secrets do not reach what people or files see, in any spelling."""

import base64
import json
import pickle
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ops.commands import Redactor, Secret

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SECRETS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="*"), min_size=6, max_size=30)


def hidden(secret: str, text: str) -> str:
    return Redactor([Secret(secret)])(text)


@given(before=TEXT, secret=SECRETS, after=TEXT)
def test_a_secret_in_a_text_is_replaced(before, secret, after):
    assert secret not in hidden(secret, before + secret + after)


@given(before=st.binary(max_size=7), secret=SECRETS, after=st.binary(max_size=7))
def test_a_secret_inside_base64_is_replaced_at_every_alignment(before, secret, after):
    encoded = base64.b64encode(before + secret.encode() + after).decode()
    assert "***" in hidden(secret, encoded)


@given(before=st.binary(max_size=7), secret=SECRETS, after=st.binary(max_size=7))
def test_a_secret_inside_url_safe_base64_is_replaced_at_every_alignment(before, secret, after):
    encoded = base64.urlsafe_b64encode(before + secret.encode() + after).decode()
    assert "***" in hidden(secret, encoded)


@pytest.mark.parametrize("before", [b"", b"a", b"ab", b"abc", b"user:"])
@pytest.mark.parametrize("after", [b"", b"z", b"zy", b"zyx"])
def test_what_is_left_of_a_base64_text_does_not_give_the_secret_away(before, after):
    encoded = base64.b64encode(before + b"correct-horse-battery" + after).decode()
    first, last = hidden("correct-horse-battery", encoded).rstrip("=").split("***")
    assert 6 * len(first) < 8 * len(before) + 12
    assert 6 * len(last) < 8 * len(after) + 12


@given(secret=SECRETS, spelling=st.sampled_from([quote, quote_plus, lambda text: quote(text, safe="")]))
def test_a_secret_inside_a_url_is_replaced(secret, spelling):
    frame = "https://user:@registry.test/v2/"
    assume(hidden(secret, frame) == frame)  # "regist" would be masked there as well
    text = f"https://user:{spelling(secret)}@registry.test/v2/"
    assert hidden(secret, text) == "https://user:***@registry.test/v2/"


@given(secret=SECRETS, ascii_only=st.booleans())
def test_a_secret_inside_a_json_document_is_replaced(secret, ascii_only):
    frame = '{"password": ""}'
    assume(hidden(secret, frame) == frame)
    text = json.dumps({"password": secret}, ensure_ascii=ascii_only)
    assert hidden(secret, text) == '{"password": "***"}'


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="$*"), min_size=5))
def test_a_secret_with_dollars_doubled_for_compose_is_replaced(rest):
    assert hidden(f"${rest}", f"x $${rest} y") == "x *** y"


@given(st.lists(st.text("abcdefgh", min_size=6, max_size=12), min_size=2, max_size=3))
def test_a_line_of_a_secret_of_several_lines_is_replaced(lines):
    assert hidden("\n".join(lines), f"key: {lines[-1]}") == "key: ***"


def test_the_longer_of_two_secrets_that_begin_alike_is_replaced_whole():
    redact = Redactor([Secret("hunter"), Secret("hunter-and-more")])
    assert redact("hunter-and-more hunter") == "*** ***"


@given(st.text("abcde", max_size=5), TEXT)
def test_a_secret_shorter_than_six_characters_replaces_nothing(secret, text):
    assert hidden(secret, text + secret) == text + secret


def test_without_secrets_text_stays_as_it_is():
    assert Redactor()("plain *** text") == "plain *** text"


@given(SECRETS)
def test_a_secret_never_prints(value):
    secret = Secret(value)
    shown = [str(secret), repr(secret), f"{secret}", f"{secret:>12}", f"{secret!r}", f"{[secret]}"]
    assert shown == ["***", "***", "***", "***", "***", "[***]"]


def test_a_secret_gives_its_text_only_when_asked_to_reveal_it():
    assert Secret("hunter22").reveal() == "hunter22"
    assert not hasattr(Secret("hunter22"), "__dict__")


def test_secrets_are_equal_when_their_texts_are():
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1


def test_a_secret_is_not_pickled():
    with pytest.raises(TypeError):
        pickle.dumps(Secret("hunter22"))
