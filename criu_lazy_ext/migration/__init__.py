"""One migration, as `criu-lazy migrate` drives it from the source host."""
