"""A configuration becomes objects, a run folder and a result."""
