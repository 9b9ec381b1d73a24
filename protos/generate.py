"""Write the Python code of the contract from the protos, or with --check compare instead.

The generated code is committed, so that an installation needs no protoc and a review shows what changes on the wire.
The versions of grpcio-tools and mypy-protobuf are pinned exactly, because they decide its bytes.
"""

from __future__ import annotations

import argparse
import filecmp
import pathlib
import shutil
import sys
import tempfile

from grpc_tools import protoc

PROTOS = pathlib.Path(__file__).resolve().parent
PACKAGE = pathlib.Path("tickwatch/v1")
TARGET = PROTOS.parent / "clients" / "python"
WELL_KNOWN = pathlib.Path(protoc.__file__).parent / "_proto"


def generate(into: pathlib.Path) -> None:
    """Compile every proto of the package below `into`, with typed stubs for messages and services."""
    sources = sorted(str(path) for path in (PROTOS / PACKAGE).glob("*.proto"))
    outputs = [f"--{kind}_out={into}" for kind in ("python", "grpc_python")]
    outputs += [f"--{kind}_out=quiet:{into}" for kind in ("mypy", "mypy_grpc")]
    # The plugins stand beside this interpreter, which need not be on PATH.
    beside = pathlib.Path(sys.executable).parent
    outputs += [f"--plugin=protoc-gen-{kind}={beside / f'protoc-gen-{kind}'}" for kind in ("mypy", "mypy_grpc")]
    if protoc.main(["protoc", f"-I{PROTOS}", f"-I{WELL_KNOWN}", *outputs, *sources]) != 0:
        sys.exit("protos/generate.py: protoc failed, see above")
    (into / PACKAGE / "__init__.py").touch()


def differences(fresh: pathlib.Path, committed: pathlib.Path) -> list[str]:
    """Name the generated files that are missing, left over or different."""
    names = {path.name for folder in (fresh, committed) for path in folder.iterdir() if path.is_file()}
    _, changed, absent = filecmp.cmpfiles(fresh, committed, sorted(names), shallow=False)
    return sorted({*changed, *absent})


def main() -> None:
    """Generate in a temporary folder, then compare it with what is committed or put it there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, change nothing, exit 1 on a difference")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        generate(pathlib.Path(folder))
        fresh, committed = pathlib.Path(folder) / PACKAGE, TARGET / PACKAGE
        if arguments.check:
            if changed := differences(fresh, committed):
                sys.exit(f"generated code differs from the protos ({', '.join(changed)}): run `make proto`")
        else:
            shutil.rmtree(committed, ignore_errors=True)
            shutil.copytree(fresh, committed)


if __name__ == "__main__":
    main()
