"""Jupyter's clients in Python at a gateway, by the classes that jupyter_server brings for it (JUPYTER_GATEWAY_URL and
JUPYTER_GATEWAY_AUTH_TOKEN say where it is).

    python_clients.py notebook gateway|local   the cells on standard input (a JSON list) run by nbclient: their outputs
    python_clients.py cases                    the cases of jupyter_kernel_test for ipykernel: what became of each
"""

import json
import os
import sys
import unittest

import jupyter_kernel_test
import nbclient
import nbformat
import websocket
from jupyter_core.utils import run_sync
from jupyter_server.gateway import managers
from jupyter_server.gateway.managers import ChannelQueue, GatewayKernelClient, GatewayKernelManager
from jupyter_kernel_test.msgspec_v5 import validate_message


def dial(url, **options):
    """GatewayKernelClient of jupyter_server 2.15 opens its socket without the token that its requests have."""
    token = os.environ["JUPYTER_GATEWAY_AUTH_TOKEN"]
    return connect(url, header=[f"Authorization: token {token}"], **options)


connect, websocket.create_connection = websocket.create_connection, dial
# A kernel that does not answer within a second is asked about where there is none of this machine: on a busy one it is late.
GatewayKernelManager._async_is_alive = GatewayKernelManager.is_alive


def run_notebook(where):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in json.load(sys.stdin)])
    manager = {"kernel_manager_class": GatewayKernelManager} if where == "gateway" else {}
    nbclient.NotebookClient(notebook, kernel_name="python3", allow_errors=True, timeout=300, **manager).execute()
    return [[cell["execution_count"], cell["outputs"]] for cell in notebook.cells]


class Patient(ChannelQueue):
    """The time-outs of the cases are meant for a kernel on an idle machine."""

    least = 0.0

    async def get_msg(self, *args, timeout=None, **options):
        patience = None if timeout is None else max(timeout, Patient.least)
        return await super().get_msg(*args, timeout=patience, **options)


class BlockingClient(GatewayKernelClient):
    """The cases call what blocks."""

    get_shell_msg = run_sync(GatewayKernelClient.get_shell_msg)


class Ipykernel(jupyter_kernel_test.KernelTests):
    kernel_name = "python3"
    language_name = "python"
    file_extension = ".py"
    code_hello_world = "print('hello, world')"
    code_stderr = "import sys; print('test', file=sys.stderr)"
    completion_samples = [{"text": "zi", "matches": {"zip"}}, {"text": "import colorsy", "matches": {"colorsys"}}]
    complete_code_samples = ["1", "print('hello, world')", "def f(x):\n  return x*2\n\n"]
    incomplete_code_samples = ["print('''hello", "def f(x):\n  x*2"]
    invalid_code_samples = ["import = 7q", "1 1"]
    code_page_something = "zip?"
    code_generate_error = "raise ValueError('made')"
    code_execute_result = [
        {"code": "1+2+3", "result": "6"},
        {"code": "[n*n for n in range(1, 4)]", "result": "[1, 4, 9]"},
    ]
    code_display_data = [
        {"code": "from IPython.display import HTML, display; display(HTML('<b>b</b>'))", "mime": "text/html"},
        {"code": "from IPython.display import Math, display; display(Math('2'))", "mime": "text/latex"},
    ]
    code_history_pattern = "1?2*"
    # Not `range`: ipykernel calls its present session 0, which the case does not know.
    supported_history_operations = ("tail", "search")
    code_inspect_sample = "zip"
    code_clear_output = "from IPython.display import clear_output; clear_output()"

    @classmethod
    def setUpClass(cls):
        managers.ChannelQueue = Patient
        cls.km = GatewayKernelManager(client_factory=BlockingClient)
        run_sync(cls.km.start_kernel)(kernel_name=cls.kernel_name)
        cls.kc = cls.km.client()
        run_sync(cls.kc.start_channels)()
        run_sync(cls.kc.wait_for_ready)(timeout=300)
        Patient.least = 60.0

    @classmethod
    def tearDownClass(cls):
        cls.kc.stop_channels()
        run_sync(cls.km.shutdown_kernel)()

    def flush_channels(self):
        """Behind an answer nothing of before comes any more."""
        asked = self.kc.kernel_info()
        for channel, is_last in (
            (self.kc.shell_channel, lambda _: True),
            (self.kc.iopub_channel, lambda message: message["content"].get("execution_state") == "idle"),
        ):
            while True:
                message = run_sync(channel.get_msg)(timeout=60)
                validate_message(message)
                if message["parent_header"].get("msg_id") == asked and is_last(message):
                    break


class Told(unittest.TestResult):
    """By name: `ok`, or what was wrong."""

    def __init__(self):
        super().__init__()
        self.outcomes = {}

    def startTest(self, test):
        super().startTest(test)
        self.outcomes[test.id().split(".")[-1]] = "ok"

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.note(test, self._exc_info_to_string(error, test))

    def addError(self, test, error):
        super().addError(test, error)
        self.note(test, self._exc_info_to_string(error, test))

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.note(test, self._exc_info_to_string(error, test))

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.note(test, f"skipped: {reason}")

    def note(self, test, what):
        self.outcomes[test.id().split(".")[-1]] = what


def run_cases():
    told = Told()
    unittest.defaultTestLoader.loadTestsFromTestCase(Ipykernel).run(told)
    return told.outcomes


print(json.dumps(run_notebook(sys.argv[2]) if sys.argv[1] == "notebook" else run_cases()))
