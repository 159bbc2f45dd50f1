"""Guards all requests and answers of the server: only the page itself, on this machine, may ask."""

import hashlib
import ipaddress
import json
import logging
import re
from hmac import compare_digest
from typing import Any
from urllib.parse import parse_qs

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# No script, style or picture from elsewhere, no inline script or style, and no other page may frame this one.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
ALWAYS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
PARTING_SECONDS, PARTING_BYTES = 3, 50 * 2**20  # limits on listening to a client that sends too much
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[0-9a-z._-]+)(?::[0-9]{1,5})?")


class Json(Response):
    """A JSON answer. It is valid UTF-8 for any file names: their bytes that are not text become `?`."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "replace")


def refuse(status: int, sentence: str) -> Json:
    """Return an error in the form that the page expects."""
    return Json({"error": sentence}, status)


class Exchange:
    """One request and its answer, which gets the headers of ALWAYS.

    An answer that starts before the whole body has arrived ends the connection, but not at once. A client reads the answer
    only after it has sent everything, and may lose it if we hang up before. So we listen for a while longer, keep nothing
    of it, and then hang up.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        headers = Headers(scope=scope)
        self._unread = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        self._parting = self.started = False

    async def receive(self) -> Message:
        message = await self._receive()
        self._unread = self._unread and bool(message.get("more_body"))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            headers.update(ALWAYS)
            headers.setdefault("Cache-Control", "no-store")
            self._parting = self._unread
            if self._parting:
                headers["Connection"] = "close"
        elif self._parting and not message.get("more_body"):
            await self._send({**message, "more_body": True})
            await self._listen()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _listen(self) -> None:
        ignored = 0
        with anyio.move_on_after(PARTING_SECONDS):
            while self._unread and ignored < PARTING_BYTES:
                ignored += len((await self.receive()).get("body", b""))


class Guard:
    """Wraps the app: checks where a request comes from, and adds the headers of ALWAYS to each answer.

    A page of another site can make a browser send requests here. It cannot read the answers, because no header allows it.
    It could read them under a name of its own that leads to 127.0.0.1, but then Host is that name, and the request is
    refused. It cannot change anything: a POST needs a header that a page may only send to its own site.
    """

    def __init__(self, app: ASGIApp, hosts: list[str], password: str = "") -> None:
        """hosts: names and addresses without port by which the page may be called; IPv6 with or without brackets.
        password: what a browser must show once, in the query string of `/`; "" lets everyone in."""
        self.app, self.hosts, self.password = app, {_plain(host.lower()) for host in hosts}, password.encode()
        # A browser sends cookies to all ports of a machine, so that each server's cookie needs its own name.
        self.cookie = f"page-{hashlib.blake2b(self.password, digest_size=4).hexdigest()}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send)
        answer = self._instead(scope)
        if answer:
            await answer(scope, exchange.receive, exchange.send)
            return
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except Exception:
            logging.getLogger("udml").exception("the page could not answer a request")
            if exchange.started:
                raise
            sentence = "Something went wrong; the terminal in which the page was started says what."
            await refuse(500, sentence)(scope, exchange.receive, exchange.send)

    def _instead(self, scope: Scope) -> Response | None:
        """Return the answer to a request that does not reach the app, or None."""
        if reason := self._objection(scope):
            return refuse(*reason)
        if not self.password or self._is_known(scope):
            return None
        tokens = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if scope["path"] == "/" and len(tokens) == 1 and compare_digest(tokens[0].encode("utf-8", "replace"), self.password):
            answer = Response(status_code=303, headers={"Location": "/", "Cache-Control": "no-store"})
            answer.set_cookie(self.cookie, self.password.decode(), httponly=True, samesite="strict")
            return answer
        return refuse(401, "This page needs its password once. Open the whole address that search.py printed.")

    def _is_known(self, scope: Scope) -> bool:
        """Tell whether the browser has shown the password before."""
        cookies = cookie_parser("; ".join(Headers(scope=scope).getlist("cookie")))
        return self.cookie in cookies and compare_digest(cookies[self.cookie].encode("utf-8", "replace"), self.password)

    def _objection(self, scope: Scope) -> tuple[int, str] | None:
        """Return the status and sentence of a refusal, or None."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not (match := HOST.fullmatch(hosts[0].lower())) or _plain(match[1]) not in self.hosts:
            return 400, "This page is not served under that name. Use the address that search.py printed."
        if scope["method"] in ("GET", "HEAD"):
            link = scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"  # a link from elsewhere
            foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site") and not link
        else:
            origin = headers.get("origin")
            foreign = origin is not None and origin.lower().partition("://")[2] != hosts[0].lower()
            foreign |= headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
            foreign |= headers.get("x-requested-with") != "page"
        return (403, "Only the page itself may ask for this.") if foreign else None


def _plain(host: str) -> str:
    """Write a host in a single way: an address in its short form, without brackets."""
    host = host.removeprefix("[").removesuffix("]")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host
