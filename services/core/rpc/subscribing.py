"""Ties a subscription to the call that reads it: whichever ends first ends the other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import grpc

from services.core.broadcasting import Broadcast, Content, Place, Subscriber
from services.core.rpc.interceptors import Context


@contextlib.contextmanager
def subscribed(broadcast: Broadcast[Content, Place], context: Context) -> Iterator[Subscriber[Content, Place]]:
    """Subscribe for as long as the context lasts; raises NotReadyError as `Broadcast.subscribe`.

    The caller gets the initial metadata at once, and so knows that he is connected before the store has been asked.
    Whoever waits for news is woken when the caller has left.
    """
    subscriber = broadcast.subscribe(context.cancel)
    try:
        if not context.add_callback(subscriber.end):
            subscriber.end()
        with contextlib.suppress(grpc.RpcError):  # the caller has left meanwhile
            context.send_initial_metadata(())
        yield subscriber
    finally:
        broadcast.unsubscribe(subscriber)
