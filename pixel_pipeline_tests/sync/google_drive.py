"""A fake Drive API with the calls that rclone needs to list and download, behind an HTTPS proxy."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
import re
import ssl
import threading
from typing import Any
from urllib.parse import parse_qs, urlsplit

ROOT = "root-id"
FOLDER = "application/vnd.google-apps.folder"
DOCUMENT = "application/vnd.google-apps.document"
SHEET = "application/vnd.google-apps.spreadsheet"
FORM = "application/vnd.google-apps.form"
SHORTCUT = "application/vnd.google-apps.shortcut"
EXPORT_FORMATS = {
    DOCUMENT: ["application/vnd.openxmlformats-officedocument.wordprocessingml.document", "text/plain"],
    SHEET: ["application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "text/csv"],
}


@dataclass
class DriveFile:
    """A file, folder or Google document. `refusal` is the response to its download: status and reason."""

    id: str
    name: str
    content: bytes = b""
    parent: str = ROOT
    mime: str = "application/octet-stream"
    modified: str = "2026-01-02T03:04:05.678Z"
    target: str | None = None
    refusal: tuple[int, str] | None = None

    def listed(self) -> dict[str, Any]:
        """The file's entry in a listing."""
        entry: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "mimeType": self.mime,
            "parents": [self.parent],
            "modifiedTime": self.modified,
            "createdTime": self.modified,
        }
        if self.mime in EXPORT_FORMATS:
            export = f"https://www.googleapis.com/drive/v3/files/{self.id}/export?mimeType="
            entry["exportLinks"] = {kind: export + kind for kind in EXPORT_FORMATS[self.mime]}
        if self.target is not None:
            entry["shortcutDetails"] = {
                "targetId": self.target,
                "targetMimeType": "application/octet-stream",
            }
        if not self.mime.startswith("application/vnd.google-apps."):
            entry["size"] = str(len(self.content))
            entry["md5Checksum"] = hashlib.md5(self.content).hexdigest()
        return entry


@dataclass
class GoogleDrive:
    """The fake Drive.

    Attributes:
        files: Its files.
        token: The access token that every request needs; any service account's assertion obtains it.
        locked: Ids of folders whose listing is denied.
        requests: Method and path of every request.
    """

    port: int
    files: list[DriveFile] = field(default_factory=list)
    token: str = "planted-access-token"
    locked: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)

    def answer(self, url: str) -> tuple[int, bytes]:
        """Return status and body for a GET request."""
        path, query = urlsplit(url).path.removeprefix("/drive/v3/"), parse_qs(urlsplit(url).query)
        if path == "about":
            return 200, json.dumps({"exportFormats": EXPORT_FORMATS, "importFormats": {}}).encode()
        if path == "files":
            parents = re.findall(r"'([^']+)' in parents", query["q"][0])
            if self.locked.intersection(parents):
                return _refusal(403, "insufficientFilePermissions")
            found = [file.listed() for file in self.files if file.parent in parents]
            return 200, json.dumps({"files": found}).encode()
        id_, _, action = path.removeprefix("files/").partition("/")
        file = next((file for file in self.files if file.id == id_), None)
        if file is None:
            return _refusal(404, "notFound")
        if query.get("alt") == ["media"] or action == "export":
            if file.refusal is not None:
                return _refusal(*file.refusal)
            kind = query["mimeType"][0].encode() + b":" if action == "export" else b""
            return 200, kind + file.content
        return 200, json.dumps(file.listed()).encode()


def _refusal(status: int, reason: str) -> tuple[int, bytes]:
    error = {"code": status, "message": f"refused: {reason}", "errors": [{"reason": reason}]}
    return status, json.dumps({"error": error}).encode()


@contextmanager
def google_drive(context: ssl.SSLContext) -> Iterator[GoogleDrive]:
    """Run a fake Drive that answers for Google's hosts to clients that use its port as a proxy."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_CONNECT(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.connection = context.wrap_socket(self.connection, server_side=True)
            self.rfile = self.connection.makefile("rb")  # type: ignore[assignment]
            self.wfile = self.connection.makefile("wb", buffering=0)  # type: ignore[assignment]
            self.close_connection = False

        def do_GET(self) -> None:
            drive.requests.append(f"{self.command} {self.path}")
            if self.headers["Authorization"] == f"Bearer {drive.token}":
                self._send(*drive.answer(self.path))
            else:
                self._send(*_refusal(401, "authError"))

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            drive.requests.append(f"{self.command} {self.path}")
            token = {"access_token": drive.token, "token_type": "Bearer", "expires_in": 3600}
            self._send(200, json.dumps(token).encode())

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Suppress logging."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        drive = GoogleDrive(port=server.server_port)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield drive
        finally:
            server.shutdown()
