"""TLS and mutual TLS on real servers, with certificates that are replaced while both sides run."""

from __future__ import annotations

import asyncio
import logging
import ssl

import grpc
import pytest
import tickwatch
from tickwatch import Credentials

from services.core.errors import InvalidSettingError
from services.core.rpc.access import Access, Protection
from services.core.rpc.tls import ServerCertificates
from tests.support import alerter
from tests.support.certificates import Authority, replace
from tests.support.guarded import call, every_method, localhost, tls_files
from tests.support.query import LAST, eventually, failure, make_market, make_store, record_run, serve


@pytest.fixture
def authority(tmp_path):
    """An authority for servers."""
    return Authority(tmp_path / "authority")


def client_on(service, timeout_seconds=20.0, **credentials) -> tickwatch.Client:
    """Return a client of a service that shows and believes this."""
    return tickwatch.Client(
        service.server.address, credentials=Credentials(**credentials), timeout_seconds=timeout_seconds
    )


async def served_serial(port: int) -> int:
    """Return the serial number of the certificate that a new connection is shown."""

    def ask() -> int:
        from cryptography import x509  # noqa: PLC0415 - this alone needs it

        return x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", port)).encode()).serial_number

    return await asyncio.to_thread(ask)


async def test_both_services_speak_tls(authority):
    """A client that knows the authority is answered, calls and streams; plain text and other authorities are not."""
    protection = Protection(tls=tls_files(localhost(authority)))
    other = Authority(authority.ca.parent / "other")
    store = make_store(make_market(["SIM:AAA"]))
    alerter.LogWriter(store.breach_log)
    async with serve(store, protection=protection) as service, alerter.serve(store, protection=protection) as alerts:
        async with client_on(service, ca=authority.ca) as client:
            assert len((await client.get_history("SIM:AAA", "price")).values) == 1440
            async with asyncio.timeout(20):
                assert (await anext(client.watch_points(bookmarks=True))).cursor
        shown = Credentials(ca=authority.ca)
        async with tickwatch.AlertClient(alerts.server.address, credentials=shown, timeout_seconds=20) as client:
            assert [event async for event in client.list_breaches()] == []
            async with asyncio.timeout(20):
                assert isinstance(await anext(client.watch_breaches()), tickwatch.Snapshot)
        for stranger in (
            client_on(service, 2, tls=False),
            client_on(service, 2, ca=other.ca),
            client_on(service, 2, tls=True),
        ):
            async with stranger:
                with pytest.raises(tickwatch.UnavailableError):
                    await stranger.get_history("SIM:AAA", "price")


async def test_mutual_tls_refuses_and_admits(authority, tmp_path):
    """A client without a certificate, or with one of another authority or past its end, gets no connection at all."""
    clients, others = Authority(tmp_path / "clients"), Authority(tmp_path / "others")
    good, foreign = clients.issue("worker.example", common_name="worker"), others.issue("worker.example")
    expired = clients.issue("worker.example", expired=True)
    protection = Protection(tls=tls_files(localhost(authority), clients.ca), access=Access())
    async with serve(make_store(make_market(["SIM:AAA"])), protection=protection) as service:
        async with client_on(service, ca=authority.ca, cert=good.cert, key=good.key) as client:
            assert len((await client.get_history("SIM:AAA", "price")).values) == 1440
        for shown in ({}, {"cert": foreign.cert, "key": foreign.key}, {"cert": expired.cert, "key": expired.key}):
            async with client_on(service, 2, ca=authority.ca, **shown) as client:
                with pytest.raises(tickwatch.UnavailableError):
                    await client.get_history("SIM:AAA", "price")


async def test_a_certificate_has_a_role(authority, tmp_path):
    """Where no tokens are asked for a certificate may read, and change things only if its name is among the admins."""
    clients = Authority(tmp_path / "clients")
    protection = Protection(tls=tls_files(localhost(authority), clients.ca), access=Access(admins=["ops-*"]))
    read, change = "/tickwatch.v1.AlertService/ListRules", "/tickwatch.v1.AlertService/CreateSilence"

    def channel_of(server, name):
        pair = clients.issue(f"{name}.example", common_name=name)
        shown = grpc.ssl_channel_credentials(authority.ca.read_bytes(), pair.key.read_bytes(), pair.cert.read_bytes())
        return grpc.aio.secure_channel(server.address, shown)

    async with every_method(protection) as server:
        async with channel_of(server, "ops-anna") as channel:
            assert await call(channel, read) == await call(channel, change) == 1
        async with channel_of(server, "dashboard") as channel:
            assert await call(channel, read) == 1
            wrong = await failure(call(channel, change))

    assert wrong.code == "PERMISSION_DENIED"
    assert "dashboard" in wrong.message


async def test_a_server_shows_its_new_certificate_without_a_restart(authority, caplog):
    """New connections get the new certificate, open ones go on; files half replaced change nothing."""
    caplog.set_level(logging.INFO)
    pair = localhost(authority)
    protection = Protection(tls=tls_files(pair))
    async with serve(make_store(make_market(["SIM:AAA"])), protection=protection) as service:
        before = await served_serial(service.server.port)
        async with client_on(service, ca=authority.ca) as client:
            await client.get_history("SIM:AAA", "price")
            old_key = pair.key.read_bytes()
            localhost(authority, into=pair)
            new_key = pair.key.read_bytes()
            replace(pair.key, old_key)
            assert await served_serial(service.server.port) == before
            replace(pair.key, new_key)
            after = await served_serial(service.server.port)
            await client.get_history("SIM:AAA", "price")
        async with client_on(service, ca=authority.ca) as client:
            await client.get_history("SIM:AAA", "price")

    assert after != before
    assert "the certificate stays what it was" in caplog.text
    assert "the certificate has been read anew" in caplog.text


