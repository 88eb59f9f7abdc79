"""How people steer: REST, command line, pages, metrics."""
