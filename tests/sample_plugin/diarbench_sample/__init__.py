"""A plug-in; listing its cards must not import it."""
