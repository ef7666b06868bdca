"""What is known of CRIU: its program, images, options, configuration files and log."""
