"""Receives photos over HTTP: reads them within limits, checks their keys, and saves them until they are inspected."""

import asyncio
import io
import os
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.types import Message

from codegraph_jax.core.files import whole_file
from codegraph_jax.data.images import preview
from codegraph_jax.line.connections import REQUEST_SECONDS
from codegraph_jax.line.database import LedgerUnavailableError
from codegraph_jax.line.file_identity import fingerprint_of
from codegraph_jax.line.inspector import Inspector
from codegraph_jax.line.ledger import RECEIVED
from codegraph_jax.line.part import Part, ReceivedPhoto
from codegraph_jax.line.settings import WebConfig
from codegraph_jax.scoring.threshold import UNUSUAL_P_VALUE

MAX_WAITING = 64
"""Number of photos that may wait; further photos are refused with status 503 and must be sent again."""
PREVIEW_SIDE = 1024
"""Longest side in pixels of a photo on the page."""
CACHED_PREVIEWS = 64
"""Number of reduced photos in the cache."""
MAX_ARRIVING_PHOTOS = 4
"""Number of photos of the greatest size that may arrive at the same time."""
KEPT_P_VALUE = UNUSUAL_P_VALUE
"""`serve.keep=high_scores` keeps passed photos up to this p-value: others have no peak patches for a contact sheet."""
SUFFIXES = {
    "image/jpeg": ".jpg", "image/png": ".png", "image/bmp": ".bmp", "image/tiff": ".tif", "image/webp": ".webp",
    "image/gif": ".gif", "image/jp2": ".jp2", "image/avif": ".avif",
}  # fmt: skip
"""Suffixes of the saved files; the format for reading is detected from the content."""
HOW_TO_SEND = (
    "send the bytes of the image file: curl --data-binary @part.jpg URL, or as a form: curl -F photo=@part.jpg URL"
)


class RequestError(Exception):
    """A refused request, with the HTTP status and the reason of the response."""

    def __init__(self, status: int, reason: str, **headers: str):
        super().__init__(f"{status}: {reason}")
        self.status, self.reason, self.headers = status, reason, headers


class SentPhoto(NamedTuple):
    """A photo that was sent; only a form gives it a file name."""

    data: bytes
    media_type: str
    file_name: str = ""


