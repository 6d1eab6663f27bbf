"""An S3 server that lists virtual objects: ListObjectsV2 and HEAD. It accepts any signature.

    python -m benchmarks.listing_server 1000000 [--changed 10000] [--latency 0.05]

prints one JSON line, `{"port": …, "objects": …, "bytes": …}`, and serves every bucket name until it is killed. Each object's XML is
generated once, and a page is a slice of it, so that the client is measured, not the server.
"""

import argparse
import asyncio
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
import gc
from itertools import accumulate
import json
import re
import threading
from typing import NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from benchmarks.harness import server_process

HEAD = b"HTTP/1.1 %s\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n%s\r\n"
TIME = "2026-01-02T03:04:05.000Z"
HTTP_TIME = "Fri, 02 Jan 2026 03:04:05 GMT"
FOLDERS = (
    "Grief and Loss", "Couples & Family", "crisis_support", "professional_therapeutic", "cot_reasoning", "priority",
    "edge_cases", "voice", "long_running_therapy", "cptsd", "addiction", "transcripts 2024", "exports", "misc",
)  # fmt: skip


class Listed(NamedTuple):
    """An object in a listing; its bytes do not exist."""

    key: str
    size: int
    etag: str


def synthetic(objects: int, *, changed: int = 0) -> list[Listed]:
    """Objects in two- and three-level folders of very unequal size: half in the first, a quarter in the second, and so on.

    Args:
        objects: Number of objects.
        changed: Number of them, spread evenly, with a different ETag.
    """
    step = objects // changed if changed else objects + 1
    result = []
    for number in range(objects):
        # The number of trailing zero bits of a counter: each value is half as frequent as its predecessor.
        rank = min((number & -number).bit_length(), len(FOLDERS)) - 1
        tier = "acquired" if rank == 5 else "gdrive/raw"
        key = f"{tier}/{FOLDERS[rank]}/{2019 + number % 7}/batch_{number % 97:02}/session_{number:08}.json"
        etag = f"{number * 2 + (changed > 0 and number % step == 1):032x}"
        result.append(Listed(key, 500 + number * 7919 % 50_000, etag))
    return result


class Pages:
    """Objects in the order of their keys, and their XML."""

    def __init__(self, objects: Iterable[Listed]) -> None:
        self.objects = sorted(objects, key=lambda item: item.key.encode())
        self.keys = [item.key.encode() for item in self.objects]
        entries = [_entry(item, _in_xml(item.key)) for item in self.objects]
        self._ends = [0, *accumulate(map(len, entries))]
        self._xml = memoryview(b"".join(entries))
        # Keys that XML cannot represent; clients request them in URL encoding.
        self._odd = any(_in_xml(item.key) != escape(item.key) for item in self.objects)

    def page(self, query: dict[str, str]) -> list[bytes | memoryview]:
        """Return the parts of a ListObjectsV2 response."""
        prefix = query.get("prefix", "").encode()
        delimiter = query.get("delimiter", "").encode()
        max_keys = min(int(query.get("max-keys", "1000")), 1000)
        start = query.get("continuation-token") or query.get("start-after", "")
        first = bisect_left(self.keys, prefix)
        # A token is the last key or folder of the previous page.
        after = start.encode() + (b"\xff" if delimiter and start.encode().endswith(delimiter) else b"")
        position = max(first, bisect_left(self.keys, after + b"\x00")) if start else first
        end = bisect_left(self.keys, prefix + b"\xff" * 4)
        in_url = query.get("encoding-type") == "url"
        if delimiter:
            body, position, count, last = self._level(position, end, prefix, delimiter, max_keys)
        else:
            stop = min(position + max_keys, end)
            body, count = self._slice(position, stop, in_url), stop - position
            position, last = stop, self.keys[stop - 1] if count else b""
        truncated = position < end
        token = (
            f"<NextContinuationToken>{_in_xml(last.decode())}</NextContinuationToken>" if truncated else ""
        )
        head = (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>b</Name><Prefix>{_in_xml(prefix.decode())}</Prefix><KeyCount>{count}</KeyCount><MaxKeys>{max_keys}</MaxKeys>"
            f"<IsTruncated>{str(truncated).lower()}</IsTruncated>{token}"
            + ("<EncodingType>url</EncodingType>" if in_url and self._odd else "")
        )
        return [head.encode(), *body, b"</ListBucketResult>"]

    def find(self, key: str) -> Listed | None:
        """Return the object at a key."""
        position = bisect_left(self.keys, key.encode())
        return self.objects[position] if self.keys[position : position + 1] == [key.encode()] else None

    def _slice(self, start: int, end: int, in_url: bool) -> list[bytes | memoryview]:
        if in_url and self._odd:
            return [_entry(item, quote(item.key, safe="/")) for item in self.objects[start:end]]
        return [self._xml[self._ends[start] : self._ends[end]]]

    def _level(
        self, position: int, end: int, prefix: bytes, delimiter: bytes, max_keys: int
    ) -> tuple[list[bytes | memoryview], int, int, bytes]:
        body: list[bytes | memoryview] = []
        last = b""
        while position < end and len(body) < max_keys:
            key = self.keys[position]
            cut = key.find(delimiter, len(prefix))
            if cut < 0:
                last = key
                body += self._slice(position, position + 1, in_url=False)
                position += 1
            else:
                last = key[: cut + len(delimiter)]
                body.append(
                    f"<CommonPrefixes><Prefix>{_in_xml(last.decode())}</Prefix></CommonPrefixes>".encode()
                )
                position = bisect_left(self.keys, last + b"\xff" * 4)
        return body, position, len(body), last


