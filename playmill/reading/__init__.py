"""Rows and events straight from a published file; numpy and h5py alone."""
