"""The conformance suite of `UserSink`."""

from abc import ABC, abstractmethod
from typing import ClassVar

from headwater.connectors.contract import Outcome, UserSink, UserWrite
from headwater.schemas import Codec, Record, all_optional

UNKNOWN_ID = "no-such-user"
KEYS = [f"{number:032x}" for number in range(1, 1_000)]


class UserSinkConformance(ABC):
    """`make` returns a sink of an application without failures; `read` the attributes of a user that was written.

    `examples` are at least two different users for the writable schema. `rejected` are attributes that the application
    does not accept, if there are any.
    """

    IS_WRITE_ONLY: ClassVar[bool] = False
    """Whether the application cannot be read: an update is a write with the attributes that identify the user."""

    @abstractmethod
    def make(self) -> UserSink: ...

    @abstractmethod
    async def read(self, sink: UserSink, id_: str) -> Record | None: ...

    @abstractmethod
    def examples(self) -> list[Record]: ...

    def rejected(self) -> Record | None:
        return None

    def identity(self, example: Record) -> Record:
        """Return the attributes that identify a user of an application that cannot be read."""
        raise NotImplementedError

    def update(self, id_: str, example: Record, change: Record, key: str) -> UserWrite:
        """Return the write that updates the user of an example."""
        if self.IS_WRITE_ONLY:
            return UserWrite(id="", attributes=change | self.identity(example), key=key)
        return UserWrite(id=id_, attributes=change, key=key)

    def writes(self) -> list[UserWrite]:
        return [UserWrite(id="", attributes=each, key=key) for each, key in zip(self.examples(), KEYS, strict=False)]

    async def test_the_examples_conform_to_the_schema(self) -> None:
        codec = Codec(all_optional(await self.make().writable_schema()))
        assert len(self.examples()) >= 2
        for example in self.examples():
            assert codec.decode(codec.encode(example)) == example

    async def test_the_schema_is_for_writing(self) -> None:
        assert not any(property.read_optional for property in await self.make().writable_schema())

    async def test_the_limits_are_positive(self) -> None:
        sink = self.make()
        assert sink.write_limits.max_events >= 1
        assert all(rate.count >= 1 and rate.seconds > 0 for rate in sink.write_rates)

    async def test_created_users_have_ids_and_can_be_read(self) -> None:
        sink = self.make()
        results = await sink.write_users(self.writes())
        assert [result.outcome for result in results] == [Outcome.DELIVERED] * len(self.writes())
        assert all(result.id for result in results)
        assert len({result.id for result in results}) == len(results)
        for result, example in zip(results, self.examples(), strict=True):
            found = await self.read(sink, result.id)
            assert found is not None and found.items() >= self._readable(example, found).items()

    async def test_an_update_changes_only_its_attributes(self) -> None:
        sink = self.make()
        one, other = self.examples()[:2]
        [created] = await sink.write_users([UserWrite(id="", attributes=one, key=KEYS[0])])
        before = await self.read(sink, created.id)
        assert before is not None
        identity = self.identity(one) if self.IS_WRITE_ONLY else {}
        changed = (each for each in other if other[each] != one.get(each) and each in before and each not in identity)
        name = next(changed)
        change = {name: other[name]}
        [updated] = await sink.write_users([self.update(created.id, one, change, KEYS[1])])
        assert (updated.outcome, updated.id) == (Outcome.DELIVERED, created.id)
        assert await self.read(sink, created.id) == {**before, **change}

    async def test_a_repetition_creates_no_second_user(self) -> None:
        sink = self.make()
        [write, *_] = self.writes()
        [first] = await sink.write_users([write])
        [second] = await sink.write_users([write])
        assert first.id == second.id

    async def test_each_user_has_its_own_result(self) -> None:
        sink = self.make()
        created = await sink.write_users(self.writes())
        one, other = self.examples()[:2]
        unknown = UserWrite(id=UNKNOWN_ID, attributes=one, key=KEYS[11])
        if self.IS_WRITE_ONLY:  # it has no users that are unknown
            unknown = UserWrite(id="", attributes=self.rejected() or {}, key=KEYS[11])
        writes = [
            self.update(created[0].id, one, one, KEYS[10]),
            unknown,
            self.update(created[1].id, other, other, KEYS[12]),
        ]
        results = await sink.write_users(writes)
        outcomes = [result.outcome for result in results]
        assert outcomes == [Outcome.DELIVERED, Outcome.REJECTED, Outcome.DELIVERED]
        assert results[1].reason and not results[1].id
        assert [results[0].id, results[2].id] == [created[0].id, created[1].id]

    async def test_attributes_that_are_not_accepted_are_rejected(self) -> None:
        attributes = self.rejected()
        if attributes is not None:
            [result] = await self.make().write_users([UserWrite(id="", attributes=attributes, key=KEYS[0])])
            assert result.outcome is Outcome.REJECTED and result.reason

    def _readable(self, example: Record, found: Record) -> Record:
        """Return the properties that can be written and read."""
        return {name: value for name, value in example.items() if name in found}
