"""How names are written: the one place for each pattern, which the roles check and the gateway's OpenAPI shows.

Patterns are texts for `re.fullmatch`. Pure: it knows no error and nothing of what is behind a name.
"""

EXCHANGE = r"[A-Z0-9][A-Z0-9_-]{0,31}"
METRIC = rf"{EXCHANGE}:[A-Z0-9][A-Z0-9._-]{{0,31}}"
METRIC_GLOB = r"[A-Z0-9_.:*?-]{0,64}[*?][A-Z0-9_.:*?-]{0,64}"
"""Of the shell's kind: with at least one * or ?."""

RULE = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
RULE_FORM = "letters, digits, - and _, at most 64, a letter or a digit first"
RULE_OR_GLOB = r"[A-Za-z0-9_*?-]{1,64}"

ID = r"[0-9a-f]{16}"
"""Of a silence or a dead letter."""
