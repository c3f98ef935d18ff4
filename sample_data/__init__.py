"""What make_sample.py is made of: clips of eight styles, and listeners with tastes for them."""
