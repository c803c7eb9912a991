"""Processes that train together over loopback, for the rung `processes`: a module a framework."""
