"""The page that `criu-lazy report` makes of a run file."""
