"""Every method has a role, decided by somebody: one added to the contract without is found here."""

from __future__ import annotations

import pytest
from tickwatch.v1 import alert_pb2, query_pb2

from services.core.identity.base import Role
from services.core.rpc.access import ROLES, Access

METHODS = {
    f"/{service.full_name}/{method.name}"
    for module in (query_pb2, alert_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


def test_every_method_of_the_contract_has_a_role() -> None:
    """The table has the contract's methods, reflection, and nothing else; health alone is for everybody."""
    others = {path for path in ROLES if not path.startswith("/tickwatch.")}

    assert METHODS == ROLES.keys() - others
    assert {path.split("/")[1] for path in others} == {
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }


def test_who_changes_something_is_admin() -> None:
    """Whatever changes what others see or get needs admin, and nothing else does."""
    changing = {path for path in METHODS if not path.rpartition("/")[2].startswith(("List", "Get", "Rank", "Watch"))}
    harmless = {"/tickwatch.v1.AlertService/TestRule", "/tickwatch.v1.AlertService/ExplainSeries"}

    assert {path for path, role in ROLES.items() if role is Role.ADMIN} == changing - harmless


def test_a_method_without_a_role_cannot_be_served() -> None:
    """Where callers are asked for, a method that the table does not have fails at the start, not open."""
    with pytest.raises(KeyError):
        Access().check("/tickwatch.v1.QueryService/Forget")
