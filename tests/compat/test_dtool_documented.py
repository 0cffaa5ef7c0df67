"""Each example of dtool-lookup-api's documentation, with another import line: in a script, where a loop is running, and in
a kernel of IPython.

Filled in are what is shown of each, and the import of asyncio that one of them needs.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import sys
import warnings

import pytest
from dtool_examples import ALL, ANYWHERE, AWAITED, EXAMPLES, NOT_LOGGED_IN
from dtool_support import QUERIED, run_script

pytest_plugins = ["dtool_fixtures"]

each_example = pytest.mark.parametrize(("code", "shown", "expected"), EXAMPLES.values(), ids=EXAMPLES)


def evaluated(code, shown, names):
    """Run a piece of code and return what an expression shows after it; a coroutine where it awaits something."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    answer = eval(compile(code, "<example>", "exec", flags=flags), names)
    if not inspect.isawaitable(answer):
        return eval(shown, names)

    async def later():
        await answer
        return eval(shown, names)

    return later()


# In a script ------------------------------------------------------------------------------------------------------------


def test_the_examples_in_one_script(with_token):
    parts = [f"{code}\nprint(repr({shown}))" for code, shown, _ in EXAMPLES.values()]

    lines = run_script("\n".join(parts)).splitlines()

    assert [ast.literal_eval(line) for line in lines] == [expected for _, _, expected in EXAMPLES.values()]
    assert len({request.port for request in with_token.requests}) == 1
    assert all(request.path != "/config/info" for request in with_token.requests)


def test_code_for_script_and_notebook_in_a_script_twice(with_token):
    twice = (
        ANYWHERE + "\nprint(query({'name': {'$regex': 'test'}}))\nprint(query({'name': {'$regex': 'test'}}))"
    )
    code = f"import warnings; warnings.simplefilter('error')\n{twice}"
    if sys.version_info >= (3, 12):
        code = code.replace("'error'", "'ignore'")  # there asyncio finds fault with the example

    lines = run_script(code.replace("'error'", "'error', ResourceWarning")).splitlines()

    assert [ast.literal_eval(line) for line in lines] == [[QUERIED], [QUERIED]]


def test_nobody_logged_in(dserver):
    code = f"{NOT_LOGGED_IN}\n{ALL.replace('all()', '')}\ntry:\n    all()\nexcept RuntimeError as error:\n    print(error)"
    assert run_script(code).startswith("Authentication failed")


# Where a loop is running ------------------------------------------------------------------------------------------------


@each_example
async def test_example_in_a_running_loop(with_token, code, shown, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        found = evaluated(code, shown, {})
    assert found == expected


async def test_awaited_example(with_token):
    with pytest.deprecated_call():
        assert await evaluated(AWAITED, "res", {}) == [QUERIED]


def test_the_awaited_functions_in_several_loops(with_token):
    import nuncius.compat.dtool_lookup_api.asynchronous as dl

    for _ in range(3):
        assert asyncio.run(dl.get_datasets_by_mongo_query({"name": {"$regex": "test"}})) == [QUERIED]


NESTS = """
import sys
try:
    import nest_asyncio
except ModuleNotFoundError:
    import nest_asyncio2
    sys.modules["nest_asyncio"] = nest_asyncio2
"""


def can_nest():
    """Skip where nothing lets event loops be nested."""
    from importlib.util import find_spec

    if not (find_spec("nest_asyncio") or find_spec("nest_asyncio2")):
        pytest.skip(
            "needs nest_asyncio or nest_asyncio2, which ipykernel brings: pip install 'nuncius[test]'"
        )


def test_code_for_script_and_notebook_in_a_running_loop(with_token):
    can_nest()
    body = "\n    ".join(ANYWHERE.strip().splitlines())
    code = f"{NESTS}\nasync def main():\n    {body}\n    return query({{'name': {{'$regex': 'test'}}}})\n"

    printed = run_script(f"{code}\nimport asyncio\nprint(asyncio.run(main()))")

    assert ast.literal_eval(printed) == [QUERIED]


# In a kernel of IPython -------------------------------------------------------------------------------------------------


@each_example
def test_example_in_a_kernel(kernel, code, shown, expected):
    assert kernel.run(code, shown) == expected


def test_awaited_example_in_a_kernel(kernel):
    assert kernel.run(AWAITED, "res") == [QUERIED]


def test_code_for_script_and_notebook_in_a_kernel(kernel):
    can_nest()
    kernel.run(NESTS)
    twice = "[query({'name': {'$regex': 'test'}}) for _ in range(2)]"
    assert kernel.run(ANYWHERE, twice) == [[QUERIED], [QUERIED]]


def test_nobody_logged_in_in_a_kernel(kernel):
    kernel.run("import os; del os.environ['DSERVER_TOKEN']")
    told = kernel.run(f"{NOT_LOGGED_IN}{ALL}")
    assert told.startswith("LookupLoginError: Authentication failed")


def test_a_person_before_a_kernel_is_asked_once(kernel, dserver):
    kernel.configure(DSERVER_URL=dserver.url, DSERVER_TOKEN_GENERATOR_URL=dserver.url)

    first = kernel.run(EXAMPLES["list"][0], "len(res)", answers=[dserver.username, dserver.password])
    second = kernel.run(EXAMPLES["list"][0], "len(res)", answers=["nobody is asked"])

    assert first == second > 0
    where = f"Authentication URL {dserver.token_url}"
    assert kernel.asked == [(f"{where} username:", False), (f"{where} password:", True)]


def test_a_kernel_that_a_program_runs_asks_nobody(kernel, dserver):
    kernel.configure(DSERVER_URL=dserver.url, DSERVER_TOKEN_GENERATOR_URL=dserver.url)

    assert "Authentication failed" in kernel.run(EXAMPLES["list"][0])
    assert kernel.asked == []


def test_a_person_before_a_kernel_is_asked_while_a_cell_awaits(kernel, dserver):
    kernel.configure(DSERVER_URL=dserver.url, DSERVER_TOKEN_GENERATOR_URL=dserver.token_url)

    assert kernel.run(AWAITED, "res", answers=[dserver.username, dserver.password]) == [QUERIED]

    assert [is_secret for _, is_secret in kernel.asked] == [False, True]
