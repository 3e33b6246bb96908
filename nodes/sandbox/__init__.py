"""A gateway on this computer, for demos, tests and offline work. It judges bodies without the pack's models."""

from .books import Books
from .gateway import Sandbox
from .relay import Relay
from .serve import FAMILIES, serve
from .task import SandboxTask

__all__ = ["FAMILIES", "Books", "Relay", "Sandbox", "SandboxTask", "serve"]
