"""The contacts of HubSpot's server.

| documented | where |
| --- | --- |
| `batch/upsert` by a unique property, `batch/update` by id: 100 inputs; results with ids | contacts batch |
| 207 with `errors` that have `context.objectWriteTraceId`, if each input has one | error-handling |
| the same contact twice fails the request; properties that do not exist or are read-only do too | contacts batch |
| a body without `inputs`: COMPLETE, and nothing is done | rudder-transformer 5147 |
| values are texts, and an empty one clears a property | update-contacts |
| search: filters, sorts, 200 a page, 5 a second | search |
| properties with types, `modificationMetadata`, options | get-properties |
"""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final

from tests.connectors.vendors.server import EMAIL, Item, Reply, Request, VendorServer


def _property(name: str, type_: str, field: str = "text", *, read_only: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "label": name.title(),
        "type": type_,
        "fieldType": field,
        "archived": False,
        "calculated": False,
        "hasUniqueValue": name == "email",
        "modificationMetadata": {"archivable": True, "readOnlyDefinition": True, "readOnlyValue": read_only},
    }


PROPERTIES: Final = [
    _property("email", "string"),
    _property("firstname", "string"),
    _property("lastname", "string"),
    _property("phone", "phone_number", "phonenumber"),
    _property("score", "number", "number"),
    _property("birthday", "date", "date"),
    _property("signed_up_at", "datetime", "date"),
    _property("is_vip", "bool", "booleancheckbox"),
    _property("plan", "enumeration", "select"),
    _property("colours", "enumeration", "checkbox"),
    _property("hs_object_id", "number", "number", read_only=True),
    _property("createdate", "datetime", "date", read_only=True),
    _property("lastmodifieddate", "datetime", "date", read_only=True),
    {**_property("visits", "number"), "calculated": True},
    {**_property("gone", "string"), "archived": True},
]
_BY_NAME: Final = {each["name"]: each for each in PROPERTIES}


