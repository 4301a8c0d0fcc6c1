"""A network in front of a service: carries TCP on, and can go silent, mute, slow or narrow, or reset."""

import asyncio
import math
import socket
import struct
import threading
from contextlib import suppress
from typing import Self

from local.ports import HOST

CHUNK = 65536


class Proxy:
    """Passes what comes to `host` and `port` on to a port of this machine, in a thread and loop of its own.

    Silence is that of a cut cable: nothing is forwarded and nobody is told, neither that a peer has closed
    nor that a new connection leads nowhere. What was sent meanwhile arrives when it ends, as TCP has it.
    """

    def __init__(self, target: int, *, host: str = HOST, port: int = 0) -> None:
        self.host, self.port = host, port
        self.delay = 0.0  # seconds that whatever is sent is held back, in either direction
        self.rate = math.inf  # bytes a second of each connection in each direction
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._open: set[asyncio.StreamWriter] = set()
        self._there, self._back = asyncio.Event(), asyncio.Event()  # set while that direction passes

    def __enter__(self) -> Self:
        self._there.set()
        self._back.set()
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def silence(self) -> None:
        """Cut the cable."""
        self._loop.call_soon_threadsafe(self._there.clear)
        self.mute()

    def mute(self) -> None:
        """Hold back what the service answers; what it is sent arrives."""
        self._loop.call_soon_threadsafe(self._back.clear)

    def speak(self) -> None:
        """Mend it."""
        for direction in (self._there, self._back):
            self._loop.call_soon_threadsafe(direction.set)

    def reset(self) -> int:
        """Reset every connection (RST, both ways); returns how many there were."""

        async def abort() -> int:
            writers = list(self._open)
            for writer in writers:
                linger = struct.pack("ii", 1, 0)  # closing then sends RST
                with suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
            return len(writers) // 2

        return asyncio.run_coroutine_threadsafe(abort(), self._loop).result()

    async def _listen(self) -> asyncio.Server:
        server = await asyncio.start_server(self._accept, self.host, self.port)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _end(self) -> None:
        self._server.close()
        mine = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not mine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            await self._there.wait()
            far_reader, far_writer = await asyncio.open_connection(HOST, self._target)
            self._open |= {writer, far_writer}
            try:
                await asyncio.gather(
                    self._pass_on(reader, far_writer, self._there),
                    self._pass_on(far_reader, writer, self._back),
                )
            finally:
                self._open -= {writer, far_writer}
                far_writer.transport.abort()
        writer.transport.abort()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passing: asyncio.Event
    ) -> None:
        """Forward one direction; pieces that come while another is held back keep their own times."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def send() -> None:
            while True:
                due, data = await pieces.get()
                await asyncio.sleep(due - loop.time())
                await passing.wait()
                if not data:
                    writer.close()
                    return
                while data:
                    size = int(min(len(data), max(1, self.rate / 4)))
                    writer.write(data[:size])
                    await writer.drain()
                    await asyncio.sleep(size / self.rate)
                    data = data[size:]

        sending = asyncio.ensure_future(send())
        try:
            with suppress(OSError):
                while data := await reader.read(CHUNK):
                    pieces.put_nowait((loop.time() + self.delay, data))
            pieces.put_nowait((loop.time() + self.delay, b""))
            with suppress(OSError):
                await sending
        finally:
            sending.cancel()