class Server(asyncio.Protocol):
    """The subset of HTTP/1.1 with keep-alive that S3 clients use for listings."""

    def __init__(self, pages: Pages, latency: float) -> None:
        self.pages = pages
        self.latency = latency
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
            method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
            parts = self._answer(method, target)
            if self.latency:
                asyncio.get_running_loop().call_later(self.latency, self.transport.writelines, parts)
            else:
                self.transport.writelines(parts)

    def _answer(self, method: str, target: str) -> list[bytes | memoryview]:
        url = urlsplit(target)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        if method == "GET" and "list-type" in query:
            body = self.pages.page(query)
            return [HEAD % (b"200 OK", sum(map(len, body)), b""), *body]
        found = self.pages.find(unquote(url.path).lstrip("/").partition("/")[2])
        if method != "HEAD" or found is None:
            return [HEAD % (b"404 Not Found", 0, b"")]
        headers = f'ETag: "{found.etag}"\r\nLast-Modified: {HTTP_TIME}\r\n'
        return [HEAD % (b"200 OK", found.size, headers.encode())]


@contextmanager
def serving(objects: Iterable[Listed], *, latency: float = 0.0) -> Iterator[str]:
    """Serve from a thread of this process; yield the endpoint's URL."""
    loop = asyncio.new_event_loop()
    pages = Pages(objects)
    server = loop.run_until_complete(loop.create_server(lambda: Server(pages, latency), "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.close()


@contextmanager
def spawned(objects: int, *, changed: int = 0, latency: float = 0.0) -> Iterator[str]:
    """Serve synthetic objects from a separate process; yield the endpoint's URL."""
    options = ("--changed", str(changed), "--latency", str(latency))
    with server_process("benchmarks.listing_server", str(objects), *options) as server:
        yield f"http://127.0.0.1:{server['port']}"


async def _serve(pages: Pages, latency: float) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Server(pages, latency), "127.0.0.1", 0)
    size = sum(item.size for item in pages.objects)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"port": port, "objects": len(pages.objects), "bytes": size}), flush=True)
    await server.serve_forever()


def _entry(item: Listed, key: str) -> bytes:
    return (
        f"<Contents><Key>{key}</Key><LastModified>{TIME}</LastModified><ETag>&quot;{item.etag}&quot;</ETag>"
        f"<Size>{item.size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
    ).encode()


def _in_xml(text: str) -> str:
    """Escape text for XML; characters that XML forbids become U+FFFD, as in Go's servers."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", "\ufffd", escape(text)).replace("\n", "&#xA;")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("objects", type=int)
    parser.add_argument("--changed", type=int, default=0, help="number of objects with a different ETag")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each response")
    options = parser.parse_args()
    # Garbage collection of millions of live objects would take longer than creating them.
    gc.disable()
    asyncio.run(_serve(Pages(synthetic(options.objects, changed=options.changed)), options.latency))
