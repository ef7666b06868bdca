"""What each subcommand does with its arguments; one module a subcommand."""
