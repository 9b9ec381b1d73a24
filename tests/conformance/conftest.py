"""Failures inside a shared suite show their values, as those of test modules do."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.conformance.store_suite")
