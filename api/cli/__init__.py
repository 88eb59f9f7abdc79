"""The command line: same verbs, same filters and same answers as REST."""
