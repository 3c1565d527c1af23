"""Pictures that are sent to a line: read within limits, kept until they are judged, and tied to their keys."""

import asyncio
import base64
import io
import os
import uuid
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.types import Message

from codegraph_jax.core.files import whole_file
from codegraph_jax.data.images import load_image
from codegraph_jax.line.inspector import PICTURES, Inspector
from codegraph_jax.line.ledger import LedgerUnavailable
from codegraph_jax.line.part import Part, content_of
from codegraph_jax.line.settings import WebSettings
from codegraph_jax.scoring.threshold import REGION_P_VALUE

SHOWN = 1024
"""Longest side in pixels of a picture on the page."""
PREVIEWS = 64
"""Pictures of the page that are held in memory."""
ARRIVING = 4
"""How many pictures of the greatest size may be in memory while they arrive."""
SUFFIXES = {
    "image/jpeg": ".jpg", "image/png": ".png", "image/bmp": ".bmp", "image/tiff": ".tif", "image/webp": ".webp",
    "image/gif": ".gif", "image/jp2": ".jp2", "image/avif": ".avif",
}  # fmt: skip
"""Of the files in which pictures are kept; whatever is said of them, their content decides how they are read."""
HOW = "send the bytes of the image file: curl --data-binary @part.jpg URL, or as a form: curl -F picture=@part.jpg URL"
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"II*\0", b"MM\0*", b"RIFF", b"GIF8")
"""Of the usual image files."""


class Refused(Exception):
    """A request that is answered with a status and a reason."""

    def __init__(self, status: int, reason: str, **headers: str):
        super().__init__(f"{status}: {reason}")
        self.status, self.reason, self.headers = status, reason, headers


class Sent(NamedTuple):
    """A picture that was sent: its bytes, what was said of its kind, and the name of its file in a form."""

    data: bytes
    kind: str
    file: str = ""


