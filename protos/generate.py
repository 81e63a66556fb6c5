#!/usr/bin/env python3
"""Regenerate ``core/tvix_store/proto`` from the ``.proto`` files beside this script.

``protos/generate.py`` writes the modules, ``protos/generate.py --check`` only compares them with what is
committed and lists the files that differ.

protoc (from grpcio-tools) parses the schemas and mypy-protobuf writes the stubs, but the modules are
written here, out of protoc's descriptors. They make the calls that protoc's own Python output makes,
with two differences: imports are below ``tvix_store.proto``, while the file names in the descriptors (which reflection
shows, and other peers import) stay as they are; and there is no check for a runtime at least as new as
protoc, which would tie users to the version of a tool that they do not have. Service descriptors are part
of the modules; there is no ``_pb2_grpc``.
"""

import argparse
import ast
import filecmp
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet

PROTOS = Path(__file__).resolve().parent
TARGET = PROTOS.parent / "core" / "tvix_store" / "proto"
PACKAGE = "tvix_store.proto"
# Our own top-level folders; an import of anything else (google.protobuf) is left alone.
OWN = sorted(path.name for path in PROTOS.iterdir() if path.is_dir() and not path.name.startswith("__"))

MODULE = '''\
"""Messages of ``{file}``. Made by protos/generate.py; do not edit."""

{imports}
DESCRIPTOR = _descriptor_pool.Default().AddSerializedFile(
{data}
)

_globals = globals()
_builder.BuildMessageAndEnumDescriptors(DESCRIPTOR, _globals)
_builder.BuildTopDescriptorsAndMessages(DESCRIPTOR, "{module}", _globals)
'''


def module_name(file: str) -> str:
    """Full name of the Python module for a file name as it is in a descriptor."""
    return f"{PACKAGE}.{file.removesuffix('.proto').replace('/', '.')}_pb2"


def run_protoc(files: list[str], output: Path) -> FileDescriptorSet:
    """Parse ``files``, write their stubs below ``output`` and return their descriptors."""
    plugin = shutil.which("protoc-gen-mypy", path=str(Path(sys.executable).parent))
    if plugin is None:
        raise SystemExit("protoc-gen-mypy is not beside this Python: install the dependency group 'dev'")
    with tempfile.NamedTemporaryFile() as descriptors:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "grpc_tools.protoc"),
                f"--proto_path={PROTOS}",
                f"--descriptor_set_out={descriptors.name}",
                f"--plugin=protoc-gen-mypy={plugin}",
                f"--mypy_out=quiet:{output}",
                *files,
            ],
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit("protoc has failed")
        return FileDescriptorSet.FromString(Path(descriptors.name).read_bytes())


def bytes_literal(data: bytes, width: int = 100) -> str:
    """``data`` as adjacent indented bytes literals of about ``width`` characters a line."""
    lines = []
    for start in range(0, len(data), width // 2):
        lines.append(f"    {data[start : start + width // 2]!r}")
    return "\n".join(lines)


def render_module(file: FileDescriptorProto) -> str:
    """Source of the module for one file."""
    for message in file.message_type:
        clear_json_names(message)
    data = bytes_literal(file.SerializeToString(deterministic=True))
    imports = [
        "from google.protobuf import descriptor_pool as _descriptor_pool",
        "from google.protobuf.internal import builder as _builder",
    ]
    if file.dependency:
        # A file can join the descriptor pool only after what it imports.
        imports += ["", *(f"import {module_name(name)}  # noqa: F401" for name in file.dependency)]
    source = MODULE.format(file=file.name, imports="\n".join(imports) + "\n", data=data, module=module_name(file.name))
    ast.parse(source)
    return source


def clear_json_names(message: DescriptorProto) -> None:
    """Drop what the runtime derives itself, as protoc does in its own output."""
    for field in message.field:
        field.ClearField("json_name")
    for nested in message.nested_type:
        clear_json_names(nested)


def rewrite_stub(source: str) -> str:
    """Point the imports of our own modules to where they are."""
    own = "|".join(map(re.escape, OWN))
    return re.sub(rf"^(from|import) ({own})\b", rf"\1 {PACKAGE}.\2", source, flags=re.MULTILINE)


def generate(output: Path) -> None:
    """Write the whole package ``tvix_store.proto`` to ``output``, an empty directory."""
    files = sorted(path.relative_to(PROTOS).as_posix() for path in PROTOS.rglob("*.proto"))
    descriptors = run_protoc(files, output)
    for file in descriptors.file:
        (output / file.name).with_name(f"{Path(file.name).stem}_pb2.py").write_text(render_module(file))
    for stub in output.rglob("*.pyi"):
        stub.write_text(rewrite_stub(stub.read_text()))
    (output / "__init__.py").write_text('"""Messages of the schemas in protos/; made by protos/generate.py."""\n')
    for folder in sorted(path for path in output.rglob("*") if path.is_dir()):
        name = folder.relative_to(output).as_posix()
        (folder / "__init__.py").write_text(f'"""Messages of the schemas in protos/{name}."""\n')


def differences(fresh: Path, committed: Path) -> list[str]:
    """Names of the files that are not the same in both trees, with what is wrong."""

    def names(root: Path) -> set[str]:
        return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.suffix in {".py", ".pyi"}}

    new, old = names(fresh), names(committed)
    found = dict.fromkeys(new - old, "missing") | dict.fromkeys(old - new, "not generated any more")
    for name in new & old:
        if not filecmp.cmp(fresh / name, committed / name, shallow=False):
            found[name] = "differs"
    return [f"{name}: {what}" for name, what in sorted(found.items())]


def main() -> int:
    """Run the command; the exit status is 1 if ``--check`` finds a difference."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the committed modules are stale")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as temporary:
        fresh = Path(temporary)
        generate(fresh)
        if not check:
            shutil.rmtree(TARGET, ignore_errors=True)
            shutil.copytree(fresh, TARGET)
            return 0
        found = differences(fresh, TARGET)
    if not found:
        return 0
    tools = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("grpcio-tools", "mypy-protobuf"))
    print(f"core/tvix_store/proto is not what protos/generate.py makes ({tools}); run `make protos`:", file=sys.stderr)
    print("\n".join(f"  {line}" for line in found), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
