"""A release on a real cluster: commands as a user types them, in a namespace of their own, and what they leave.

The namespace is the current one of a kubeconfig of the test's own, so that documented commands run word for word.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

from tests.support.needs import ROOT, require_cluster, require_program

IMAGE = os.environ.get("TICKWATCH_TEST_IMAGE", "tickwatch:dev")
"""The image that the cluster's nodes have."""

NAME = "tickwatch"
SELECTOR = f"app.kubernetes.io/instance={NAME}"

_Found = TypeVar("_Found")


class Begun:
    """A script under way, which nobody waits for until its end is needed."""

    def __init__(self, script: str, process: subprocess.Popen[str], printed: IO[str]) -> None:
        self._script = script
        self._process = process
        self._printed = printed

    def end(self, *, timeout: float = 300.0) -> str:
        """Wait until it has succeeded and return what it printed."""
        code = self._process.wait(timeout)
        self._printed.seek(0)
        text = self._printed.read()
        assert code == 0, f"{self._script}\n{text}"
        return text


class Commands:
    """Commands of a user whose current namespace this is."""

    def __init__(self, namespace: str, kubeconfig: Path) -> None:
        self.namespace = namespace
        folders = {str(require_program(name).parent) for name in ("kubectl", "helm")}
        path = os.pathsep.join([str(ROOT / ".venv" / "bin"), *sorted(folders), os.environ["PATH"]])
        self.environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "PATH": path}

    def shell(self, script: str, *, folder: Path = ROOT, timeout: float = 300.0) -> str:
        """Run a script, each of whose commands must succeed, and return what it printed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def run(self, *command: str, timeout: float = 300.0, document: object = None, fails: bool = False) -> str:
        """Run one command and return what it printed; `document` goes in as JSON, and `fails` is what it must do."""
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            input=None if document is None else json.dumps(document),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert (done.returncode != 0) == fails, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stderr if fails else done.stdout

    def kubectl(self, *words: str, timeout: float = 300.0, document: object = None) -> str:
        """Run kubectl."""
        return self.run("kubectl", *words, timeout=timeout, document=document)

    def get(self, *words: str) -> list[dict[str, Any]]:
        """Return objects, such as those of `pods -l …`."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *words, "-o", "json"))
        return list(found["items"]) if "items" in found else [found]

    @contextmanager
    def beginning(self, script: str) -> Iterator[Begun]:
        """Begin a script, as `shell` runs one, and go on; nothing that it has started outlasts the context."""
        with tempfile.TemporaryFile("w+") as printed:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            try:
                yield Begun(script, process, printed)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                process.wait()

    @contextmanager
    def forwarded(self, service: str, port: int) -> Iterator[str]:
        """Yield an address of this machine at which a Service answers."""
        forward = subprocess.Popen(
            ["kubectl", "port-forward", f"service/{service}", f":{port}"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert forward.stdout is not None
            for line in forward.stdout:
                if found := re.search(r"Forwarding from (127\.0\.0\.1:\d+)", line):
                    yield found[1]
                    return
            raise AssertionError(f"the port of {service} was not forwarded")
        finally:
            forward.terminate()
            forward.communicate()


@contextmanager
def own_namespace() -> Iterator[Commands]:
    """Make a namespace that admits only restricted pods, for as long as the context lasts."""
    require_cluster()
    name = f"tickwatch-test-{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory() as folder:
        kubeconfig = Path(folder, "kubeconfig")
        kubectl = str(require_program("kubectl"))
        flat = subprocess.run([kubectl, "config", "view", "--flatten", "--raw"], capture_output=True, check=True)
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_bytes(flat.stdout)
        commands = Commands(name, kubeconfig)
        commands.kubectl("create", "namespace", name)
        try:
            commands.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
            commands.kubectl("config", "set-context", "--current", f"--namespace={name}")
            yield commands
        finally:
            commands.kubectl("delete", "namespace", name, "--wait=false")


class Release:
    """A release in a namespace of its own, whose installation has begun; it ends with the context, or before."""

    def __init__(self, script: Callable[[Commands], str]) -> None:
        """Begin to install by a script, which is made for the namespace."""
        with contextlib.ExitStack() as stack:
            self.commands = stack.enter_context(own_namespace())
            self._begun = stack.enter_context(self.commands.beginning(script(self.commands)))
            self._stack = stack.pop_all()

    def installed(self) -> str:
        """Wait until the script has succeeded and return what it printed."""
        return self._begun.end()

    def close(self) -> None:
        """Give the namespace up, with all that is in it."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def replace_pods(commands: Commands, component: str) -> None:
    """Have all pods of a component replaced at once, and wait until the new ones are ready.

    For tests of what new pods find: a rollout takes longer by what it does for callers, which a test of its own shows.
    """
    labels = f"{SELECTOR},app.kubernetes.io/component={component}"
    before = {pod["metadata"]["uid"] for pod in commands.get("pods", "-l", labels)}
    deployment = commands.get("deployment", f"{NAME}-{component}")[0]

    def replaced() -> bool:
        pods = commands.get("pods", "-l", labels)
        ready = [
            condition["status"] == "True"
            for pod in pods
            for condition in pod["status"].get("conditions", [])
            if condition["type"] == "Ready"
        ]
        new = before.isdisjoint(pod["metadata"]["uid"] for pod in pods)
        return new and len(pods) >= deployment["spec"]["replicas"] and len(ready) == len(pods) and all(ready)

    commands.kubectl("delete", "pods", "-l", labels, "--grace-period=1")
    eventually(f"new pods of {component}", replaced, within=180)


def run_by_hand(commands: Commands) -> list[dict[str, Any]]:
    """Run the collector now, as its next run would be, and return what each of its pods has reported."""
    commands.kubectl("create", "job", "by-hand", f"--from=cronjob/{NAME}-collector")
    commands.kubectl("wait", "--for=condition=Complete", "job/by-hand", "--timeout=120s")
    printed = commands.kubectl("logs", "-l", "batch.kubernetes.io/job-name=by-hand", "--tail=-1")
    commands.kubectl("delete", "job", "by-hand")
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def image_values() -> str:
    """Return the flags that name the image under test."""
    repository, _, tag = IMAGE.rpartition(":")
    return f"--set image.repository={repository} --set image.tag={tag}"


def documented(page: str, contains: str) -> str:
    """Return the one block of shell commands of a page that contains these words."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) if contains in block]
    assert len(blocks) == 1, f"{page} has {len(blocks)} blocks with {contains!r}"
    return str(blocks[0])


def eventually(what: str, find: Callable[[], _Found | None], *, within: float) -> _Found:
    """Ask until something is found; fails after `within` seconds, saying what was waited for."""
    deadline = time.monotonic() + within
    while True:
        if found := find():
            return found
        assert time.monotonic() < deadline, f"{what}: not within {within:.0f} s"
        time.sleep(1)
