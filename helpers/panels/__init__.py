"""What a notebook shows with knobs: panels of widgets around plain functions."""
