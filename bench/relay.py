"""A TCP relay that delays both directions: latency where the kernel has no netem."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from types import TracebackType

__all__ = ["Relay"]


class Relay:
    """While open, 127.0.0.1:`port` leads to a server, each byte `delay` seconds late in each direction."""

    def __init__(self, address: str, to_port: int, delay: float) -> None:
        self._address, self._to_port, self._delay = address, to_port, delay
        self._ready = threading.Event()
        self.port = 0

    def __enter__(self) -> Relay:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._leave.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._leave = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._leave.wait()
        server.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(self._address, self._to_port)
        with suppress(asyncio.CancelledError):  # the relay closes, and asyncio would tell it as a failure
            await asyncio.gather(
                self._pump(reader, there_writer), self._pump(there_reader, writer), return_exceptions=True
            )

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Each piece is due `delay` after it came; pieces do not wait for one another."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, data = await queue.get()
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                if not data:
                    writer.close()
                    return
                writer.write(data)
                await writer.drain()

        delivery = asyncio.ensure_future(deliver())
        try:
            while True:
                data = await reader.read(65536)
                queue.put_nowait((self._loop.time() + self._delay, data))
                if not data:
                    break
        except OSError:
            queue.put_nowait((self._loop.time(), b""))
        await delivery
