"""Files as objects of a bucket of S3, or of a service with the same interface.

The client connects through a `GuardedProxy`, because it resolves names by itself. An object is read in one request, and
written in parts: it appears when the last part is confirmed, and the parts are deleted if the writer fails. Parts of a
process that was killed stay invisible in the bucket until its lifecycle rules delete them.
"""

import io
import queue
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from headwater.base.errors import HeadwaterError, Unavailable
from headwater.connectors.contract import ConnectorContext, FileMissing, InvalidFileName, StoredFile
from headwater.connectors.proxy import GuardedProxy
from headwater.connectors.storages.paths import shown, split_name

if TYPE_CHECKING:
    from headwater.connectors.catalogue.file_storages import S3Settings

MAX_KEY_BYTES: Final = 1_024
PART_BYTES: Final = 8 * 1024 * 1024
MAX_PARTS: Final = 10_000
MAX_OBJECT_BYTES: Final = PART_BYTES * MAX_PARTS

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 60.0
"""Time limit of one read: a server that sends nothing for longer is unavailable."""
PART_SECONDS: Final = 120.0
"""Time limit of writing one part."""
MAX_READ_SECONDS: Final = 24 * 3_600.0
MAX_RETRIES: Final = 3
RETRY_SECONDS: Final = 30.0
"""No request is repeated later than this after its first attempt."""
ABORT_SECONDS: Final = 60.0
FINISH_SECONDS: Final = 600.0

_CHUNK_BYTES: Final = 1024 * 1024
_BUFFER_BYTES: Final = 256 * 1024
_CONCURRENT_PARTS: Final = 3
_QUEUED_CHUNKS: Final = 4
_POLL_SECONDS: Final = 1.0
_CODE: Final = re.compile(r"<Code>([A-Za-z0-9]{1,100})</Code>")
_STATUS: Final = re.compile(r"status code: (\d{3}[ A-Za-z]{0,40})")
_Result = TypeVar("_Result")


class S3:
    """Implements `FileStorage`."""

    def __init__(self, settings: "S3Settings", context: ConnectorContext) -> None:
        self._settings = settings
        self._context = context

    def absolute_path(self, name: str) -> str:
        return f"s3://{self._settings.bucket}/{_key(name)}"

    @contextmanager
    def open(self, name: str) -> Iterator[StoredFile]:
        key = _key(name)
        with GuardedProxy(self._context.addresses, self._context.workspace) as proxy, ExitStack() as stack:
            requests = _Requests(self._settings, self._context, proxy, name)
            store = requests.store(MAX_READ_SECONDS)
            result = requests.call(obstore.get, store, key)
            meta = result.meta
            raw = _Content(iter(result.stream(min_chunk_size=_CHUNK_BYTES)), meta["size"], requests)
            yield StoredFile(
                stream=stack.enter_context(io.BufferedReader(raw, _BUFFER_BYTES)),
                size=meta["size"],
                updated_at=meta["last_modified"],
                version=(meta["version"] or meta["e_tag"] or "").strip('"'),
            )

    @contextmanager
    def create(self, name: str, content_type: str) -> Iterator[BinaryIO]:
        key = _key(name)
        with GuardedProxy(self._context.addresses, self._context.workspace) as proxy:
            requests = _Requests(self._settings, self._context, proxy, name)
            store = requests.store(PART_SECONDS)

            def put(chunks: Iterator[bytes]) -> None:
                obstore.put(
                    store,
                    key,
                    chunks,
                    attributes={"Content-Type": content_type},
                    use_multipart=True,
                    chunk_size=PART_BYTES,
                    max_concurrency=_CONCURRENT_PARTS,
                )

            upload = _Upload(lambda chunks: requests.call(put, chunks))
            stream = io.BufferedWriter(upload, _CHUNK_BYTES)
            try:
                yield stream
                stream.flush()
            except BaseException:
                upload.abort()
                raise
            else:
                upload.finish()
            finally:
                upload.discard()
                stream.close()


