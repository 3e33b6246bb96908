"""Workflow files without ComfyUI: read one, set values by hand, plan what is to run. ``run.py`` runs the plan."""

from .file import LARGEST_FILE, Workflow, load, make_plan, parse, read, set_values
from .prompt import WorkflowError

__all__ = ["LARGEST_FILE", "Workflow", "WorkflowError", "load", "make_plan", "parse", "read", "set_values"]
