"""How tasks look on the wire, one file for each kind; `tasks/kinds/` says what they do."""