class _Requests:
    """The requests for one object: the client, and the translation of its errors."""

    def __init__(self, settings: "S3Settings", context: ConnectorContext, proxy: GuardedProxy, name: str) -> None:
        self._settings = settings
        self._context = context
        self._proxy = proxy
        self._name = name

    def store(self, seconds: float) -> S3Store:
        """Return a client whose requests take at most `seconds`."""
        settings = self._settings
        endpoint = settings.endpoint.rstrip("/") or _aws_endpoint(settings.region)
        return self.call(
            lambda: S3Store(
                settings.bucket,
                endpoint=endpoint,
                aws_endpoint_url_s3=endpoint,  # else a variable of the environment would have precedence
                region=settings.region,
                access_key_id=settings.access_key_id,
                secret_access_key=settings.secret_access_key,
                virtual_hosted_style_request=False,
                client_options={
                    "proxy_url": self._proxy.url,
                    "allow_http": endpoint.startswith("http://"),
                    "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                    "read_timeout": timedelta(seconds=READ_SECONDS),
                    "timeout": timedelta(seconds=seconds),
                    "user_agent": "headwater",
                },
                retry_config={"max_retries": MAX_RETRIES, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
            )
        )

    def call(self, request: Callable[..., _Result], *arguments: object) -> _Result:
        """Return the result of a request. Raises FileMissing, Unavailable."""
        try:
            return request(*arguments)
        except (BaseError, OSError, ValueError) as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> HeadwaterError:
        if self._proxy.failure is not None:
            return self._proxy.failure
        text = str(error)
        code = found[1] if (found := _CODE.search(text)) else ""
        if code == "NoSuchBucket":
            return Unavailable(f'bucket "{self._settings.bucket}" does not exist')
        if isinstance(error, FileNotFoundError):
            return FileMissing(f"{shown(self._name)} does not exist", field="path")
        if isinstance(error, PermissionDeniedError | UnauthenticatedError):
            return Unavailable(f"S3 refuses the access key: {code or 'no permission'}")
        status = found[1] if (found := _STATUS.search(text)) else ""
        reason = code or status or text.partition("\n")[0].replace(self._proxy.secret, "")[:300]
        return Unavailable(self._context.redact(f"S3 failed: {reason}"))


class _Content(io.RawIOBase):
    """Reads an object from its response, in constant memory."""

    def __init__(self, chunks: Iterator[Any], size: int, requests: _Requests) -> None:
        self._chunks: Iterator[Any] | None = chunks
        self._chunk = memoryview(b"")
        self._left = size
        self._requests = requests

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._chunk and self._chunks is not None:
            chunk = self._requests.call(next, self._chunks, None)
            if chunk is None:
                self._chunks = None
                if self._left:
                    raise Unavailable("S3 ended the object before it was complete")
            else:
                self._chunk = memoryview(chunk).cast("B")
                self._left -= self._chunk.nbytes
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._chunk))
        target[:count] = self._chunk[:count]
        self._chunk = self._chunk[count:]
        return count

    def close(self) -> None:
        self._chunks = None  # ends the response
        self._chunk = memoryview(b"")
        super().close()


class _Aborted(Exception):
    """The writer has failed: the upload ends without an object."""


class _Upload(io.RawIOBase):
    """Passes what is written to a function that takes it from an iterator, in a thread of its own."""

    def __init__(self, put: Callable[[Iterator[bytes]], None]) -> None:
        self._put = put
        self._chunks: queue.Queue[bytes | None] = queue.Queue(_QUEUED_CHUNKS)
        self._error: Exception | None = None
        self._written = 0
        self._is_aborted = False
        self._is_discarding = False
        self._thread = threading.Thread(target=self._run, name="S3 upload", daemon=True)
        self._thread.start()

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        chunk = bytes(memoryview(content).cast("B")[:_CHUNK_BYTES])
        if not self._is_discarding:
            self._written += len(chunk)
            if self._written > MAX_OBJECT_BYTES:
                raise Unavailable(f"the file is larger than {MAX_OBJECT_BYTES} bytes, the maximum for S3")
            self._give(chunk)
        return len(chunk)

    def finish(self) -> None:
        """Complete the object. Raises Unavailable."""
        self._give(None)
        self._thread.join(FINISH_SECONDS)
        self._check()
        if self._thread.is_alive():
            self._is_aborted = True
            raise Unavailable(f"S3 did not confirm the file within {FINISH_SECONDS:g} seconds")

    def abort(self) -> None:
        """End the upload without an object."""
        self._is_aborted = True
        with suppress(queue.Full):
            self._chunks.put_nowait(None)  # wakes the thread if it waits
        self._thread.join(ABORT_SECONDS)

    def discard(self) -> None:
        """Ignore further content: a buffer above is flushed when it is closed, also after a failure."""
        self._is_discarding = True

    def _give(self, chunk: bytes | None) -> None:
        while True:
            self._check()
            try:
                return self._chunks.put(chunk, timeout=_POLL_SECONDS)
            except queue.Full:
                continue

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._put(self._iterate())
        except _Aborted:
            pass
        except Exception as error:
            self._error = error

    def _iterate(self) -> Iterator[bytes]:
        while True:
            try:
                chunk = self._chunks.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                chunk = b""
            if self._is_aborted:
                raise _Aborted
            if chunk is None:
                return
            if chunk:
                yield chunk


def _key(name: str) -> str:
    key = "/".join(split_name(name))
    if len(key.encode()) > MAX_KEY_BYTES:
        raise InvalidFileName(f"the path is longer than {MAX_KEY_BYTES} bytes", field="path")
    return key


def _aws_endpoint(region: str) -> str:
    return f"https://s3.{region}.amazonaws.com" + (".cn" if region.startswith("cn-") else "")
