"""An S3 server of virtual objects: ranged GETs of generated files of any size. It accepts any signature.

`python -m benchmarks.object_server '{"big.jsonl": ["json_lines", 10000000000]}'` prints one JSON line,
`{"port": …, "objects": {"big.jsonl": {"size": …, "count": …}}}`, and serves every bucket name until it is killed.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
import re
import sys
from typing import Any
from urllib.parse import unquote

from benchmarks import data
from benchmarks.harness import server_process

MAKERS = {
    maker.__name__: maker
    for maker in (
        data.json_lines,
        data.json_array,
        data.sharegpt_lines,
        data.sharegpt_array,
        data.sharegpt_long_line,
    )
}


class Handler(BaseHTTPRequestHandler):
    """GET and HEAD of whole objects and ranges."""

    protocol_version = "HTTP/1.1"
    objects: Mapping[str, data.Repeated]

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        item = self.objects.get(unquote(self.path.split("?")[0]).lstrip("/").partition("/")[2])
        if item is None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        requested = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start = int(requested[1]) if requested else 0
        end = min(int(requested[2]) + 1, item.size) if requested and requested[2] else item.size
        self.send_response(206 if requested else 200)
        if requested:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{item.size}")
        self.send_header("Content-Length", str(end - start))
        # A multipart ETag, which is not the MD5 of the content, as of other large objects.
        self.send_header("ETag", f'"{item.size:032x}-2"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        if with_body:
            for piece in item.read(start, end):
                self.wfile.write(piece)

    def log_message(self, format: str, *args: Any) -> None:
        """Suppress logging."""


class Server(ThreadingHTTPServer):
    """Ignores clients that disconnect early."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Suppress errors: a reader may close its connection at any time."""


def serving(objects: Mapping[str, tuple[str, int]]) -> AbstractContextManager[dict[str, Any]]:
    """Run the server in a separate process; yield its port, and size and count of each object."""
    return server_process("benchmarks.object_server", json.dumps(objects))


def main() -> None:
    """Serve the objects named on the command line."""
    objects = json.loads(sys.argv[1])
    Handler.objects = {key: MAKERS[maker](size) for key, (maker, size) in objects.items()}
    server = Server(("127.0.0.1", 0), Handler)
    listed = {key: {"size": item.size, "count": item.count} for key, item in Handler.objects.items()}
    print(json.dumps({"port": server.server_port, "objects": listed}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
