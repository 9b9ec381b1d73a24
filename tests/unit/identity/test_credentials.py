"""What a client may be given to show, and what it says of what does not fit together."""

from __future__ import annotations

import pytest
import tickwatch
from tickwatch import Credentials
from tickwatch.credentials import CredentialReader

TOKEN = "s3cret-token"


@pytest.mark.parametrize(
    ("given", "secure"),
    [
        ({}, False),
        ({"tls": True}, True),
        ({"ca": "ca.pem"}, True),
        ({"token": TOKEN}, True),
        ({"token_file": "token"}, True),
        ({"token": TOKEN, "tls": False}, False),
    ],
)
def test_a_token_turns_tls_on(given, secure):
    """Whatever is given is shown over TLS alone, unless somebody says in so many words that plain text will do."""
    assert Credentials(**given).secure is secure


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"cert": "c.pem"}, "key"),
        ({"key": "k.pem"}, "cert"),
        ({"token": TOKEN, "token_file": "t"}, "token_file"),
        ({"tls": False, "ca": "ca.pem"}, "tls"),
        ({"token": f"{TOKEN} {TOKEN}"}, "token"),
        ({"token": f"{TOKEN}\n"}, "token"),
        ({"token": ""}, "token"),
        ({"token": f"{TOKEN}ä"}, "token"),
    ],
)
def test_what_does_not_fit_together_is_named(given, field):
    """The error names the argument, and never repeats a token."""
    with pytest.raises(tickwatch.InvalidInputError) as caught:
        Credentials(**given)

    assert caught.value.field == field
    assert "s3cret" not in str(caught.value)


def test_a_token_is_in_no_text():
    """Neither repr nor str of credentials has the token."""
    assert "s3cret" not in f"{Credentials(token=TOKEN)!r} {Credentials(token=TOKEN)}"


def test_a_token_file_is_read_when_it_changes(tmp_path):
    """White space around the token does not count; an empty or unreadable file is an error that names it."""
    file = tmp_path / "token"
    reader = CredentialReader(Credentials(token_file=file))
    with pytest.raises(tickwatch.InvalidInputError, match="cannot be read: No such file"):
        reader.metadata()
    file.write_text(f"  {TOKEN}\n")
    assert reader.metadata() == (("authorization", f"Bearer {TOKEN}"),)
    file.write_text("\n")
    with pytest.raises(tickwatch.InvalidInputError, match=r"token_file: .*token is not a token"):
        reader.metadata()
    file.write_text("another")
    assert reader.metadata() == (("authorization", "Bearer another"),)
