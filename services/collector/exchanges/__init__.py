from __future__ import annotations

import sys

# Where rich is installed httpx loads its own command line with it, which takes as long as all the rest. None keeps a
# module from being imported (https://docs.python.org/3/reference/import.html#the-module-cache); httpx does without it.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
