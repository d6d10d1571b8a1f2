"""Readers of the data sets that papers report on, in the layout in which their authors distribute them."""
