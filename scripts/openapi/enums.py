"""Closed sets of values as components with names, so that each is one type in a generated client."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

from openapi.options import Options

NAMES: Final = {
    "ApiKeyAccess": "ApiKey.access",
    "ApiKeyType": "ApiKey.type",
    "AttributionStrategy": "Connection.strategy",
    "BlockedPreset": "IdentifierGuards.blocked_presets",
    "BrowserName": "EventContext.Browser.name",
    "Compression": "Pipeline.compression",
    "ConnectedType": "Connection.connector_type",
    "ConnectionRole": "Connection.role",
    "ConnectionWarningCode": "ConnectionWarning.code",
    "ConnectorType": "Connector.type",
    "CountInterval": "CountEventsRequest.interval",
    "CountedBy": "CountEventsRequest.by",
    "DeliveryResult": "DeliveryOutcome.outcome",
    "DestinationHealth": "DestinationQueue.health",
    "ErasedStoreName": "ErasedStore.store",
    "EventKind": "Event.type",
    "EventOrder": "ListEventsRequest.order",
    "EventOutcome": "EventTrace.outcome",
    "ExportMode": "Pipeline.export_mode",
    "ExportedRecordKind": "ExportedRecord.kind",
    "FileFormat": "Pipeline.format",
    "FilterOperator": "FilterCondition.operator",
    "FunctionLanguage": "TransformationFunction.language",
    "OperatingSystemName": "EventContext.OperatingSystem.name",
    "OperationKind": "Operation.kind",
    "OperationStatus": "Operation.status",
    "PipelineRunStatus": "PipelineRun.status",
    "PipelineStep": "PipelineError.step",
    "PipelineTarget": "Pipeline.target",
    "ProfileChangeKind": "ProfileChange.kind",
    "ProfileLinkRule": "ProfileLink.rule",
    "RefusalReason": "Refusal.reason",
    "RequestOutcome": "EventTraceRequest.outcome",
    "RunTrigger": "PipelineRun.trigger",
    "SchedulePeriod": "Pipeline.schedule_period",
    "SendingMode": "Connection.sending_mode",
    "SettingsFieldKind": "SettingsField.kind",
    "StepOutcome": "EventTraceStep.outcome",
    "TransformationPurpose": "TransformDataRequest.purpose",
    "TrialOutcome": "TrialResult.outcome",
    "TrialStep": "TrialResult.step",
    "TrialStop": "TryPipelineResponse.stopped_by",
    "TypeKind": "DataType.kind",
    "WarehouseMode": "Workspace.warehouse_mode",
}
"""The name of each set, and a field that has its values. Other fields with the same values have the same type."""

BY_HAND: Final[dict[str, dict[str, Any]]] = {
    "ContentEncodingName": {"type": "string", "enum": ["gzip", "deflate", "identity"]},
    "StrictMode": {"type": "string", "enum": ["0", "1"]},
}
"""The sets of headers."""


class Enums:
    """The components of sets of values."""

    def __init__(self, files: Iterable[FileDescriptorProto], options: Options) -> None:
        fields = {name: field for file in files for name, field in _fields(file.message_type, "")}
        self._values = {name: tuple(options.values(fields[field])) for name, field in NAMES.items()}
        self._names = {values: name for name, values in self._values.items()}
        assert len(self._names) == len(NAMES), "two names have the same values"

    def reference(self, values: Sequence[str]) -> dict[str, Any]:
        """Return a reference to the component of these values. Raises KeyError if `NAMES` has no name for them."""
        return {"$ref": f"#/components/schemas/{self._names[tuple(values)]}"}

    def components(self) -> dict[str, dict[str, Any]]:
        """Return all components by name."""
        made = {name: {"type": "string", "enum": list(values)} for name, values in self._values.items()}
        return made | BY_HAND


def _fields(messages: Iterable[DescriptorProto], outer: str) -> Iterable[tuple[str, Any]]:
    for message in messages:
        for field in message.field:
            yield f"{outer}{message.name}.{field.name}", field
        yield from _fields(message.nested_type, f"{outer}{message.name}.")
