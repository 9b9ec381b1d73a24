"""A release of the chart against a real registry: packed, signed and pushed as documented, and pulled as documented."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.support.needs import ROOT, require_program
from tests.support.ports import free_port
from tests.support.release import documented

KEY = "release@tickwatch.example"
VERSION = yaml.safe_load((ROOT / "charts/tickwatch/Chart.yaml").read_text(encoding="utf-8"))["version"]
IMAGE_DIGEST = "sha256:" + "0123456789abcdef" * 4


class Registry(NamedTuple):
    """A registry with the released chart in it, and a person's shell before it."""

    address: str
    folder: Path
    """Where a person who installs is, with the public key."""
    environment: dict[str, str]
    pushed: str
    """What the commands of a release have printed."""

    def shell(self, script: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a script with what stands for the reader's own words in it replaced; the outcome is the caller's."""
        words = {
            "oci://REGISTRY": f"--plain-http oci://{self.address}",  # on loopback there is no certificate
            "REGISTRY": self.address,
            "VERSION": VERSION,
            "@DIGEST": f"@{IMAGE_DIGEST}",
            "KEY=KEY": f"KEY={KEY}",
            "helm install": "helm template",  # what it would install, for there is no cluster here
        }
        for written, typed in words.items():
            script = script.replace(written, typed)
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder or self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Start a registry, make a key, and release the chart there by the documented commands, from a copy of the tree."""
    program, gpg, helm = (require_program(name) for name in ("docker-registry", "gpg", "helm"))
    folder = tmp_path_factory.mktemp("registry")
    # GnuPG's agent listens on a socket below it, whose path has to be short.
    home = Path(subprocess.run(["mktemp", "-d"], check=True, capture_output=True, text=True).stdout.strip())
    address = f"127.0.0.1:{free_port()}"
    environment = os.environ | {
        "GNUPGHOME": str(home),
        "HELM_CACHE_HOME": str(folder / "helm"),
        "HELM_REGISTRY_CONFIG": str(folder / "registries.json"),
        "PATH": f"{helm.parent}{os.pathsep}{os.environ['PATH']}",
    }
    config = folder / "registry.yaml"
    settings = {
        "version": 0.1,
        "log": {"accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": address},
    }
    config.write_text(yaml.safe_dump(settings))
    unlocked = ["--batch", "--quiet", "--passphrase", "", "--quick-generate-key"]
    log = (folder / "registry.log").open("w")
    with log, subprocess.Popen([program, "serve", config], stdout=log, stderr=log) as server:
        try:
            for owner in (KEY, "somebody@else.example"):
                subprocess.run([gpg, *unlocked, owner, "ed25519", "sign", "never"], env=environment, check=True)
            sources = folder / "sources"
            for name in ("charts", "packaging"):
                shutil.copytree(ROOT / name, sources / name)
            shutil.copy(ROOT / "Makefile", sources)
            reader = folder / "reader"
            reader.mkdir()
            opened = Registry(address, reader, environment, "")
            deadline = time.monotonic() + 60
            while subprocess.run(
                ["curl", "-fsS", f"http://{address}/v2/"], capture_output=True, check=False
            ).returncode:
                assert time.monotonic() < deadline, (folder / "registry.log").read_text()
                time.sleep(0.1)
            done = opened.shell(documented("CONTRIBUTING.md", "# release"), sources)
            assert done.returncode == 0, done.stderr
            shutil.copy(sources / "dist" / "tickwatch.gpg", reader)
            yield opened._replace(pushed=done.stdout + done.stderr)
        finally:
            server.terminate()
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)
            shutil.rmtree(home)


def test_a_release_is_verified_and_names_its_image_by_digest(registry):
    """Pulled and rendered as the chart's README says: the signature is good, and every image is the released one."""
    done = registry.shell(documented("charts/tickwatch/README.md", "# from a registry"))

    assert done.returncode == 0, done.stderr
    assert f"Signed by: {KEY}" in done.stdout + done.stderr
    images = set(re.findall(r'^ +image: "(.*)"$', done.stdout, re.MULTILINE)) - {"influxdb:2.7"}
    assert images == {f"{registry.address}/tickwatch@{IMAGE_DIGEST}"}


def test_a_release_by_its_digest_is_the_same(registry):
    """The digest that the push has printed names the chart whose version names it."""
    (digest,) = re.findall(r"Digest: (sha256:[0-9a-f]{64})", registry.pushed)
    by_version, by_digest = (
        registry.shell(f"helm template tickwatch oci://REGISTRY/charts/tickwatch{name} --set influxdb.enabled=true")
        for name in (" --version VERSION", f"@{digest}")
    )

    assert by_version.returncode == 0, by_version.stderr
    assert by_version.stdout == by_digest.stdout


def test_who_did_not_release_it_is_not_believed(registry):
    """A key that has not signed the chart verifies nothing, and an archive that has been changed is refused."""
    pull = "mkdir changed; helm pull oci://REGISTRY/charts/tickwatch --version VERSION --destination changed"
    other = registry.shell(
        "gpg --output other.gpg --export somebody@else.example; "
        "helm pull oci://REGISTRY/charts/tickwatch --version VERSION --verify --keyring other.gpg"
    )
    changed = registry.shell(
        f"{pull} --prov; printf more >>changed/tickwatch-VERSION.tgz; "
        "helm verify changed/tickwatch-VERSION.tgz --keyring tickwatch.gpg"
    )

    assert other.returncode != 0
    assert "signature made by unknown entity" in other.stderr
    assert changed.returncode != 0
    assert "sha256 sum does not match" in changed.stderr


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("IMAGE=REGISTRY/tickwatch:VERSION", "is no image with a digest, as in"),
        ("KEY=nobody@tickwatch.example", "GnuPG has no secret key of 'nobody@tickwatch.example'"),
    ],
)
def test_what_cannot_be_packed_is_said(registry, asked, words):
    """An image without a digest and a key that is not there are refused, and no archive is written."""
    done = registry.shell(f"make package {asked}", folder=registry.folder.parent / "sources")

    assert done.returncode != 0
    assert words in done.stderr
