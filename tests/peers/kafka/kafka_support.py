"""Small packets, and what is asked of what was read."""

import threading
import time


def packets(first, count):
    return [
        b'{"alert_id": %d, "object_id": "O%d", "ra": 10.0, "dec": 1.0}' % (n, n)
        for n in range(first, first + count)
    ]


def ids(stream):
    return sorted(alert.alert_id for alert in stream)


def wait_until(condition, *, timeout_s=30.0):
    """Wait until a condition holds; return whether it does."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


class Running:
    """Runs functions in threads; `wait` raises what went wrong in any of them."""

    def __init__(self):
        self._threads = []
        self.errors = []

    def start(self, function, *args, **options):
        def run():
            try:
                function(*args, **options)
            except Exception as error:
                self.errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._threads.append(thread)

    def check(self):
        """Raise what went wrong so far."""
        if self.errors:
            raise self.errors[0]

    def wait(self, timeout_s=60):
        for thread in self._threads:
            thread.join(timeout_s)
        self.check()
        assert not any(thread.is_alive() for thread in self._threads), "it did not come to an end"
