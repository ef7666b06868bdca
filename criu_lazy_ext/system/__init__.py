"""What Linux tells of processes, control groups and networks."""
