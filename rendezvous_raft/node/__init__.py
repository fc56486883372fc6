"""The use-cases of one node: asyncio, no wire, no engine. `node.py` is the face of the package."""
