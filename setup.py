"""The compiled part, which pyproject.toml can't describe: without a compiler everything works, only more slowly."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "nuncius.alerts.packets._avro",
            ["src/nuncius/alerts/packets/_avro.c"],
            define_macros=[("Py_LIMITED_API", "0x030B0000")],
            py_limited_api=True,
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
