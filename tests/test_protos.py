"""The protos as a whole: the generated code is importable and complete, and they follow the rules of this project.

buf checks their style and their compatibility; scripts/generate.py --check, that the generated files are current.
"""

import importlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2, json_format
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from headwater.v1 import connections_pb2, pipelines_pb2, schemas_pb2, transformations_pb2

ROOT = Path(__file__).resolve().parent.parent
THIRD_PARTY = ROOT / "third_party" / "googleapis"
PROTOS = sorted(path for folder in ("v1", "rest/v1") for path in (ROOT / "protos/headwater" / folder).glob("*.proto"))

RAW = "google.api.HttpBody"
WITHOUT_REST_COUNTERPART = {"SendEvents", "StreamEvents"}
"""Typed calls without a REST route, because their REST counterparts are the services of the protocols."""


def find_services(path: Path) -> list[ServiceDescriptor]:
    package = ".".join(path.relative_to(ROOT / "protos").parent.parts)
    return list(importlib.import_module(f"{package}.{path.stem}_pb2").DESCRIPTOR.services_by_name.values())


SERVICES = [service for path in PROTOS for service in find_services(path)]
METHODS = [method for service in SERVICES for method in service.methods]


def rules(method: MethodDescriptor) -> list[http_pb2.HttpRule]:
    """Return the REST routes of a call; none for a call that only gRPC clients have."""
    options = method.GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return []
    rule = options.Extensions[annotations_pb2.http]
    return [rule, *rule.additional_bindings]


def route(rule: http_pb2.HttpRule) -> tuple[str, str]:
    verb = rule.WhichOneof("pattern")
    assert verb is not None
    return verb.upper(), getattr(rule, verb)


DESCRIPTORS = descriptor_pb2.FileDescriptorSet.FromString((ROOT / "envoy/descriptors.pb").read_bytes())
OURS = [file for file in DESCRIPTORS.file if file.package.startswith("headwater.")]
NAMES_OF_LANGUAGES = {
    "C#": "Action Activator Array Attribute Boolean Buffer Byte Char Comparison Console Convert DateTime Decimal "
    "Delegate Directory Double Enum Environment EventArgs Exception File FileInfo Func Guid Half HashCode Index Int32 "
    "Int64 Lazy List Lock Lookup Math Memory Monitor Nullable Object Path Predicate Progress Random Range Single Span "
    "Stream String Task Thread Timer TimeSpan Tuple Type Uri ValueType Version Void",
    "Java": "Boolean Byte Character Class Comparable Double Enum Error Exception Float Integer Iterable Long Math "
    "Module Number Object Override Package Process Record Runnable Runtime Short String System Thread Throwable Void",
    "JavaScript": "Array ArrayBuffer BigInt Boolean DataView Date Error Function Infinity Intl Iterator JSON Map Math "
    "Number Object Promise Proxy Reflect RegExp Set String Symbol WeakMap WeakRef WeakSet",
    "Rust": "Box Clone Copy Default Drop Eq Err Fn From Into Iterator None Ok Option Ord Result Self Send Some String "
    "Sync Vec",
    "Python": "Ellipsis Exception False None NotImplemented True Warning",
}
"""Names that a program may use without an import."""


@pytest.mark.parametrize("file", OURS, ids=lambda file: file.name)
def test_a_file_names_the_packages_of_generated_code(file: descriptor_pb2.FileDescriptorProto) -> None:
    parts = file.package.split(".")
    titles = [part.capitalize() for part in parts]
    assert file.options.csharp_namespace == ".".join(titles)
    assert file.options.go_package == f"{'/'.join(parts)};{''.join(parts)}"
    assert file.options.java_package == f"com.{file.package}"
    assert file.options.java_multiple_files
    assert file.options.java_outer_classname == Path(file.name).stem.title().replace("_", "") + "Proto"
    assert file.options.php_namespace == "\\".join(titles)
    assert file.options.ruby_package == "::".join(titles)


@pytest.mark.parametrize("language", NAMES_OF_LANGUAGES)
def test_no_name_shadows_one_of_a_language(language: str) -> None:
    names = {
        name
        for file in OURS
        for name in (
            file.options.java_outer_classname,
            *(each.name for kind in (file.message_type, file.enum_type, file.service) for each in kind),
        )
    }
    assert not names & set(NAMES_OF_LANGUAGES[language].split())


@pytest.mark.parametrize("path", sorted(THIRD_PARTY.rglob("*.proto")), ids=lambda path: path.name)
def test_files_of_googleapis_are_those_of_their_package(path: Path) -> None:
    package = importlib.metadata.distribution("googleapis-common-protos")
    assert path.read_text() == Path(str(package.locate_file(path.relative_to(THIRD_PARTY)))).read_text()


@pytest.mark.process
def test_the_archive_of_protos_compiles_by_itself(tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "scripts" / "archive_protos.py"), str(tmp_path)]
    written = Path(subprocess.run(script, check=True, capture_output=True, text=True).stdout.strip())
    with tarfile.open(written) as archive:
        archive.extractall(tmp_path, filter="data")
    folder = tmp_path / written.name.removesuffix(".tar.gz")
    protos = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.proto"))]
    assert {"headwater/v1/events.proto", "google/rpc/error_details.proto"} <= set(protos)
    compiler = [sys.executable, "-m", "grpc_tools.protoc", "-I.", "--descriptor_set_out=all.binpb", *protos]
    subprocess.run(compiler, cwd=folder, check=True)


