"""The version of the package, also in the artifacts it writes."""

__version__ = "0.1.0"
