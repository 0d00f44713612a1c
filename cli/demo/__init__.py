"""`ensemble demo` and its parts."""

from cli.demo.command import demo

__all__ = ["demo"]
