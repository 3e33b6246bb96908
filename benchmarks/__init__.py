"""How fast the pack is, measured side by side with what it could be. See README.md."""
