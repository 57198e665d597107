"""Output formats: the Sink protocol, its registry and the sinks of this package."""
