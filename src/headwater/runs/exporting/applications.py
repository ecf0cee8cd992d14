"""Exports profiles to an application: each finds its users by a property, and updates or creates them.

| mode | profile with users | profile without |
| --- | --- | --- |
| CreateOnly | left out | created |
| UpdateOnly | updated | left out |
| CreateOrUpdate | updated | created |

All users of the application are read first. Then the profiles whose attributes, or whose users, differ from those of
the last confirmed export are written. An application that cannot be read has one user for each value: it is created or
updated by each write.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from hashlib import blake2b
from typing import Any, Final, cast

import msgspec
from msgspec import Struct

from headwater.base.errors import BadRequest
from headwater.connectors.contract import ItemResult, Outcome, UserSink, UserSource, UserWrite, ignores_case
from headwater.runs.exporting.differences import (
    CONTENT,
    EXTERNAL_ID,
    IS_FAILED,
    RUN,
    SOURCE,
    Batch,
    Candidate,
    count_done,
    delivered,
    report_batch,
    report_failure,
    report_outputs,
    show_kpid,
    undelivered,
)
from headwater.runs.exporting.matching import Matching, read_users
from headwater.runs.exporting.outbox import DueProfile, Outbox, OutboxThread, Person, PersonState, open_outbox
from headwater.runs.exporting.recording import Recorder
from headwater.runs.exporting.selecting import (
    STEP,
    ExportInput,
    call,
    describe,
    open_destination,
    read_input,
    read_rows,
)
from headwater.runs.exporting.sending import UserSender, find_batch_users
from headwater.runs.exporting.transforming import Digest, ExportOutput, FailedRecord, digest_definition, read_output
from headwater.runs.job import Job, RunFailed
from headwater.runs.rates import open_rates
from headwater.schemas import ExportMode, InvalidValue, Schema, misalignment, parse_path, select, without
from headwater.schemas.records import RecordReader
from headwater.state.profiles.exporting import ATTRIBUTES, ID, KPID, ExportRecord, ProfileStream, SelectedProfile
from headwater.transforms.functions import Purpose

MAX_NAMED: Final = 5
"""Maximum number of profiles that an error of several profiles with one value names."""
_BATCH: Final = 1_000
_encode_ids: Final = msgspec.json.Encoder().encode
_decode_ids: Final = msgspec.json.Decoder(list[str]).decode


async def export_to_application(job: Job, recorder: Recorder) -> None:
    """Write the users of a run that was taken. Raises RunFailed, RunCancelled, Unavailable."""
    given, definition = read_input(job), job.pipeline.definition
    output = read_output(job.pipeline, given.schema, job.functions)
    if definition.matching is None:
        raise RunFailed("InputValidation", "the pipeline has no matching")
    try:
        matching = Matching(definition.matching.input, definition.matching.output, given.schema, output.schema)
    except BadRequest as error:
        raise RunFailed("InputValidation", f"matching cannot be used: {error.message}") from error
    async with (
        _open_source(job) as source,
        open_destination(job, lambda engine: engine.user_sink) as (sink, _),
        open_outbox(job.scratch) as outbox,
    ):
        await _check_schema(job, output.schema, source, sink)
        export = _ApplicationExport(job, given, output, matching, outbox, recorder)
        if source is not None:
            matching.ignores_case = ignores_case(source, matching.out_path[0])
            await read_users(job, source, matching, outbox)
        await export.find_due()
        await export.reject_shared()
        async with open_rates(job, sink.write_rates, max_users=find_batch_users(sink)) as rates:
            sender = UserSender(job, sink, rates, recorder.check)
            await _Writer(job, output, matching, outbox, recorder, sender).write()


@asynccontextmanager
async def _open_source(job: Job) -> AsyncIterator[UserSource | None]:
    """Yield the source of the users that the application has; None if they cannot be read. Raises RunFailed."""
    if not job.connector.engine.is_write_only:
        async with open_destination(job, lambda engine: engine.user_source) as (source, _):
            yield source
    elif job.pipeline.definition.export_mode == "CreateOrUpdate":
        yield None
    else:
        raise RunFailed("InputValidation", f"exportMode must be CreateOrUpdate: {job.connector.label} cannot be read")


async def _check_schema(job: Job, stored: Schema, source: UserSource | None, sink: UserSink) -> None:
    """Raise RunFailed if the application does not have the properties of the pipeline."""
    matching = job.pipeline.definition.matching
    mode = cast(ExportMode, job.pipeline.definition.export_mode)  # the catalog has no other mode
    assert matching is not None, "it was compiled"
    offered = await call(job.connector.label, sink.writable_schema())
    written: Schema | None = stored
    path = parse_path(matching.output)
    if offered.get(path[0]) is None:  # users are found by a property that is only read
        written = without(stored, path)
        readable = None if source is None else await call(job.connector.label, source.readable_schema())
        if readable is None or readable.get(path[0]) is None:
            raise RunFailed("OutputValidation", f"outSchema differs: property {path[0]} no longer exists")
    difference = misalignment(written, offered, mode)
    if difference is not None:
        raise RunFailed("OutputValidation", f"outSchema differs from that of {job.connector.label}: {difference.cause}")


class _Compared(Struct):
    """A batch of profiles, compared."""

    batch: Batch
    purposes: list[Purpose] = []
    """The purpose of each candidate."""
    people: list[Person] = []
    """All profiles of the batch but the candidates."""
    values: list[str] = []
    """The value by which each candidate finds its users."""
    ambiguous: list[tuple[DueProfile, int]] = []
    """Profiles with several users that may not all be updated, and the number of these."""


class _ApplicationExport:
    """Finds the users to write."""

    def __init__(
        self,
        job: Job,
        given: ExportInput,
        output: ExportOutput,
        matching: Matching,
        outbox: OutboxThread,
        recorder: Recorder,
    ) -> None:
        self._job = job
        self._given = given
        self._output = output
        self._matching = matching
        self._outbox = outbox
        self._is_write_only = job.connector.engine.is_write_only
        self._digest = Digest(digest_definition(job.pipeline.definition))
        found = select(given.schema, [matching.in_path])
        assert found is not None, "the schema has the property"
        self._value_reader = RecordReader(found)
        self._recorder = recorder

    async def find_due(self) -> None:
        """Find the profiles to write. Raises RunFailed, RunCancelled."""
        job, recorder = self._job, self._recorder
        async with job.state.exports.read(self._given.selection(job, with_records=True)) as stream:
            while rows := await read_rows(job, stream):
                compared = await self._outbox.run(partial(self._compare, rows=rows, stream=stream))
                report_batch(job.report, compared.batch)
                await self._outbox.run(partial(Outbox.add_people, people=compared.people))
                await self._transform(compared)
                await recorder.add(self._reject_ambiguous(compared), compared.batch.leaving)
        await recorder.flush()

    def _compare(self, outbox: Outbox, rows: Sequence[SelectedProfile], stream: ProfileStream) -> _Compared:
        compared = _Compared(Batch([], [], []), [], [], [], [])
        for row in rows:
            if stream.holds(row):
                self._compare_one(outbox, row, compared)
            elif row[SOURCE] is not None:
                compared.batch.leaving.append(row[ID])
        return compared

    def _compare_one(self, outbox: Outbox, row: Any, compared: _Compared) -> None:
        """Find the users of a profile, and decide what to do with it."""
        batch, run, mode = compared.batch, self._job.run, self._job.pipeline.definition.export_mode
        kpid, failure, value = row[KPID], None, None
        try:
            value = self._matching.value(self._value_reader.record(row[ATTRIBUTES]))
            if value is None:
                path = self._matching.in_path
                failure = FailedRecord("InputValidation", f"property «{path}» finds users, and has no value", path)
        except InvalidValue as error:
            failure = FailedRecord("InputValidation", f"users cannot be found: {describe(error)}", error.path)
        source = self._digest(row[ATTRIBUTES])
        if row[SOURCE] == source and row[RUN] == run.id:  # by an earlier attempt of the run
            batch.received += 1
            batch.done += 1
            count_done(self._job.report, row)
            compared.people.append(Person(row[ID], kpid, self._matching.key(value), "Settled", source))
            return
        users = [] if value is None else self._find_users(outbox, str(value))
        if (mode == "CreateOnly" and users) or (mode == "UpdateOnly" and not users):
            return
        batch.received += 1
        if failure is not None:
            report_failure(self._job.report, kpid, failure)
            return
        external_id = _encode_ids(users).decode() if users else ""
        is_known = row[SOURCE] == source and row[EXTERNAL_ID] == external_id
        if is_known and not run.is_full and not row[IS_FAILED]:
            batch.unchanged += 1
            compared.people.append(Person(row[ID], kpid, self._matching.key(value), "Unchanged", source))
        elif len(users) > 1 and not self._job.pipeline.definition.update_on_duplicates:
            due = DueProfile(row[ID], kpid, source, b"", row[EXTERNAL_ID] or "", b"", "")
            compared.ambiguous.append((due, len(users)))
            compared.people.append(Person(row[ID], kpid, self._matching.key(value), "Settled", source))
        else:
            self._add_candidate(row, source, external_id, str(value), compared)

    def _find_users(self, outbox: Outbox, value: str) -> list[str]:
        """Return the ids of the users with a value: the value itself if the application cannot be read."""
        return [value] if self._is_write_only else outbox.find_users(self._matching.key(value))

    def _add_candidate(self, row: Any, source: bytes, external_id: str, value: str, compared: _Compared) -> None:
        try:
            record = self._given.reader.record(row[ATTRIBUTES])
        except InvalidValue as error:
            failure = FailedRecord("InputValidation", describe(error), error.path)
            report_failure(self._job.report, row[KPID], failure)
            compared.people.append(Person(row[ID], row[KPID], self._matching.key(value), "Settled", source))
            return
        is_due = self._job.run.is_full or bool(row[IS_FAILED]) or row[EXTERNAL_ID] != external_id
        content = b"" if is_due or row[CONTENT] is None else row[CONTENT]
        compared.batch.candidates.append(
            Candidate(row[ID], row[KPID], record, source, content, external_id, row[RUN] or 0, row[CONTENT] or b"")
        )
        is_update = external_id and not self._is_write_only
        compared.purposes.append("Update" if is_update else "Create")
        compared.values.append(value)

    async def _transform(self, compared: _Compared) -> None:
        """Transform profiles, and add those whose output differs to the outbox."""
        candidates = compared.batch.candidates
        outputs: list[Any] = [None] * len(candidates)
        for purpose in ("Create", "Update"):
            chosen = [index for index, each in enumerate(compared.purposes) if each == purpose]
            if chosen:
                records = [candidates[index].record for index in chosen]
                found = await self._output.transformation.run(records, purpose)
                for index, output in zip(chosen, found, strict=True):
                    outputs[index] = output
        report_outputs(self._job.report, candidates, outputs)
        due: list[DueProfile] = []
        equal: list[ExportRecord] = []
        people: list[Person] = []
        for each, body, value in zip(candidates, outputs, compared.values, strict=True):
            state: PersonState = "Settled"
            if not isinstance(body, FailedRecord):
                content = self._digest(body)
                if content == each.content:
                    state = "Unchanged"
                    equal.append(ExportRecord(each.profile, each.source, content, each.external_id, False, each.run))
                else:
                    state = "Due"
                    due.append(each.due(content, body, value))
            people.append(Person(each.profile, each.kpid, self._matching.key(value), state, each.source))
        self._job.report.unchanged(len(equal))
        await self._outbox.run(partial(Outbox.add, profiles=due))
        await self._outbox.run(partial(Outbox.add_people, people=people))
        await self._recorder.add(equal)

    def _reject_ambiguous(self, compared: _Compared) -> list[ExportRecord]:
        report = self._job.report
        for step in ("InputValidation", "Transformation", "OutputValidation"):
            report.passed(step, len(compared.ambiguous))
        for due, number in compared.ambiguous:
            message = f"{number} users of {self._job.connector.label} have the value of the profile"
            report.failed(STEP, message, id=show_kpid(due.kpid), path=self._matching.in_path)
        return [undelivered(due, self._job.run.id) for due, _ in compared.ambiguous]

    async def reject_shared(self) -> None:
        """Fail all profiles that have the value of another one: it is not known which of them the user is."""
        await self._outbox.run(Outbox.index_people)
        value: str | None = None
        while first := await self._outbox.run(partial(Outbox.next_shared, value=value, count=MAX_NAMED + 1)):
            value, after = first[0].value, -1
            while people := await self._outbox.run(
                partial(Outbox.people_after, value=value, profile=after, count=_BATCH)
            ):
                self._job.report.check()
                after = people[-1].profile
                rejected = [person for person in people if person.state != "Settled"]
                for person in rejected:
                    self._reject(person, [show_kpid(each.kpid) for each in first if each.profile != person.profile])
                await self._outbox.run(partial(Outbox.remove, profiles=[person.profile for person in rejected]))
                run = self._job.run.id
                await self._recorder.add(
                    [ExportRecord(each.profile, each.source, b"", "", True, run) for each in rejected]
                )
        await self._recorder.flush()

    def _reject(self, person: Person, others: list[str]) -> None:
        report = self._job.report
        if person.state == "Unchanged":
            report.unchanged(-1)
            for step in ("InputValidation", "Transformation", "OutputValidation"):
                report.passed(step)
        message = f"profiles {', '.join(others[:MAX_NAMED])} have the same value, so it finds no single profile"
        report.failed(STEP, message, id=show_kpid(person.kpid), path=self._matching.in_path)


class _Open(Struct):
    """A profile whose users are being written."""

    due: DueProfile
    left: int
    ids: list[str]
    failure: str = ""


class _Writer:
    """Writes the users of a run in batches: those to create, and those to update."""

    def __init__(
        self,
        job: Job,
        output: ExportOutput,
        matching: Matching,
        outbox: OutboxThread,
        recorder: Recorder,
        sender: UserSender,
    ) -> None:
        self._job = job
        self._output = output
        self._matching = matching
        self._outbox = outbox
        self._recorder = recorder
        self._sender = sender
        self._is_write_only = job.connector.engine.is_write_only
        self._waiting: dict[Purpose, list[tuple[_Open, UserWrite, int]]] = {"Create": [], "Update": []}

    async def write(self) -> None:
        """Write everything that is due, in the order of the profiles. Raises RunFailed, RunCancelled."""
        after = -1
        while batch := await self._outbox.run(partial(Outbox.read_after, profile=after, count=_BATCH)):
            self._job.report.check()
            after = batch[-1].profile
            existing = await self._recorder.existing([due.profile for due in batch])
            for due in batch:
                if due.profile in existing:
                    await self._add(due)
        for purpose in self._waiting:
            await self._flush(purpose)
        await self._recorder.flush()

    async def _add(self, due: DueProfile) -> None:
        is_update = due.external_id and not self._is_write_only
        users = _decode_ids(due.external_id) if is_update else [""]
        purpose: Purpose = "Update" if is_update else "Create"
        attributes = self._output.reader.record(due.body)
        if purpose == "Create" or self._matching.is_update_required:
            self._matching.add(attributes, due.claim)
        opened = _Open(due, len(users), [])
        limits = self._sender
        if not attributes:  # nothing to update
            opened.ids = users
            await self._finish([opened])
            return
        if limits.max_user_bytes is not None and len(due.body) > limits.max_user_bytes:
            opened.failure = f"it is larger than {limits.max_user_bytes} bytes"
            await self._finish([opened])
            return
        waiting = self._waiting[purpose]
        for user in users:
            size = sum(each for _, _, each in waiting) if limits.max_bytes is not None else 0
            if limits.max_bytes is not None and waiting and size + len(due.body) > limits.max_bytes:
                await self._flush(purpose)
            write = UserWrite(id=user, attributes=attributes, key=self._key(due, user))
            self._waiting[purpose].append((opened, write, len(due.body)))
            if len(self._waiting[purpose]) >= limits.max_users:
                await self._flush(purpose)
            waiting = self._waiting[purpose]

    def _key(self, due: DueProfile, user: str) -> str:
        """Return the idempotency key: the same for the same change of a profile and a user in one pipeline.

        It includes the content before, so that a change and its reversal do not end with a repetition.
        """
        name = f"{self._job.pipeline.id}:{due.profile}:{user}:".encode()
        return blake2b(name + due.previous + b":" + due.content, digest_size=16).hexdigest()

    async def _flush(self, purpose: Purpose) -> None:
        """Write the users that wait, and record the profiles of which all users are written."""
        waiting, self._waiting[purpose] = self._waiting[purpose], []
        if not waiting:
            return
        results = await self._sender.write([write for _, write, _ in waiting])
        for (opened, write, _), result in zip(waiting, results, strict=True):
            _take(opened, write, result)
        written = {id(opened): opened for opened, _, _ in waiting}
        await self._finish([opened for opened in written.values() if not opened.left])

    async def _finish(self, finished: Sequence[_Open]) -> None:
        """Count and record profiles."""
        report, run, label = self._job.report, self._job.run.id, self._job.connector.label
        records: list[ExportRecord] = []
        for opened in finished:
            due = opened.due
            if opened.failure:
                report.failed(STEP, f"{label} rejects the user: {opened.failure}", id=show_kpid(due.kpid))
                records.append(undelivered(due, run))
            else:
                report.passed(STEP)
                ids = [due.claim] if self._is_write_only else sorted(opened.ids)
                records.append(delivered(due, run, _encode_ids(ids).decode()))
        await self._recorder.commit(records)


def _take(opened: _Open, write: UserWrite, result: ItemResult) -> None:
    opened.left -= 1
    if result.outcome is Outcome.DELIVERED:
        opened.ids.append(result.id or write.id)
    elif not opened.failure:
        opened.failure = result.message or result.reason or "no reason is given"
