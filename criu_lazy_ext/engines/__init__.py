"""Container engines: how each dumps and restores a container of its own, and what it is told of a migration."""
