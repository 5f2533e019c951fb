# The runner of Python kernels (../SPEC.md): Python 3.8 or later, nothing but the standard library.
import ast
import base64
import builtins
import getpass
import io
import json
import linecache
import os
import re
import select
import signal
import subprocess
import sys
import threading
import traceback
import types

KERNEL = sys.argv[1].encode()
PID = os.getpid()
PART_BYTES = 4000
OURS = "<causeway>"
MEDIA = (
    ("text/html", "_repr_html_"),
    ("text/markdown", "_repr_markdown_"),
    ("text/latex", "_repr_latex_"),
    ("image/svg+xml", "_repr_svg_"),
    ("image/png", "_repr_png_"),
    ("image/jpeg", "_repr_jpeg_"),
    ("application/json", "_repr_json_"),
)


class Channel:
    """Frames in and records out, on descriptors that the program does not have."""

    def __init__(self):
        self.fd = os.dup(0)
        self.out = os.dup(1)
        self.err = os.dup(2)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        self.wake, self.waker = os.pipe()
        self.held = b""
        self.unlock()
        # Whoever had it in the parent is not there in a child.
        os.register_at_fork(after_in_child=self.unlock)

    def unlock(self):
        # One that a signal's handler of the program can take again: it runs within what it interrupts.
        self.lock = threading.RLock()

    def read(self, interruptible=False):
        """The next frame as (verb, id, payload). An interrupt loses nothing of it."""
        while b"\n" not in self.held:
            self.fill(interruptible)
        line, self.held = self.held.split(b"\n", 1)
        verb, run, length = line.decode("ascii").split(" ")
        while len(self.held) < int(length):
            self.fill(interruptible)
        payload, self.held = self.held[: int(length)], self.held[int(length) :]
        return verb, run, payload.decode("utf-8", "replace")

    def fill(self, interruptible):
        if interruptible:
            ready, _, _ = select.select([self.fd, self.wake], [], [])
            if self.wake in ready:
                os.read(self.wake, 4096)
                raise KeyboardInterrupt
        got = os.read(self.fd, 65536)
        if not got:
            os._exit(0)
        self.held += got

    def record(self, to, **fields):
        data = json.dumps(fields).encode("ascii")
        # Threads of the program display, too: no part of theirs may come between these.
        with self.lock:
            for at in range(0, len(data), PART_BYTES):
                part = data[at : at + PART_BYTES]
                flag = b"+" if at + PART_BYTES < len(data) else b"."
                write(to, b"\x1e%s %s%d:%s" % (KERNEL, flag, len(part), part))


def write(fd, data):
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            # A child that has the same pipe made it so.
            select.select([], [fd], [])


def in_main_thread():
    return threading.current_thread() is threading.main_thread()


