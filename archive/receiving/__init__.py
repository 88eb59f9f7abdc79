"""Storing what comes from other AEs, object by object."""
