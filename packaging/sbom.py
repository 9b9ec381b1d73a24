"""List what the image holds, in CycloneDX: its Python packages, Python, and Debian's. Run while the image is built.

Whoever looks for known holes in it reads that list, now or years from now, without unpacking the image. Python's
packages are listed by CycloneDX' own tool, out of the environment as it is shipped; what that does not see is added.

    python sbom.py PYPROJECT ENVIRONMENT TARGET
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

_FIELDS = "${db:Status-Status} ${Package} ${Version} ${Architecture}\n"


def printed(*command: str) -> str:
    """Run a command and return what it prints."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603  our own


def component(kind: str, url: PackageURL, **more: str) -> dict[str, str]:
    """Return a component of the list, by what its package URL says."""
    purl = url.to_string()
    return {"type": kind, "bom-ref": purl, "name": url.name, "version": url.version or "", "purl": purl, **more}


def system(release: Mapping[str, str], packages: str) -> Iterator[dict[str, str]]:
    """Yield the distribution, and its packages by lines of `_FIELDS`; `release` is what os-release says."""
    name, version = release["ID"], release.get("VERSION_ID", "")
    yield {"type": "operating-system", "bom-ref": name, "name": name, "version": version}
    for line in packages.splitlines():
        status, package, its_version, architecture = line.split()
        if status == "installed":
            qualifiers = {"arch": architecture, "distro": f"{name}-{version}"}
            yield component("library", PackageURL("deb", name, package, its_version, qualifiers))


def interpreter(version: str) -> dict[str, str]:
    """Return Python, which the base image has compiled itself, so that Debian's list is without it."""
    cpe = f"cpe:2.3:a:python:python:{version}:*:*:*:*:*:*:*"
    return component("application", PackageURL("generic", None, "python", version), cpe=cpe)


def main(pyproject: str, environment: str, target: str) -> None:
    """Write the list; exits with what is wrong where it is not CycloneDX as the standard has it."""
    tool = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--pyproject", pyproject]
    found: dict[str, Any] = json.loads(printed(*tool, environment))
    found["components"] += [
        interpreter(platform.python_version()),
        *system(platform.freedesktop_os_release(), printed("dpkg-query", "--show", f"--showformat={_FIELDS}")),
    ]
    text = json.dumps(found, indent=1, sort_keys=True)
    if wrong := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"{target}: {wrong}")
    Path(target).write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
