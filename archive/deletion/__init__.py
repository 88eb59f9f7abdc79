"""Deleting what is not read any more: the rules, the facts they judge, marks, and the deletion itself."""