async def test_a_client_shows_its_new_certificate_without_a_restart(authority, tmp_path):
    """When both sides change to another authority of clients, calls go on, and an open stream is not broken."""
    first, second = Authority(tmp_path / "first"), Authority(tmp_path / "second")
    pair = first.issue("worker.example")
    trusted = tmp_path / "trusted.pem"
    replace(trusted, first.ca.read_bytes())
    protection = Protection(tls=tls_files(localhost(authority), trusted), access=Access())
    store = make_store(make_market(["SIM:AAA"]))
    retries = []
    async with (
        serve(store, protection=protection) as service,
        client_on(service, ca=authority.ca, cert=pair.cert, key=pair.key) as client,
    ):
        await client.get_history("SIM:AAA", "price")
        stream = client.watch_points(bookmarks=True, on_retry=lambda *broken: retries.append(broken))
        async with asyncio.timeout(20):
            await anext(stream)
        replace(trusted, second.ca.read_bytes())
        second.issue("worker.example", into=pair)

        assert len((await client.get_history("SIM:AAA", "price")).values) == 1440
        # The channel of the calls has been replaced and closed; that of the streams is kept by the open one.
        await eventually(
            lambda: asyncio.sleep(0, len(client._retired) + len(client._closing)), lambda left: not left, 20
        )
        later = client.watch_points(bookmarks=True)
        async with asyncio.timeout(20):
            await anext(later)
        assert len(client._retired) == 1
        store.write(make_market(["SIM:AAA"], end=LAST + 2, slots=1).points())
        record_run(store, LAST + 1)
        async with asyncio.timeout(20):
            while not len((await anext(stream)).values):
                pass
        await stream.aclose()
        await eventually(lambda: asyncio.sleep(0, len(client._retired)), lambda left: not left, 20)
        await later.aclose()

    assert retries == []


async def test_a_half_replaced_certificate_does_not_stop_a_client(authority, tmp_path):
    """Files that do not fit together are waited out on the channel there is; at the very start they are an error."""
    clients = Authority(tmp_path / "clients")
    pair = clients.issue("worker.example")
    protection = Protection(tls=tls_files(localhost(authority), clients.ca), access=Access())
    async with serve(make_store(make_market(["SIM:AAA"])), protection=protection) as service:
        async with client_on(service, ca=authority.ca, cert=pair.cert, key=pair.key) as client:
            await client.get_history("SIM:AAA", "price")
            replace(pair.key, clients.issue("worker.example").key.read_bytes())
            await client.get_history("SIM:AAA", "price")
        async with client_on(service, ca=authority.ca, cert=pair.cert, key=pair.key) as client:
            with pytest.raises(tickwatch.InvalidInputError, match="are not a certificate and its key"):
                await client.get_history("SIM:AAA", "price")


async def test_probes_need_no_tls(authority, tmp_path):
    """Beside mutual TLS, health alone answers in plain text on a port of its own, with the service's own state."""
    clients = Authority(tmp_path / "clients")
    protection = Protection(
        tls=tls_files(localhost(authority), clients.ca), access=Access(), health_listen="127.0.0.1:0", max_calls=16
    )
    async with (
        serve(make_store(make_market(["SIM:AAA"])), protection=protection) as service,
        grpc.aio.insecure_channel(f"127.0.0.1:{service.server.health_port}") as channel,
    ):
        assert await channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20) == b"\x08\x01"
        wrong = await failure(channel.unary_unary("/tickwatch.v1.QueryService/ListMetrics")(b"", timeout=20))
        watched = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        assert await watched.read() == b"\x08\x01"
        draining = asyncio.create_task(service.server.drain())
        assert await watched.read() == b"\x08\x02"
        await draining

    assert (wrong.code, wrong.reason) == ("UNIMPLEMENTED", "METHOD_UNKNOWN")


async def test_a_flood_of_calls_is_refused(authority):
    """Calls above the limit end with RESOURCE_EXHAUSTED, while probes on their own port are answered."""
    protection = Protection(health_listen="127.0.0.1:0", max_calls=16)
    async with serve(make_store(make_market(["SIM:AAA"])), protection=protection) as service:
        streams = [service.channel.unary_stream("/tickwatch.v1.QueryService/WatchPoints")(b"") for _ in range(16)]
        for stream in streams:
            await stream.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.channel.unary_unary("/tickwatch.v1.QueryService/ListMetrics")(b"", timeout=20)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{service.server.health_port}") as channel:
            assert await channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20) == b"\x08\x01"

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_files_that_are_no_good_are_named(authority, tmp_path):
    """A missing file, a key of another certificate and what is no certificate are each named with their setting."""
    pair, other = localhost(authority), localhost(authority)
    empty = tmp_path / "empty.pem"
    empty.touch()

    def problem(cert, key, client_ca=None):
        with pytest.raises(InvalidSettingError) as caught:
            ServerCertificates(tls_files(type(pair)(cert, key), client_ca)).credentials()
        return str(caught.value)

    gone = tmp_path / "gone.pem"
    assert problem(gone, pair.key) == f"server.tls.certificate_file: {gone} cannot be read: No such file or directory"
    assert problem(pair.cert, gone).startswith("server.tls.key_file: ")
    assert f"{pair.cert} and {other.key} are not a certificate and its key" in problem(pair.cert, other.key)
    assert f"{empty} and" in problem(empty, pair.key)
    assert problem(pair.cert, pair.key, empty) == f"server.tls.client_ca_file: {empty} holds no certificates in PEM"
