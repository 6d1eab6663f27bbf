"""A small HTTP proxy that fails on purpose, for the embedded S3 server, and a temporary TLS authority.

Over 300 lines: one protocol, spoken by one class.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
import ipaddress
from pathlib import Path
import re
import socket
import ssl
import struct
import threading
from typing import Literal, Self

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pixel_pipeline.lake.embedded import EmbeddedServer

HOST = "127.0.0.1"
HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Fault:
    """A fault of one request.

    Attributes:
        kind:
            "none": the request passes.
            "status": the proxy answers in place of the server.
            "hold": the request does not reach the server, and there is no response until the client gives up.
            "cut_request": `after` bytes of the body reach the server, then both connections are reset.
            "corrupt_request": the byte at `after` of the body reaches the server with its bits flipped.
            "reset", "truncate", "stall": `after` bytes of the response, head included, arrive; then the connection is reset (RST),
            ends early (FIN), or stays open in silence until the client gives up.
            "corrupt": the byte at `after` of the response's body arrives with its bits flipped.
            "lose_answer": the server carries out the request, and the connection is reset in place of its response.
        status: Response code of "status".
        code: S3's error code in that response; `details` is further XML.
        after: Position in the bytes.
        on: Pattern of the affected requests, searched in e.g. "PUT /bucket/table/_delta_log/00.json"; all by default.
        header: Name of a header of the affected requests.
    """

    kind: Literal[
        "none",
        "status",
        "hold",
        "cut_request",
        "corrupt_request",
        "reset",
        "truncate",
        "stall",
        "corrupt",
        "lose_answer",
    ]
    status: int = 503
    code: str = "InternalError"
    details: str = ""
    after: int = 0
    on: str = ""
    header: str = ""

    def hits(self, head: bytes) -> bool:
        line, *headers = head.decode().split("\r\n")
        names = {header.partition(":")[0].lower() for header in headers}
        return bool(re.search(self.on, _request(line))) and (not self.header or self.header.lower() in names)


@dataclass
class FaultProxy:
    """A proxy with one request per connection. A request consumes the first of `faults` that applies to it, or passes.

    So `[Fault("none", on=r"^PUT .*_delta_log")] * 2 + [Fault("lose_answer", on=r"^PUT .*_delta_log")]` hits the third
    write below `_delta_log`, and `[Fault("status", code="SlowDown")] * 5` is a burst.

    Attributes:
        upstream: Port of the server on loopback.
        tls: Speak https to clients.
        faults: Faults to inject, in order. `always` applies to every other request.
        rewrite: Returns a new head for a request's head and body, e.g. `without_conditions`.
        rewrite_answer: Returns a new head for a response's head.
        clock_skew: Added to the date of every response.
        requests: Requests seen, e.g. "GET /bucket/key".
        silent: Set while a client waits in "hold" or "stall".
    """

    upstream: int
    tls: ssl.SSLContext | None = None
    faults: list[Fault] = field(default_factory=list)
    always: Fault | None = None
    rewrite: Callable[[bytes, bytes], bytes] | None = None
    rewrite_answer: Callable[[bytes], bytes] = field(default=bytes)
    clock_skew: timedelta = timedelta()
    requests: list[str] = field(default_factory=list)
    silent: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._lock = threading.Lock()
        self._listener = socket.create_server((HOST, 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        # Shut down first: closing alone does not wake a thread in accept.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def endpoint(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://{HOST}:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
            with connection:
                self._answer(connection)
        except (OSError, ValueError):
            # The client disconnected or does not speak HTTP.
            connection.close()

    def _answer(self, connection: socket.socket) -> None:
        head, body = _read_head(connection)
        fault = self._fault_for(head)
        length = _body_length(head)
        while len(body) < (min(fault.after, length) if fault.kind == "cut_request" else length):
            body += _received(connection)
        match fault.kind:
            case "status":
                connection.sendall(self._dated(_error_answer(fault, bodiless=head.startswith(b"HEAD "))))
                return
            case "hold":
                self._wait_in_silence(connection)
                return
            case "corrupt_request":
                body = _flipped(body, fault.after)
            case "cut_request":
                body = body[: fault.after]
        if self.rewrite is not None:
            head = self.rewrite(head, body)
        with socket.create_connection((HOST, self.upstream)) as server:
            # The Host header stays, because the signature covers it.
            server.sendall(head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) + body)
            if fault.kind == "cut_request":
                _reset_on_close(server)
            else:
                self._pass_on(server, connection, fault=fault)
        if fault.kind in ("reset", "lose_answer", "cut_request"):
            _reset_on_close(connection)

    def _fault_for(self, head: bytes) -> Fault:
        with self._lock:
            self.requests.append(_request(head.decode()))
            for fault in self.faults:
                if fault.hits(head):
                    self.faults.remove(fault)
                    return fault
            if self.always is not None and self.always.hits(head):
                return self.always
        return Fault("none")

    def _pass_on(self, server: socket.socket, connection: socket.socket, *, fault: Fault) -> None:
        head, body = _read_head(server)
        chunk = self._dated(self.rewrite_answer(head)) + body
        # Position of the fault in the response, head included.
        place = fault.after if fault.kind != "corrupt" else len(chunk) - len(body) + fault.after
        if fault.kind == "lose_answer":
            return
        while chunk:
            if fault.kind in ("reset", "truncate", "stall") and place <= len(chunk):
                connection.sendall(chunk[:place])
                if fault.kind == "stall":
                    self._wait_in_silence(connection)
                return
            if fault.kind == "corrupt" and 0 <= place < len(chunk):
                chunk = _flipped(chunk, place)
            connection.sendall(chunk)
            place -= len(chunk)
            chunk = server.recv(1 << 16)

    def _wait_in_silence(self, connection: socket.socket) -> None:
        self.silent.set()
        while connection.recv(1 << 16):
            pass

    def _dated(self, head: bytes) -> bytes:
        def later(match: re.Match[bytes]) -> bytes:
            moved = parsedate_to_datetime(match[1].decode()) + self.clock_skew
            return b"\r\nDate: " + format_datetime(moved, usegmt=True).encode()

        return re.sub(rb"(?i)\r\ndate: ([^\r]+)", later, head, count=1)


def without_conditions(server: EmbeddedServer) -> Callable[[bytes, bytes], bytes]:
    """Return a `FaultProxy.rewrite` for a store that ignores `If-None-Match`. It signs requests again without the header."""

    def rewrite(head: bytes, body: bytes) -> bytes:
        line, *lines = head.removesuffix(HEAD_END).decode().split("\r\n")
        method, path, _ = line.split(" ")
        headers = dict(line.split(": ", 1) for line in lines)
        headers = {name.lower(): value for name, value in headers.items()}
        if "if-none-match" not in headers:
            return head
        kept = {
            name: value
            for name, value in headers.items()
            if name not in ("if-none-match", "authorization", "x-amz-date")
        }
        request = AWSRequest(method, f"http://{kept['host']}{path}", headers=kept, data=body)
        S3SigV4Auth(
            Credentials(server.access_key, server.secret_key.get_secret_value()), "s3", "us-east-1"
        ).add_auth(request)
        lines = [line, *(f"{name}: {value}" for name, value in request.headers.items())]
        return "\r\n".join(lines).encode() + HEAD_END

    return rewrite


def _request(head: str) -> str:
    """Return method and path, e.g. "GET /bucket/key"."""
    return " ".join(head.split(" ", 2)[:2])


def _error_answer(fault: Fault, *, bodiless: bool) -> bytes:
    text = f"<Error><Code>{fault.code}</Code>{fault.details}</Error>".encode()
    return (
        b"HTTP/1.1 %d Fault\r\nDate: %b\r\nContent-Type: application/xml\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
        % (
            fault.status,
            format_datetime(datetime.now(UTC), usegmt=True).encode(),
            len(text),
            b"" if bodiless else text,
        )
    )


def _read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    """Return the head of a request or response with its blank line, and the part of the body received so far."""
    data = b""
    while HEAD_END not in data:
        data += _received(connection)
    head, _, body = data.partition(HEAD_END)
    if b"\r\nexpect: 100-continue" in head.lower():
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"expect:"))
    return head + HEAD_END, body


def _body_length(head: bytes) -> int:
    match = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return int(match[1]) if match else 0


def _received(connection: socket.socket) -> bytes:
    chunk = connection.recv(1 << 16)
    if not chunk:
        raise ConnectionError("the other side closed the connection")
    return chunk


def _flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :] if place < len(data) else data


def _reset_on_close(connection: socket.socket) -> None:
    # With linger 0, closing sends RST.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@dataclass(frozen=True)
class Authority:
    """A certificate authority that is not trusted yet, and a server context with its certificate for 127.0.0.1."""

    certificate: Path
    context: ssl.SSLContext


def make_authority(folder: Path, *, names: tuple[str, ...] = ()) -> Authority:
    """Create an authority's PEM file and a server certificate in a folder, for 127.0.0.1 and further host names."""
    now = datetime.now(UTC)

    def builder(name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Throwaway CA")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
        )

    authority_key, server_key = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    authority = (
        builder("Throwaway CA", authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    server = (
        builder("lake", server_key)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.ip_address(HOST)), *(x509.DNSName(name) for name in names)]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(authority.public_bytes(pem))
    (folder / "server.pem").write_bytes(
        server.public_bytes(pem)
        + server_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return Authority(certificate=folder / "ca.pem", context=context)
