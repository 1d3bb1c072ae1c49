"""The same small service in each web framework: a call in the handler, in the body it streams, and in what comes after.

The model of each call is the customer's, taken from the request, so that who it is counted for can be checked against it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import types
import wsgiref.simple_server
from socketserver import ThreadingMixIn
from typing import Any

import openai
from fastapi import Depends, FastAPI, Request  # FastAPI reads the annotations of endpoints
from fastapi.responses import Response, StreamingResponse

from openai_metering.integrations import asgi, django, fastapi, flask, wsgi

MESSAGES: list[Any] = [{"role": "user", "content": "What is metering?"}]
BLOCK = b"x" * 65_536


def named(customer: str) -> dict[str, str]:
    return {"organization_id": customer, "subscriber_identity": f"joe@{customer}", "subscriber_credential": "web"}


def ask(client: Any, customer: str, **more: Any) -> Any:
    return client.chat.completions.create(model=f"model-{customer}", messages=MESSAGES, **more)


# -- Sync ------------------------------------------------------------------------------------------------------------


def answer(client: Any, path: str, customer: str) -> Any:
    """What a view does: a list of parts, or an iterator that outlives it."""
    if path == "/plain":
        return [ask(client, customer).model.encode()]
    if path == "/opened":
        opened = ask(client, customer, stream=True)
        return (chunk.model.encode() for chunk in opened)
    return inside(client, customer, endless=path == "/endless")


def inside(client: Any, customer: str, *, endless: bool) -> Any:
    """A body that makes its calls while it is sent, and one more at its end, also where the browser has left."""
    try:
        for chunk in ask(client, customer, stream=True):
            yield chunk.model.encode()
        while endless:
            yield BLOCK
    finally:
        ask(client, customer)


def wsgi_application(client: Any) -> Any:
    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("content-type", "text/plain")])
        return answer(client, environ["PATH_INFO"], environ["HTTP_CUSTOMER"])

    return wsgi.AttributionMiddleware(application, lambda environ: named(environ["HTTP_CUSTOMER"]))


def flask_application(client: Any) -> Any:
    import flask as framework

    app = framework.Flask("shop")
    app.secret_key = "test"

    @app.before_request
    def log_in() -> None:
        framework.session["customer"] = framework.request.headers["customer"]

    flask.attribute_requests(app, lambda _: named(framework.session["customer"]))

    @app.get("/<path:path>")
    def view(path: str) -> Any:
        made = answer(client, f"/{path}", framework.request.headers["customer"])
        made = framework.stream_with_context(made) if path == "inside" else made
        return framework.Response(made, mimetype="text/plain")

    @app.get("/async/plain")
    async def async_view() -> Any:
        return b"".join(answer(client, "/plain", framework.request.headers["customer"]))

    return app


def django_application(client: Any, async_client: Any, *, asynchronous: bool) -> Any:
    import django as framework
    from django.conf import settings

    if not settings.configured:
        module = types.ModuleType("shop_urls")
        module.urlpatterns = []  # type: ignore[attr-defined]
        settings.configure(
            DEBUG=False,
            ALLOWED_HOSTS=["*"],
            SECRET_KEY="test",
            ROOT_URLCONF=module,
            MIDDLEWARE=[f"{__name__}.metering"],
        )
        framework.setup(set_prefix=False)
    from django.core.handlers.asgi import ASGIHandler
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpResponse, StreamingHttpResponse
    from django.urls import clear_url_caches, path, set_urlconf

    def view(request: Any, name: str) -> Any:
        made = answer(client, f"/{name}", request.headers["customer"])
        return HttpResponse(b"".join(made)) if name == "plain" else StreamingHttpResponse(made)

    async def async_view(request: Any, name: str) -> Any:
        made = await async_answer(async_client, f"/{name}", request.headers["customer"])
        return HttpResponse(made) if isinstance(made, bytes) else StreamingHttpResponse(made)

    settings.ROOT_URLCONF.urlpatterns = [path("<name>", async_view if asynchronous else view)]
    clear_url_caches()
    set_urlconf(None)
    return ASGIHandler() if asynchronous else WSGIHandler()


metering = django.attribution_middleware(lambda request: named(request.headers["customer"]))


# -- Async -----------------------------------------------------------------------------------------------------------


async def async_answer(client: Any, path: str, customer: str) -> Any:
    if path == "/plain":
        return (await ask(client, customer)).model.encode()
    if path == "/opened":
        opened = await ask(client, customer, stream=True)
        return (chunk.model.encode() async for chunk in opened)
    return async_inside(client, customer)


async def async_inside(client: Any, customer: str) -> Any:
    await ask(client, customer)
    async for chunk in await ask(client, customer, stream=True):
        yield chunk.model.encode()


async def later(client: Any, customer: str) -> None:
    await ask(client, customer)


def customer_of(scope: Any) -> str:
    return dict(scope["headers"])[b"customer"].decode()


async def looked_up(connection: Any) -> Any:
    await asyncio.sleep(0)
    return named(connection.headers["customer"])


def asgi_application(client: Any) -> Any:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            await send({"type": "lifespan.startup.complete"})
            assert (await receive())["type"] == "lifespan.shutdown"
            await send({"type": "lifespan.shutdown.complete"})
            return
        made = await async_answer(client, scope["path"], customer_of(scope))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if isinstance(made, bytes):
            await send({"type": "http.response.body", "body": made})
            return
        async for part in made:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})

    return asgi.AttributionMiddleware(application, lambda scope: named(customer_of(scope)))


def starlette_application(client: Any) -> Any:
    from starlette.applications import Starlette
    from starlette.background import BackgroundTask
    from starlette.middleware import Middleware
    from starlette.routing import Route

    async def view(request: Any) -> Any:
        customer = request.headers["customer"]
        made = await async_answer(client, request.url.path, customer)
        if isinstance(made, bytes):
            return Response(made)
        return StreamingResponse(made, background=BackgroundTask(later, client, customer))

    async def who(scope: Any) -> Any:
        await asyncio.sleep(0)
        return named(customer_of(scope))

    middleware = [Middleware(asgi.AttributionMiddleware, who=who)]
    return Starlette(routes=[Route("/{name}", view)], middleware=middleware)


def fastapi_application(client: Any, sync_client: Any, *, asynchronous: bool) -> Any:
    app = FastAPI(dependencies=[Depends(fastapi.attributed(looked_up))])

    if asynchronous:

        @app.get("/{name}", response_model=None)
        async def async_view(name: str, request: Request) -> Response:
            made = await async_answer(client, f"/{name}", request.headers["customer"])
            return Response(made) if isinstance(made, bytes) else StreamingResponse(made)
    else:

        @app.get("/{name}", response_model=None)
        def view(name: str, request: Request) -> Response:
            made = answer(sync_client, f"/{name}", request.headers["customer"])
            return Response(b"".join(made)) if name == "plain" else StreamingResponse(made)

    return app


# -- Servers ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def in_thread(run: Any, stop: Any) -> Any:
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop()
        thread.join(30)
        assert not thread.is_alive()


@contextlib.contextmanager
def uvicorn_server(app: Any) -> Any:
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=5))

    def stop() -> None:
        server.should_exit = True

    with in_thread(server.run, stop):
        while not server.started:
            threading.Event().wait(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]


@contextlib.contextmanager
def waitress_server(app: Any) -> Any:
    import waitress

    server = waitress.create_server(app, host="127.0.0.1", port=0, threads=8, outbuf_high_watermark=1)

    def run() -> None:
        with contextlib.suppress(OSError):  # its sockets are closed under it
            server.run()

    def stop() -> None:
        server.task_dispatcher.shutdown()
        server.trigger.pull_trigger(server.close)

    with in_thread(run, stop):
        yield server.effective_port


class Threaded(ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = False
    request_queue_size = 64


class Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def wsgiref_server(app: Any) -> Any:
    server = wsgiref.simple_server.make_server("127.0.0.1", 0, app, Threaded, Quiet)
    with in_thread(server.serve_forever, server.shutdown):
        yield server.server_port
    server.server_close()


SYNC = {
    "wsgi-wsgiref": lambda client, _: wsgiref_server(wsgi_application(client)),
    "wsgi-waitress": lambda client, _: waitress_server(wsgi_application(client)),
    "flask-waitress": lambda client, _: waitress_server(flask_application(client)),
    "django-wsgiref": lambda client, other: wsgiref_server(django_application(client, other, asynchronous=False)),
}
ASYNC = {
    "asgi": lambda _, client: uvicorn_server(asgi_application(client)),
    "starlette": lambda _, client: uvicorn_server(starlette_application(client)),
    "fastapi": lambda sync, client: uvicorn_server(fastapi_application(client, sync, asynchronous=True)),
    "fastapi-threads": lambda sync, client: uvicorn_server(fastapi_application(client, sync, asynchronous=False)),
    "django-asgi": lambda sync, client: uvicorn_server(django_application(sync, client, asynchronous=True)),
}


def clients(base_url: str) -> tuple[Any, Any]:
    return openai.OpenAI(base_url=base_url, max_retries=0), openai.AsyncOpenAI(base_url=base_url, max_retries=0)
