"""One client of one Jupyter kernel, which runs what it is told and says how long that took: the same for every way to a kernel.

    kernel-client.py zmq                      the way: ZeroMQ, to the kernel of a connection file
    kernel-client.py ws                       the way: a WebSocket of a Jupyter server, framing v1

A command is a line of JSON on standard input, {"id", "do", ...}; its answer a line {"id", ...} on standard output.

    connect  file | url                       until the kernel can be asked
    times    code, count                      milliseconds from each request to its reply and the kernel idle again, in turn
    run      code, send                       one request with a buffer of `send` bytes: ms, and what came: characters of
                                              output, how many of them are line feeds, bytes of buffers
    first    url | file, code                 as connect and then run, in one go: `ms` is all of it
"""

import asyncio
import json
import sys
import time
import uuid

V1 = "v1.kernel.websocket.jupyter.org"
MOST_BYTES = 64 << 20


def request(session, code):
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "username": "bench",
        "session": session,
        "date": "2026-01-01T00:00:00.000000Z",
        "version": "5.3",
    }
    content = {
        "code": code,
        "silent": False,
        "store_history": False,
        "user_expressions": {},
        "allow_stdin": False,
        "stop_on_error": True,
    }
    return header, content


class WebSocketWay:
    def __init__(self):
        self.session = uuid.uuid4().hex
        self.socket = None

    async def connect(self, url):
        from tornado.httpclient import HTTPRequest
        from tornado.websocket import websocket_connect

        if self.socket is not None:
            self.socket.close()
        self.messages = asyncio.Queue()
        self.socket = await websocket_connect(
            HTTPRequest(url, connect_timeout=60, request_timeout=60), subprotocols=[V1], max_message_size=MOST_BYTES
        )
        if self.socket.selected_subprotocol != V1:
            raise RuntimeError("the server does not speak " + V1)
        self.reading = asyncio.ensure_future(self.read(self.socket, self.messages))

    async def read(self, socket, messages):
        message = b""
        while message is not None:
            message = await socket.read_message()
            messages.put_nowait(message)

    async def send(self, header, content, buffers):
        parts = [b"shell", json.dumps(header).encode(), b"{}", b"{}", json.dumps(content).encode(), *buffers]
        offsets = [8 * (len(parts) + 2)]
        for part in parts:
            offsets.append(offsets[-1] + len(part))
        head = b"".join(n.to_bytes(8, "little") for n in [len(offsets), *offsets])
        await self.socket.write_message(b"".join([head, *parts]), binary=True)

    async def receive(self):
        message = await asyncio.wait_for(self.messages.get(), 120)
        if message is None:
            raise RuntimeError(f"the server closed: {self.socket.close_code} {self.socket.close_reason}")
        count = int.from_bytes(message[:8], "little")
        offsets = [int.from_bytes(message[8 * i : 8 * (i + 1)], "little") for i in range(1, count + 1)]
        parts = [message[offsets[i] : offsets[i + 1]] for i in range(count - 1)]
        header, parent, _, content = (json.loads(part) for part in parts[1:5])
        return header, parent, content, parts[5:]


class ZmqWay:
    def __init__(self):
        self.session = uuid.uuid4().hex
        self.shell = self.iopub = None

    async def connect(self, file):
        import zmq
        from jupyter_client.session import Session

        with open(file) as opened:
            info = json.load(opened)
        self.wire = Session(key=info["key"].encode(), signature_scheme="hmac-sha256", session=self.session)
        for socket in (self.shell, self.iopub):
            if socket is not None:
                socket.close()
        context = zmq.Context.instance()
        self.shell, self.iopub = context.socket(zmq.DEALER), context.socket(zmq.SUB)
        self.iopub.setsockopt(zmq.SUBSCRIBE, b"")
        self.poller = zmq.Poller()
        for socket, port in ((self.shell, "shell_port"), (self.iopub, "iopub_port")):
            socket.setsockopt(zmq.LINGER, 0)
            # Nothing that is published is dropped, as a client that wants all would ask for.
            socket.setsockopt(zmq.RCVHWM, 0)
            socket.setsockopt(zmq.RECONNECT_IVL, 5)
            socket.connect(f"tcp://{info['ip']}:{info[port]}")
            self.poller.register(socket, zmq.POLLIN)
        await self.until_heard()

    async def until_heard(self):
        """A subscription holds when something came by it."""
        asked_at = 0.0
        while True:
            if time.monotonic() - asked_at > 0.1:
                self.wire.send(self.shell, "kernel_info_request")
                asked_at = time.monotonic()
            for socket, _ in self.poller.poll(20):
                self.wire.recv(socket, mode=0)
                if socket is self.iopub:
                    return

    async def send(self, header, content, buffers):
        self.wire.send(self.shell, {"header": header, "parent_header": {}, "metadata": {}, "content": content}, buffers=buffers)

    async def receive(self):
        ready = self.poller.poll(120_000)
        if not ready:
            raise RuntimeError("the kernel says nothing")
        _, message = self.wire.recv(ready[0][0], mode=0)
        return message["header"], message["parent_header"], message["content"], message["buffers"]


async def run(way, code, send=0):
    header, content = request(way.session, code)
    buffers = [bytes(send)] if send else []
    characters = lines = received = 0
    replied = idle = False
    started = time.perf_counter()
    await way.send(header, content, buffers)
    while not (replied and idle):
        said, parent, what, more = await way.receive()
        if parent.get("msg_id") != header["msg_id"]:
            continue
        kind = said["msg_type"]
        received += sum(len(each) for each in more)
        if kind == "execute_reply":
            if what["status"] != "ok":
                raise RuntimeError(f"the cell failed: {what}")
            replied = True
        elif kind == "stream":
            characters += len(what["text"])
            lines += what["text"].count("\n")
        elif kind == "status" and what["execution_state"] == "idle":
            idle = True
    took = (time.perf_counter() - started) * 1000
    return {"ms": took, "characters": characters, "lines": lines, "bytes": received}


async def obey(way, command):
    do = command["do"]
    if do in ("connect", "first"):
        started = time.perf_counter()
        await way.connect(command["file"] if "file" in command else command["url"])
        if do == "connect":
            return {}
        await run(way, command["code"])
        return {"ms": (time.perf_counter() - started) * 1000}
    if do == "times":
        return {"times": [(await run(way, command["code"]))["ms"] for _ in range(command["count"])]}
    return await run(way, command["code"], command.get("send", 0))


async def main():
    way = ZmqWay() if sys.argv[1] == "zmq" else WebSocketWay()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        try:
            answer = await obey(way, command)
        except Exception as error:  # told to whoever asked
            answer = {"error": repr(error)}
        print(json.dumps({"id": command["id"], **answer}), flush=True)


asyncio.run(main())
