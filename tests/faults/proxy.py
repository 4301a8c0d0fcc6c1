"""A network in front of the broker that can go silent, reset its connections, or become slow."""

import asyncio
import socket
import struct
import threading
from contextlib import suppress
from typing import Self

CHUNK = 65536


class Proxy:
    """Passes TCP on, in a thread and an event loop of its own.

    Silence is that of a cut cable: nothing is forwarded and nobody is told, neither that a peer has closed
    nor that a new connection leads nowhere. What was sent meanwhile arrives when it ends, as TCP has it.
    """

    def __init__(self, host: str, target: int) -> None:
        self._host, self._target = host, target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._open: set[asyncio.StreamWriter] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._delay = 0.0
        self.port = 0

    def __enter__(self) -> Self:
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
        self._loop.call_soon_threadsafe(self._passing.clear)

    def speak(self) -> None:
        """Mend it."""
        self._loop.call_soon_threadsafe(self._passing.set)

    def delay(self, seconds: float) -> None:
        """Hold back whatever is sent, in either direction, for so long."""
        self._delay = seconds

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
        server = await asyncio.start_server(self._accept, self._host, 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _end(self) -> None:
        self._server.close()
        self._passing.set()
        mine = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not mine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            await self._passing.wait()
            there_reader, there_writer = await asyncio.open_connection(self._host, self._target)
            self._open |= {writer, there_writer}
            try:
                await asyncio.gather(self._pass_on(reader, there_writer), self._pass_on(there_reader, writer))
            finally:
                self._open -= {writer, there_writer}
                there_writer.transport.abort()
        writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one direction; pieces that come while another is held back keep their own times."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def send() -> None:
            while True:
                due, data = await pieces.get()
                await asyncio.sleep(due - loop.time())
                await self._passing.wait()
                if not data:
                    writer.close()
                    return
                writer.write(data)
                await writer.drain()

        sending = asyncio.ensure_future(send())
        try:
            with suppress(OSError):
                while data := await reader.read(CHUNK):
                    pieces.put_nowait((loop.time() + self._delay, data))
            pieces.put_nowait((loop.time() + self._delay, b""))
            with suppress(OSError):
                await sending
        finally:
            sending.cancel()
