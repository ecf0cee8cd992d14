"""Salesforce's server, from its guides: https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest/.

| documented | where |
| --- | --- |
| bearer tokens; `INVALID_SESSION_ID` with 401; errors are a list of `errorCode` and `message` | errorcodes |
| tokens: form, `instance_url`, `id`, no `expires_in`; `invalid_grant` with 400 | OAuth 2.0 web server flow |
| `userinfo` with the scope `openid` has `organization_id` | UserInfo endpoint |
| upsert: 200 records of one type, no `id`, in order, 200 with a list of results | collections_upsert |
| update: 200 records, each with `id` and a type | collections_update |
| an external id that is given twice fails both; one of several records fails | upsert() |
| `DUPLICATE_EXTERNAL_ID`, `INVALID_CROSS_REFERENCE_KEY`, `STRING_TOO_LONG`, `UNABLE_TO_LOCK_ROW` | status codes |
| queries: `totalSize`, `done`, `nextRecordsUrl`; 2,000 records a response | query |
| `REQUEST_LIMIT_EXCEEDED` with 403, of 24 hours or of concurrent requests | errorcodes, API limits |
| fields of an object with their types and properties | sobject_describe |
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final
from urllib.parse import parse_qs

from tests.connectors.vendors.server import CALM, EMAIL, Item, Plan, Reply, Request, VendorServer

LOGIN: Final = "https://login.salesforce.com"
INSTANCE: Final = "https://example.my.salesforce.com"
TOKEN: Final = "00Dxx0000001gPL!AQcAQH0dMHZfz972Szmpkb58urFRkgeBGsxL_QJWwYMfAbUeeG7c1E6LYUfiDUkWe6H34r1AAwOR"
CLIENT_ID: Final = "3MVG9lKcPoNINVBIPJjdw1J9LLM82Hn"
CLIENT_SECRET: Final = "1955279925675241571"
CODE: Final = "aPrxsmIEeqM9PiQroGEWx1UiMQd95_5JUZ"
REFRESH_TOKEN: Final = "5Aep8614iLM.Dq661ePDmPEgaAW9Oh_L3JKkDpB4xReb54"
ORGANIZATION: Final = "00Dxx0000001gPLEAY"
VERSIONS: Final = ("64.0", "65.0", "66.0")
MAX_RECORDS: Final = 200
MAX_NAME: Final = 80

_TIME: Final = "%Y-%m-%dT%H:%M:%S.000+0000"
_ID: Final = re.compile(r"[A-Za-z0-9]{15}([A-Za-z0-9]{3})?")
_QUERY: Final = re.compile(r"SELECT ([\w,]+) FROM (\w+)( WHERE (.+?))? ORDER BY SystemModstamp,Id")
_COMPARISON: Final = re.compile(r"(SystemModstamp|Id) (>=|>|=) ('\w+'|[0-9T:.Z-]+)")


def _field(name: str, type_: str, label: str = "", **properties: Any) -> dict[str, Any]:
    standard = {"length": 0, "nillable": True, "createable": True, "updateable": True, "externalId": False}
    others = {"idLookup": False, "defaultedOnCreate": False, "deprecatedAndHidden": False, "custom": False}
    return {"name": name, "type": type_, "label": label or name, **standard, **others, **properties}


_READ: Final[dict[str, Any]] = {"createable": False, "updateable": False}
FIELDS: Final = (
    _field("Id", "id", "Contact ID", length=18, nillable=False, idLookup=True, defaultedOnCreate=True, **_READ),
    _field("IsDeleted", "boolean", nillable=False, defaultedOnCreate=True, **_READ),
    _field("AccountId", "reference", "Account ID", length=18),
    _field("LastName", "string", "Last Name", length=MAX_NAME, nillable=False),
    _field("FirstName", "string", "First Name", length=40),
    _field("Name", "string", "Full Name", length=121, nillable=False, **_READ),
    _field("MailingCity", "string", "Mailing City", length=40),
    _field("MailingAddress", "address", "Mailing Address", **_READ),
    _field("Email", "email", "Email", length=80, idLookup=True),
    _field("Birthdate", "date", "Birthdate"),
    _field("LastSeen__c", "datetime", "Last seen", custom=True),
    _field("Visits__c", "double", "Visits", custom=True),
    _field("HasOptedOutOfEmail", "boolean", "Email Opt Out", nillable=False, defaultedOnCreate=True),
    _field("Headwater_ID__c", "string", "Headwater ID", length=64, externalId=True, idLookup=True, custom=True),
    _field("PhotoUrl", "url", length=255, **_READ),
    _field("SystemModstamp", "datetime", "System Modstamp", nillable=False, defaultedOnCreate=True, **_READ),
)


class SalesforceServer(VendorServer):
    """An organization with contacts, and the login server."""

    ORIGINS = (LOGIN, INSTANCE)
    FAULTS = (
        Reply(status=500, body=[{"errorCode": "UNKNOWN_EXCEPTION", "message": "An unexpected error occurred."}]),
        Reply(status=502, headers={"content-type": "text/html"}, body=b"<html>bad gateway</html>"),
        Reply(status=503, body=[{"errorCode": "SERVER_UNAVAILABLE", "message": "There are too many requests."}]),
    )

    def __init__(self, plan: Plan = CALM, now: Callable[[], float] | None = None) -> None:
        super().__init__(plan, now)
        self.by_id: dict[str, dict[str, Any]] = {}
        self.locked = 0
        """Number of the next records whose row is locked. The plan locks others."""
        self._locks = Random(f"{plan.seed}/locks")
        self.batch = 2_000
        """Number of records of a response. Salesforce lowers it for large records."""
        self.max_locks = plan.max_faults
        """Number of rows that the plan can lock."""
        self._cursors: dict[str, list[dict[str, Any]]] = {}

    def add(self, updated: datetime | None = None, **fields: Any) -> str:
        """Add a contact, and return its id."""
        id_ = f"003xx00000{len(self.by_id):05d}AAQ"
        self.by_id[id_] = {field["name"]: None for field in FIELDS} | {
            "Id": id_,
            "IsDeleted": False,
            "HasOptedOutOfEmail": False,
            "SystemModstamp": (updated or self.today()).astimezone(UTC).strftime(_TIME),
            **fields,
        }
        return id_

    def find(self, name: str, value: str) -> list[str]:
        """Return the ids of the contacts with a value, without regard to case."""
        return [id_ for id_, each in self.by_id.items() if str(each[name] or "").casefold() == value.casefold()]

    def answer(self, request: Request) -> Reply:
        if request.path == "/services/oauth2/token":
            return self._grant(request)
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return self.unauthorized()
        if request.path == "/services/oauth2/userinfo":
            return Reply(body={"sub": f"{LOGIN}/id/{ORGANIZATION}/005xx", "organization_id": ORGANIZATION})
        found = re.fullmatch(r"/services/data/v([0-9.]+)(/.*)", request.path)
        if not self.require(found and found[1] in VERSIONS, "the version is not supported", request) or found is None:
            return refuse(404, "NOT_FOUND", "The requested resource does not exist")
        if request.body:
            media_type = request.headers.get("content-type")
            self.require(media_type == "application/json", "the media type is wrong", request)
        parts = found[2].strip("/").split("/")
        match request.method, *parts:
            case "GET", "sobjects", name, "describe":
                if name != "Contact":
                    return refuse(404, "NOT_FOUND", "The requested resource does not exist")
                return Reply(body={"name": name, "label": name, "queryable": True, "fields": FIELDS})
            case "GET", "query":
                return self._query(request)
            case "GET", "query", cursor:
                records = self._cursors.get(cursor)
                if records is None:
                    return refuse(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
                return self._page(records, cursor)
            case "PATCH", "composite", "sobjects", name, field:
                return self._write(request, name, field)
            case "PATCH", "composite", "sobjects":
                return self._write(request, "Contact", "")
        self.violate("there is no such endpoint", request)
        return refuse(404, "NOT_FOUND", "The requested resource does not exist")

    def unauthorized(self) -> Reply:
        return refuse(401, "INVALID_SESSION_ID", "Session expired or invalid")

    def throttle(self) -> Reply:
        limit = self._random.choice(("TotalRequests", "ConcurrentRequests (Concurrent API Requests)"))
        return refuse(403, "REQUEST_LIMIT_EXCEEDED", f"{limit} Limit exceeded.")

    # Access

    def _grant(self, request: Request) -> Reply:
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        is_client = (form.get("client_id"), form.get("client_secret")) == (CLIENT_ID, CLIENT_SECRET)
        if not self.require(is_client and request.method == "POST" and not request.query, "no client", request):
            return Reply(
                status=400, body={"error": "invalid_client_id", "error_description": "client identifier invalid"}
            )
        given = form.get("code") if form.get("grant_type") == "authorization_code" else form.get("refresh_token")
        if given not in (CODE, REFRESH_TOKEN):
            return Reply(status=400, body={"error": "invalid_grant", "error_description": "expired authorization code"})
        body = {
            "access_token": TOKEN,
            "scope": "api refresh_token openid",
            "signature": "0CmxinZir53Yex7nE0TD+zMpvIWYGb/bdJh6XfOH6EQ=",
            "instance_url": INSTANCE,
            "id": f"{LOGIN}/id/{ORGANIZATION}/005xx000001SwiUAAS",
            "token_type": "Bearer",
            "issued_at": "1278448384422",
        }
        if given == CODE:
            body["refresh_token"] = REFRESH_TOKEN
        return Reply(body=body)

    # Reading

    def _query(self, request: Request) -> Reply:
        self.require(len(request.path) + sum(map(len, request.query["q"])) < 16_384, "the URL is too long", request)
        found = _QUERY.fullmatch(request.query["q"][0])
        if not self.require(found, f"unknown query: {request.query['q']}", request) or found is None:
            return refuse(400, "MALFORMED_QUERY", "unexpected token")
        names, known = found[1].split(","), {field["name"] for field in FIELDS}
        if found[2] != "Contact":
            return refuse(400, "INVALID_TYPE", f"sObject type '{found[2]}' is not supported.")
        if unknown := [name for name in names if name not in known]:
            return refuse(400, "INVALID_FIELD", f"No such column '{unknown[0]}' on entity 'Contact'.")
        chosen = [each for each in self.by_id.values() if _holds(found[4] or "", each)]
        chosen.sort(key=lambda each: (each["SystemModstamp"], each["Id"]))
        rows = [{"attributes": {"type": "Contact"}, **{name: each[name] for name in names}} for each in chosen]
        return self._page(rows, f"01gxx{len(self._cursors):013d}-0")

    def _page(self, rows: list[dict[str, Any]], cursor: str) -> Reply:
        body: dict[str, Any] = {"totalSize": len(rows), "done": True, "records": rows[: self.batch]}
        if rows[self.batch :]:
            following = f"{cursor.partition('-')[0]}-{int(cursor.partition('-')[2]) + self.batch}"
            self._cursors[following] = rows[self.batch :]
            body |= {"done": False, "nextRecordsUrl": f"/services/data/v66.0/query/{following}"}
        return Reply(body=body)

    def forget_cursors(self) -> None:
        """End all cursors, as after two days."""
        self._cursors.clear()

    # Writing

    def _write(self, request: Request, object_: str, external: str) -> Reply:
        body = request.json()
        records = body["records"]
        self.require(set(body) == {"allOrNone", "records"} and body["allOrNone"] is False, "unknown members", request)
        self.require(1 <= len(records) <= MAX_RECORDS, f"{len(records)} records", request)
        for record in records:
            self.require(record["attributes"] == {"type": object_}, "a record has another type", request)
            self.require(("id" in record) is (external == ""), "only an update has ids", request)
        if external and external not in [field["name"] for field in FIELDS if field["externalId"] or field["idLookup"]]:
            return refuse(404, "NOT_FOUND", "Provided external ID field does not exist or is not accessible")
        known = {field["name"]: field for field in FIELDS} | {"attributes": {}, "id": {}}
        for record in records:
            if unknown := [name for name in record if name not in known]:
                return refuse(400, "INVALID_FIELD", f"No such column '{unknown[0]}' on sobject of type Contact")
            for name, value in record.items():
                if (
                    known[name].get("type") == "date"
                    and value is not None
                    and not re.fullmatch(r"\d{4}-\d\d-\d\d", value)
                ):
                    return refuse(400, "JSON_PARSER_ERROR", f"Cannot deserialize instance of date from {value!r}")
        given = [str(record.get(external, "")).casefold() for record in records] if external else []
        if external:
            self.require(len(set(given)) == len(given), "an external id is given twice", request)
        return Reply(body=[self._write_record(record, external) for record in records])

    def _write_record(self, record: dict[str, Any], external: str) -> dict[str, Any]:
        fields = {name: value for name, value in record.items() if name not in ("attributes", "id")}
        owners = self.find(external, str(fields[external])) if external else [record["id"]]
        if len(owners) > 1:
            return fail("DUPLICATE_EXTERNAL_ID", f"{external}: more than one record found for external id field")
        id_ = owners[0] if owners else ""
        if not external and not _ID.fullmatch(id_):
            return fail("MALFORMED_ID", f"Contact ID: id value of incorrect type: {id_}", "Id")
        if not external and id_ not in self.by_id:
            return fail("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")
        if error := self._find_error(fields, is_new=not id_):
            return error
        is_new = not id_
        id_ = id_ or self.add()
        self.by_id[id_] |= fields
        moment = self.today() + timedelta(seconds=len(self.requests))
        self.by_id[id_]["SystemModstamp"] = moment.astimezone(UTC).strftime(_TIME)
        self.accept(Item(id=id_, user=id_, content=fields))
        return {"id": id_, "success": True, "errors": [], "created": is_new}

    def _find_error(self, fields: dict[str, Any], *, is_new: bool) -> dict[str, Any] | None:
        """Return the result of a record that is not written."""
        if is_new and not fields.get("LastName"):
            return fail("REQUIRED_FIELD_MISSING", "Required fields are missing: [LastName]", "LastName")
        for field in FIELDS:
            value = fields.get(field["name"])
            if field["name"] in fields and not (field["createable"] and field["updateable"]):
                name = field["name"]
                return fail("INVALID_FIELD_FOR_INSERT_UPDATE", f"Unable to create/update fields: {name}.", name)
            if isinstance(value, str) and 0 < field["length"] < len(value):
                return fail("STRING_TOO_LONG", f"{field['label']}: data value too large", field["name"])
        if (email := fields.get("Email")) is not None and not EMAIL.fullmatch(email):
            return fail("INVALID_EMAIL_ADDRESS", f"Email: invalid email address: {email}", "Email")
        is_locked = self.plan.failed > self._locks.random() and self.max_locks > 0
        if self.locked > 0 or is_locked:
            self.locked, self.max_locks = max(self.locked - 1, 0), self.max_locks - is_locked
            return fail("UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record")
        id_ = fields.get("Headwater_ID__c") or ""
        if id_ and self.refuses(id_):
            return fail("FIELD_CUSTOM_VALIDATION_EXCEPTION", "The record is not accepted by a rule.", "Name")
        return None


def _holds(condition: str, record: dict[str, Any]) -> bool:
    """Evaluate a condition: comparisons with AND, OR and parentheses."""

    def compare(found: re.Match[str]) -> str:
        name, operator, text = found.groups()
        value: Any = record[name]
        other: Any = text.strip("'")
        if name == "SystemModstamp":
            value, other = datetime.strptime(value, "%Y-%m-%dT%H:%M:%S.%f%z"), datetime.fromisoformat(other)
        return str(value > other if operator == ">" else value >= other if operator == ">=" else value == other)

    terms = _COMPARISON.sub(compare, condition or "True")
    terms = terms.replace("OR", "or").replace("AND", "and")
    assert not set(re.findall(r"\w+", terms)) - {"True", "False", "or", "and"}, condition
    return bool(eval(terms))


def refuse(status: int, code: str, message: str) -> Reply:
    """Return a response in the form of all errors."""
    return Reply(status=status, body=[{"errorCode": code, "message": message}])


def fail(code: str, message: str, *fields: str) -> dict[str, Any]:
    """Return the result of one record."""
    return {"success": False, "errors": [{"statusCode": code, "message": message, "fields": list(fields)}]}
