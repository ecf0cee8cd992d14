"""The catalogue over gRPC. Its content is tested in tests/connectors."""

from headwater.connectors.registry import CONNECTORS
from headwater.v1 import connectors_pb2 as pb
from tests.api.conftest import UNRESTRICTED, Api

LIST = "ConnectorService/ListConnectors"
GET = "ConnectorService/GetConnector"


async def test_the_list_is_complete_sorted_and_equal_for_every_key(api: Api) -> None:
    response = await api.call(LIST, pb.ListConnectorsRequest())
    listed = sorted(code for code, connector in CONNECTORS.items() if not connector.is_sample)
    assert [connector.code for connector in response.connectors] == listed
    assert await api.call(LIST, pb.ListConnectorsRequest(), key=UNRESTRICTED) == response, "no workspace is needed"
    for connector in response.connectors:
        assert await api.call(GET, pb.GetConnectorRequest(code=connector.code)) == connector


async def test_an_application_has_all_members(api: Api) -> None:
    connector = await api.call(GET, pb.GetConnectorRequest(code="dummy"))
    for role in (connector.as_source, connector.as_destination):
        assert role.settings
        del role.settings[:]
    assert connector == pb.Connector(
        code="dummy",
        label="Dummy",
        type="Application",
        categories=["Test"],
        as_source=pb.Connector.AsSource(
            targets=["User"], has_settings=True, webhooks_per="None", summary="Import made-up customers."
        ),
        as_destination=pb.Connector.AsDestination(
            targets=["User", "Event"],
            has_settings=True,
            sending_mode="Server",
            summary="Send profiles and events to an application that is not there.",
        ),
        terms=pb.Connector.Terms(user="Customer", users="Customers", user_id="Dummy Unique ID"),
        available=True,
        installed=True,
    )


async def test_members_that_a_connector_does_not_have_are_absent(api: Api) -> None:
    javascript = await api.call(GET, pb.GetConnectorRequest(code="javascript"))
    assert (javascript.strategies, javascript.available) == (True, True)
    assert not any(javascript.HasField(name) for name in ("as_destination", "oauth", "terms"))
    excel = await api.call(GET, pb.GetConnectorRequest(code="excel"))
    assert (excel.has_sheets, excel.file_extension, excel.available) == (True, "xlsx", True)
    kafka = await api.call(GET, pb.GetConnectorRequest(code="kafka"))
    assert not any(kafka.HasField(name) for name in ("as_source", "as_destination"))


async def test_an_unknown_code_or_a_missing_key_is_an_error(api: Api) -> None:
    for code in ("", "fax", "Dummy"):
        failed = await api.call(GET, pb.GetConnectorRequest(code=code))
        assert (failed.reason, failed.metadata) == ("NotFound", (("field", "code"),))
    for method, request in ((LIST, pb.ListConnectorsRequest()), (GET, pb.GetConnectorRequest(code="dummy"))):
        assert (await api.call(method, request, key=None)).reason == "Unauthorized"


async def test_the_form_of_the_settings_is_shown(api: Api) -> None:
    postgresql = await api.call("ConnectorService/GetConnector", pb.GetConnectorRequest(code="postgresql"))
    fields = {field.name: field for field in postgresql.as_source.settings}
    assert postgresql.as_source.has_settings
    assert {"host", "port", "username", "password", "database"} <= fields.keys()
    assert (fields["port"].kind, fields["port"].minimum, fields["port"].maximum) == ("Number", 1, 65_535)
    assert (fields["host"].label, fields["host"].required, fields["host"].secret) == ("Host", True, False)
    assert fields["password"].secret
    javascript = await api.call("ConnectorService/GetConnector", pb.GetConnectorRequest(code="javascript"))
    assert not javascript.as_source.settings
