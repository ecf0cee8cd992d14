"""An application in memory that finds its users by email, and fails in the ways that applications do."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime

from headwater.connectors.contract import (
    NOT_ATTEMPTED,
    BatchLimits,
    ItemResult,
    Outcome,
    RateLimit,
    SourceUser,
    UsersPage,
    UserWrite,
    rejected,
)
from headwater.schemas import IntType, ObjectType, Property, Record, Schema, StringType

WRITABLE: Schema = ObjectType(
    (
        Property("email", StringType(max_length=20)),
        Property("name", StringType(), nullable=True),
        Property("age", IntType(32)),
    )
)


class Killed(BaseException):
    """The process is killed here."""


class Application:
    """Implements `UserSource` and `UserSink`."""

    def __init__(self) -> None:
        self.users_by_id: dict[str, Record] = {}
        self.keys: dict[str, str] = {}
        self.calls: list[list[UserWrite]] = []
        self.write_limits = BatchLimits(max_events=3)
        self.write_rates: tuple[RateLimit, ...] = ()
        self.case_insensitive: tuple[str, ...] = ()
        """Properties that are stored in lower case."""
        self.writable = WRITABLE
        self.page_users = 2
        self.created = 0
        self.before: Callable[[Sequence[UserWrite]], Sequence[ItemResult] | None] = lambda users: None
        self.after: Callable[[], None] = lambda: None

    def add(self, id_: str, **attributes: object) -> None:
        self.users_by_id[id_] = dict(attributes)  # type: ignore[arg-type]  # values of the tests

    async def readable_schema(self) -> Schema:
        return self.writable

    async def writable_schema(self) -> Schema:
        return self.writable

    async def users(self, cursor: str, updated_since: datetime | None = None) -> UsersPage:
        start = int(cursor or 0)
        chosen = sorted(self.users_by_id.items())[start : start + self.page_users]
        users = tuple(SourceUser(id=id_, attributes=attributes) for id_, attributes in chosen)
        is_last = start + self.page_users >= len(self.users_by_id)
        return UsersPage(users=users, cursor="" if is_last else str(start + self.page_users))

    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        assert len(users) <= self.write_limits.max_events
        assert len({bool(user.id) for user in users}) == 1, "creates and updates are apart"
        results = self.before(users)
        if results is None:
            results = [self.write(user) for user in users]
        self.calls.append(list(users))
        self.after()
        return results

    def write(self, user: UserWrite) -> ItemResult:
        id_ = user.id or self.keys.get(user.key, "")
        if not id_:
            self.created += 1
            id_ = f"u{self.created}"
        if user.id and user.id not in self.users_by_id:
            return rejected("Missing", "the user does not exist")
        self.keys[user.key] = id_
        stored = {name: str(user.attributes[name]).lower() for name in self.case_insensitive if name in user.attributes}
        self.users_by_id[id_] = {**self.users_by_id.get(id_, {}), **user.attributes, **stored}
        return ItemResult(outcome=Outcome.DELIVERED, id=id_)

    def emails(self) -> Counter[object]:
        return Counter(user.get("email") for user in self.users_by_id.values())

    def refuse(self, *emails: str) -> None:
        """Refuse batches with one of these users as a whole, without a reason for one of them."""

        def before(users: Sequence[UserWrite]) -> Sequence[ItemResult] | None:
            return [NOT_ATTEMPTED] * len(users) if any(u.attributes.get("email") in emails for u in users) else None

        self.before = before
