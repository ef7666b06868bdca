"""The other host: messages to it, and its agent."""
