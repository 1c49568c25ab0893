"""Where data come from: the thesis's records, sets of the simulated world, people's own."""
