"""The file of tokens: every problem is told with its line, and never a word of a token."""

from __future__ import annotations

import pytest

from services.core.errors import InvalidSettingError, UnauthenticatedError
from services.core.identity.base import Caller, Role, bearer_token
from services.core.identity.static import FileTokens
from tests.support.certificates import new_token, replace, tokens_text

TOKEN = "s3cret-" * 6


def test_tokens_have_names_and_roles(tmp_path):
    """Each token is its name's; a name may have several, and a file of JSON is one of YAML."""
    first, second = new_token(), new_token()
    replace(tmp_path / "t", tokens_text(("ops", "admin", first), ("ops", "read", second)))
    tokens = FileTokens(tmp_path / "t")

    assert tokens.verify(first) == Caller("ops", Role.ADMIN)
    assert tokens.verify(second) == Caller("ops", Role.READ)
    assert tokens.verify(first[:-1]) is None
    assert tokens.verify("") is None


WRONG = [
    ("", "t: there are no tokens (as in {name: dashboard, role: read, token: …})"),
    ("tokens: []", "t: there are no tokens (as in {name: dashboard, role: read, token: …})"),
    (f"tokens: {TOKEN}", "t:1: a list was expected, not a plain value"),
    (f"tokens: [{TOKEN}]", "t:1: a mapping was expected, not a plain value"),
    (f"{TOKEN}: x", "t:1: there is an unknown key (known here: tokens)"),
    (f"tokens: [*{TOKEN}]", "t:1: is not YAML"),
    (
        f"tokens:\n- name: a\n  role: read\n  token: {TOKEN}\n  {TOKEN}: x",
        "t:5: there is an unknown key (known here: name, role, token)",
    ),
    (f"tokens:\n- name: a\n  role: reed\n  token: {TOKEN}", "t:3: the role is not one (read or admin)"),
    (f"tokens:\n- name: {TOKEN * 2}\n  role: read\n  token: {TOKEN}", "t:2: the name is not one"),
    ("tokens:\n- name: a\n  role: read\n  token: short", "t:4: the token is shorter than 32 characters"),
    (f"tokens:\n- name: a\n  role: read\n  token: {TOKEN} {TOKEN}", "t:4: the token has other than visible ASCII"),
    ("tokens:\n- name: a\n  role: read\n  token: 12345678901234567890123456789012", "t:4: the token is not text"),
    (f"tokens:\n- role: read\n  token: {TOKEN}", "t:2: a token needs the key 'name'"),
    (
        f"tokens:\n- {{name: a, role: read, token: {TOKEN}}}\n- {{name: b, role: admin, token: {TOKEN}}}",
        "t:3: the token is given twice (each once, with one role)",
    ),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_what_is_wrong_is_named_and_not_repeated(tmp_path, text, message):
    """Each wrong file gets an error with its line and what would be right."""
    replace(tmp_path / "t", text)

    with pytest.raises(InvalidSettingError) as caught:
        FileTokens(tmp_path / "t")

    told = str(caught.value).replace(f"{tmp_path}/", "")
    assert told.startswith(message)
    assert "s3cret" not in told


def test_all_problems_are_told_at_once(tmp_path):
    """Two mistakes give two lines."""
    replace(tmp_path / "t", f"tokens:\n- {{name: a, role: reed, token: {TOKEN}}}\n- {{name: b, role: read, token: x}}")

    with pytest.raises(InvalidSettingError) as caught:
        FileTokens(tmp_path / "t")

    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", f"Basic {TOKEN}", TOKEN, b"Bearer x"])
def test_what_is_no_bearer_token_is_refused(authorization):
    """An authorization that is none is told so, without being repeated."""
    with pytest.raises(UnauthenticatedError) as caught:
        bearer_token(authorization)

    assert "s3cret" not in str(caught.value)


def test_the_scheme_is_read_in_any_case():
    """RFC 9110: schemes are case-insensitive."""
    assert bearer_token(f"bearer {TOKEN}") == bearer_token(f"BEARER {TOKEN}") == TOKEN
