"""What runs at the source host: the lazy dump, the page server's control, the fence around the frozen task."""
