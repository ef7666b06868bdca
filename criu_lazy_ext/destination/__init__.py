"""What runs at the destination host: the agent and what it starts there."""
