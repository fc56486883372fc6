"""A deterministic simulator of a whole cluster. See DESIGN.md."""
