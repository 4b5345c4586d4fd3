"""Bytes of saved state and the arrays in them: nothing here knows a Program, a scope or a layer."""
