"""The process of a store; `SandboxStore` starts it."""

from nuncius.sandbox.store.process import run

if __name__ == "__main__":
    run()
