"""What stands in front of the S3 server: passes requests on, late, or answers them with an error, as told.

Faults are read from a JSON file at every request: ``latency_ms``, ``errors`` (the share of requests that get
503 SlowDown), ``refuse`` (every key is refused), ``drop`` (the share of connections cut without an answer).
Each request is a line of the log when it comes in and another when it is answered, so that a test knows what
is under way.

Latency is the answer's: the kernel's netem would do it for packets, but many kernels come without it.
"""

import argparse
import asyncio
import json
import random
from pathlib import Path

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web
from yarl import URL

# Of one connection and not of the message (RFC 9110, section 7.6.1); aiohttp writes its own. `Expect` was
# answered by the time a body is read.
_OF_THE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "expect"}
_NO_FAULTS = {"latency_ms": 0.0, "errors": 0.0, "refuse": False, "drop": 0.0}


def _error(status: int, code: str) -> web.Response:
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
    )
    return web.Response(status=status, text=body, content_type="application/xml")


class Proxy:
    """Passes requests to the server at ``to`` (http://host:port)."""

    def __init__(self, to: str, faults: Path, log: Path) -> None:
        self.to = to
        self.faults = faults
        self.log = log.open("a", buffering=1)

    async def start(self, app: web.Application) -> None:
        self.session = ClientSession(
            auto_decompress=False,
            connector=TCPConnector(limit=0),
            timeout=ClientTimeout(total=None),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )

    async def stop(self, app: web.Application) -> None:
        await self.session.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.log.write(f"> {request.method} {request.raw_path}\n")
        answer = await self._answer(request)
        self.log.write(f"{answer.status} {request.method} {request.raw_path}\n")
        return answer

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()  # an error before a body is read would be a broken pipe to its sender
        faults = self._faults()
        if faults["latency_ms"]:
            await asyncio.sleep(faults["latency_ms"] / 1000)
        if random.random() < faults["drop"] and request.transport:
            request.transport.abort()
        if faults["refuse"]:
            return _error(403, "InvalidAccessKeyId")
        if random.random() < faults["errors"]:
            return _error(503, "SlowDown")
        # The signature covers the path as it was written and the Host header: both go on untouched.
        url = URL(self.to + request.raw_path, encoded=True)
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in _OF_THE_CONNECTION]
        try:
            async with self.session.request(
                request.method, url, headers=headers, data=body or None, allow_redirects=False
            ) as theirs:
                kept = [(k, v) for k, v in theirs.headers.items() if k.lower() not in _OF_THE_CONNECTION]
                if request.method == "HEAD":
                    return web.Response(status=theirs.status, headers=kept)
                return web.Response(status=theirs.status, headers=kept, body=await theirs.read())
        except OSError:
            return _error(502, "BadGateway")

    def _faults(self) -> dict[str, float]:
        try:
            return _NO_FAULTS | json.loads(self.faults.read_text())
        except FileNotFoundError:
            return _NO_FAULTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listen", required=True, help="HOST:PORT")
    parser.add_argument("--to", required=True, help="http://HOST:PORT of the server")
    parser.add_argument("--faults", required=True, type=Path)
    parser.add_argument("--log", required=True, type=Path)
    arguments = parser.parse_args()
    proxy = Proxy(arguments.to, arguments.faults, arguments.log)
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", proxy.handle)
    app.on_startup.append(proxy.start)
    app.on_cleanup.append(proxy.stop)
    host, _, port = arguments.listen.rpartition(":")
    web.run_app(app, host=host, port=int(port), print=None, access_log=None)


if __name__ == "__main__":
    main()
