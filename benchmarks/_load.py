"""A small closed-loop HTTP load generator: keep-alive connections, one request in flight on each."""

import asyncio
import time


async def run(host: str, port: int, request: bytes, *, connections: int, seconds: float) -> dict[str, float]:
    """Requests a second and latencies in ms. Every answer must be 200."""
    latencies: list[float] = []
    stop = time.perf_counter() + seconds

    async def client() -> None:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            while (begin := time.perf_counter()) < stop:
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(f"unexpected answer: {head[:200]!r}")
                lower = head.lower()
                if b"transfer-encoding: chunked" in lower:
                    while (size := int((await reader.readuntil(b"\r\n")).strip() or b"0", 16)) > 0:
                        await reader.readexactly(size + 2)
                    await reader.readexactly(2)
                else:
                    length = int(lower.split(b"content-length:")[1].split(b"\r\n")[0])
                    await reader.readexactly(length)
                latencies.append(time.perf_counter() - begin)
        finally:
            writer.close()

    begin = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(connections)))
    elapsed = time.perf_counter() - begin
    latencies.sort()
    return {
        "rps": len(latencies) / elapsed,
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1000,
    }
