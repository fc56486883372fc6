"""The front end of a node: gRPC, HTTP, and the one place that wires everything together."""