class Uploads:
    """Uploaded photos: the queue that all requests share, and its two threads, for inspections and for previews."""

    def __init__(self, inspector: Inspector, settings: WebConfig):
        self.inspector, self.ledger, self.settings = inspector, inspector.ledger, settings
        self.inspection_thread = ThreadPoolExecutor(1, thread_name_prefix="inspect")
        self.preview_thread = ThreadPoolExecutor(1, thread_name_prefix="draw")
        self.waiting_photos = self.arriving_bytes = 0
        self._preview = lru_cache(CACHED_PREVIEWS)(self._draw)

    def close(self) -> None:
        """Waits until the threads have finished their current work."""
        self.inspection_thread.shutdown()
        self.preview_thread.shutdown(cancel_futures=True)

    async def receive(self, key: str, name: str, sent: SentPhoto) -> Part:
        """Inspects a photo and returns its part.

        Args:
            key: key of the part; empty: a new key.
            name: name of the part; empty: the file name.
            sent: the photo.

        Raises:
            RequestError: too many photos wait, or the key was used for another photo.
            LedgerUnavailableError: the photo or the verdict cannot be saved.
        """
        self.require_room()
        loop = asyncio.get_running_loop()
        self.waiting_photos += 1
        try:
            saved = await loop.run_in_executor(None, self._save, f"request:{key or uuid.uuid4().hex}", name, sent)
            if isinstance(saved, Part):
                return saved
            return await loop.run_in_executor(self.inspection_thread, self.inspect, saved)
        finally:
            self.waiting_photos -= 1

    def require_room(self) -> None:
        """Refuses a photo while the queue is full."""
        if self.waiting_photos >= MAX_WAITING:
            raise RequestError(503, f"{self.waiting_photos} photos are waiting; try again", **{"Retry-After": "1"})

    def _save(self, key: str, name: str, sent: SentPhoto) -> ReceivedPhoto | Part:
        """Saves a photo and adds it to the inbox.

        Returns:
            The photo in the inbox, which may be an earlier copy; the part if it was inspected before.
        """
        fingerprint = fingerprint_of(io.BytesIO(sent.data))
        known = self.ledger.by_key(key)
        if known and known.status == "inspected":
            if known.fingerprint != fingerprint:
                raise _key_used_before()
            return known
        day = datetime.now(UTC).strftime("%Y-%m-%d")
        suffix = SUFFIXES.get(sent.media_type, ".image")
        path = self.inspector.workdir.absolute() / RECEIVED / day / f"{uuid.uuid4().hex}{suffix}"
        photo = ReceivedPhoto(key, name or sent.file_name or path.name, str(path), fingerprint)
        try:
            with whole_file(path) as partial, Path(partial).open("wb") as stream:
                stream.write(sent.data)
                stream.flush()
                os.fsync(stream.fileno())
            saved = self.ledger.add_to_inbox(photo)
        except OSError as error:
            raise LedgerUnavailableError(f"the photo cannot be saved ({error.strerror or error})") from None
        except LedgerUnavailableError:
            # the client sends the photo again, which saves another file
            path.unlink(missing_ok=True)
            raise
        if saved.path != photo.path:
            path.unlink(missing_ok=True)
        if saved.fingerprint != fingerprint:
            raise _key_used_before()
        return saved

    def inspect(self, photo: ReceivedPhoto) -> Part:
        """Inspects a photo that was received."""
        former = self.ledger.by_key(photo.key)
        part = self.inspector.inspect(photo)
        assert part is not None
        if part.path != photo.path:
            # a part with the same key was inspected before
            self.ledger.remove_from_inbox(photo.key)
            Path(photo.path).unlink(missing_ok=True)
            if part.status == "inspected" and part.fingerprint != photo.fingerprint:
                raise _key_used_before()
            return part
        if former and former.id != part.id:
            Path(former.path).unlink(missing_ok=True)
        if self.settings.keep == "high_scores" and not part.flagged and (part.p_value or 0) > KEPT_P_VALUE:
            Path(part.path).unlink(missing_ok=True)
        return part

    def catch_up(self, stopped: Callable[[], bool] = lambda: False) -> int:
        """Inspects the photos that were in the inbox at the start; returns their number."""
        count = 0
        for photo in self.ledger.inbox():
            if stopped():
                break
            with suppress(RequestError):  # the key was used for another photo, and no client waits for the response
                self.inspect(photo)
            count += 1
        return count

    async def preview(self, part: Part) -> bytes:
        """A reduced JPEG of a part's photo, from a cache.

        Raises:
            UnreadableImageError: the photo no longer exists, or cannot be decoded.
        """
        return await asyncio.get_running_loop().run_in_executor(self.preview_thread, self._preview, part.id, part.path)

    def _draw(self, number: int, path: str) -> bytes:
        # the number is part of the cache's key: the file of another part may have had the same path
        return preview(path, PREVIEW_SIDE, self.inspector.bank.value_range)

    async def read(self, request: Request) -> SentPhoto:
        """Reads the photo of a request within the limits.

        Raises:
            RequestError: a limit is exceeded, or the body is empty, compressed, or a form without a file.
            ClientDisconnect: the client has disconnected.
        """
        self.require_room()
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise RequestError(415, f"the body is compressed; {HOW_TO_SEND}")
        data = await self._body(request)
        if media_type == "multipart/form-data":
            return await _photo_of_form(request, data)
        return SentPhoto(data, media_type)

    async def _body(self, request: Request) -> bytes:
        max_bytes = int(self.settings.max_megabytes * 1e6)
        reason = f"the photo is larger than {self.settings.max_megabytes:g} MB"
        with suppress(ValueError):
            if int(request.headers.get("content-length", 0)) > max_bytes:
                raise RequestError(413, reason)
        data = bytearray()

        async def read() -> None:
            async for piece in request.stream():
                data.extend(piece)
                self.arriving_bytes += len(piece)
                if len(data) > max_bytes:
                    raise RequestError(413, reason)
                if self.arriving_bytes > MAX_ARRIVING_PHOTOS * max_bytes:
                    raise RequestError(503, "too many photos are arriving at once; try again", **{"Retry-After": "1"})

        try:
            await asyncio.wait_for(read(), REQUEST_SECONDS)
        except TimeoutError:
            raise RequestError(408, f"the photo did not arrive within {REQUEST_SECONDS:g} s") from None
        finally:
            self.arriving_bytes -= len(data)
        if not data:
            raise RequestError(400, f"the body is empty; {HOW_TO_SEND}")
        return bytes(data)


async def _photo_of_form(request: Request, data: bytes) -> SentPhoto:
    """The file in a form."""

    async def replay() -> Message:
        return {"type": "http.request", "body": data, "more_body": False}

    scope = {"type": "http", "headers": request.scope["headers"]}
    try:
        async with Request(scope, replay).form(max_files=1, max_fields=20) as form:
            for value in form.values():
                if isinstance(value, UploadFile):
                    content = await value.read()
                    if content:
                        return SentPhoto(content, value.content_type or "", Path(value.filename or "").name)
    except (MultiPartException, ValueError) as error:
        raise RequestError(400, f"the form cannot be read ({error}); {HOW_TO_SEND}") from None
    raise RequestError(400, f"the form has no file, or an empty one; {HOW_TO_SEND}")


def _key_used_before() -> RequestError:
    return RequestError(422, "this Idempotency-Key was used for another photo; give each photo its own key")