@pytest.mark.process
def test_buf_builds_a_bare_checkout(tmp_path: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "buf.yaml", "protos", "third_party"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    for name in tracked.stdout.split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    subprocess.run([Path(sys.executable).with_name("buf"), "build"], cwd=tmp_path, check=True)


def test_headwater_is_a_namespace_over_src_and_gen() -> None:
    assert not [path for folder in ("src", "gen") for path in (ROOT / folder).glob("headwater/__init__.py")]
    assert {Path(folder).parent.name for folder in importlib.import_module("headwater").__path__} >= {"src", "gen"}
    assert (ROOT / "gen/headwater/v1/py.typed").is_file()
    assert (ROOT / "gen/headwater/rest/v1/py.typed").is_file()


@pytest.mark.parametrize("path", PROTOS, ids=lambda path: path.stem)
def test_a_file_has_one_service_at_most(path: Path) -> None:
    assert len(find_services(path)) <= 1


@pytest.mark.parametrize("path", PROTOS, ids=lambda path: path.stem)
def test_comments_begin_with_the_name_they_explain(path: Path) -> None:
    explained = re.compile(
        r"^ *// (?P<first>\S+).*\n(?: *//.*\n)* *"
        r"(?:(?:service|message|rpc) (?P<thing>\w+)|[^\n=/]*?(?P<field>\w+) = \d+(?:;| \[))",
        re.MULTILINE,
    )
    wrong = [
        match["thing"] or match["field"]
        for match in explained.finditer(path.read_text())
        if match["first"] != (match["thing"] or match["field"])
    ]
    assert not wrong


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_a_call_has_a_rest_route_or_a_counterpart_that_has(method: MethodDescriptor) -> None:
    if rules(method) or method.name in WITHOUT_REST_COUNTERPART:
        return
    counterparts = {(other.containing_service.name, other.name) for other in METHODS if rules(other)}
    assert (method.containing_service.name, method.name) in counterparts


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name)
def test_raw_bodies_are_in_the_rest_package_only(method: MethodDescriptor) -> None:
    is_raw = RAW in {method.input_type.full_name, method.output_type.full_name} | {
        field.message_type.full_name for field in method.input_type.fields if field.message_type is not None
    }
    assert not is_raw or method.containing_service.file.package == "headwater.rest.v1"


@pytest.mark.parametrize(
    "method",
    [method for method in METHODS if method.containing_service.file.package == "headwater.v1"],
    ids=lambda method: method.full_name,
)
def test_a_typed_call_has_messages_of_its_own_or_gets_a_resource(method: MethodDescriptor) -> None:
    assert method.input_type.name == f"{method.name}Request"
    assert method.output_type.name == f"{method.name}Response" or method.name.startswith("Get")


def test_no_two_calls_share_a_route() -> None:
    shapes = Counter(
        (verb, re.sub(r"\{\w+\}", "{}", path)) for method in METHODS for verb, path in map(route, rules(method))
    )
    assert [shape for shape, count in shapes.items() if count > 1] == []


def test_the_gateway_knows_every_service_and_what_it_needs() -> None:
    names = {f"{file.package}.{service.name}" for file in DESCRIPTORS.file for service in file.service}
    assert {service.full_name for service in SERVICES} <= names
    files = {file.name for file in DESCRIPTORS.file}
    assert {needed for file in DESCRIPTORS.file for needed in file.dependency} <= files


@pytest.mark.parametrize(
    ("message", "member"),
    [
        (pipelines_pb2.Pipeline(user_id_column="id"), "userIDColumn"),
        (pipelines_pb2.Pipeline(updated_at_column="changed"), "updatedAtColumn"),
        (pipelines_pb2.Matching(input="email"), "in"),
        (pipelines_pb2.Matching(output="email"), "out"),
        (transformations_pb2.TransformationFunction(preserve_json=True), "preserveJSON"),
        (connections_pb2.GetAuthorizationUrlRequest(redirect_uri="https://example.com"), "redirectURI"),
        (connections_pb2.GetAuthorizationUrlResponse(auth_url="https://example.com"), "authUrl"),
        (schemas_pb2.DataType(max_length=60), "maxLength"),
        (schemas_pb2.DataType(char_len=60), "charLen"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_json_names_are_the_documented_ones(message: Message, member: str) -> None:
    assert list(json_format.MessageToDict(message)) == [member]


def test_a_transformation_prints_only_the_one_of_its_two_forms_that_is_there() -> None:
    mapping = transformations_pb2.Transformation()
    mapping.mapping.update({"email": "traits.email"})
    function = json_format.ParseDict(
        {"mapping": None, "function": {"source": "def transform(user): ...", "language": "Python"}},
        transformations_pb2.Transformation(),
    )
    assert json_format.MessageToDict(mapping) == {"mapping": {"email": "traits.email"}}
    assert list(json_format.MessageToDict(function, always_print_fields_with_no_presence=True)) == ["function"]


def test_bounds_of_a_type_may_be_text_so_that_every_digit_survives() -> None:
    text = '{"kind": "int", "bitSize": 64, "minimum": "-9223372036854775808", "maximum": 100}'
    read = json_format.Parse(text, schemas_pb2.DataType())
    assert (read.minimum.string_value, read.maximum.number_value) == ("-9223372036854775808", 100)


def test_the_gateway_knows_the_members_of_schemas() -> None:
    """The gateway refuses other members of schemas, which the transcoder would leave out."""
    text = (ROOT / "envoy/errors.lua").read_text()
    found = re.search(r"for name in \(\[\[(.*?)\]\]\)", text, re.DOTALL)
    assert found is not None
    fields = [field for message in (schemas_pb2.DataType, schemas_pb2.Property) for field in message.DESCRIPTOR.fields]
    assert set(found[1].split()) == {name for field in fields for name in (field.name, field.json_name)}
