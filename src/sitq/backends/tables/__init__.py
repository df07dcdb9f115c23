"""What the stores in SQL databases share: decisions on rows, lanes, keys and edges, without any SQL.

Each store brings the statements under the same names, and a `Database` that executes them.
"""
