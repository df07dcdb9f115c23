"""Everything that decides: pure functions of data, with the time and the dice passed in."""
