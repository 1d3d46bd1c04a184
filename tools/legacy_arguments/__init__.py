"""Every class and argument of Keras 2, listed and tried: what becomes of each in Keras 3.

``python -m tools.legacy_arguments FOLDER`` runs where tf_keras is and Keras 3 is not used: it writes the list, and one
file for every value that an argument can have. ``python -m tools.legacy_arguments.compare FOLDER`` runs where this
project is: it opens each and compares what it computes. ``python -m tools.legacy_arguments.table --write`` makes the
page of the list.
"""
