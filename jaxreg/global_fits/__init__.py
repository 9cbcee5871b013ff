"""Fits of data sets that share parameters."""
