"""What can keep a task from moving, said before anything is frozen: a list of checks (catalogue.py), for both ends."""
