"""Stores of tasks, and how a URL opens one."""
