"""A small web server for pages of ours: it answers on this machine only unless told otherwise, and serves named things only.

A page elsewhere on the web must not be able to use it through the visitor's browser: requests under another host name
(DNS rebinding) are refused, and whoever changes something must send a header that other sites' pages cannot send.
"""

from __future__ import annotations

import argparse
import http.server
import ipaddress
import json
import shutil
import signal
import socket
import sys
import webbrowser
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8", ".json": "application/json", ".png": "image/png", ".mp4": "video/mp4",
    ".glb": "model/gltf-binary",
}  # fmt: skip
OWN_HEADER = "X-SplatHead"
"""header that our own pages send with requests that change something"""
SOCKET_TIMEOUT_S = 60.0


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Handler(http.server.BaseHTTPRequestHandler):
    """Checks every request, then asks :meth:`answer_get` or :meth:`answer_post`; errors become one line of text."""

    timeout = SOCKET_TIMEOUT_S  # of the connection, so that an idle client does not hold a thread for ever
    server: Server

    def do_GET(self) -> None:
        self._answer(self.answer_get)

    def do_HEAD(self) -> None:
        self._answer(self.answer_get)

    def do_POST(self) -> None:
        self._answer(self.answer_post)

    def answer_get(self, path: str) -> None:
        """Answer a request for ``path``."""
        raise Refused(HTTPStatus.NOT_FOUND, "nothing here")

    def answer_post(self, path: str) -> None:
        """Answer a request that changes something."""
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "this page only shows things")

    def _answer(self, function: Callable[[str], None]) -> None:
        try:
            self._check_origin()
            function(urlsplit(self.path).path)
        except Refused as refused:
            self.close_connection = True
            self.send_text(f"{refused}\n", refused.status)
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            self.close_connection = True  # the other side has gone

    def _check_origin(self) -> None:
        host = self.headers.get("Host", "")
        if self.server.local_only and _host_name(host) not in ("localhost", "127.0.0.1", "::1"):
            raise Refused(HTTPStatus.FORBIDDEN, f"host {host!r}, expected localhost")
        if self.command == "POST" and self.headers.get(OWN_HEADER) is None:
            raise Refused(HTTPStatus.FORBIDDEN, f"no {OWN_HEADER} header, expected a request of this server's own page")

    def send_text(self, text: str, status: HTTPStatus = HTTPStatus.OK, content_type: str = "text/plain; charset=utf-8") -> None:
        """Send a text."""
        self.send_bytes(text.encode(), content_type, status)

    def send_json(self, data: object, status: HTTPStatus = HTTPStatus.OK) -> None:
        """Send JSON."""
        self.send_text(json.dumps(data, allow_nan=False), status, CONTENT_TYPES[".json"])

    def send_bytes(self, data: bytes, content_type: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        """Send bytes."""
        self._send_head(len(data), content_type, status)
        if self.command != "HEAD":
            self.wfile.write(data)

    def send_file(self, path: Path) -> None:
        """Send a file; one that has gone meanwhile is not found."""
        try:
            stream = path.open("rb")
        except OSError:
            raise Refused(HTTPStatus.NOT_FOUND, f"{path.name} is not there any more") from None
        with stream:
            content_type = CONTENT_TYPES.get(path.suffix, "application/octet-stream")
            self._send_head(path.stat().st_size, content_type, HTTPStatus.OK)
            if self.command != "HEAD":
                shutil.copyfileobj(stream, self.wfile)

    def _send_head(self, length: int, content_type: str, status: HTTPStatus) -> None:
        self.send_response(status)
        headers = {"Content-Type": content_type, "Content-Length": length, "X-Content-Type-Options": "nosniff"}
        for name, value in {**headers, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}.items():
            self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Requests are not printed."""


class Server(http.server.ThreadingHTTPServer):
    """The server at one address. ``site`` is whatever its handlers show."""

    daemon_threads = True

    def __init__(self, host: str, port: int, handler: type[Handler], site: object = None) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.site = site
        try:
            super().__init__((host, port), handler)
        except (OSError, OverflowError) as error:
            raise OSError(f"cannot listen on {host}:{port} ({error}); choose another --port (0 = any) or --host") from error
        self.local_only = ipaddress.ip_address(self.server_address[0]).is_loopback

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        host, port = self.server_address[:2]
        if ipaddress.ip_address(host).is_unspecified:
            host = "localhost"
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def _host_name(header: str) -> str:
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def add_server_flags(parser: argparse.ArgumentParser, port: int) -> None:
    """Flags of a script that serves a page."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine only)")
    parser.add_argument("--port", type=int, default=port, help=f"port to listen on, 0 = any free one (default {port})")
    parser.add_argument("--no_browser", "--no-browser", action="store_true", help="do not open a browser")


def serve(server: Server, *, open_browser: bool) -> None:
    """Answer requests until Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that callers clean up
    if not server.local_only:
        print("anyone who can reach this machine can use this page; without --host only this machine can")
    print(f"{server.url}\nCtrl-C ends it", flush=True)
    if open_browser:
        webbrowser.open(server.url)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print()
    finally:
        server.server_close()
