"""Whatever clients see."""