class Contacts:
    """The contacts of an account by id, each with its properties, which are texts."""

    def __init__(self, server: VendorServer) -> None:
        self.by_id: dict[str, dict[str, str]] = {}
        self.updated: dict[str, datetime] = {}
        self.is_silent = False
        """Whether batches are COMPLETE with no results. The plan makes others silent."""
        self._server = server
        self._silences = Random(f"{server.plan.seed}/silences")
        self._max_silences = server.plan.max_faults

    def add(self, updated: datetime | None = None, **properties: str) -> str:
        """Add a contact, and return its id."""
        id_ = str(len(self.by_id) + 96)
        self.by_id[id_] = properties
        self.updated[id_] = updated or self._server.today()
        return id_

    def find(self, email: str) -> list[str]:
        """Return the ids of the contacts with an email address."""
        return [id_ for id_, properties in self.by_id.items() if properties.get("email") == email]

    def answer(self, request: Request, area: str, path: str) -> Reply:
        match request.method, area, path:
            case "GET", "crm/properties", "contacts":
                return Reply(body={"results": [each for each in PROPERTIES if not each["archived"]]})
            case "POST", "crm/objects", "contacts/search":
                return self._search(request)
            case "POST", "crm/objects", "contacts/batch/upsert":
                return self._batch(request, is_update=False)
            case "POST", "crm/objects", "contacts/batch/update":
                return self._batch(request, is_update=True)
        self._server.violate("there is no such endpoint", request)
        return Reply(status=404, body=_error("OBJECT_NOT_FOUND", "There is no such endpoint"))

    # Reading

    def _search(self, request: Request) -> Reply:
        require, body = self._server.require, request.json()
        if not self._server.count("search", 5, 1, request):
            return self._server.throttle()
        known = {"filterGroups", "sorts", "properties", "limit", "after"}
        require(set(body) <= known, f"unknown members: {set(body) - known}", request)
        require(set(body["properties"]) <= set(_BY_NAME), "a property does not exist", request)
        require(1 <= body["limit"] <= 200, "a page has 1 to 200 contacts", request)
        require(body["sorts"] == [{"propertyName": "hs_object_id", "direction": "ASCENDING"}], "another order", request)
        [group] = body["filterGroups"]
        found = [id_ for id_ in self.by_id if all(self._matches(id_, each, request) for each in group["filters"])]
        found.sort(key=int)
        page = found[: body["limit"]]
        reply: dict[str, Any] = {"total": len(found), "results": [self._resource(id_, body) for id_ in page]}
        if len(found) > len(page):
            reply["paging"] = {"next": {"after": str(len(page))}}
        return Reply(body=reply)

    def _matches(self, id_: str, filter_: Any, request: Request) -> bool:
        match filter_["propertyName"], filter_["operator"]:
            case "hs_object_id", "GT":
                return int(id_) > int(filter_["value"])
            case "lastmodifieddate", "GTE":
                return self.updated[id_].timestamp() * 1_000 >= int(filter_["value"])
        return self._server.require(False, f"unknown filter: {filter_}", request)

    def _resource(self, id_: str, body: Any = None) -> dict[str, Any]:
        moment = self.updated[id_].astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fixed = {"hs_object_id": id_, "lastmodifieddate": moment, "createdate": moment}
        properties = {name: value or None for name, value in (self.by_id[id_] | fixed).items()}
        if body is not None:
            properties = {name: properties.get(name) for name in body["properties"]}
        return {"id": id_, "properties": properties, "createdAt": moment, "updatedAt": moment, "archived": False}

    # Writing

    def _batch(self, request: Request, *, is_update: bool) -> Reply:
        body = request.json()
        if self.is_silent or "inputs" not in body or self._is_silenced():
            return Reply(body={"status": "COMPLETE", "results": []})
        inputs, require = body["inputs"], self._server.require
        require(0 < len(inputs) <= 100, "a batch has 1 to 100 contacts", request)
        for each in inputs:
            known = {"id", "properties", "objectWriteTraceId"} | ({"idProperty"} if not is_update else set())
            require(set(each) <= known and each["id"], f"unknown members: {set(each) - known}", request)
            require(each.get("objectWriteTraceId"), "an input without objectWriteTraceId has no result", request)
            require(is_update or each.get("idProperty") == "email", "the property is not unique", request)
            require(is_update or each["properties"].get("email") == each["id"], "partial upsert by email", request)
            require(all(isinstance(value, str) for value in each["properties"].values()), "values are texts", request)
            for name in each["properties"]:
                if name not in _BY_NAME or _BY_NAME[name]["modificationMetadata"]["readOnlyValue"]:
                    return Reply(status=400, body=_error("VALIDATION_ERROR", f'Property "{name}" does not exist'))
        if len({each["id"] for each in inputs}) < len(inputs):
            self._server.violate("a contact is twice in a request", request)
            return Reply(status=400, body=_error("VALIDATION_ERROR", "Duplicate IDs found in batch input"))
        results, errors = [], []
        for each in inputs:
            result, found = self._write(each, is_update)
            if found is None:
                results.append(result)
            else:
                errors.append({**found, "context": {"objectWriteTraceId": [each["objectWriteTraceId"]]}})
        reply: dict[str, Any] = {"status": "COMPLETE", "results": results, "startedAt": "", "completedAt": ""}
        if not errors:
            return Reply(body=reply)
        return Reply(status=207, body={**reply, "numErrors": len(errors), "errors": errors})

    def _is_silenced(self) -> bool:
        """Return whether the plan makes the batch one of which nothing is done."""
        is_silenced = self._max_silences > 0 and self._silences.random() < self._server.plan.failed
        self._max_silences -= is_silenced
        return is_silenced

    def _write(self, given: Any, is_update: bool) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Write one contact, and return its result or its error."""
        properties, email = given["properties"], given["properties"].get("email", "")
        if email and not EMAIL.fullmatch(email):
            return {}, _error("VALIDATION_ERROR", f"Email address {email} is invalid")
        if self._server.refuses(email or given["id"]):
            return {}, _error("VALIDATION_ERROR", "The contact is not accepted")
        if is_update and given["id"] not in self.by_id:
            return {}, _error("OBJECT_NOT_FOUND", f"Could not get some CONTACT objects: {given['id']}")
        found = self.find(email) if email else []
        if is_update and found and found != [given["id"]]:
            return {}, _error("CONFLICT", f"Contact already exists. Existing ID: {found[0]}")
        id_ = given["id"] if is_update else next(iter(found), "")
        is_new = not id_
        id_ = id_ or self.add()
        self.by_id[id_] |= properties
        self.updated[id_] = self._server.today() + timedelta(seconds=len(self._server.requests))
        self._server.accept(Item(id=id_, user=id_, content=properties))
        trace = {"objectWriteTraceId": given["objectWriteTraceId"], "new": is_new}
        return {**self._resource(id_), **trace}, None


def _error(category: str, message: str) -> dict[str, Any]:
    return {"status": "error", "category": category, "message": message}