class Reception:
    """What the requests share: one thread that judges, one that makes pictures for the page, and who waits for them."""

    def __init__(self, inspector: Inspector, settings: WebSettings):
        self.inspector, self.ledger, self.settings = inspector, inspector.ledger, settings
        self.judging = ThreadPoolExecutor(1, thread_name_prefix="judge")
        self.drawing = ThreadPoolExecutor(1, thread_name_prefix="draw")
        self.waiting = self.arriving = 0
        self._previews: OrderedDict[int, bytes] = OrderedDict()

    def close(self) -> None:
        """Waits for what the threads are at."""
        self.judging.shutdown()
        self.drawing.shutdown(cancel_futures=True)

    async def judged(self, key: str, name: str, sent: Sent) -> Part:
        """The part that a picture is.

        Args:
            key: of the part; empty: it is one of its own.
            name: what people call it; empty: that of its file.
            sent: the picture.

        Raises:
            Refused: too many wait, or the key belongs to another picture.
            LedgerUnavailable: the picture or the verdict cannot be kept.
        """
        self.require_room()
        loop = asyncio.get_running_loop()
        self.waiting += 1
        try:
            key = f"request:{key or uuid.uuid4().hex}"
            content = await loop.run_in_executor(None, content_of, io.BytesIO(sent.data))
            found = await loop.run_in_executor(None, self._receive, key, name or sent.file, sent, content)
            if isinstance(found, Part):
                return found
            return await loop.run_in_executor(
                self.judging, self.judge, key, name or sent.file or Path(found).name, found, content
            )
        finally:
            self.waiting -= 1

    def require_room(self) -> None:
        """Refuses a picture while as many wait as may."""
        if self.waiting >= self.settings.queue:
            raise Refused(503, f"{self.waiting} pictures are waiting", **{"Retry-After": "1"})

    def keep(self, data: bytes, kind: str) -> Path:
        """Writes a picture that was sent; it is on the disk when this returns."""
        day = datetime.now(UTC).strftime("%Y-%m-%d")
        path = self.inspector.workdir.absolute() / PICTURES / day / f"{uuid.uuid4().hex}{SUFFIXES.get(kind, '.image')}"
        with whole_file(path) as name, Path(name).open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        return path

    def _receive(self, key: str, name: str, sent: Sent, content: str) -> str | Part:
        """Puts a picture where it survives whatever happens now; its path, or the part that it is already."""
        known = self.ledger.find(key)
        if known and known.status == "judged":
            if not _shows(known, content):
                raise _other_picture()
            return known
        path = None
        try:
            path = self.keep(sent.data, sent.kind)
            noted, noted_content = self.ledger.receive(key, name or path.name, str(path), content)
        except OSError as error:
            raise LedgerUnavailable(f"the picture cannot be kept ({error.strerror or error})") from None
        except LedgerUnavailable:
            # the client sends it again: nobody would find this file
            if path is not None:
                path.unlink(missing_ok=True)
            raise
        if noted != str(path):
            path.unlink(missing_ok=True)
        if noted_content != content:
            raise _other_picture()
        return noted

    def judge(self, key: str, name: str, path: str, content: str) -> Part:
        """Judges a picture that was received."""
        former = self.ledger.find(key)
        part = self.inspector.judge(key, name, path, content=content)
        assert part is not None
        if part.path != path:
            # the same key was judged before
            self.ledger.drop(key)
            Path(path).unlink(missing_ok=True)
            if part.status == "judged" and not _shows(part, content):
                raise _other_picture()
            return part
        if former and former.id != part.id:
            Path(former.path).unlink(missing_ok=True)
        if self.settings.keep == "flagged" and part.p_value is not None and part.p_value > REGION_P_VALUE:
            Path(path).unlink(missing_ok=True)
        return part

    def catch_up(self, stopped: Callable[[], bool] = lambda: False) -> int:
        """Judges what an earlier start has received and not judged; returns how many."""
        count = 0
        for key, name, path, content in self.ledger.inbox():
            if stopped():
                break
            with suppress(Refused):  # nobody waits for the answer that its key belongs to another picture
                self.judge(key, name, path, content)
            count += 1
        return count

    async def preview(self, part: Part) -> bytes:
        """JPEG of a part's picture, reduced; one is made at a time, and the last ones are kept.

        Raises:
            UnreadableImage: it is gone, or cannot be decoded.
        """
        return await asyncio.get_running_loop().run_in_executor(self.drawing, self._preview, part)

    def _preview(self, part: Part) -> bytes:
        if part.id not in self._previews:
            image = load_image(part.path, self.inspector.bank.value_range)
            image.thumbnail((SHOWN, SHOWN))
            stream = io.BytesIO()
            image.save(stream, "JPEG", quality=85)
            self._previews[part.id] = stream.getvalue()
            if len(self._previews) > PREVIEWS:
                self._previews.popitem(last=False)
        return self._previews[part.id]

    async def read(self, request: Request) -> Sent:
        """The picture of a request, as long as it keeps to the limits.

        Raises:
            Refused: it does not, or the body is no picture but something that holds one.
            ClientDisconnect: the client has gone.
        """
        self.require_room()
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise Refused(415, f"the body is compressed; {HOW}")
        data = await self._body(request)
        if kind == "multipart/form-data":
            return await _picture_of_form(request, data)
        if what := _container(data, kind):
            raise Refused(415, f"the body is {what}; {HOW}")
        return Sent(data, kind)

    async def _body(self, request: Request) -> bytes:
        settings, most = self.settings, int(self.settings.max_megabytes * 1e6)
        reason = f"a picture may have {settings.max_megabytes:g} MB"
        with suppress(ValueError):
            if int(request.headers.get("content-length", 0)) > most:
                raise Refused(413, reason)
        data = bytearray()

        async def read() -> None:
            async for piece in request.stream():
                data.extend(piece)
                self.arriving += len(piece)
                if len(data) > most:
                    raise Refused(413, reason)
                if self.arriving > ARRIVING * most:
                    raise Refused(503, "too many pictures are arriving", **{"Retry-After": "1"})

        try:
            await asyncio.wait_for(read(), settings.timeout)
        except TimeoutError:
            raise Refused(408, f"a picture must arrive within {settings.timeout:g} s") from None
        finally:
            self.arriving -= len(data)
        if not data:
            raise Refused(400, f"the body is empty; {HOW}")
        return bytes(data)


async def _picture_of_form(request: Request, data: bytes) -> Sent:
    """The one file of a form."""

    async def replay() -> Message:
        return {"type": "http.request", "body": data, "more_body": False}

    scope = {"type": "http", "headers": request.scope["headers"]}
    try:
        async with Request(scope, replay).form(max_files=1, max_fields=20) as form:
            for value in form.values():
                if isinstance(value, UploadFile):
                    content = await value.read()
                    if content:
                        return Sent(content, value.content_type or "", Path(value.filename or "").name)
    except (MultiPartException, ValueError) as error:
        raise Refused(400, f"the form cannot be read ({error}); {HOW}") from None
    raise Refused(400, f"the form has no file, or an empty one; {HOW}")


def _container(data: bytes, kind: str) -> str:
    """What holds a picture in another form than its file has; empty for everything else."""
    head = data[:64].lstrip()
    if data.startswith(b"\x1f\x8b"):
        return "compressed"
    if head.startswith(b"data:image/") or _is_base64(head):
        return "base64 text"
    if kind == "application/json" and head[:1] in b'{["':
        return "JSON"
    if kind == "application/x-www-form-urlencoded" and head.isascii() and b"=" in head and b"\0" not in head:
        return "a form without a file"
    return ""


def _is_base64(head: bytes) -> bool:
    try:
        return base64.b64decode(head[: len(head) // 4 * 4], validate=True).startswith(_BEGINNINGS)
    except ValueError:
        return False


def _shows(part: Part, content: str) -> bool:
    """Whether a part is a picture of this content."""
    return part.content == content


def _other_picture() -> Refused:
    return Refused(422, "this Idempotency-Key was used for another picture; give each picture a key of its own")
