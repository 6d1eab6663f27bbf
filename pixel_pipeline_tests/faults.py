"""A small HTTP proxy in front of the embedded S3 server that fails on purpose, and a throwaway TLS authority."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
import ipaddress
from pathlib import Path
import socket
import ssl
import struct
import threading
from typing import Literal, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Fault:
    """What happens to one request.

    Attributes:
        kind: "none" passes the request on. "status" answers without asking the server; "reset" and "truncate" pass on `after` bytes of the server's
            answer, headers included, and then break the connection (RST) or end it early (FIN).
        status: Answer of "status".
        after: Bytes of the answer that still arrive.
    """

    kind: Literal["none", "status", "reset", "truncate"]
    status: int = 503
    after: int = 0


@dataclass
class FaultProxy:
    """One connection, one request. Requests take faults from the front of `faults`; when it is empty they pass.

    Attributes:
        upstream: Port of the server on loopback.
        tls: Speak https to clients.
        faults: Faults of the next requests, in order. `always`, when set, is the fault of every request after them.
        requests: Request lines seen, e.g. "GET /bucket/key".
    """

    upstream: int
    tls: ssl.SSLContext | None = None
    faults: list[Fault] = field(default_factory=list)
    always: Fault | None = None
    requests: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._lock = threading.Lock()
        self._listener = socket.create_server((HOST, 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        # Shut down first: closing alone does not wake a thread that waits in accept.
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
            # The client went away or speaks no HTTP; it knows best why.
            connection.close()

    def _answer(self, connection: socket.socket) -> None:
        head, body = _read_request(connection)
        with self._lock:
            self.requests.append(b" ".join(head.split(b" ", 2)[:2]).decode())
            fault = self.faults.pop(0) if self.faults else self.always
        if fault is not None and fault.kind == "status":
            text = b"<Error><Code>InternalError</Code></Error>"
            connection.sendall(
                b"HTTP/1.1 %d Fault\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
                % (fault.status, len(text), text)
            )
            return
        with socket.create_connection((HOST, self.upstream)) as server:
            # All else stays as it is: the signature covers the Host header.
            server.sendall(head.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) + body)
            left = fault.after if fault is not None and fault.kind != "none" else None
            while (chunk := server.recv(1 << 16)) and left != 0:
                chunk = chunk if left is None else chunk[:left]
                connection.sendall(chunk)
                left = None if left is None else left - len(chunk)
        if fault is not None and fault.kind == "reset":
            # Linger 0: closing sends RST.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _read_request(connection: socket.socket) -> tuple[bytes, bytes]:
    """Head with its blank line, and body, of one request."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _received(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    if headers.get(b"expect") == b"100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"expect:"))
    length = int(headers.get(b"content-length", 0))
    while len(body) < length:
        body += _received(connection)
    return head + b"\r\n\r\n", body


def _received(connection: socket.socket) -> bytes:
    chunk = connection.recv(1 << 16)
    if not chunk:
        raise ConnectionError("the client closed the connection")
    return chunk


@dataclass(frozen=True)
class Authority:
    """A certificate authority nobody trusts yet, and a server context with a certificate of it for 127.0.0.1."""

    certificate: Path
    context: ssl.SSLContext


def make_authority(folder: Path) -> Authority:
    """Create the authority's PEM file and a server certificate in a folder."""
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
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False
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
