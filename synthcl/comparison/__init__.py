"""Evidence: arms, seeds and numbers of images compared at equal steps and equal views."""
