"""Write docs/api.md, the reference of the contract, from the protos and their comments; with --check compare instead.

The comments in the protos are the documentation; this only lays them out for people who do not read protos.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence

from google.protobuf import descriptor_pb2
from grpc_tools import protoc

PROTOS = pathlib.Path(__file__).resolve().parent
TARGET = PROTOS.parent / "docs" / "api.md"
WELL_KNOWN = pathlib.Path(protoc.__file__).parent / "_proto"

_HEAD = """# API reference

Written by `make proto` from the comments in [`protos/tickwatch/v1`](../protos/tickwatch/v1); change it there.
Errors carry a `google.rpc.ErrorInfo` of domain `tickwatch`: [troubleshooting](troubleshooting.md) has each reason.
"""

_Field = descriptor_pb2.FieldDescriptorProto
_Comments = Mapping[tuple[int, ...], str]

# Numbers of fields in descriptor.proto, of which the paths of its SourceCodeInfo are made.
_MESSAGE, _ENUM, _SERVICE, _PART, _SYNTAX = 4, 5, 6, 2, 12
_NESTED_MESSAGE, _NESTED_ENUM = 3, 4


def descriptors() -> Sequence[descriptor_pb2.FileDescriptorProto]:
    """Compile the protos of the package, comments included, by name."""
    sources = sorted(str(path) for path in (PROTOS / "tickwatch/v1").glob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "set"
        options = [f"--descriptor_set_out={out}", "--include_source_info"]
        if protoc.main(["protoc", f"-I{PROTOS}", f"-I{WELL_KNOWN}", *options, *sources]) != 0:
            sys.exit("protos/reference.py: protoc failed, see above")
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file


def page(files: Sequence[descriptor_pb2.FileDescriptorProto]) -> str:
    """Return the whole page, in Markdown."""
    parts = [_HEAD]
    for file in files:
        comments = {tuple(at.path): _text(at.leading_comments) for at in file.source_code_info.location}
        # What holds for the whole file stands before its first statement.
        parts.append(f"\n## {pathlib.PurePath(file.name).name}\n\n{comments.get((_SYNTAX,), '')}")
        for place, service in enumerate(file.service):
            parts += _service(service, comments, (_SERVICE, place))
        for place, message in enumerate(file.message_type):
            parts += _message(message, comments, (_MESSAGE, place), "")
        for place, enum in enumerate(file.enum_type):
            parts += _enum(enum, comments, (_ENUM, place), "")
    return "\n".join(parts)


def _service(
    service: descriptor_pb2.ServiceDescriptorProto, comments: _Comments, path: tuple[int, ...]
) -> Iterator[str]:
    yield f"\n## {service.name}\n\n{comments.get(path, '')}"
    for place, method in enumerate(service.method):
        stream = "stream " if method.server_streaming else ""
        yield f"\n### {method.name}\n"
        yield f"`{method.name}({_name(method.input_type)}) returns ({stream}{_name(method.output_type)})`\n"
        yield comments.get((*path, _PART, place), "")


def _message(
    message: descriptor_pb2.DescriptorProto, comments: _Comments, path: tuple[int, ...], within: str
) -> Iterator[str]:
    name = f"{within}{message.name}"
    maps = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    yield f"\n## {name}\n\n{comments.get(path, '')}"
    if message.field:
        yield "\n| field | type | meaning |\n| --- | --- | --- |"
    for place, field in enumerate(message.field):
        words = comments.get((*path, _PART, place), "").replace("\n\n", "<br>").replace("\n", " ").replace("|", "\\|")
        yield f"| `{field.name}` | {_type(field, message, maps)} | {words} |"
    for place, nested in enumerate(message.nested_type):
        if nested.name not in maps:
            yield from _message(nested, comments, (*path, _NESTED_MESSAGE, place), f"{name}.")
    for place, enum in enumerate(message.enum_type):
        yield from _enum(enum, comments, (*path, _NESTED_ENUM, place), f"{name}.")


def _enum(
    enum: descriptor_pb2.EnumDescriptorProto, comments: _Comments, path: tuple[int, ...], within: str
) -> Iterator[str]:
    yield f"\n## {within}{enum.name}\n\n{comments.get(path, '')}\n\n| value | number | meaning |\n| --- | --- | --- |"
    for place, value in enumerate(enum.value):
        words = comments.get((*path, _PART, place), "").replace("\n", " ").replace("|", "\\|")
        yield f"| `{value.name}` | {value.number} | {words} |"


def _type(
    field: _Field, message: descriptor_pb2.DescriptorProto, maps: Mapping[str, descriptor_pb2.DescriptorProto]
) -> str:
    if entry := maps.get(field.type_name.rpartition(".")[2]):
        key, value = (_plain(part) for part in entry.field)
        return f"map of {key} to {value}"
    words = _plain(field)
    if field.label == _Field.LABEL_REPEATED:
        return f"repeated {words}"
    if field.proto3_optional:
        return f"optional {words}"
    if field.HasField("oneof_index"):
        return f"{words}, one of `{message.oneof_decl[field.oneof_index].name}`"
    return words


def _plain(field: _Field) -> str:
    if field.type_name:
        return f"`{_name(field.type_name)}`"
    return _Field.Type.Name(field.type).removeprefix("TYPE_").lower()


def _name(full: str) -> str:
    return full.removeprefix(".tickwatch.v1.").removeprefix(".")


def _text(comment: str) -> str:
    return "\n".join(line.removeprefix(" ") for line in comment.rstrip().splitlines())


def main() -> None:
    """Write the page, or compare it with what is committed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, change nothing, exit 1 on a difference")
    fresh = page(descriptors()).rstrip() + "\n"
    if not parser.parse_args().check:
        TARGET.write_text(fresh, encoding="utf-8")
    elif not TARGET.exists() or TARGET.read_text(encoding="utf-8") != fresh:
        sys.exit(f"docs/{TARGET.name} differs from the protos: run `make proto`")


if __name__ == "__main__":
    main()
