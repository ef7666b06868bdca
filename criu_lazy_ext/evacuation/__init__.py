"""Emptying a host: many migrations, one link (`criu-lazy evacuate`)."""
