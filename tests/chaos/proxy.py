"""A small TCP proxy in front of Redis that resets, delays, and leaves connections half open."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from types import TracebackType
from typing import Literal

Mode = Literal["pass", "reset", "delay"]
DELAY_S = 0.25


class Proxy:
    """Listens on `port`, a free one of 127.0.0.1, and passes on to `target`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.mode: Mode = "pass"
        """"reset": nobody gets through. "delay": all that passes is late."""
        self._pairs: set[_Pair] = set()
        self._lock = threading.Lock()
        self.num_accepted = 0

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset_all()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.num_accepted += 1
            try:
                if self.mode == "reset":
                    raise ConnectionResetError
                server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
                server.settimeout(None)
            except OSError:
                _reset(client)
                continue
            pair = _Pair(self, client, server)
            with self._lock:
                self._pairs.add(pair)
            pair.start()

    def _all(self) -> list[_Pair]:
        with self._lock:
            return list(self._pairs)

    def reset_all(self) -> None:
        """Throw out everybody who is connected."""
        for pair in self._all():
            pair.reset()

    def half_open_all(self) -> int:
        """Let nothing more through on the connections that there are, and close none of them."""
        pairs = self._all()
        for pair in pairs:
            pair.swallows = True
        return len(pairs)

    def forget(self, pair: _Pair) -> None:
        """Drop a connection that has ended."""
        with self._lock:
            self._pairs.discard(pair)


class _Pair:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self.swallows = False

    def start(self) -> None:
        for source, sink in ((self._client, self._server), (self._server, self._client)):
            threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                if self._proxy.mode == "delay":
                    time.sleep(DELAY_S)
                if not self.swallows:
                    sink.sendall(data)
        except OSError:
            pass
        self.reset()

    def reset(self) -> None:
        self._proxy.forget(self)
        _reset(self._client)
        _reset(self._server)


def _reset(connection: socket.socket) -> None:
    """Close with RST rather than FIN."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        connection.close()
