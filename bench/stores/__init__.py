"""The stores that can be measured, a module for each."""
