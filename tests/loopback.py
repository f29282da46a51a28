"""A chat server on loopback that answers what it was told to, well or badly; it keeps what it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One HTTP answer. `length` overrides Content-Length, to break off a body; `delay` seconds come first."""

    body: str
    status: int = 200
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    delay: float = 0.0


def says(text: str, *, finish: str = "stop", refusal: str | None = None) -> Answer:
    """A whole chat completion."""
    message = {"role": "assistant", "content": text, "refusal": refusal}
    body = {
        "id": "chat-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }
    return Answer(body=json.dumps(body))


def fails(status: int, message: str = "no", **headers: str) -> Answer:
    """An error in the shape of OpenAI's."""
    return Answer(
        body=json.dumps({"error": {"message": message}}),
        status=status,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


Say = Callable[[dict[str, Any]], Answer]


class ChatServer:
    """Serves /v1/chat/completions; `asked` holds the bodies of all requests and `headers` their headers."""

    def __init__(self, answers: Sequence[Answer] | Say) -> None:
        self.answers = answers if callable(answers) else list(answers)
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._lock = threading.Lock()

    def answer(self, asked: dict[str, Any], headers: dict[str, str]) -> Answer:
        """The next answer; the last one is given again and again."""
        with self._lock:
            self.asked.append(asked)
            self.headers.append(headers)
            if callable(self.answers):
                return self.answers(asked)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve until the block ends; gives the base URL."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = outer.answer(asked, {name.lower(): value for name, value in self.headers.items()})
                time.sleep(answer.delay)
                body = answer.body.encode()
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.kind)
                self.send_header("Content-Length", str(answer.length or len(body)))
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    self.wfile.write(body)
                except BrokenPipeError:
                    return  # the client gave up waiting, as some tests want

            def log_message(self, *_: object) -> None:
                """Quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
