"""`make demo`: a Redis under load moves between two hosts on this machine."""
