"""Tools for tests: of tasks, and of stores."""
