"""Storms: real processes under real faults, and the verdict on what they did.

Every process writes down what it does in a file of its own, outside the store (`journal`). When the storm is
over, a checker reads all of it, task by task (`history`, `check`), and says what was lost, what ran twice
and why, and what ended twice. A store joins by one factory (`stores`).

Run one with `python -m sitq.testing.storm`.
"""