class Runner:
    def __init__(self, channel):
        self.channel = channel
        self.run = None
        self.count = 0
        self.running = False
        self.asking = False
        self.writing = False
        self.interrupted = False
        self.loop = None
        self.main = types.ModuleType("__main__")
        self.main.__dict__.update(__builtins__=builtins, display=self.display)
        sys.modules["__main__"] = self.main
        sys.argv = [""]
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True, write_through=False, errors="backslashreplace")
        sys.stdin = Asking(self)
        builtins.input = self.ask
        getpass.getpass = lambda prompt="Password: ", stream=None: self.ask(prompt, password=True)

    def on_interrupt(self, _signal, _frame):
        if self.writing:
            self.interrupted = True
        elif self.asking:
            os.write(self.channel.waker, b"!")
        elif self.running:
            raise KeyboardInterrupt

    def say(self, kind, **fields):
        """Writes a record behind what the program wrote. An interrupt waits until all of it is written."""
        said = {"kind": kind, "id": self.run, **fields}
        if not in_main_thread():
            # Interrupts come to the main thread alone.
            flush()
            self.channel.record(self.channel.out, **said)
            return
        self.writing = True
        try:
            flush()
            self.channel.record(self.channel.out, **said)
        finally:
            self.writing = False
        if self.interrupted and self.running:
            self.interrupted = False
            raise KeyboardInterrupt

    def ask(self, prompt="", password=False):
        if not self.running or os.getpid() != PID or not in_main_thread():
            raise EOFError("input can be asked for by the main thread of a run alone")
        asked = {"prompt": str(prompt), "password": password}
        self.say("input", **asked)
        self.asking = True
        try:
            while True:
                verb, mark, payload = self.channel.read(interruptible=True)
                if verb == "input":
                    return payload
                if verb == "mark":
                    self.say("input", id=mark, **asked)
        finally:
            self.asking = False

    def display(self, *values):
        for value in values:
            self.say("display", data=media_of(value))

    def serve(self):
        self.say("ready", language="python", version=sys.version.split()[0])
        while True:
            verb, self.run, payload = self.channel.read()
            if verb == "mark":
                self.say("mark")
            elif verb != "input":
                self.perform(verb, payload)

    def perform(self, verb, payload):
        # The program may have put its own in our place.
        signal.signal(signal.SIGINT, self.on_interrupt)
        self.interrupted = False
        code = 1
        try:
            try:
                self.running = True
                code = self.verbs[verb](self, payload)
            finally:
                self.running = False
        except SystemExit as end:
            code = exit_code(end)
        except BaseException as error:
            code = 130 if isinstance(error, KeyboardInterrupt) else 1
            self.tell(error)
        if os.getpid() != PID:
            os._exit(code)
        flush()
        self.channel.record(self.channel.err, kind="mark", id=self.run)
        self.say("finished", exitCode=code)

    def tell(self, error):
        name, message = type(error).__name__, text_of(error)
        try:
            text = "".join(traceback.format_exception(type(error), error, without_ours(error)))
        except Exception:
            text = "%s: %s\n" % (name, message)
        self.say("error", name=name, message=message, traceback=text)

    def do_run(self, code):
        self.count += 1
        name = "<run %d>" % self.count
        linecache.cache[name] = (len(code), None, code.splitlines(True), name)
        tree = compile(code, name, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        self.evaluate(tree, name, "exec")
        if last is not None:
            value = self.evaluate(ast.Expression(last.value), name, "eval")
            if value is not None:
                self.main._ = value
                self.say("result", data=media_of(value))
        return 0

    def evaluate(self, tree, name, mode):
        code = compile(tree, name, mode, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True)
        value = eval(code, self.main.__dict__)
        return self.wait(value) if code.co_flags & 0x80 else value

    def wait(self, coroutine):
        import asyncio

        self.loop = self.loop or asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        task = self.loop.create_task(coroutine)
        try:
            return self.loop.run_until_complete(task)
        except KeyboardInterrupt:
            task.cancel()
            self.loop.run_until_complete(asyncio.wait([task]))
            raise

    def do_shell(self, command):
        flush()
        with subprocess.Popen(["/bin/sh", "-c", command]) as child:
            code = child.wait()
        return code if code >= 0 else 128 - code

    def do_complete(self, code):
        from rlcompleter import Completer

        word = re.search(r"[\w.]*$", code).group()
        completer, matches = Completer(self.main.__dict__), []
        while word and len(matches) < 256:
            match = completer.complete(word, len(matches))
            if match is None:
                break
            matches.append(match.rstrip("() "))
        self.say("completion", matches=matches, replaces=len(word))
        return 0

    verbs = {"run": do_run, "shell": do_shell, "complete": do_complete}


class Asking(io.TextIOBase):
    """Standard input of the program: each line is asked for."""

    def __init__(self, runner):
        self.runner = runner

    def readable(self):
        return True

    def readline(self, size=-1):
        return self.runner.ask() + "\n"

    def read(self, size=-1):
        return self.readline()


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass


def text_of(error):
    try:
        return str(error)
    except Exception:
        return ""


def exit_code(end):
    if end.code is None or isinstance(end.code, int):
        return (end.code or 0) & 255
    print(end.code, file=sys.stderr)
    return 1


def without_ours(error):
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == OURS:
        trace = trace.tb_next
    return trace


def media_of(value):
    data = {}
    for media, method in MEDIA:
        make = getattr(type(value), method, None)
        try:
            made = make(value) if make is not None else None
        except Exception:
            made = None
        if isinstance(made, tuple):
            made = made[0]
        if made is None:
            continue
        data[media] = base64.b64encode(made).decode() if isinstance(made, bytes) else made
    data["text/plain"] = repr(value)
    try:
        json.dumps(data)
    except (TypeError, ValueError):
        data.pop("application/json", None)
    return {media: made if isinstance(made, str) else json.dumps(made) for media, made in data.items()}


runner = Runner(Channel())
signal.signal(signal.SIGINT, runner.on_interrupt)
runner.serve()
