"""The version of the pack. pyproject.toml and CHANGELOG.md repeat it, and a test compares them."""

VERSION = "0.1.0"
