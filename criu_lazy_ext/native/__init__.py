"""The C engine for Python."""
