"""A real HTTP server on the loopback that misbehaves as it is told, one behaviour a path."""

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Unreliable(ThreadingHTTPServer):
    """Serves `files` ({path: bytes}); `behave` ({path: function(handler, body)}) overrides.

    Attributes:
        requests: (path, Range, If-Range) of every request, in order.
        busiest: most requests that were under way at a time.
    """

    daemon_threads = True

    def __init__(self, files, behave=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.behave, self.requests = files, behave or {}, []
        self.lock, self.under_way, self.busiest = threading.Lock(), 0, 0

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        pass  # a client that leaves is what many tests are about


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def do_GET(self):
        server, path = self.server, self.path.split("?")[0]
        with server.lock:
            ranges = self.headers.get("Range"), self.headers.get("If-Range")
            server.requests.append((path, *ranges))
            server.under_way += 1
            server.busiest = max(server.busiest, server.under_way)
        try:
            body = server.files.get(path)
            if path in server.behave:
                server.behave[path](self, body)
            elif body is None:
                self.answer(404, b"no such file")
            else:
                serve(self, body)
        finally:
            with server.lock:
                server.under_way -= 1

    def answer(self, status, body=b"", length=None, sent=None, **headers):
        """Send status, headers and body; `length` is what is said of it, `sent` what comes."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body if sent is None else body[:sent])
        if (sent is not None and sent < len(body)) or length not in (None, len(body)):
            self.close_connection = True


def serve(handler, body, tag='"v1"', sent=None, **headers):
    """Serve with ranges and If-Range, as a good server does; `sent` cuts after so many bytes."""
    wanted, condition = handler.headers.get("Range"), handler.headers.get("If-Range")
    if wanted and condition in (None, tag):
        first = int(wanted.removeprefix("bytes=").rstrip("-"))
        if first >= len(body):
            handler.answer(416, b"", Content_Range=f"bytes */{len(body)}", **headers)
            return
        span = f"bytes {first}-{len(body) - 1}/{len(body)}"
        handler.answer(206, body[first:], ETag=tag, Content_Range=span, sent=sent, **headers)
    else:
        handler.answer(200, body, ETag=tag, sent=sent, **headers)


def cutting(after, tag='"v1"'):
    """Send `after` bytes of what is asked for, and cut the connection."""
    return lambda handler, body: serve(handler, body, tag, sent=after)


def without_ranges(*cuts):
    """Send all of it whatever is asked, cut after so many bytes the first times."""
    left = list(cuts)
    return lambda handler, body: handler.answer(200, body, sent=left.pop(0) if left else None)


def first_times(times, status, then=serve, **headers):
    """Answer with a status so many times, then do as `then` does."""
    left = [status] * times

    def behave(handler, body):
        if left:
            handler.answer(left.pop(), b"later", **headers)
        else:
            then(handler, body)

    return behave


def silent_after(n, seconds, then=serve):
    """Send n bytes and then nothing for so long, the first time."""
    left = [True]

    def behave(handler, body):
        if not left:
            then(handler, body)
            return
        left.pop()
        handler.send_response(200)
        handler.send_header("ETag", '"v1"')
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:n])
        time.sleep(seconds)
        handler.close_connection = True

    return behave


@contextlib.contextmanager
def serving(files, behave=None):
    """Yield an Unreliable that serves, in a thread, until the block ends."""
    server = Unreliable(files, behave)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
