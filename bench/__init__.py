"""Measures sitq on each store, beside the raw store in the same run. `python -m bench --help` says how."""
