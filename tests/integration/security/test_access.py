"""Who may call what, on real servers: every method, every kind of caller, before anything else is decided."""

from __future__ import annotations

import asyncio
import logging

import grpc
import pytest
import tickwatch
from tickwatch.v1 import query_pb2

from services.core.identity.base import Role
from services.core.identity.static import FileTokens
from services.core.rpc.access import ROLES, Access, Protection
from tests.support.certificates import new_token, replace, tokens_text
from tests.support.guarded import STREAMING, call, every_method
from tests.support.query import eventually, failure, make_market, make_store, serve

READ, ADMIN = new_token(), new_token()


@pytest.fixture
def protection(tmp_path):
    """Tokens of both roles."""
    replace(tmp_path / "tokens.yaml", tokens_text(("dashboard", "read", READ), ("ops", "admin", ADMIN)))
    return Protection(access=Access(FileTokens(tmp_path / "tokens.yaml")))


async def test_every_method_asks_for_its_role(protection):
    """Without a token, or with an unknown one, nothing is answered; with a role exactly what the table says is."""
    async with every_method(protection) as server, grpc.aio.insecure_channel(server.address) as channel:
        for path, streaming in STREAMING.items():
            for authorization in (None, "", "Bearer", f"Basic {ADMIN}", f"Bearer {new_token()}", f"Bearer {ADMIN}x"):
                wrong = await failure(call(channel, path, authorization))
                assert (wrong.code, wrong.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED"), (path, authorization)
            assert await call(channel, path, f"Bearer {ADMIN}") == (2 if streaming else 1)
            if ROLES[path] is Role.READ:
                assert await call(channel, path, f"bearer {READ}") == (2 if streaming else 1)
            else:
                wrong = await failure(call(channel, path, f"Bearer {READ}"))
                assert (wrong.code, wrong.reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED")
                assert "dashboard" in wrong.message
                assert path in wrong.message


async def test_nothing_is_told_of_what_exists(protection):
    """A caller without a token gets the same answer for what exists, what does not and what is no request at all."""
    async with (
        serve(make_store(make_market(["SIM:AAA"])), protection=protection) as service,
        grpc.aio.insecure_channel(service.server.address) as channel,
    ):
        ask = channel.unary_unary("/tickwatch.v1.QueryService/GetHistory")
        requests = [
            query_pb2.GetHistoryRequest(metric="SIM:AAA", measure=query_pb2.MEASURE_PRICE).SerializeToString(),
            query_pb2.GetHistoryRequest(metric="SIM:NONE", measure=query_pb2.MEASURE_PRICE).SerializeToString(),
            b"\xff",
        ]
        wrongs = {await failure(ask(request, timeout=20)) for request in requests}

    assert {wrong.code for wrong in wrongs} == {"UNAUTHENTICATED"}
    assert len(wrongs) == 1


async def test_health_is_for_everybody_and_reflection_is_not(protection):
    """Probes need no token; the contract is shown to callers who may read."""
    info = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    async with every_method(protection) as server, grpc.aio.insecure_channel(server.address) as channel:
        assert await channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20) == b"\x08\x01"

        reflect = channel.stream_stream(info)
        assert (await failure(reflect(timeout=20).read())).code == "UNAUTHENTICATED"
        admitted = reflect(timeout=20, metadata=(("authorization", f"Bearer {READ}"),))
        await admitted.write(b":\x00")
        assert b"tickwatch.v1.QueryService" in await admitted.read()
        await admitted.done_writing()


async def test_the_client_shows_its_token_on_calls_and_streams(protection, tmp_path):
    """Calls and streams carry the token; a token file is read again when it changes; what is refused is typed."""
    store = make_store(make_market(["SIM:AAA"]))
    file = tmp_path / "token"
    replace(file, f"{READ}\n")
    async with serve(store, protection=protection) as service:
        shown = tickwatch.Credentials(token_file=file, tls=False)
        async with tickwatch.Client(service.server.address, credentials=shown, timeout_seconds=20) as client:
            assert len((await client.get_history("SIM:AAA", "price")).values) == 1440
            stream = client.watch_points(bookmarks=True)
            async with asyncio.timeout(20):
                await anext(stream)
            replace(file, new_token())
            with pytest.raises(tickwatch.UnauthenticatedError, match="the token is unknown") as caught:
                await client.get_history("SIM:AAA", "price")
            replace(file, ADMIN)
            assert len((await client.get_history("SIM:AAA", "price")).values) == 1440
            await stream.aclose()
        async with tickwatch.Client(service.server.address) as stranger:
            with pytest.raises(tickwatch.UnauthenticatedError, match="a token is required"):
                await anext(stranger.watch_points())

    assert caught.value.reason == "UNAUTHENTICATED"


async def test_tokens_are_read_again_when_the_file_changes(tmp_path, caplog):
    """A token added is taken and one removed refused at once; a file that is no good leaves those before in force."""
    file = tmp_path / "tokens.yaml"
    replace(file, tokens_text(("old", "read", READ)))
    path = "/tickwatch.v1.QueryService/ListMetrics"
    async with (
        every_method(Protection(access=Access(FileTokens(file)))) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        await call(channel, path, f"Bearer {READ}")
        replace(file, tokens_text(("old", "reed", READ)))
        await call(channel, path, f"Bearer {READ}")
        assert "the tokens stay what they were" in caplog.text
        replace(file, tokens_text(("new", "read", ADMIN)))
        await call(channel, path, f"Bearer {ADMIN}")
        assert (await failure(call(channel, path, f"Bearer {READ}"))).code == "UNAUTHENTICATED"


async def test_a_client_has_its_share_of_streams(tmp_path):
    """One caller's streams are limited apart from another's, and what has ended makes room."""
    file = tmp_path / "tokens.yaml"
    replace(file, tokens_text(("one", "read", READ), ("two", "read", ADMIN)))
    protection = Protection(access=Access(FileTokens(file)), max_streams_per_client=2)
    path = "/tickwatch.v1.QueryService/WatchPoints"
    async with (
        serve(make_store(make_market(["SIM:AAA"])), protection=protection) as service,
        grpc.aio.insecure_channel(service.server.address) as channel,
    ):

        async def watch(token):
            stream = channel.unary_stream(path)(b"", metadata=(("authorization", f"Bearer {token}"),))
            await stream.read()
            return stream

        first, _second = await watch(READ), await watch(READ)
        wrong = await failure(watch(READ))
        other = await watch(ADMIN)
        first.cancel()

        async def again():
            try:
                return await watch(READ)
            except grpc.aio.AioRpcError:
                return None

        assert await eventually(again, bool, seconds=20)
        assert not other.done()

    assert (wrong.code, wrong.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_STREAMS")
    assert "one" in wrong.message


async def test_without_names_an_address_is_a_client():
    """Where nobody is asked who calls, streams are counted by address, whatever the port."""
    protection = Protection(max_streams_per_client=1)
    async with (
        serve(make_store(make_market(["SIM:AAA"])), protection=protection) as service,
        grpc.aio.insecure_channel(service.server.address) as one,
        grpc.aio.insecure_channel(service.server.address, (("grpc.use_local_subchannel_pool", 1),)) as other,
    ):
        path = "/tickwatch.v1.QueryService/WatchPoints"
        stream = one.unary_stream(path)(b"")
        await stream.read()
        wrong = await failure(other.unary_stream(path)(b"").read())

    assert wrong.reason == "TOO_MANY_STREAMS"
    assert "ipv4:127.0.0.1," in wrong.message


async def test_no_token_is_ever_told_or_logged(protection, tmp_path, caplog):
    """Neither errors nor the log, at its most talkative, have a token that was shown, taken or written in a file."""
    caplog.set_level(logging.DEBUG)
    stranger, torn = new_token(), tmp_path / "torn.yaml"
    texts = []
    async with every_method(protection) as server, grpc.aio.insecure_channel(server.address) as channel:
        await call(channel, "/tickwatch.v1.QueryService/ListMetrics", f"Bearer {READ}")
        for token in (stranger, READ):
            path = "/tickwatch.v1.AlertService/CreateSilence"
            texts.append(str(await failure(call(channel, path, f"Bearer {token}"))))
    replace(torn, f"tokens: [{{name: {READ}, role: {READ}, token: [{READ}], {READ}: *{READ}}}]")
    for content in (
        torn.read_text(),
        f"tokens: {READ}",
        f"{READ}: x",
        tokens_text(("a", "read", READ), ("b", "read", READ)),
    ):
        replace(torn, content)
        with pytest.raises(Exception, match="torn") as caught:
            FileTokens(torn)
        texts.append(str(caught.value))
    shown = tickwatch.Credentials(token=READ)
    texts += [repr(shown), str(shown), caplog.text, *(str(record.__dict__) for record in caplog.records)]

    assert not [text for text in texts if READ in text or stranger in text or ADMIN in text]
