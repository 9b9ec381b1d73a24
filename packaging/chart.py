"""Pack the chart for a registry: with the image it is released with, by its digest, and signed.

    python packaging/chart.py FOLDER [--image REGISTRY/REPOSITORY@sha256:DIGEST] [--key NAME]

Helm signs the archive, and the archive names the image by its digest, so that who has verified the one knows the other.
The chart in the repository names no registry, and stays as it is.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CHART = Path(__file__).resolve().parents[1] / "charts" / "tickwatch"
_IMAGE = re.compile(r"(?P<registry>[a-z0-9.-]+(?::\d+)?)/(?P<repository>[a-z0-9._/-]+)@(?P<digest>sha256:[0-9a-f]{64})")


def pinned(values: str, image: str) -> str:
    """Return values.yaml with the defaults of `image` set to this image; raises ValueError for one without a digest."""
    parts = _IMAGE.fullmatch(image)
    if parts is None:
        raise ValueError(f"{image!r} is no image with a digest, as in registry.example.com/tickwatch@sha256:…")
    before, section, after = re.split(r"(^image:\n(?:  .*\n)+)", values, maxsplit=1, flags=re.MULTILINE)
    for name, value in parts.groupdict().items():
        section, count = re.subn(rf"^  {name}: .*$", f"  {name}: {value}", section, flags=re.MULTILINE)
        if count != 1:
            raise ValueError(f"values.yaml has no image.{name} to set")
    return before + section + after


def run(*command: str | Path) -> None:
    """Run a command; exits where it is not there, and with its exit code where it fails, after it has said why."""
    if shutil.which(command[0]) is None:
        sys.exit(f"Error: needs {command[0]} on PATH")
    if code := subprocess.run(command, check=False).returncode:  # noqa: S603  helm and gpg, by our own words
        sys.exit(code)


def main() -> None:
    """Write the archive, and with a key its signature and the public key; exits with what is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the archive goes")
    parser.add_argument("--image", help="the image that the chart runs by default, with its digest")
    parser.add_argument("--key", help="the key of GnuPG that signs, by its address; Helm asks for its passphrase")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:  # for nobody else to read
        chart, keyring = Path(scratch, CHART.name), Path(scratch, "keyring")
        shutil.copytree(CHART, chart)
        if asked.image:
            values = chart / "values.yaml"
            try:
                values.write_text(pinned(values.read_text(encoding="utf-8"), asked.image), encoding="utf-8")
            except ValueError as error:
                sys.exit(f"Error: {error}")
        signing: list[str | Path] = []
        if asked.key:
            # Helm reads keyrings alone, and GnuPG keeps its keys otherwise.
            run("gpg", "--output", keyring, "--export-secret-keys", asked.key)
            if not keyring.exists():
                sys.exit(f"Error: GnuPG has no secret key of {asked.key!r} (gpg --list-secret-keys)")
            signing = ["--sign", "--key", asked.key, "--keyring", keyring]
        run("helm", "package", chart, "--destination", asked.folder, *signing)
        if asked.key:
            run("gpg", "--yes", "--output", asked.folder / "tickwatch.gpg", "--export", asked.key)


if __name__ == "__main__":
    main()
