"""A kernel of IPython for tests, and a person before it."""

from __future__ import annotations

import ast
import json
import os
import time

from dtool_support import SETTINGS

_STARTS_S = 60
_ANSWERS_S = 60


class Kernel:
    """A kernel, and who types in it.

    Parameters
    ----------
    folder : Path
        Its home.
    """

    def __init__(self, folder):
        from jupyter_client.manager import start_new_kernel

        home = {
            name: str(folder) for name in ("HOME", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "NUNCIUS_CONFIG_DIR")
        }
        self.manager, self.client = start_new_kernel(
            kernel_name="python3", env=os.environ | home, startup_timeout=_STARTS_S
        )
        self.asked = []

    def configure(self, **settings):
        """Let the environment have these settings and no others."""
        old = dict.fromkeys(SETTINGS)
        self.run(f"""
import os
for name, value in {old | settings!r}.items():
    os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value
""")

    def run(self, code, shown="None", answers=()):
        """Run a cell and return what an expression shows after it, or the error; questions are answered one by one."""
        answers = list(answers)
        shows = {"shown": f"__import__('json').dumps({shown})"}
        message = self.client.execute(code, user_expressions=shows, allow_stdin=bool(answers))
        end = time.monotonic() + _ANSWERS_S
        content = None
        while content is None:
            assert time.monotonic() < end, f"the kernel does not answer; it asks {self.asked}"
            time.sleep(0.002)
            if answers and self.client.stdin_channel.msg_ready():
                question = self.client.get_stdin_msg(timeout=1)["content"]
                self.asked.append((question["prompt"], question["password"]))
                self.client.input(answers.pop(0))
            if self.client.shell_channel.msg_ready():
                answer = self.client.get_shell_msg(timeout=1)
                if answer["parent_header"].get("msg_id") == message:
                    content = answer["content"]
        if content["status"] != "ok":
            return f"{content['ename']}: {content['evalue']}"
        return json.loads(ast.literal_eval(content["user_expressions"]["shown"]["data"]["text/plain"]))

    def close(self):
        """Stop it."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()
