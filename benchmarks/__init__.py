"""How fast the pack is, compared with what it could be. See README.md."""
