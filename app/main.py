"""The composition root: `faust -A app.main worker`."""
