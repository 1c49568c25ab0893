"""The simulated world: cavities of four kinds in a 4D cube, and how they are made into records."""
