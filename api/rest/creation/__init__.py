"""The services that make tasks: of one entity, of all that a query matches, of the lines of a CSV."""
