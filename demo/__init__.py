"""`make demo`: a container with a Redis under load moves between two hosts on this machine."""
