"""Where data come from: the thesis's records, and sets that the simulated world makes."""
