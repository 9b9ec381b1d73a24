"""What is made of an API server's answers about a token, those too that a real one gives only where it is set up so."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from services.core.catalog.cluster import Cluster
from services.core.errors import ClusterRefusedError, ClusterUnavailableError
from services.core.identity.cluster import KubernetesTokenReviewer

USER = {"username": "system:serviceaccount:monitoring:dashboard"}
TOKEN = "s3cret-token"


class ScriptedApiServer(ThreadingHTTPServer):
    """Gives one answer to every TokenReview, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.code = 201
        self.status: dict[str, object] = {}
        self.asked: list[tuple[str, dict[str, object]]] = []


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedApiServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))
        answer = (
            {"kind": "Status", "message": "no leave"}
            if self.server.code >= 400
            else body | {"status": self.server.status}
        )
        content = json.dumps(answer).encode()
        self.send_response(self.server.code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


@pytest.fixture
def api():
    """A scripted API server."""
    with ScriptedApiServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def reviewer(api, tmp_path):
    """A reviewer of it."""
    file = tmp_path / "kubeconfig"
    url = f"http://127.0.0.1:{api.server_address[1]}"
    names = {"clusters": {"cluster": {"server": url}}, "users": {"user": {}}}
    config = {kind: [{"name": "c", **value}] for kind, value in names.items()}
    config |= {"contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}], "current-context": "c"}
    file.write_text(yaml.safe_dump(config))
    with Cluster(kubeconfig=str(file)) as cluster:
        yield KubernetesTokenReviewer(cluster)


@pytest.mark.parametrize(
    ("status", "user"),
    [
        ({"authenticated": True, "audiences": ["tickwatch", "else"], "user": USER}, USER["username"]),
        ({"authenticated": True, "user": USER}, None),  # by an authenticator that knows no audiences
        ({"authenticated": True, "audiences": [], "user": USER}, None),
        ({"authenticated": True, "audiences": ["else"], "user": USER}, None),
        ({"authenticated": False, "audiences": ["tickwatch"], "user": USER, "error": "expired"}, None),
        ({"audiences": ["tickwatch"], "user": USER}, None),
        ({"authenticated": True, "audiences": ["tickwatch"]}, None),
        ({}, None),
    ],
)
def test_only_a_user_verified_for_us_counts(api, reviewer, status, user):
    """The token has to hold, and the answer to name our audience: without it the token may be meant for others."""
    api.status = status

    assert reviewer.review(TOKEN, "tickwatch") == user
    ((path, asked),) = api.asked
    assert path == "/apis/authentication.k8s.io/v1/tokenreviews"
    assert asked["spec"] == {"token": TOKEN, "audiences": ["tickwatch"]}


@pytest.mark.parametrize(
    ("code", "kind"), [(403, ClusterRefusedError), (500, ClusterUnavailableError), (429, ClusterUnavailableError)]
)
def test_what_the_api_server_refuses_is_no_answer(api, reviewer, code, kind):
    """Without leave, or while it fails, an error says so in its words, and not with the token."""
    api.code = code

    with pytest.raises(kind) as caught:
        reviewer.review(TOKEN, "tickwatch")

    assert str(caught.value) == "reviewing a token: no leave"
