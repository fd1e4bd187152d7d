"""A library for asyncio inside a shipped coroutine: aiohttp fetches pages from a server, all at the same time.

Start ``python -m discoro`` first; ``pip install aiohttp`` here and there. ``python fetch.py URL...``; without one, three pages
are served from here, which the server must be able to reach.
"""

import asyncio
import sys

import aiohttp
from aiohttp import web

from discoro import Computation, Coro, run


async def fetch(urls):
    """Runs on a server. asyncio's tools work in it: timeouts, task groups, other libraries."""
    async with asyncio.timeout(30), aiohttp.ClientSession() as session:

        async def size(url):
            async with session.get(url) as response:
                return url.rpartition("/")[2], response.status, len(await response.read())

        return await asyncio.gather(*[size(url) for url in urls])


async def page(request):
    return web.Response(text=request.match_info["name"] * 1000)


async def serve_pages():
    application = web.Application()
    application.router.add_get("/{name}", page)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    return runner, [f"http://{host}:{port}/{name}" for name in ("a", "bb", "ccc")]


async def main():
    runner, urls = None, sys.argv[1:]
    if not urls:
        runner, urls = await serve_pages()
    server = await Coro.locate("discoro_server")
    computation = Computation(fetch)
    await computation.setup(server)
    for name, status, size in await (await computation.run(server, urls)):
        print(name, status, size)
    if runner is not None:
        await runner.cleanup()


run(main)
